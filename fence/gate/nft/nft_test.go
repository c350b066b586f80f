package nft_test

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/fence/gate/nft"
	"github.com/zklvs/zklvs/internal/boottime"
)

var any4 = netip.IPv4Unspecified()

func hardware(macs [][]byte) (out []net.HardwareAddr) {
	for _, m := range macs {
		out = append(out, m)
	}
	return out
}

func TestGate(t *testing.T) {
	l := newLAN(t)
	want := func(state string, v bool) {
		t.Helper()
		if d := cmp.Diff(all(v), l.replies()); d != "" {
			t.Errorf("%s (-want +got):\n%s", state, d)
		}
	}
	want("without a gate", true)
	g := newGate(t)
	want("nothing gated", true)
	must(g.Add(vip4, vip6))
	want("added", false)
	if !l.ping(netip.MustParseAddr("10.0.0.1")) || !l.ping(netip.MustParseAddr("fd00::1")) {
		t.Error("the host's own addresses are gated")
	}
	setAll(g, boottime.Now()+time.Hour)
	want("open", true)
	setAll(g, boottime.Now())
	want("the deadline is over", false)
	setAll(g, boottime.Now()+time.Hour)
	must(g.Shut(vip4))
	must(g.Shut(vip6))
	want("shut", false)
	must(g.Drop(vip4))
	must(g.Drop(vip6))
	want("dropped", true)
}

// Everything frozen or dead: nothing is answered after D.
func TestFrozenProcess(t *testing.T) {
	const runs = 12
	l := newLAN(t)
	c := startChild(t)
	if l.probe.asked() {
		t.Fatal("answered before it was opened")
	}
	var late []time.Duration
	for range runs {
		deadline := c.open(300*time.Millisecond + nft.DefaultEarly)
		c.stop()
		got := l.probe.until(deadline + 100*time.Millisecond)
		if len(got.answered) == 0 {
			t.Fatal("not answered before D")
		}
		late = append(late, got.newest()-deadline)
		c.resume()
	}
	slices.Sort(late)
	t.Logf("newest answered request against D (shut %v early), process stopped, %d runs: min %v, median %v, max %v",
		nft.DefaultEarly, runs, late[0], late[runs/2], late[runs-1])
	if late[runs-1] > 0 {
		t.Errorf("a request was answered that was sent %v after D", late[runs-1])
	}
	deadline := c.open(300*time.Millisecond + nft.DefaultEarly)
	c.kill()
	got := l.probe.until(deadline + 200*time.Millisecond)
	if len(got.answered) == 0 || got.newest() > deadline {
		t.Errorf("killed: %d answers, the newest %v after D", len(got.answered), got.newest()-deadline)
	}
	if l.ping(vip4) || l.ping(vip6) {
		t.Error("the VIP answers although its gate's process is dead")
	}
}

// While the deadline is moved, an open address stays open and a shut one shut.
func TestMovingTheDeadlineIsSeamless(t *testing.T) {
	l := newLAN(t)
	g := newGate(t)
	must(g.Add(vip4, vip6))
	setAll(g, boottime.Now()+time.Minute)
	moves, done := make(chan int), make(chan struct{})
	hammer := func(set func()) {
		go func() {
			n := 0
			for ; ; n++ {
				select {
				case <-done:
					moves <- n
					return
				default:
					set()
				}
			}
		}()
	}
	hammer(func() { must(g.Set(vip4, boottime.Now()+time.Minute)) })
	got := l.probe.until(boottime.Now() + time.Second)
	done <- struct{}{}
	n, lost := <-moves, len(got.sent)-len(got.answered)
	t.Logf("%d of %d requests were not answered during %d moves", lost, len(got.sent), n)
	if n < 100 || lost > len(got.sent)/1000 { // before Linux 6.17 one may be lost
		t.Errorf("%d of %d requests were not answered during %d moves", lost, len(got.sent), n)
	}
	must(g.Shut(vip4))
	hammer(func() { must(g.Set(vip4, 0)); must(g.Set(vip6, boottime.Now()+time.Minute)) })
	got = l.probe.until(boottime.Now() + 300*time.Millisecond)
	done <- struct{}{}
	if n := <-moves; len(got.answered) > 0 {
		t.Errorf("%d answers while shut during %d moves", len(got.answered), n)
	}
}

// A new life takes over shut what the dead one gated, without a gap.
func TestNewLife(t *testing.T) {
	l := newLAN(t)
	c := startChild(t)
	if l.probe.asked() {
		t.Fatal("answered before it was opened")
	}
	c.kill()
	stop, asked := make(chan struct{}), make(chan outcome)
	go func() {
		end := boottime.Now() + 400*time.Millisecond
		asked <- l.probe.until(end)
		close(stop)
	}()
	var g *nft.Gate
	for range 5 {
		g = newGate(t)
	}
	if got := <-asked; len(got.answered) > 0 {
		t.Errorf("%d answers while a new life took over", len(got.answered))
	}
	<-stop
	if d := cmp.Diff([]string{vip4.String(), vip6.String()}, texts(g.Addresses())); d != "" {
		t.Errorf("taken over (-want +got):\n%s", d)
	}
	if d, ok := g.Deadline(vip4); d != 0 || !ok {
		t.Errorf("the deadline is %v, %v", d, ok)
	}
	setAll(g, boottime.Now()+time.Hour)
	if !l.probe.asked() {
		t.Error("not answered when open")
	}
}

func texts(addrs []netip.Addr) (out []string) {
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

func TestRemoveLeavesNothing(t *testing.T) {
	l := newLAN(t)
	newCounter(t)
	must(nft.Remove())
	g := newGate(t)
	must(g.Add(vip4, vip6))
	g.Close()
	must(nft.Remove())
	if d := cmp.Diff([]string{"foreign"}, tables(t)); d != "" {
		t.Errorf("tables (-want +got):\n%s", d)
	}
	if d := cmp.Diff(all(true), l.replies()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func tables(t testing.TB) (names []string) {
	t.Helper()
	c, err := nftables.New()
	must(err)
	all, err := c.ListTables()
	must(err)
	for _, table := range all {
		names = append(names, table.Name)
	}
	return names
}

// Run covers what appears, what is renamed, and what others removed.
func TestRun(t *testing.T) {
	l := newLAN(t)
	g := newGate(t, func(c *nft.Config) { c.Recheck = time.Hour })
	must(g.Add(vip4, vip6))
	start(t, g)
	covered := func(names ...string) func() bool {
		return func() bool {
			all, err := g.Status()
			must(err)
			var got []string
			for _, s := range all {
				if s.Ingress && (s.Egress || !g.Egress()) {
					got = append(got, s.Name)
				}
			}
			slices.Sort(got)
			return slices.Equal(got, names)
		}
	}
	eventually(t, "s0 is covered", covered("s0"))
	run(t, "ip link add new0 type veth peer name new1")
	eventually(t, "a new interface is covered", covered("new0", "new1", "s0"))
	run(t, `ip link set s0 down
		ip link set s0 name s1
		ip link set s1 up`)
	eventually(t, "a new name is covered", func() bool { return covered("new0", "new1", "s1")() && !l.probe.asked() })
	run(t, "ip link del new0")
	eventually(t, "the chain of an interface that is gone is gone", func() bool { return len(baseChains()) == 2 })
	setAll(g, boottime.Now()+time.Hour)
	deleteTable()
	eventually(t, "the table is back, and the VIP open", func() bool {
		return slices.Contains(tables(t), "zklvs") && covered("s1")() && l.probe.asked()
	})
	must(g.Shut(vip4))
	if l.probe.asked() {
		t.Error("answered when shut, after the table came back")
	}
}

func deleteTable() {
	c, err := nftables.New()
	must(err)
	c.DelTable(&nftables.Table{Name: "zklvs", Family: nftables.TableFamilyNetdev})
	must(c.Flush())
}

func baseChains() (names []string) {
	c, err := nftables.New()
	must(err)
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	must(err)
	for _, chain := range all {
		if chain.Hooknum != nil {
			names = append(names, chain.Name)
		}
	}
	return names
}

// On a VLAN interface the frame is gated both there and on the interface below.
func TestVLAN(t *testing.T) {
	l := newLAN(t)
	if out, err := exec.Command("ip", "link", "add", "link", "s0", "name", "s0.42", "type", "vlan", "id", "42").CombinedOutput(); err != nil {
		t.Skipf("SKIP: this kernel has no VLAN interfaces (8021q): %s", out)
	}
	run(t, "ip link set s0.42 up")
	g := newGate(t)
	must(g.Add(vip4))
	sender := newProber(t, "s0.42")
	reply := arpPacket(arpReply, vip4, other4)
	tagged := func() bool { // the receiver's tag is not in the frame that it is shown
		sender.send(ether(arp, reply))
		return l.probe.arrives(ether(arp, reply))
	}
	if tagged() {
		t.Error("an ARP reply left by a VLAN interface")
	}
	must(g.Set(vip4, boottime.Now()+time.Hour))
	if !tagged() {
		t.Error("an ARP reply did not leave although open")
	}
}

func TestManyAddresses(t *testing.T) {
	newNamespace(t)
	g := newGate(t)
	var many []netip.Addr
	for a := netip.MustParseAddr("10.1.0.0"); len(many) < 1500; a = a.Next() {
		many = append(many, a, netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(len(many) >> 8), 15: byte(len(many))}))
	}
	must(g.Add(many...))
	must(g.Add(many...))
	g.Close()
	if got := len(newGate(t).Addresses()); got != len(many) {
		t.Errorf("%d addresses were taken over, want %d", got, len(many))
	}
}

func TestErrors(t *testing.T) {
	newNamespace(t)
	g := newGate(t)
	if err := g.Set(vip4, time.Hour); !errors.Is(err, gate.ErrNotGated) {
		t.Errorf("set: %v", err)
	}
	if err := g.Exempt(vip4); !errors.Is(err, gate.ErrNotGated) {
		t.Errorf("exempt: %v", err)
	}
	if err := g.Drop(vip4); err != nil {
		t.Errorf("drop: %v", err)
	}
	for _, a := range []netip.Addr{{}, any4, any6, netip.MustParseAddr("127.0.0.1"), group6} {
		if err := g.Add(a); err == nil || len(g.Addresses()) > 0 {
			t.Errorf("%v was added", a)
		}
	}
	must(g.Add(netip.MustParseAddr("::ffff:10.0.0.100"), vip4))
	if got := g.Addresses(); !slices.Equal(got, []netip.Addr{vip4}) {
		t.Errorf("got %v", got)
	}
	if err := g.Exempt(vip4, net.HardwareAddr{1, 2}); err == nil {
		t.Error("exempted what is no Ethernet address")
	}
	g.Close()
	g.Close()
	for what, err := range map[string]error{
		"add": g.Add(vip6), "set": g.Set(vip4, 0), "drop": g.Drop(vip4), "ensure": g.Ensure(), "run": g.Run(t.Context()),
	} {
		if !errors.Is(err, gate.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	if _, err := nft.New(nft.Config{Logger: zap.NewNop()}); err == nil {
		t.Error("no clock, no error")
	}
}
