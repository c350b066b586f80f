// Package demo is the exercise of the notes that this project grew from, with
// real parts: two directors, two real servers, a client and ZooKeeper as hosts
// in network namespaces. Cluster builds it (`zklvs lab up` leaves it up to play
// with, tests break it), Run narrates it.
package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/zklvs/zklvs/internal/lab"
)

// The hosts of the exercise, by their names in the lab's plan.
const (
	First       = "node01" // director, preferred by priority
	Second      = "node04" // director
	Third       = "node05" // director, where Options.Directors is 3
	RealServer1 = "node02"
	RealServer2 = "node03"
	Client      = "client"
)

// ConfigPath is where a director's file stands on its host.
const ConfigPath = "/run/zklvs/zklvs.yaml"

// SecondVIP is the address of the second group (active/active).
var SecondVIP = netip.MustParseAddr("192.168.150.101")

// Options shape a Cluster.
type Options struct {
	// Zklvs is the program under test.
	Zklvs string
	// Lease and so on: text of the document's `cluster:` section, may be empty.
	ClusterSection string
	// NoRealServers leaves the real servers without nginx and hidden VIPs: for
	// groups without services, and kernels without IPVS.
	NoRealServers bool
	// Servers is the number of ZooKeeper servers: 1 (the default) or 3.
	Servers int
	// Directors is their number: 2 (the default) or 3.
	Directors int
	// OwnDisks gives each ZooKeeper server's data a file system of its own, of so
	// many bytes, that can be filled; 0: none.
	OwnDisks int64
	// Progress is told what is being started; may be nil.
	Progress func(format string, args ...any)
}

// Cluster is the exercise, running.
type Cluster struct {
	Lab       *lab.Lab
	ZooKeeper *lab.Ensemble
	options   Options
	mu        sync.Mutex // guards directors: some are started again beside what goes on
	directors map[string]*lab.Process
	nginx     map[string]*lab.Process
}

// Start builds everything up to running directors without documents. Close it
// also after an error.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	if options.Progress == nil {
		options.Progress = func(string, ...any) {}
	}
	l, err := lab.New(lab.Options{})
	if err != nil {
		return &Cluster{}, err
	}
	c := &Cluster{Lab: l, options: options, directors: map[string]*lab.Process{}, nginx: map[string]*lab.Process{}}
	return c, errors.Join(c.startZooKeeper(ctx), c.startRealServers(ctx), c.startDirectors(ctx))
}

// Close ends everything and leaves nothing behind.
func (c *Cluster) Close() error {
	if c.Lab == nil {
		return nil
	}
	return c.Lab.Close()
}

func (c *Cluster) startZooKeeper(ctx context.Context) error {
	names := []string{"zk1", "zk2", "zk3"}[:max(1, c.options.Servers)]
	hosts, err := c.Lab.AddNodes(names...)
	if err != nil {
		return err
	}
	if _, err := c.Lab.AddNodes(append(c.Directors(), RealServer1, RealServer2, Client)...); err != nil {
		return err
	}
	for _, h := range hosts {
		if c.options.OwnDisks > 0 {
			if err := h.OwnDisk(h.ZooKeeperDisk(), c.options.OwnDisks); err != nil {
				return err
			}
		}
	}
	c.options.Progress("starting ZooKeeper on %s", strings.Join(names, ", "))
	c.ZooKeeper, err = c.Lab.StartZooKeeper(ctx, lab.ZooKeeperOptions{}, hosts...)
	return err
}

// startRealServers starts nginx and hides the VIPs with zklvs itself.
func (c *Cluster) startRealServers(ctx context.Context) error {
	if c.options.NoRealServers || c.ZooKeeper == nil {
		return nil
	}
	for _, name := range []string{RealServer1, RealServer2} {
		c.options.Progress("starting nginx on %s, hiding the VIPs on its lo", name)
		if err := c.StartNginx(ctx, name); err != nil {
			return err
		}
		if _, err := c.Zklvs(ctx, name, "realserver", "up", "--vip", lab.VIP.String(), "--vip", SecondVIP.String(),
			"--interface", "eth0", "--label", "lo:1"); err != nil {
			return err
		}
	}
	return nil
}

// StartNginx starts a real server's nginx, whose answer is the host's name.
func (c *Cluster) StartNginx(ctx context.Context, name string) error {
	p, err := lab.StartNginx(ctx, c.Lab.Host(name), name)
	c.nginx[name] = p
	return err
}

// Nginx is the nginx of a real server.
func (c *Cluster) Nginx(name string) *lab.Process { return c.nginx[name] }

func (c *Cluster) startDirectors(ctx context.Context) error {
	if c.ZooKeeper == nil {
		return nil // told already
	}
	for _, name := range c.Directors() {
		c.options.Progress("starting the director %s", name)
		if err := c.StartDirector(name); err != nil {
			return err
		}
		if err := c.Director(name).WaitLog(ctx, "starting"); err != nil {
			return err
		}
	}
	return nil
}

// Directors returns the names of the directors.
func (c *Cluster) Directors() []string {
	return []string{First, Second, Third}[:max(2, c.options.Directors)]
}

// StartDirector starts the daemon of a director.
func (c *Cluster) StartDirector(name string) error {
	h := c.Lab.Host(name)
	config := fmt.Sprintf("cluster: web\nzookeeper: {servers: [%s]}\ninterface: eth0\n", strings.Join(c.ZooKeeper.Servers(), ", "))
	if err := h.WriteFile(ConfigPath, config); err != nil {
		return err
	}
	p, err := h.Start(c.options.Zklvs, "run", "--config", ConfigPath)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.directors[name] = p
	return err
}

// Director is the daemon of a director.
func (c *Cluster) Director(name string) *lab.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.directors[name]
}

// Guard returns the process id of the guard beside a director: the one of its
// children that says so. Others, such as scripts, come and go.
func (c *Cluster) Guard(name string) (int, error) {
	director := c.Director(name).PID()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", director)) // proc(5), CONFIG_PROC_CHILDREN
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that ended
		}
		for _, child := range strings.Fields(string(data)) {
			line, err := os.ReadFile("/proc/" + child + "/cmdline")
			if words := strings.Split(string(line), "\x00"); err == nil && len(words) > 1 && words[1] == "guard" {
				return strconv.Atoi(child)
			}
		}
	}
	return 0, fmt.Errorf("the director of %s (process %d) has no guard", name, director)
}

// KillBoth kills a director and its guard, the director being unable to act
// when its guard goes, and the guard when its director does.
func (c *Cluster) KillBoth(name string) error {
	guard, err := c.Guard(name)
	if err != nil {
		return err
	}
	d := c.Director(name)
	return errors.Join(d.Signal(syscall.SIGSTOP), syscall.Kill(guard, syscall.SIGSTOP), d.Kill(), syscall.Kill(guard, syscall.SIGKILL))
}

// Zklvs runs a zklvs command on a host and returns what it printed. Commands
// that read a host's file find it through ZKLVS_CONFIG.
func (c *Cluster) Zklvs(ctx context.Context, host string, args ...string) (string, error) {
	cmd := c.Lab.Host(host).Command(ctx, append([]string{c.options.Zklvs}, args...)...)
	cmd.Env = append(os.Environ(), "ZKLVS_CONFIG="+ConfigPath)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: zklvs %s: %w\n%s%s", host, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out), nil
}

// Apply stores documents from a director.
func (c *Cluster) Apply(ctx context.Context, text string) (string, error) {
	const file = "/run/zklvs/documents.yaml"
	if err := c.Lab.Host(First).WriteFile(file, text); err != nil {
		return "", err
	}
	return c.Zklvs(ctx, First, "apply", "-f", file)
}

// Curl asks the VIP from the client and returns the answer: the name of the
// real server that served it.
func (c *Cluster) Curl(ctx context.Context, vip netip.Addr) (string, error) {
	out, err := c.Lab.Host(Client).Run(ctx, "curl", "--silent", "--show-error", "--max-time", "1", "http://"+vip.String()+"/")
	return strings.TrimSpace(out), err
}

// Answerer returns the director whose kernel has the VIP bound on eth0, asked
// of the kernels themselves; "" for none, an error for more than one.
func (c *Cluster) Answerer(vip netip.Addr) (string, error) {
	var holders []string
	for _, name := range c.Directors() {
		bound, err := c.Lab.Host(name).Bound("eth0", vip)
		if err != nil {
			return "", err
		}
		if bound {
			holders = append(holders, name)
		}
	}
	if len(holders) > 1 {
		return "", fmt.Errorf("%s is bound on %s", vip, strings.Join(holders, " and "))
	}
	return strings.Join(holders, ""), nil
}

// WaitAnswerer waits until the director has the VIP bound.
func (c *Cluster) WaitAnswerer(ctx context.Context, vip netip.Addr, director string) error {
	return lab.WaitUntil(ctx, fmt.Sprintf("%s is bound on %s", vip, director), func() error {
		name, err := c.Answerer(vip)
		if err == nil && name != director {
			err = fmt.Errorf("it is bound on %q", name)
		}
		return err
	})
}

// Rules returns the kernel's table on a host as ipvsadm prints it.
func (c *Cluster) Rules(ctx context.Context, host string) (string, error) {
	return c.Lab.Host(host).Run(ctx, "ipvsadm", "-L", "-n")
}

// WaitServed waits until every one of the next answers comes from one of the
// given real servers, and each of them has answered.
func (c *Cluster) WaitServed(ctx context.Context, vip netip.Addr, by ...string) ([]string, error) {
	var got []string
	err := lab.WaitUntil(ctx, fmt.Sprintf("%s is served by %s", vip, strings.Join(by, " and ")), func() error {
		got = nil
		seen := map[string]int{}
		for range 2 * len(by) {
			answer, err := c.Curl(ctx, vip)
			if err != nil {
				return err
			}
			got = append(got, answer)
			seen[answer]++
		}
		for _, name := range by {
			if seen[name] != 2 { // rr: each as often as the others
				return fmt.Errorf("answers came from %v", got)
			}
		}
		return nil
	})
	return got, err
}

// Within bounds a wait.
func Within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("not within %v", d))
}
