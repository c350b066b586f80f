package gate_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/internal/boottime"
)

// What a VIP that is bound answers, by every way of asking.
func (l *lan) replies(p *prober) map[string]bool {
	return map[string]bool{
		"ARP": p.asked(),
		"NS":  p.solicited(),
		"TCP": l.dial(vip4), "TCP6": l.dial(vip6),
		"ping": l.ping(vip4), "ping6": l.ping(vip6),
	}
}

// solicited says whether a neighbor solicitation for the IPv6 VIP is answered.
func (p *prober) solicited() bool {
	sourceMAC := append([]byte{1, 1}, macA...) // RFC 4861, 4.6.1
	f := ether(typeIPv6, checksummed(ipv6(asker6, group6, icmpv6, append(neighbor(solicit, vip6), sourceMAC...)...)))
	copy(f, []byte{0x33, 0x33, 0xff, 0, 1, 0})
	end := boottime.Now() + 50*time.Millisecond
	buf := make([]byte, 2048)
	p.send(f)
	for boottime.Now() < end {
		n := p.receive(buf)
		if n >= 78 && buf[12] == 0x86 && buf[54] == advertise && netip.AddrFrom16([16]byte(buf[62:78])) == vip6 {
			return true
		}
	}
	return false
}

func all(v bool) map[string]bool {
	return map[string]bool{"ARP": v, "NS": v, "TCP": v, "TCP6": v, "ping": v, "ping6": v}
}

func TestKernelGate(t *testing.T) {
	l := newLAN(t)
	listen(t)
	var p *prober
	l.in(l.client, func() { p = newProber(t, "c0") })
	want := func(state string, v bool) {
		t.Helper()
		if d := cmp.Diff(all(v), l.replies(p)); d != "" {
			t.Errorf("%s (-want +got):\n%s", state, d)
		}
	}
	eventually(t, "the server's IPv6 address answers", p.solicited)
	want("without a gate", true)
	g := newGate(t)
	must(g.Ensure())
	want("nothing gated", true)
	must(g.Add(vip4, vip6))
	want("added", false)
	if !l.reaches(netip.MustParseAddr("10.0.0.1")) || !l.ping(netip.MustParseAddr("fd00::1")) {
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
func TestKernelGateFrozen(t *testing.T) {
	l := newLAN(t)
	var p *prober
	l.in(l.client, func() { p = newProber(t, "c0") })
	c := startChild(t)
	if p.asked() {
		t.Fatal("answered before it was opened")
	}
	var late []time.Duration
	for range 10 {
		deadline := c.open(300 * time.Millisecond)
		c.stop()
		got := p.until(deadline + 200*time.Millisecond)
		if len(got.answered) == 0 {
			t.Fatal("not answered before D")
		}
		late = append(late, got.newest()-deadline)
		c.resume()
	}
	slices.Sort(late)
	t.Logf("newest answered request against D, process stopped: min %v, median %v, max %v (%d runs)",
		late[0], late[len(late)/2], late[len(late)-1], len(late))
	// The prober reads the clock before it sends: only what it took to get from
	// there to the program could be late, and that counts as early.
	if worst := late[len(late)-1]; worst > 0 {
		t.Errorf("a request was answered that was sent %v after D", worst)
	}
	deadline := c.open(300 * time.Millisecond)
	c.kill()
	got := p.until(deadline + 500*time.Millisecond)
	if len(got.answered) == 0 || got.newest() > deadline {
		t.Errorf("killed: %d answers, the newest %v after D", len(got.answered), got.newest()-deadline)
	}
	if l.dial(vip4) || l.dial(vip6) || l.ping(vip4) {
		t.Error("the VIP answers although its gate's process is dead")
	}
}

// A new life, while the VIP is still bound: never open in between, one filter.
func TestKernelGateRestart(t *testing.T) {
	l := newLAN(t)
	var p *prober
	l.in(l.client, func() { p = newProber(t, "c0") })
	c := startChild(t)
	c.open(time.Minute)
	if !p.asked() {
		t.Fatal("not answered while open")
	}
	c.kill()
	if !p.asked() {
		t.Fatal("not answered before D: the test lacks its premise")
	}
	first := newGate(t)
	if d := cmp.Diff([]netip.Addr{vip4, vip6}, first.Addresses(), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("inherited addresses (-want +got):\n%s", d)
	}
	must(first.Ensure())
	end := boottime.Now() + time.Second
	done := make(chan probe, 1)
	go func() { done <- p.until(end) }()
	lives := 0
	for ; boottime.Now() < end; lives++ {
		g := newGate(t)
		must(g.Ensure())
		must(g.Ensure())
		g.Close()
	}
	if got := <-done; len(got.answered) != 0 {
		t.Errorf("%d of %d requests answered while %d lives took over from each other", len(got.answered), len(got.sent), lives)
	}
	t.Logf("%d lives", lives)
	for _, hook := range []string{"ingress", "egress"} {
		if shown := run(t, "tc filter show dev s0 "+hook); strings.Count(shown, "handle") != 1 || strings.Count(shown, "zklvs-gate") != 1 {
			t.Errorf("tc filter show dev s0 %s:\n%s", hook, shown)
		}
	}
	must(gate.Remove())
	must(gate.Remove())
	if !p.asked() {
		t.Error("not answered after Remove")
	}
	if shown := run(t, "tc qdisc show dev s0"); strings.Contains(shown, "clsact") {
		t.Errorf("tc qdisc show dev s0:\n%s", shown)
	}
}

// A standby whose own gate is shut stays a client of the VIP that another holds.
func TestKernelGateClient(t *testing.T) {
	l := newLAN(t)
	listen(t)
	l.in(l.client, func() {
		run(t, "ip neighbor flush dev c0 nud permanent")
		standby := newGate(t)
		must(standby.Add(vip4, vip6))
		must(standby.Ensure())
		if !dialHere(vip4, patience) || !dialHere(vip6, patience) {
			t.Error("a standby cannot reach the VIP on the holder")
		}
		if !strings.Contains(run(t, "ip neighbor show 10.0.0.100 dev c0"), l.serverMAC.String()) {
			t.Error("the standby does not know the holder's MAC")
		}
	})
	// The holder asks in the VIP's name for the standby's MAC.
	run(t, "ip neighbor flush dev s0")
	if out := run(t, "ping -c1 -W1 -I 10.0.0.100 10.0.0.7"); !strings.Contains(out, "1 received") {
		t.Errorf("from the VIP to the standby:\n%s", out)
	}
	// It claims nothing itself.
	run(t, "ip address del 10.0.0.100/32 dev s0")
	l.inClient("ip address add 10.0.0.100/32 dev c0")
	if out := run(t, "arping -c1 -w1 -I s0 10.0.0.7"); !strings.Contains(out, "Received 1") {
		t.Errorf("the standby's own address does not answer:\n%s", out)
	}
	if newProber(t, "s0").asked() {
		t.Error("the standby answers for the VIP")
	}
}
