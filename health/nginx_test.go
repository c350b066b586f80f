package health

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/leaktest"
)

const nginxPath = "/usr/sbin/nginx"

// nginx is a real server: a child process with files of its own.
type nginx struct {
	config  string
	dir     string
	address string
	cmd     *exec.Cmd
}

func newNginx(t *testing.T) *nginx {
	t.Helper()
	if _, err := os.Stat(nginxPath); err != nil {
		t.Skipf("SKIP: no nginx (apt-get install nginx-light): %v", err)
	}
	dir := t.TempDir()
	n := &nginx{dir: dir, config: filepath.Join(dir, "nginx.conf"), address: closedAddress(t)}
	text := fmt.Sprintf(`
daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events {}
http {
	access_log %[1]s/access.log;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		location / { return 200 "well\n"; }
		location /broken { return 500; }
		location /moved { return 302 /; }
	}
}
`, dir, n.address)
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.stop(t) })
	return n
}

func (n *nginx) start(t *testing.T) {
	t.Helper()
	n.cmd = exec.Command(nginxPath, "-e", filepath.Join(n.dir, "error.log"), "-p", n.dir, "-c", n.config)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		t.Fatalf("start nginx: %v", err)
	}
}

func (n *nginx) stop(t *testing.T) {
	t.Helper()
	if n.cmd == nil {
		return
	}
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("stop nginx: %v", err)
	}
	_ = n.cmd.Wait() // by the signal
	n.cmd = nil
}

func TestEngineFollowsNginx(t *testing.T) {
	leaktest.Check(t)
	n := newNginx(t)
	quick := func(path string) Target {
		target := httpTarget(n.address)
		target.Path, target.Timeout = path, patience
		target.Interval, target.RetryDelay, target.Retries = 50*time.Millisecond, 10*time.Millisecond, 1
		return target
	}
	well, broken, moved, port := quick("/"), quick("/broken"), quick("/moved"), quick("/")
	port.Kind, port.Path, port.Status = TCP, "", StatusSet{}
	all := []Target{well, broken, moved, port}

	n.start(t)
	waitUntil(t, "nginx answers", func() bool { return TCPProber{}.Probe(t.Context(), port) == nil })
	e := New(nopLog(), bootNow, Probers("/nonexistent"))
	mustSet(t, e, all...)
	defer start(t, e)()
	verdicts := func(want ...State) func() bool {
		return func() bool {
			got := e.Snapshot()
			for i, target := range all {
				if got[target].State != want[i] {
					return false
				}
			}
			return true
		}
	}
	waitUntil(t, "nginx is judged by its answers", verdicts(Up, Down, Down, Up))
	for target, want := range map[Target]string{
		broken: fmt.Sprintf("GET http://%s/broken: status 500, expected 200", n.address),
		moved:  fmt.Sprintf("GET http://%s/moved: status 302, expected 200", n.address),
		well:   "",
	} {
		if got := e.Snapshot()[target].LastError; got != want {
			t.Errorf("%s: error %q, want %q", target, got, want)
		}
	}
	n.stop(t)
	waitUntil(t, "all is down when nginx is stopped", verdicts(Down, Down, Down, Down))
	if got, want := e.Snapshot()[well].LastError, "expected a connection: connection refused"; !strings.Contains(got, want) {
		t.Errorf("stopped: error %q, want %q in it", got, want)
	}
	n.start(t)
	waitUntil(t, "it is up again when nginx returns", verdicts(Up, Down, Down, Up))
	if got := e.Snapshot()[well]; got.Changes != 3 || got.LastLatency <= 0 || got.LastRun < got.Since {
		t.Errorf("verdict at the end: %+v", got)
	}
	access, err := os.ReadFile(filepath.Join(n.dir, "access.log"))
	if err != nil || !strings.Contains(string(access), `"GET / HTTP/1.1" 200 5 "-" "zklvs"`) {
		t.Errorf("nginx's log (%v):\n%.500s", err, access)
	}
}
