package zk

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ensemble is a real ZooKeeper of n servers on loopback, made of Debian's
// jars.
type ensemble struct {
	dir     string
	servers []*server
}

type server struct {
	id      int
	dir     string
	client  string // host:port
	secure  string // host:port, where TLS is on
	jvmOpts []string

	mu  sync.Mutex
	cmd *exec.Cmd
}

const jars = "/usr/share/java"

// classPath is what Debian's zookeeper.jar names and, for TLS, lacks.
func classPath() string {
	names := []string{"zookeeper"}
	for _, pattern := range []string{"netty-*.jar"} {
		found, _ := filepath.Glob(filepath.Join(jars, pattern))
		for _, f := range found {
			names = append(names, strings.TrimSuffix(filepath.Base(f), ".jar"))
		}
	}
	for i, n := range names {
		names[i] = filepath.Join(jars, n+".jar")
	}
	return strings.Join(names, ":")
}

func needZooKeeper(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIP: -short: this test runs a real ZooKeeper ensemble")
	}
	for _, need := range []string{filepath.Join(jars, "zookeeper.jar"), "/usr/bin/java"} {
		if _, err := os.Stat(need); err != nil {
			t.Skip("SKIP: no ZooKeeper here (" + err.Error() + "): install Debian's package zookeeper")
		}
	}
}

// newEnsemble starts n servers and waits until they serve. extra lines go to
// each zoo.cfg.
func newEnsemble(n int, extra ...string) (*ensemble, error) {
	dir, err := os.MkdirTemp("", "zk-test-")
	if err != nil {
		return nil, err
	}
	e := &ensemble{dir: dir}
	var peers []string
	for id := 1; id <= n; id++ {
		peers = append(peers, fmt.Sprintf("server.%d=127.0.0.1:%d:%d", id, freePort(), freePort()))
	}
	if n == 1 {
		peers = nil
	}
	for id := 1; id <= n; id++ {
		s := &server{id: id, dir: filepath.Join(dir, fmt.Sprint(id)), client: fmt.Sprintf("127.0.0.1:%d", freePort())}
		if err := s.configure(append(peers, extra...)); err != nil {
			return e, err
		}
		e.servers = append(e.servers, s)
	}
	for _, s := range e.servers {
		if err := s.start(); err != nil {
			return e, err
		}
	}
	return e, nil
}

func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (s *server) configure(extra []string) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(s.client)
	lines := append([]string{
		"tickTime=500", "initLimit=20", "syncLimit=3", "dataDir=" + s.dir, "clientPort=" + port,
		"clientPortAddress=127.0.0.1", "admin.enableServer=false", "4lw.commands.whitelist=*", "maxClientCnxns=0",
	}, extra...)
	if err := os.WriteFile(filepath.Join(s.dir, "zoo.cfg"), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "myid"), fmt.Appendln(nil, s.id), 0o644)
}

func (s *server) start() error {
	args := append([]string{
		"-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Dzookeeper.preAllocSize=64", "-Dzookeeper.forceSync=no", "-Dzookeeper.skipACL=no",
	}, s.jvmOpts...)
	args = append(args, "-cp", classPath(), "org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(s.dir, "zoo.cfg"))
	cmd := exec.Command("/usr/bin/java", args...)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.mu.Lock()
	s.cmd = cmd
	s.mu.Unlock()
	return nil
}

func (s *server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(sig)
	}
}

func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// mode asks the server for its role: leader, follower, standalone or "".
func (s *server) mode() string {
	c, err := net.DialTimeout("tcp", s.client, 300*time.Millisecond)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = c.Write([]byte("srvr"))
	var b bytes.Buffer
	_, _ = b.ReadFrom(c)
	_, mode, _ := strings.Cut(b.String(), "Mode: ")
	mode, _, _ = strings.Cut(mode, "\n")
	return mode
}

func (e *ensemble) clients() []string {
	var all []string
	for _, s := range e.servers {
		all = append(all, s.client)
	}
	return all
}

// wait returns when every server serves.
func (e *ensemble) wait(t testing.TB) {
	t.Helper()
	eventually(t, 30*time.Second, "all servers serve", func() bool {
		for _, s := range e.servers {
			if s.mode() == "" {
				return false
			}
		}
		return true
	})
}

func (e *ensemble) find(t testing.TB, mode string) *server {
	t.Helper()
	var found *server
	eventually(t, 20*time.Second, "a "+mode, func() bool {
		for _, s := range e.servers {
			if s.mode() == mode {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

func (e *ensemble) at(addr string) *server {
	for _, s := range e.servers {
		if s.client == addr {
			return s
		}
	}
	return nil
}

// heal starts again what a test has killed or frozen.
func (e *ensemble) heal(t testing.TB) {
	t.Helper()
	for _, s := range e.servers {
		s.signal(syscall.SIGCONT)
		s.mu.Lock()
		dead := s.cmd == nil
		s.mu.Unlock()
		if dead {
			if err := s.start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.wait(t)
}

func (e *ensemble) stop() {
	for _, s := range e.servers {
		s.kill()
	}
	os.RemoveAll(e.dir)
}

// eventually polls a condition; it fails the test after limit.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// shared is the ensemble of three that most tests use, each in its own
// cluster's tree.
var shared struct {
	once sync.Once
	e    *ensemble
	err  error
}

func sharedEnsemble(t testing.TB) *ensemble {
	t.Helper()
	needZooKeeper(t)
	shared.once.Do(func() { shared.e, shared.err = newEnsemble(3) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	shared.e.wait(t)
	return shared.e
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.e != nil {
		shared.e.stop()
	}
	os.Exit(code)
}
