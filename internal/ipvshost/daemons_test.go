package ipvshost

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/zklvs/zklvs/ipvs"
)

func onlyDaemons(iface string, id uint8) Desired { return Desired{Daemons: daemons(iface, id)} }

// A daemon that another program started, with what we want: it is used, and left.
func TestForeignDaemonThatFits(t *testing.T) {
	b := newBench(t)
	for _, d := range daemons("eth0", 1) {
		b.must(b.table.StartDaemon(d))
	}
	before := b.snapshot()
	h := b.life()
	for range 2 {
		b.apply(h, onlyDaemons("eth0", 1))
	}
	b.must(h.Restore(t.Context()))
	b.wantSame(before, b.snapshot())
	// When it goes, ours comes, and goes with us.
	b.apply(h, onlyDaemons("eth0", 1))
	b.must(b.table.StopDaemon(ipvs.Master))
	b.apply(h, onlyDaemons("eth0", 1))
	b.wantSame(before, b.snapshot())
	b.must(h.Restore(t.Context()))
	delete(before, "master")
	b.wantSame(before, b.snapshot())
}

// A daemon of another program, with other settings: an error, and no touch.
func TestConflict(t *testing.T) {
	b := newBench(t)
	b.must(b.table.StartDaemon(ipvs.Daemon{State: ipvs.Master, Interface: "eth1", ID: 9}))
	before := b.snapshot()
	h := b.life()
	for range 2 {
		err := h.Apply(t.Context(), onlyDaemons("eth0", 1))
		want := "sync daemon (master): it runs with --mcast-interface eth1 --syncid 9 --sync-maxlen 1472 --mcast-group 224.0.0.81 --mcast-port 8848 --mcast-ttl 1, " +
			"not with --mcast-interface eth0 --syncid 1 --sync-maxlen 60: another program started it; stop it with `ipvsadm --stop-daemon master`, and see that nothing starts it again"
		if !errors.Is(err, ErrConflict) || err.Error() != want {
			t.Errorf("error %v", err)
		}
		b.wantSame(with(before, "backup", backupOn0), b.snapshot())
	}
	b.must(h.Restore(t.Context()))
	b.wantSame(before, b.snapshot())
	// The same where ours ran before, also over a kill.
	b.must(b.table.StopDaemon(ipvs.Master))
	b.apply(h, onlyDaemons("eth0", 1))
	b.must(b.table.StopDaemon(ipvs.Master))
	b.must(b.table.StartDaemon(ipvs.Daemon{State: ipvs.Master, Interface: "eth1", ID: 9}))
	for _, h := range []*Host{h, b.life()} {
		if err := h.Apply(t.Context(), onlyDaemons("eth0", 1)); !errors.Is(err, ErrConflict) {
			t.Errorf("error %v", err)
		}
	}
	b.must(h.Restore(t.Context()))
	b.wantSame(before, b.snapshot())
}

// A daemon of ours is restarted for other settings, also when an earlier life
// started it, and when its interface was made anew.
func TestRestart(t *testing.T) {
	b := newBench(t)
	before := b.snapshot()
	b.apply(b.life(), onlyDaemons("eth0", 1))
	h := b.life()
	b.apply(h, onlyDaemons("eth1", 2))
	b.links["eth1"] = Link{33, true}
	b.apply(h, onlyDaemons("eth1", 2))
	b.apply(h, onlyDaemons("eth1", 2))
	want := "start master on eth0 id 1, start backup on eth0 id 1, " +
		"stop master, start master on eth1 id 2, stop backup, start backup on eth1 id 2, " +
		"stop master, start master on eth1 id 2, stop backup, start backup on eth1 id 2"
	if got := strings.Join(b.table.calls, ", "); got != want {
		t.Errorf("changes: %s\nwant: %s", got, want)
	}
	if n := b.logged("another program"); n != 0 {
		t.Errorf("%d lines tell of drift", n)
	}
	b.must(h.Restore(t.Context()))
	b.wantSame(before, b.snapshot())
}

// An interface that comes up or back later is waited for.
func TestInterfaceComes(t *testing.T) {
	b := newBench(t)
	h := b.life()
	delete(b.links, "eth0")
	if err := h.Apply(t.Context(), onlyDaemons("eth0", 1)); err == nil {
		t.Error("no error")
	}
	b.links["eth0"] = Link{2, true}
	b.apply(h, onlyDaemons("eth0", 1))
	delete(b.links, "eth0") // the kernel goes on showing the daemons
	if err := h.Apply(t.Context(), onlyDaemons("eth0", 1)); err == nil {
		t.Error("no error")
	}
	b.links["eth0"] = Link{4, true}
	b.apply(h, onlyDaemons("eth0", 1))
	if n := len(b.table.calls); n != 6 {
		t.Errorf("changes: %v", b.table.calls)
	}
}

func TestServes(t *testing.T) {
	runs := ipvs.Daemon{State: ipvs.Master, Interface: "eth0", ID: 1, MaxLen: 60, Group: netip.MustParseAddr("224.0.0.81"), Port: 8848, TTL: 1}
	for name, c := range map[string]struct {
		change func(*ipvs.Daemon)
		want   bool
	}{
		"all given":  {func(*ipvs.Daemon) {}, true},
		"none given": {func(d *ipvs.Daemon) { d.MaxLen, d.Group, d.Port, d.TTL = 0, netip.Addr{}, 0, 0 }, true},
		"state":      {func(d *ipvs.Daemon) { d.State = ipvs.Backup }, false},
		"interface":  {func(d *ipvs.Daemon) { d.Interface = "eth1" }, false},
		"id":         {func(d *ipvs.Daemon) { d.ID = 0 }, false},
		"maxlen":     {func(d *ipvs.Daemon) { d.MaxLen = 61 }, false},
		"group":      {func(d *ipvs.Daemon) { d.Group = netip.MustParseAddr("224.0.0.82") }, false},
		"port":       {func(d *ipvs.Daemon) { d.Port = 8849 }, false},
		"ttl":        {func(d *ipvs.Daemon) { d.TTL = 2 }, false},
	} {
		want := runs
		if c.change(&want); serves(want, runs) != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}
