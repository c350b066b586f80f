package systemd_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/zklvs/zklvs/internal/lab"
)

const (
	cgroup = "/sys/fs/cgroup/system.slice/zklvs.service"
	// patient is for one condition; a guest on a busy machine is slow.
	patient = 40 * time.Second
)

var vips = []string{"10.99.0.1", "10.99.0.2"}

const documents = `
cluster: {lease: 2s}
groups:
  plain: {vips: [10.99.0.1], fitness: {script: {exec: well, interval: 1s, timeout: 5s}}}
  web: {vips: [10.99.0.2]}
services:
  http:
    group: web
    listen: 10.99.0.2:80/tcp
    scheduler: wrr
    forward: dr
    real_servers: [{address: "10.99.0.80:80", weight: 1}]
`

// guest is where the scenario is played: a host with one interface, a ZooKeeper
// and zklvs.service.
type guest struct {
	zookeeper *lab.Ensemble
	vips      *vipWatch
	facts     []string
}

func newGuest() (*guest, error) {
	g := &guest{}
	for _, args := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "link", "add", "lan0", "type", "dummy"},
		{"ip", "address", "add", "10.99.0.254/24", "dev", "lan0"},
		{"ip", "link", "set", "lan0", "up"},
	} {
		if err := g.run(args...); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	var err error
	if g.zookeeper, err = lab.StartLocalZooKeeper(ctx, "/run/zookeeper", 1, lab.ZooKeeperOptions{}); err != nil {
		return nil, err
	}
	if g.vips, err = watchVIPs(); err != nil {
		return nil, errors.Join(err, g.zookeeper.Close())
	}
	return g, errors.Join(os.MkdirAll("/etc/zklvs/exec.d", 0o755),
		os.WriteFile("/etc/zklvs/exec.d/well", []byte("#!/bin/sh\nsetpriv --reuid 65534 --regid 65534 --clear-groups id -u >>/run/zklvs/script\n"), 0o755),
		os.WriteFile("/etc/zklvs/web.yaml", []byte(documents), 0o644),
		os.WriteFile("/etc/zklvs/zklvs.yaml", fmt.Appendf(nil, "cluster: web\nnode: node01\ninterface: lan0\nzookeeper: {servers: [%s]}\n",
			strings.Join(g.zookeeper.Servers(), ", ")), 0o644))
}

func (g *guest) close() error {
	g.vips.close()
	return g.zookeeper.Close()
}

func (g *guest) factf(format string, args ...any) {
	g.facts = append(g.facts, fmt.Sprintf(format, args...))
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }

// run runs a command, which must succeed.
func (g *guest) run(args ...string) error { return g.output("", args...) }

// output runs a command that must succeed and say something.
func (g *guest) output(wanted string, args ...string) error {
	out, err := command(args...)
	if err == nil && !strings.Contains(out, wanted) {
		err = fmt.Errorf("%v: %q is not in its output: %s", args, wanted, out)
	}
	return err
}

func command(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return string(out), err
}

func (g *guest) until(what string, condition func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	return lab.WaitUntil(ctx, what, condition)
}

// expect compares properties of the unit.
func (g *guest) expect(want map[string]string) error {
	var errs []error
	for name, value := range want {
		got, err := command("systemctl", "show", "zklvs", "--value", "-p", name)
		if err == nil && strings.TrimSpace(got) != value {
			err = fmt.Errorf("%s is %q, wanted %q", name, strings.TrimSpace(got), value)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// processes are the two that a unit has.
type processes struct{ main, guard int }

// processes finds them by their command lines: guard is the second word of one. What
// the daemon starts has the daemon's until it runs another program, but not its parent.
func (g *guest) processes() (processes, error) {
	var p processes
	pids, err := g.members()
	for _, pid := range pids {
		line, err := os.ReadFile(procFile(pid, "cmdline"))
		if err != nil {
			continue // it has ended meanwhile
		}
		switch words := strings.Split(string(line), "\x00"); {
		case len(words) < 2:
		case words[1] == "run" && parentIsInit(pid):
			p.main = pid
		case words[1] == "guard":
			p.guard = pid
		}
	}
	if err == nil && (p.main == 0 || p.guard == 0) {
		err = fmt.Errorf("daemon and guard are not both in the unit: %v of %v", p, pids)
	}
	return p, err
}

func parentIsInit(pid int) bool {
	status, err := os.ReadFile(procFile(pid, "status"))
	return err == nil && strings.Contains(string(status), "\nPPid:\t1\n")
}

// members are the processes of the unit's control group.
func (g *guest) members() ([]int, error) {
	data, err := os.ReadFile(cgroup + "/cgroup.procs")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var pids []int
	for _, field := range strings.Fields(string(data)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("cgroup.procs: %w", err)
		}
		pids = append(pids, pid)
	}
	return pids, err
}

// holds waits until every VIP was bound and renewed, and the unit has both
// processes.
func (g *guest) holds() error {
	return g.until("the unit holds", func() error {
		_, err := g.processes()
		return errors.Join(err, g.vips.allHeld())
	})
}

// bound are those of the VIPs that are bound now.
func (g *guest) bound() ([]string, error) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []string
	for _, a := range addrs {
		if ip := a.IP.String(); slices.Contains(vips, ip) {
			out = append(out, ip)
		}
	}
	return out, nil
}

// squeeze takes memory from the unit until the kernel has killed one process,
// the larger: what cannot be reclaimed is a little more than it may have.
func (g *guest) squeeze() error {
	stat, err := os.ReadFile(cgroup + "/memory.stat")
	if err != nil {
		return err
	}
	held := -2 << 20
	for line := range strings.Lines(string(stat)) {
		if f := strings.Fields(line); f[0] == "anon" || f[0] == "kernel" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				return fmt.Errorf("memory.stat: %w", err)
			}
			held += n
		}
	}
	limit := func(text string) error { return os.WriteFile(cgroup+"/memory.max", []byte(text), 0) }
	return errors.Join(
		limit(strconv.Itoa(held)),
		g.until("a process is killed", func() error {
			_, err := g.processes()
			if err == nil {
				return errors.New("both run")
			}
			return nil
		}),
		limit("max"))
}

// released checks that every record holds a receipt.
func (g *guest) released() error {
	out, err := command("zklvs", "status", "-o", "json")
	if err != nil {
		return err
	}
	var status struct {
		Groups []struct {
			Group, State, Reason string
			Epoch                int
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return fmt.Errorf("status: %w: %s", err, out)
	}
	if len(status.Groups) != len(vips) {
		return fmt.Errorf("status shows %d groups: %s", len(status.Groups), out)
	}
	for _, group := range status.Groups {
		g.factf("%s: %s in epoch %d (%s)", group.Group, group.State, group.Epoch, group.Reason)
		if group.State != "released" {
			err = errors.Join(err, fmt.Errorf("group %s is %s, wanted released", group.Group, group.State))
		}
	}
	return err
}

// vipWatch notes when VIPs are bound and removed, by the kernel's notices.
type vipWatch struct {
	done    chan struct{}
	updates chan netlink.AddrUpdate

	mu         sync.Mutex     // guards what follows
	renewed    map[string]int // by VIP that is bound: notices since
	gone, back time.Time      // the last VIP gone; the first moment with all VIPs after that
}

func watchVIPs() (*vipWatch, error) {
	w := &vipWatch{done: make(chan struct{}), updates: make(chan netlink.AddrUpdate, 64), renewed: map[string]int{}}
	if err := netlink.AddrSubscribe(w.updates, w.done); err != nil {
		return nil, fmt.Errorf("watch addresses: %w", err)
	}
	go func() {
		for u := range w.updates {
			w.note(u, time.Now())
		}
	}()
	return w, nil
}

func (w *vipWatch) close() { close(w.done) }

func (w *vipWatch) note(u netlink.AddrUpdate, now time.Time) {
	ip := u.LinkAddress.IP.String()
	if !slices.Contains(vips, ip) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if u.NewAddr {
		w.renewed[ip]++
	} else {
		delete(w.renewed, ip)
	}
	switch {
	case len(w.renewed) == 0 && w.gone.IsZero():
		w.gone = now
	case len(w.renewed) == len(vips) && !w.gone.IsZero() && w.back.IsZero():
		w.back = now
	}
}

// forget begins anew: what is bound stays known.
func (w *vipWatch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone, w.back = time.Time{}, time.Time{}
}

func (w *vipWatch) allGone() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone.IsZero() {
		return fmt.Errorf("notices of VIPs that are bound: %v", w.renewed)
	}
	return nil
}

// renewals is how many notices of a VIP show that it is not only being bound.
const renewals = 3

func (w *vipWatch) allHeld() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, vip := range vips {
		if w.renewed[vip] < renewals {
			return fmt.Errorf("notices of VIPs that are bound: %v, wanted %d each", w.renewed, renewals)
		}
	}
	return nil
}

func (w *vipWatch) interruption() (gone, back time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone, w.back
}

func procFile(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

// contains checks that a file has every one of some texts.
func contains(file string, texts ...string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, text := range texts {
		if !strings.Contains(string(data), text) {
			err = errors.Join(err, fmt.Errorf("%s: %q is not there:\n%s", file, text, data))
		}
	}
	return err
}

// readOnly checks that a process sees a mount read-only (proc(5), mountinfo).
func readOnly(pid int, dir string) error {
	data, err := os.ReadFile(procFile(pid, "mountinfo"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 5 && f[4] == dir {
			if !strings.HasPrefix(f[5], "ro,") {
				return fmt.Errorf("process %d can write to %s: %s", pid, dir, line)
			}
			return nil
		}
	}
	return fmt.Errorf("process %d has no mount on %s", pid, dir)
}

func exist(files ...string) error {
	var errs []error
	for _, file := range files {
		_, err := os.Stat(file)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
