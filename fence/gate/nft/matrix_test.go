package nft_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/gate/nft"
	"github.com/zklvs/zklvs/internal/boottime"
)

const (
	tag  = unix.ETH_P_8021Q
	stag = unix.ETH_P_8021AD
	ip   = unix.ETH_P_IP
	ip6  = unix.ETH_P_IPV6
	arp  = unix.ETH_P_ARP
)

type frame struct {
	name  string
	frame []byte
	gated bool // it is dropped while the VIP is shut
}

var in = []frame{
	{"to the VIP", ether(ip, ipv4(other4, vip4, 0)), true},
	{"to the VIP, with options", ether(ip, ipv4(other4, vip4, 0, 1, 1, 1, 0)), true},
	{"to the VIP, a fragment", ether(ip, ipv4(other4, vip4, 100)), true},
	{"to another", ether(ip, ipv4(other4, asker4, 0)), false},
	{"from the VIP to another", ether(ip, ipv4(vip4, other4, 0)), false},
	{"ARP request for the VIP", ether(arp, arpPacket(arpRequest, other4, vip4)), true},
	{"ARP request for the VIP, InfiniBand", ether(arp, arpInfiniBand(other4, vip4)), true},
	{"ARP probe for the VIP", ether(arp, arpPacket(arpRequest, any4, vip4)), true},
	{"ARP request for another", ether(arp, arpPacket(arpRequest, other4, asker4)), false},
	{"ARP announcement of the holder", ether(arp, arpPacket(arpRequest, vip4, vip4)), false},
	{"ARP reply of the holder", ether(arp, arpPacket(arpReply, vip4, other4)), false},
	{"to the VIP6", ether(ip6, ipv6(other6, vip6, udp, 0, 53, 0, 53)), true},
	{"to another6", ether(ip6, ipv6(other6, asker6, udp, 0, 53, 0, 53)), false},
	{"from the VIP6 to another", ether(ip6, ipv6(vip6, other6, udp, 0, 53, 0, 53)), false},
	{"NS for the VIP", ether(ip6, ipv6(other6, group6, icmpv6, neighbor(solicit, vip6)...)), true},
	{"NS for the VIP behind an extension", ether(ip6, ipv6(other6, group6, destOpts, extend(icmpv6, neighbor(solicit, vip6))...)), true},
	{"NS for another", ether(ip6, ipv6(other6, group6, icmpv6, neighbor(solicit, asker6)...)), false},
	{"NA of the holder", ether(ip6, ipv6(vip6, other6, icmpv6, neighbor(advertise, vip6)...)), false},
	{"to the VIP, tagged", ether(ip, ipv4(other4, vip4, 0), tag), true},
	{"to the VIP, tagged twice", ether(ip, ipv4(other4, vip4, 0), stag, tag), true},
	{"to another, tagged twice", ether(ip, ipv4(other4, asker4, 0), stag, tag), false},
	{"ARP request for the VIP, tagged", ether(arp, arpPacket(arpRequest, other4, vip4), tag), true},
	{"ARP request for the VIP, tagged twice", ether(arp, arpPacket(arpRequest, other4, vip4), stag, tag), true},
	{"ARP announcement, tagged twice", ether(arp, arpPacket(arpRequest, vip4, vip4), stag, tag), false},
	{"to the VIP6, tagged twice", ether(ip6, ipv6(other6, vip6, udp, 0, 53, 0, 53), stag, tag), true},
	{"NS for the VIP, tagged", ether(ip6, ipv6(other6, group6, icmpv6, neighbor(solicit, vip6)...), tag), true},
	{"NS for the VIP, tagged twice", ether(ip6, ipv6(other6, group6, icmpv6, neighbor(solicit, vip6)...), stag, tag), true},
	{"too short", ether(ip, []byte{0x45, 0}), false},
	{"an unknown type", ether(0x88b5, make([]byte, 46)), false}, // local experiments
}

var out = []frame{
	{"from the VIP", ether(ip, ipv4(vip4, other4, 0)), true},
	{"from another", ether(ip, ipv4(asker4, other4, 0)), false},
	{"to the VIP", ether(ip, ipv4(asker4, vip4, 0)), false},
	{"ARP reply in the VIP's name", ether(arp, arpPacket(arpReply, vip4, other4)), true},
	{"ARP announcement", ether(arp, arpPacket(arpRequest, vip4, vip4)), true},
	{"ARP request for the VIP", ether(arp, arpPacket(arpRequest, asker4, vip4)), false},
	{"from the VIP6", ether(ip6, ipv6(vip6, other6, udp, 0, 53, 0, 53)), true},
	{"to the VIP6", ether(ip6, ipv6(asker6, vip6, udp, 0, 53, 0, 53)), false},
	{"NA of the VIP", ether(ip6, ipv6(asker6, other6, icmpv6, neighbor(advertise, vip6)...)), true},
	{"NA of another", ether(ip6, ipv6(asker6, other6, icmpv6, neighbor(advertise, asker6)...)), false},
	{"NS for the VIP", ether(ip6, ipv6(asker6, group6, icmpv6, neighbor(solicit, vip6)...)), false},
	{"NS that probes for the VIP", ether(ip6, ipv6(any6, group6, icmpv6, neighbor(solicit, vip6)...)), true},
	{"NS that probes for another", ether(ip6, ipv6(any6, group6, icmpv6, neighbor(solicit, asker6)...)), false},
}

// Every frame in every state of the gate. What comes in is counted by a foreign
// chain behind ours, what goes out is received at the other end.
func TestFrames(t *testing.T) {
	l := newLAN(t)
	count := newCounter(t)
	sender := newProber(t, "s0")
	check := func(state string, shut bool) {
		t.Helper()
		for _, f := range in {
			before := count.packets()
			l.probe.send(f.frame)
			if passed := count.packets() > before; passed == (shut && f.gated) {
				t.Errorf("%s: in: %s: passed %v", state, f.name, passed)
			}
		}
		for _, f := range out {
			sender.send(f.frame)
			if passed := l.probe.arrives(f.frame); passed == (shut && f.gated) {
				t.Errorf("%s: out: %s: passed %v", state, f.name, passed)
			}
		}
	}
	g := newGate(t)
	if !g.Egress() {
		t.Skip("SKIP: this kernel has no nftables egress hook")
	}
	check("nothing gated", false)
	must(g.Add(vip4, vip6))
	check("added", true)
	setAll(g, boottime.Now()+time.Hour)
	check("open", false)
	setAll(g, boottime.Now()+time.Hour)
	check("moved", false)
	must(g.Shut(vip4))
	must(g.Shut(vip6))
	check("shut", true)
	setAll(g, boottime.Now()+nft.DefaultEarly+time.Millisecond)
	check("hardly any time left", true)
	must(g.Drop(vip4))
	must(g.Drop(vip6))
	check("dropped", false)
}

// A director that is also a real server: IP, but neither ARP nor ND.
func TestExempt(t *testing.T) {
	l := newLAN(t)
	count := newCounter(t)
	sender := newProber(t, "s0")
	g := newGate(t)
	must(g.Add(vip4, vip6))
	passes := func() (got [5]bool) {
		for i, f := range [][]byte{
			ether(ip, ipv4(other4, vip4, 0)), ether(ip6, ipv6(other6, vip6, udp, 0, 53, 0, 53)),
			ether(arp, arpPacket(arpRequest, other4, vip4)),
		} {
			before := count.packets()
			l.probe.send(f)
			got[i] = count.packets() > before
		}
		for i, f := range [][]byte{ether(ip, ipv4(vip4, other4, 0)), ether(ip6, ipv6(vip6, other6, udp, 0, 53, 0, 53))} {
			sender.send(f)
			got[3+i] = l.probe.arrives(f)
		}
		return got
	}
	for _, step := range []struct {
		name string
		macs [][]byte
		want [5]bool
	}{
		{"none", nil, [5]bool{}},
		{"the director's and another", [][]byte{macB, macA, macA}, [5]bool{true, true, false, true, true}},
		{"another", [][]byte{macB}, [5]bool{false, false, false, true, true}},
		{"none any more", nil, [5]bool{}},
	} {
		for _, a := range g.Addresses() {
			must(g.Exempt(a, hardware(step.macs)...))
		}
		if got := passes(); got != step.want {
			t.Errorf("%s: got %v, want %v", step.name, got, step.want)
		}
	}
}

// counter is a table of someone else, behind our chain on s0, which counts what
// comes from macA.
type counter struct {
	t     testing.TB
	c     *nftables.Conn
	chain *nftables.Chain
}

func newCounter(t testing.TB) *counter {
	t.Helper()
	c, err := nftables.New(nftables.AsLasting())
	must(err)
	t.Cleanup(func() { c.CloseLasting() })
	table := c.AddTable(&nftables.Table{Name: "foreign", Family: nftables.TableFamilyNetdev})
	chain := c.AddChain(&nftables.Chain{
		Name: "ingress_s0", Table: table, Type: nftables.ChainTypeFilter, Device: "s0",
		Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter,
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: macA},
		&expr.Counter{},
	}})
	must(c.Flush())
	return &counter{t: t, c: c, chain: chain}
}

// packets: the receiving side of a veth has run when send returns, or soon.
func (c *counter) packets() uint64 {
	<-time.After(2 * time.Millisecond)
	rules, err := c.c.GetRules(c.chain.Table, c.chain)
	must(err)
	if len(rules) != 1 {
		c.t.Fatalf("the foreign chain has %d rules", len(rules))
	}
	return rules[0].Exprs[2].(*expr.Counter).Packets
}

// arrives says whether a frame comes in.
func (p *prober) arrives(want []byte) bool {
	buf := make([]byte, 2048)
	for end := boottime.Now() + 5*time.Millisecond; boottime.Now() < end; {
		if bytes.Equal(p.receive(buf), want) {
			return true
		}
	}
	return false
}
