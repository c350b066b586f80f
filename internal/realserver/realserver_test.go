package realserver

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/fence/fencetest"
)

var (
	vipA = netip.MustParseAddr("192.168.150.100")
	vipB = netip.MustParseAddr("192.168.150.101")
)

// bench is a real server in memory and in a folder: what does not change with
// the agent that looks at it.
type bench struct {
	kernel *fencetest.Kernel
	proc   string
	state  string
	logs   *observer.ObservedLogs
	log    *zap.Logger
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{kernel: fencetest.NewKernel(func() time.Duration { return 0 }), proc: t.TempDir()}
	b.state = filepath.Join(t.TempDir(), "run", "realserver.json")
	core, logs := observer.New(zap.InfoLevel)
	b.log, b.logs = zap.New(core), logs
	for _, name := range []string{"eth0", "eth1"} {
		b.kernel.AddLink(name, []byte{2, 0, 0, 0, 0, 1})
	}
	for _, name := range []string{"all", "default", "lo", "eth0", "eth1"} {
		b.set(t, conf(name, arpIgnore), "0")
		b.set(t, conf(name, arpAnnounce), "0")
	}
	b.boot(t, "6d6f6e64-1")
	return b
}

func (b *bench) boot(t *testing.T, id string) {
	t.Helper()
	b.put(t, filepath.Join(b.proc, "kernel/random/boot_id"), id)
}

func (b *bench) set(t *testing.T, name, value string) {
	t.Helper()
	b.put(t, filepath.Join(b.proc, "net/ipv4", name), value)
}

func (b *bench) put(t *testing.T, path, value string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(value+"\n"), 0o644))
}

// agent returns an agent as another process would have it.
func (b *bench) agent(t *testing.T, change func(*Config)) *Agent {
	t.Helper()
	c := Config{Logger: b.log, Kernel: b.kernel, VIPs: []netip.Addr{vipA, vipB}, Label: "lo:1", Interface: "eth0", StatePath: b.state, ProcSys: b.proc}
	if change != nil {
		change(&c)
	}
	a, err := New(c)
	must(t, err)
	t.Cleanup(func() { a.Close() })
	return a
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// snapshot is everything that Up may change.
func (b *bench) snapshot(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	root := filepath.Join(b.proc, "net/ipv4")
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		all[name] = strings.TrimSpace(string(data))
		return err
	}))
	table, err := b.kernel.Addresses()
	must(t, err)
	for _, a := range table {
		all[a.Prefix.String()+" "+a.Interface] = a.Label
	}
	return all
}

func wantSame(t *testing.T, want, got map[string]string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// with returns m with changes, given as name, value, name, value.
func with(m map[string]string, changes ...string) map[string]string {
	c := map[string]string{}
	for k, v := range m {
		c[k] = v
	}
	for i := 0; i < len(changes); i += 2 {
		c[changes[i]] = changes[i+1]
	}
	return c
}

var quiet = []string{"conf/all/arp_ignore", "1", "conf/all/arp_announce", "2", "conf/eth0/arp_ignore", "1", "conf/eth0/arp_announce", "2"}

func TestUpAndDown(t *testing.T) {
	b := newBench(t)
	b.set(t, "conf/all/arp_announce", "1")
	b.set(t, "conf/eth0/arp_ignore", "2") // hides as well: left
	before := b.snapshot(t)
	want := with(with(before, quiet...), "conf/eth0/arp_ignore", "2", vipA.String()+"/32 lo", "lo:1", vipB.String()+"/32 lo", "lo:1")
	for range 3 {
		must(t, b.agent(t, nil).Up())
		wantSame(t, want, b.snapshot(t))
	}
	must(t, b.agent(t, func(c *Config) { c.VIPs, c.Interface = nil, "" }).Down())
	wantSame(t, before, b.snapshot(t))
	if _, err := os.Stat(b.state); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state file is left: %v", err)
	}
	must(t, b.agent(t, nil).Down())
	wantSame(t, before, b.snapshot(t))
}

// A VIP that an operator had put there stays.
func TestDownLeavesWhatWasThere(t *testing.T) {
	b := newBench(t)
	must(t, b.kernel.Replace(hidden(vipA, "mine")))
	before := b.snapshot(t)
	must(t, b.agent(t, nil).Up())
	must(t, b.agent(t, nil).Up())
	must(t, b.agent(t, nil).Down())
	wantSame(t, before, b.snapshot(t))
}

// The sysctls come first, and what was there is on disk before them.
func TestOrder(t *testing.T) {
	b := newBench(t)
	before := b.snapshot(t)
	b.kernel.Hook = func(op string, _ fence.Address) error {
		switch op {
		case "dump":
			if _, err := os.Stat(b.state); err != nil {
				wantSame(t, before, b.snapshotSysctls(t, before))
			}
		case "replace":
			wantSame(t, with(before, quiet...), b.snapshotSysctls(t, before))
		}
		return nil
	}
	must(t, b.agent(t, nil).Up())
}

// snapshotSysctls reads only the names in like, without the kernel's table.
func (b *bench) snapshotSysctls(t *testing.T, like map[string]string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for name := range like {
		data, err := os.ReadFile(filepath.Join(b.proc, "net/ipv4", name))
		must(t, err)
		all[name] = strings.TrimSpace(string(data))
	}
	return all
}

func TestNewConfiguration(t *testing.T) {
	b := newBench(t)
	b.set(t, "conf/eth1/arp_announce", "1")
	before := b.snapshot(t)
	must(t, b.agent(t, nil).Up())
	must(t, b.agent(t, func(c *Config) { c.Interface, c.VIPs = "eth1", []netip.Addr{vipB} }).Up())
	wantSame(t, with(before, "conf/all/arp_ignore", "1", "conf/all/arp_announce", "2",
		"conf/eth1/arp_ignore", "1", "conf/eth1/arp_announce", "2", vipB.String()+"/32 lo", "lo:1"), b.snapshot(t))
	must(t, b.agent(t, nil).Down())
	wantSame(t, before, b.snapshot(t))
}

// An Up that was killed at any of its acts is finished by the next, or undone by Down.
func TestKilledHalfWay(t *testing.T) {
	for _, finish := range []bool{true, false} {
		for n := range 5 { // the acts of one Up
			b := newBench(t)
			before := b.snapshot(t)
			b.kernel.Hook = func(op string, _ fence.Address) error {
				if op != "replace" && op != "dump" {
					return nil
				}
				if n--; n == -1 {
					panic("killed")
				}
				return nil
			}
			func() {
				defer func() { _ = recover() }()
				_ = b.agent(t, nil).Up()
				t.Error("not killed")
			}()
			b.kernel.Hook = nil
			if finish {
				must(t, b.agent(t, nil).Up())
				wantSame(t, with(with(before, quiet...), vipA.String()+"/32 lo", "lo:1", vipB.String()+"/32 lo", "lo:1"), b.snapshot(t))
			}
			must(t, b.agent(t, nil).Down())
			wantSame(t, before, b.snapshot(t))
		}
	}
}

// An Up with a new configuration that was killed still has the old one undone.
func TestKilledBetweenConfigurations(t *testing.T) {
	b := newBench(t)
	before := b.snapshot(t)
	must(t, b.agent(t, func(c *Config) { c.Interface, c.VIPs = "eth1", []netip.Addr{vipB} }).Up())
	b.kernel.Hook = func(op string, _ fence.Address) error {
		if op == "replace" {
			panic("killed")
		}
		return nil
	}
	func() {
		defer func() { _ = recover() }()
		_ = b.agent(t, func(c *Config) { c.VIPs = []netip.Addr{vipA} }).Up()
		t.Error("not killed")
	}()
	b.kernel.Hook = nil
	must(t, b.agent(t, nil).Down())
	wantSame(t, before, b.snapshot(t))
}

func TestFailedUpIsUndone(t *testing.T) {
	b := newBench(t)
	before := b.snapshot(t)
	refused := errors.New("refused")
	b.kernel.Hook = func(op string, a fence.Address) error {
		if op == "replace" && a.Prefix.Addr() == vipB {
			return refused
		}
		return nil
	}
	if err := b.agent(t, nil).Up(); !errors.Is(err, refused) {
		t.Errorf("error %v", err)
	}
	wantSame(t, before, b.snapshot(t))
	// The same while an earlier Up holds: that one stays.
	must(t, b.agent(t, func(c *Config) { c.VIPs = []netip.Addr{vipA} }).Up())
	up := b.snapshot(t)
	if err := b.agent(t, nil).Up(); !errors.Is(err, refused) {
		t.Errorf("error %v", err)
	}
	wantSame(t, up, b.snapshot(t))
	must(t, b.agent(t, nil).Down())
	wantSame(t, before, b.snapshot(t))
}

// What was true in another boot is not restored.
func TestAnotherBoot(t *testing.T) {
	b := newBench(t)
	b.set(t, "conf/all/arp_ignore", "3")
	must(t, b.agent(t, nil).Up())
	must(t, b.kernel.Remove(hidden(vipA, "")))
	must(t, b.kernel.Remove(hidden(vipB, "")))
	for name := range b.snapshot(t) {
		b.set(t, name, "0")
	}
	b.boot(t, "6d6f6e64-2")
	before := b.snapshot(t)
	must(t, b.agent(t, nil).Down())
	wantSame(t, before, b.snapshot(t))
	must(t, b.agent(t, nil).Up())
	must(t, b.agent(t, nil).Down())
	wantSame(t, before, b.snapshot(t))
}

func TestRunKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		before := b.snapshot(t)
		done := make(chan error, 1)
		go func() { done <- b.agent(t, nil).Run(t.Context()) }()
		time.Sleep(DefaultInterval / 2)
		up := b.snapshot(t)
		b.set(t, "conf/all/arp_ignore", "0")
		b.set(t, "conf/eth0/arp_announce", "0")
		must(t, b.kernel.Remove(hidden(vipB, "")))
		time.Sleep(DefaultInterval)
		wantSame(t, up, b.snapshot(t))
		lines := b.logs.FilterMessage("put back what someone else changed").All()
		want := []any{"conf/all/arp_ignore", "conf/eth0/arp_announce", "192.168.150.101"}
		if len(lines) != 1 || cmp.Diff(want, lines[0].ContextMap()["what"]) != "" {
			t.Errorf("logged %v", lines)
		}
		must(t, b.agent(t, nil).Down())
		if err := <-done; !errors.Is(err, ErrTakenDown) {
			t.Errorf("Run returned %v", err)
		}
		wantSame(t, before, b.snapshot(t))
	})
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no VIP":       {func(c *Config) { c.VIPs = nil }, "expected at least one VIP"},
		"twice":        {func(c *Config) { c.VIPs = []netip.Addr{vipA, vipA} }, "VIP 192.168.150.100 is given twice"},
		"IPv6":         {func(c *Config) { c.VIPs = []netip.Addr{netip.MustParseAddr("2001:db8::1")} }, "expected an IPv4 address"},
		"lo":           {func(c *Config) { c.Interface = "lo" }, "expected the interface on which the director's packets arrive"},
		"no interface": {func(c *Config) { c.Interface = "eth9" }, "interface eth9: no such interface"},
		"a path":       {func(c *Config) { c.Interface = "../eth0" }, `unexpected character "/"`},
		"long label":   {func(c *Config) { c.Label = "lo:0123456789abc" }, "has 16 bytes: expected 1 to 15"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			before := b.snapshot(t)
			err := b.agent(t, c.change).Up()
			if err == nil || !strings.HasPrefix(err.Error(), "real server up: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
			wantSame(t, before, b.snapshot(t))
		})
	}
	b := newBench(t)
	b.kernel.SetLink("lo", false, false)
	if err := b.agent(t, nil).Up(); err == nil || !strings.Contains(err.Error(), "ip link set lo up") {
		t.Errorf("lo is down: %v", err)
	}
}

func TestCheck(t *testing.T) {
	b := newBench(t)
	b.set(t, "conf/eth1/arp_ignore", "3")
	must(t, b.kernel.Replace(fence.Address{Prefix: netip.PrefixFrom(vipA, 24), Interface: "eth1", Valid: fence.Forever}))
	must(t, b.kernel.Replace(fence.Address{Prefix: netip.PrefixFrom(vipB, 24), Interface: "lo", Valid: fence.Forever}))
	b.kernel.SetLink("eth0", true, false)
	for _, up := range []bool{false, true} {
		want := []string{"interface eth0 has no carrier: look at its cable or switch"}
		if !up {
			want = append(want, "arp_ignore is 0 in effect on eth0: the network may learn the VIP from this host: run `zklvs realserver up`",
				"arp_announce is 0 in effect on eth0: the network may learn the VIP from this host: run `zklvs realserver up`")
		}
		want = append(want, "arp_ignore is 3 in effect on eth1: the network may learn the VIP from this host: run `sysctl -w net/ipv4/conf/eth1/arp_ignore=1`")
		if !up {
			want = append(want, "arp_announce is 0 in effect on eth1: the network may learn the VIP from this host: run `zklvs realserver up`",
				"VIP 192.168.150.100 is not on lo: run `zklvs realserver up`")
		}
		want = append(want, "VIP 192.168.150.100/24 is bound on eth1: this host answers ARP for it: unless this host is the holder, run `ip address del 192.168.150.100/24 dev eth1`")
		if !up {
			want = append(want, "VIP 192.168.150.101 is not on lo: run `zklvs realserver up`")
		}
		want = append(want, "VIP 192.168.150.101/24 is bound on lo: the whole subnet counts as this host's own: unless this host is the holder, run `ip address del 192.168.150.101/24 dev lo`")
		problems, err := b.agent(t, nil).Check()
		must(t, err)
		var got []string
		for _, p := range problems {
			got = append(got, p.String())
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("up=%v (-want +got):\n%s", up, d)
		}
		must(t, b.agent(t, nil).Up())
	}
}
