package ipvshost

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zklvs/zklvs/ipvs"
)

func TestApplyAndRestore(t *testing.T) {
	b := newBench(t)
	before := b.snapshot()
	h := b.life()
	b.must(h.Restore(t.Context())) // nothing to put back
	for range 3 {
		b.apply(h, full())
		b.wantSame(asFull(before), b.snapshot())
	}
	if n := len(b.table.calls); n != 3 {
		t.Errorf("changes: %v", b.table.calls)
	}
	if n := b.logged("another program"); n != 0 {
		t.Errorf("%d lines tell of drift: %v", n, b.logs.All())
	}
	// What the kernel does besides when forwarding is switched (see besides).
	b.set("ipv4/conf/all/accept_redirects", "1")
	b.set("ipv4/conf/eth1/forwarding", "0")
	b.must(h.Restore(t.Context()))
	b.wantSame(before, b.snapshot())
	b.wantNoFile()
	b.must(h.Restore(t.Context()))
	b.wantSame(before, b.snapshot())
}

// What is no longer desired is put back, all else stays.
func TestOtherDocuments(t *testing.T) {
	b := newBench(t)
	before := b.snapshot()
	h := b.life()
	b.apply(h, full())
	d := full()
	d.Timeouts, d.Forward4, d.Sysctls = ipvs.Timeouts{TCPFin: time.Minute}, false, map[string]string{"sync_threshold": "1  10"}
	d.Daemons = daemons("eth1", 7)[:1]
	b.apply(h, d)
	b.wantSame(with(before, "ipv4/vs/sync_threshold", "1 10", "ipv6/conf/all/forwarding", "1", "timeouts", "{15m0s 1m0s 5m0s}",
		"master", "--mcast-interface eth1 --syncid 7 --sync-maxlen 60 --mcast-group 224.0.0.81 --mcast-port 8848 --mcast-ttl 1"), b.snapshot())
	b.apply(h, Desired{})
	b.wantSame(before, b.snapshot())
	b.wantNoFile()
}

func TestDrift(t *testing.T) {
	b := newBench(t)
	before := b.snapshot()
	h := b.life()
	b.apply(h, full())
	b.set("ipv4/vs/sloppy_tcp", "0")
	b.set("ipv4/vs/expire_nodest_conn", "0") // was as desired from the beginning
	b.table.timeouts.UDP = time.Second
	b.must(b.table.StopDaemon(ipvs.Backup))
	b.apply(h, full())
	b.wantSame(asFull(before), b.snapshot())
	if n := len(h.found.Sysctls); n != 5 { // each once, however often it was changed
		t.Errorf("%d sysctls are noted", n)
	}
	for text, want := range map[string]int{"changed a sysctl": 2, "changed the timeouts": 1, "stopped a sync daemon: starting": 1} {
		if n := b.logged(text); n != want {
			t.Errorf("%q is logged %d times, want %d", text, n, want)
		}
	}
	b.must(h.Restore(t.Context()))
	// The last word of another program on a value that we had not changed stands.
	b.wantSame(with(before, "ipv4/vs/expire_nodest_conn", "0"), b.snapshot())
}

// A life that is killed at any of its changes leaves enough to the next one.
func TestKilled(t *testing.T) {
	for kills := range 12 {
		b := newBench(t)
		before := b.snapshot()
		n := kills
		killed := func() (killed bool) {
			defer func() { killed = recover() != nil }()
			b.table.fail = func(string) error {
				if n--; n == -1 {
					panic("killed")
				}
				return nil
			}
			h := b.life()
			b.apply(h, full())
			b.apply(h, Desired{Daemons: daemons("eth1", 2), Sysctls: map[string]string{"sloppy_tcp": "1"}})
			return
		}()
		b.table.fail = nil
		if kills%2 == 0 { // the next one goes on, or only puts back
			b.apply(b.life(), full())
			b.wantSame(asFull(before), b.snapshot())
		}
		b.must(b.life().Restore(t.Context()))
		b.wantSame(before, b.snapshot())
		b.wantNoFile()
		if killed != (kills < 8) {
			t.Errorf("not killed at change %d", kills)
		}
	}
}

// What was true in another boot or network namespace is not put back.
func TestAnotherBoot(t *testing.T) {
	b := newBench(t)
	b.apply(b.life(), full())
	b.table.daemons = nil
	b.scope = "boot b netns cookie 1"
	b.set("ipv4/vs/sloppy_tcp", "0")
	now := b.snapshot()
	h := b.life()
	b.must(h.Restore(t.Context()))
	b.wantSame(now, b.snapshot())
	b.apply(h, full())
	b.must(h.Restore(t.Context()))
	b.wantSame(now, b.snapshot())
}

// What cannot be done is told with its remedy, and keeps nothing else from being done.
func TestFailures(t *testing.T) {
	busy := errors.New("the kernel is busy")
	for name, c := range map[string]struct {
		prepare func(*bench)
		change  func(*Desired)
		want    string
		after   []string // of what full sets, name and value
		gone    []string
	}{
		"an older kernel": {nil, func(d *Desired) { d.Sysctls["nosuch"] = "1" }, "net.ipv4.vs.nosuch does not exist in this kernel, Linux ", nil, nil},
		"no IPv6": {func(b *bench) { b.must(os.RemoveAll(b.path("ipv6"))) }, nil, "IPv6 is disabled on this host", nil,
			[]string{"ipv6/conf/all/forwarding", "ipv6/conf/eth0/forwarding"}},
		"timeouts": {func(b *bench) { b.failing("timeouts", busy) }, nil, "set the timeouts of IPVS: the kernel is busy",
			[]string{"timeouts", "{15m0s 2m0s 5m0s}"}, nil},
		"a daemon": {func(b *bench) { b.failing("start master", busy) }, nil, "sync daemon (master): start it with --mcast-interface eth0 --syncid 1 --sync-maxlen 60: the kernel is busy", nil, []string{"master"}},
		"no interface": {func(b *bench) { delete(b.links, "eth0") }, nil, "interface eth0: no such device: configure it, or name another one", nil,
			[]string{"master", "backup"}},
		"interface down": {func(b *bench) { b.links["eth0"] = Link{2, false} }, nil, "interface eth0 is down", nil, []string{"master", "backup"}},
		"no table": {func(b *bench) { b.opened = busy }, nil, "the kernel is busy", []string{"ipv4/vs/sloppy_tcp", "0", "ipv4/vs/sync_threshold", "3 50",
			"ipv4/ip_forward", "0", "ipv6/conf/all/forwarding", "0", "timeouts", "{15m0s 2m0s 5m0s}"}, []string{"master", "backup"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			before := b.snapshot()
			if c.prepare != nil {
				c.prepare(b)
			}
			d := full()
			if c.change != nil {
				c.change(&d)
			}
			h := b.life()
			err := h.Apply(t.Context(), d)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
			want := with(asFull(before), c.after...)
			for _, name := range c.gone {
				delete(want, name)
				delete(before, name)
			}
			b.wantSame(want, b.snapshot())
			b.table.fail, b.opened = nil, nil
			b.must(h.Restore(t.Context()))
			b.wantSame(before, b.snapshot())
			b.wantNoFile()
		})
	}
}

// failing lets changes that begin so fail.
func (b *bench) failing(prefix string, err error) {
	b.table.fail = func(call string) error {
		if strings.HasPrefix(call, prefix) {
			return err
		}
		return nil
	}
}

// What cannot be put back is tried again, and stays in the file until then.
func TestRestoreFails(t *testing.T) {
	b := newBench(t)
	before := b.snapshot()
	h := b.life()
	b.apply(h, full())
	b.failing("stop master", errors.New("busy"))
	for range 2 {
		if err := h.Restore(t.Context()); err == nil || !strings.Contains(err.Error(), "put back what was there before: sync daemon (master): stop it: busy") {
			t.Errorf("error %v", err)
		}
		b.wantSame(with(before, "master", masterOn0), b.snapshot())
	}
	b.table.fail = nil
	b.must(b.life().Restore(t.Context()))
	b.wantSame(before, b.snapshot())
	b.wantNoFile()
}

// Nothing is changed where it cannot be noted first what was there.
func TestNoStateFile(t *testing.T) {
	b := newBench(t)
	b.must(os.WriteFile(b.state[:len(b.state)-len("/web.ipvs")], nil, 0o600)) // a file in place of the directory
	before := b.snapshot()
	if err := b.life().Apply(t.Context(), full()); err == nil {
		t.Error("no error")
	}
	b.wantSame(before, b.snapshot())
}

func TestCancelled(t *testing.T) {
	b := newBench(t)
	before := b.snapshot()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.life().Apply(ctx, full()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	b.wantSame(before, b.snapshot())
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("no error")
	}
}
