package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/internal/spec"
)

// The exercise of `make demo`, as a test.
func TestKernelTour(t *testing.T) {
	requireIPVS(t)
	out := &logWriter{t: t}
	if err := demo.Run(t.Context(), demo.Options{Zklvs: program(t)}, out); err != nil {
		t.Fatal(err)
	}
}

type logWriter struct{ t *testing.T }

func (w *logWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

func program(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func requireIPVS(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: needs root: run through deploy/kernel/with-ipvs")
	}
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		t.Skip("SKIP: this kernel has no ip_vs: run through deploy/kernel/with-ipvs")
	}
}

// startCluster starts a cluster that ends with the test.
func startCluster(t *testing.T, o demo.Options) *cluster {
	t.Helper()
	o.Zklvs = program(t)
	c, err := demo.Start(t.Context(), o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{T: t, Cluster: c, ctx: t.Context()}
}

// newLab makes a lab that ends with the test.
func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// A running cluster is disturbed in one way after the other.
func TestKernelCluster(t *testing.T) {
	requireIPVS(t)
	k := startCluster(t, demo.Options{Progress: t.Logf})
	k.apply(demo.Web())
	k.waitAnyHolder()
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"a rule removed by hand is put back", (*cluster).ruleRemoved},
		{"a foreign IPVS service is left alone", (*cluster).foreignService},
		{"what is exported stands in the kernel, and clear is refused", (*cluster).exported},
		{"a VIP bound by hand on the standby is removed", (*cluster).vipOnStandby},
		{"a bad document written by hand changes nothing", (*cluster).badDocument},
		{"SIGTERM releases in order", (*cluster).sigterm},
		{"a director cut off from ZooKeeper goes on", (*cluster).cutOffHolds},
		{"under fence it steps down, and joins again", (*cluster).cutOff},
		{"a director whose LAN is dead gives up, and comes back when it is well", (*cluster).lanDead},
		{"a killed daemon that is started again finds its leftovers", (*cluster).restartAfterKill},
		{"a second daemon of the cluster is refused", (*cluster).secondDaemon},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := *k
			k.T = t
			test.run(&k)
			if t.Failed() {
				for _, name := range []string{demo.First, demo.Second} {
					t.Logf("log of %s:\n%s", name, k.Director(name).Log())
				}
			}
		})
	}
}

// cluster is the exercise with helpers that fail the test.
type cluster struct {
	*testing.T
	*demo.Cluster
	ctx context.Context
}

func (k *cluster) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *cluster) apply(groups ...demo.GroupSettings) {
	k.Helper()
	_, err := k.Apply(k.ctx, demo.Documents("", groups...))
	k.must(err)
}

const patience = 30 * time.Second

// until waits for a condition.
func (k *cluster) until(what string, condition func() error) {
	k.Helper()
	ctx, cancel := demo.Within(k.ctx, patience)
	defer cancel()
	k.must(lab.WaitUntil(ctx, what, condition))
}

func (k *cluster) holder() string {
	k.Helper()
	name, err := k.Answerer(lab.VIP)
	k.must(err)
	if name == "" {
		k.Fatal("nobody holds the VIP")
	}
	return name
}

func (k *cluster) waitAnyHolder() string {
	k.Helper()
	var name string
	k.until("a director holds the VIP", func() (err error) {
		if name, err = k.Answerer(lab.VIP); err == nil && name == "" {
			err = errors.New("none does")
		}
		return err
	})
	return name
}

// waitStandby waits until a director queues behind the holder.
func (k *cluster) waitStandby(name string) {
	k.Helper()
	k.until(name+" is a standby", func() error {
		return k.wantStatus(name, `"phase": "standby"`)
	})
}

func (k *cluster) wantStatus(name, text string) error {
	out, err := k.Zklvs(k.ctx, name, "status", "-o", "json")
	if err == nil && !strings.Contains(out, text) {
		err = fmt.Errorf("status lacks %q:\n%s", text, out)
	}
	return err
}

func standbyOf(holder string) string {
	if holder == demo.First {
		return demo.Second
	}
	return demo.First
}

func (k *cluster) wantRules(host string, text ...string) error {
	out, err := k.Rules(k.ctx, host)
	for _, want := range text {
		if err == nil && !strings.Contains(out, want) {
			err = fmt.Errorf("rules lack %q:\n%s", want, out)
		}
	}
	return err
}

func (k *cluster) ruleRemoved() {
	h := k.holder()
	k.until("the rules are complete", func() error { return k.wantRules(h, "192.168.150.12:80", "192.168.150.13:80") })
	_, err := k.Lab.Host(h).Run(k.ctx, "ipvsadm", "-d", "-t", "192.168.150.100:80", "-r", "192.168.150.13:80")
	k.must(err)
	k.until("the destination is back", func() error { return k.wantRules(h, "192.168.150.12:80", "192.168.150.13:80") })
	k.until("the drift is logged", func() error {
		if !strings.Contains(k.Director(h).Log(), "192.168.150.13:80 of TCP 192.168.150.100:80 was missing") {
			return errors.New("it is not")
		}
		return nil
	})
}

func (k *cluster) foreignService() {
	h := k.holder()
	_, err := k.Lab.Host(h).Run(k.ctx, "ipvsadm", "-A", "-t", "192.168.150.200:25", "-s", "wlc")
	k.must(err)
	// any change makes the director write its table
	_, err = k.Lab.Host(h).Run(k.ctx, "ipvsadm", "-d", "-t", "192.168.150.100:80", "-r", "192.168.150.12:80")
	k.must(err)
	k.until("ours is repaired and the foreign one is there", func() error {
		return k.wantRules(h, "192.168.150.12:80", "192.168.150.200:25 wlc")
	})
	_, err = k.Lab.Host(h).Run(k.ctx, "ipvsadm", "-D", "-t", "192.168.150.200:25")
	k.must(err)
}

func (k *cluster) vipOnStandby() {
	h := k.holder()
	other := standbyOf(h)
	k.waitStandby(other)
	_, err := k.Lab.Host(other).Run(k.ctx, "ip", "address", "add", "192.168.150.100/32", "dev", "eth0")
	k.must(err)
	k.until("it is gone again", func() error {
		bound, err := k.Lab.Host(other).Bound("eth0", lab.VIP)
		if err == nil && bound {
			err = errors.New("it is still bound")
		}
		return err
	})
	if now := k.holder(); now != h {
		k.Errorf("the holder changed from %s to %s", h, now)
	}
}

func (k *cluster) badDocument() {
	h := k.holder()
	server := k.ZooKeeper.Servers()[0]
	_, err := lab.ZkCli(k.ctx, k.Lab.Host(demo.Client), server, "set", "/zklvs/web/spec/services/web-http", "group:nosuch")
	k.must(err)
	k.until("status tells of it", func() error { return k.wantStatus(h, "spec/services/web-http") })
	k.until("the rules are as before", func() error { return k.wantRules(h, "192.168.150.12:80", "192.168.150.13:80") })
	if now := k.holder(); now != h {
		k.Errorf("the holder changed from %s to %s", h, now)
	}
	k.apply(demo.Web())
	k.until("the problem is gone", func() error {
		out, err := k.Zklvs(k.ctx, h, "status", "-o", "json")
		if err == nil && strings.Contains(out, `"problems"`) {
			err = fmt.Errorf("it is not:\n%s", out)
		}
		return err
	})
}

func (k *cluster) sigterm() {
	h := k.holder()
	other := standbyOf(h)
	k.waitStandby(other)
	begun := boottime.Now()
	ctx, cancel := demo.Within(k.ctx, patience)
	defer cancel()
	k.must(k.Director(h).Stop(ctx))
	if code, err := k.Director(h).Wait(ctx); err != nil || code != 0 {
		k.Errorf("the daemon ended with %d, %v", code, err)
	}
	k.must(k.WaitAnswerer(ctx, lab.VIP, other))
	k.Logf("the standby had the VIP %v after SIGTERM", boottime.Now()-begun)
	out, err := k.Rules(k.ctx, h)
	k.must(err)
	if strings.Contains(out, "192.168.150.100") {
		k.Errorf("rules are left behind:\n%s", out)
	}
	k.must(k.StartDirector(h))
	k.waitStandby(h)
}

// cutOff takes the holder's way to ZooKeeper: under fence it must stop before
// anybody else starts, by its own clock, and be a standby again after.
func (k *cluster) cutOff() {
	k.must1(k.Apply(k.ctx, demo.Documents("on_zookeeper_loss: fence", demo.Web())))
	defer func() { k.must1(k.Apply(k.ctx, demo.Documents("on_zookeeper_loss: hold", demo.Web()))) }()
	h := k.holder()
	other := standbyOf(h)
	k.waitStandby(other)
	(&holding{k, h}).waitLoss("fence: the cluster's document says so", 0)
	prober, stop := k.probe()
	k.must(k.Lab.Host(h).Cut("eth1"))
	ctx, cancel := demo.Within(k.ctx, patience)
	defer cancel()
	k.must(k.WaitAnswerer(ctx, lab.VIP, other))
	stop()
	if n := len(prober.Conflicts()); n > 0 {
		k.Errorf("%d ARP requests were answered by two hosts", n)
	}
	k.must(k.Lab.Host(h).Heal("eth1"))
	k.waitStandby(h)
}

// lanDead takes the holder's LAN while its card keeps its carrier and ZooKeeper
// stays in reach: only the gateway check can tell.
func (k *cluster) lanDead() {
	g := demo.Web()
	g.Gateway = k.Lab.Host(demo.Client).Addr("eth0").String()
	k.apply(g)
	h := k.holder()
	other := standbyOf(h)
	k.waitStandby(other)
	k.must(k.Lab.Host(h).Cut("eth0"))
	ctx, cancel := demo.Within(k.ctx, patience)
	defer cancel()
	k.must(k.WaitAnswerer(ctx, lab.VIP, other))
	k.until("it says why", func() error { return k.wantStatus(h, "gateway "+g.Gateway+" failed") })
	if err := k.wantStatus(h, `"phase": "standby"`); err == nil {
		k.Errorf("%s is a standby without its LAN", h)
	}
	k.must(k.Lab.Host(h).Heal("eth0"))
	k.waitStandby(h)
	k.apply(demo.Web())
}

// probe asks for the VIP until the returned function is called.
func (k *cluster) probe() (*lab.Prober, func()) {
	k.Helper()
	p, err := lab.NewARPProber(k.Lab.Host(demo.Client), "eth0", lab.VIP, 0)
	k.must(err)
	ctx, cancel := context.WithCancel(k.ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return p, func() {
		cancel()
		k.must(<-ended)
	}
}

// restartAfterKill starts the daemon again while the address of its earlier
// life is still bound: the new life removes it and writes the receipt for the
// dead one, so that nobody waits out the lease.
func (k *cluster) restartAfterKill() {
	h := k.holder()
	k.waitStandby(standbyOf(h))
	k.must(k.KillBoth(h))
	killed := boottime.Now()
	k.must(k.StartDirector(h))
	ctx, cancel := demo.Within(k.ctx, patience)
	defer cancel()
	k.must(k.Director(h).WaitLog(ctx, "removed an address that an earlier life left"))
	k.must(k.Director(h).WaitLog(ctx, "wrote the receipt of an earlier life of this host"))
	k.until("the VIP is served", func() error {
		_, err := k.Curl(k.ctx, lab.VIP)
		return err
	})
	if took, bound := boottime.Now()-killed, demo.FailoverBound(spec.DefaultCluster()); took > bound {
		k.Logf("served again only %v after the kill; without a receipt it takes up to %v", took, bound)
	}
}

func (k *cluster) secondDaemon() {
	_, err := k.Zklvs(k.ctx, demo.First, "run", "--config", demo.ConfigPath)
	if err == nil || !strings.Contains(err.Error(), "another zklvs director of this cluster") {
		k.Errorf("a second daemon ended with %v", err)
	}
	if err := k.Director(demo.First).Signal(syscall.Signal(0)); err != nil {
		k.Errorf("the first daemon is gone: %v", err)
	}
}
