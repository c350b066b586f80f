package gate_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/internal/boottime"
)

const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeIPv6 = 0x86dd
	typeVLAN = 0x8100
	typeQinQ = 0x88a8
)

// needGate skips where the kernel, or the rights, allow none.
func needGate(t testing.TB) {
	t.Helper()
	if err := gate.Supported(); err != nil {
		t.Skipf("SKIP: %v", err)
	}
}

func newGate(t testing.TB) *gate.Gate {
	t.Helper()
	g, err := gate.New(gate.Config{
		Logger: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)), Now: boottime.Now,
		Recheck: time.Hour, // what the kernel reports must do
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// frames tells for each frame whether it is gated coming in, going out, and
// going out when it was forwarded. (Cut IP headers are tagged, for newer kernels
// run no test of untagged ones.)
var frames = []struct {
	name               string
	frame              []byte
	in, out, forwarded bool
	onlyEthernet       bool
}{
	{name: "ARP request for the VIP", frame: ether(typeARP, arpPacket(arpRequest, other4, vip4)), in: true},
	{name: "ARP probe for the VIP", frame: ether(typeARP, arpPacket(arpRequest, netip.IPv4Unspecified(), vip4)), in: true},
	{name: "ARP reply in the VIP's name", frame: ether(typeARP, arpPacket(arpReply, vip4, other4)), out: true, forwarded: true},
	{name: "ARP request in the VIP's name", frame: ether(typeARP, arpPacket(arpRequest, vip4, other4)), out: true, forwarded: true},
	{name: "ARP announcement, request form", frame: ether(typeARP, arpPacket(arpRequest, vip4, vip4)), out: true, forwarded: true},
	{name: "ARP announcement, reply form", frame: ether(typeARP, arpPacket(arpReply, vip4, vip4)), out: true, forwarded: true},
	{name: "ARP reply to the VIP", frame: ether(typeARP, arpPacket(arpReply, other4, vip4)), in: true},
	{name: "ARP for another address", frame: ether(typeARP, arpPacket(arpRequest, other4, other4))},
	{name: "ARP in the VIP's name, tagged", frame: ether(typeARP, arpPacket(arpReply, vip4, other4), typeVLAN), out: true, forwarded: true, onlyEthernet: true},
	{name: "ARP request for the VIP, tagged", frame: ether(typeARP, arpPacket(arpRequest, other4, vip4), typeVLAN), in: true, onlyEthernet: true},
	{name: "ARP request for the VIP, two tags", frame: ether(typeARP, arpPacket(arpRequest, other4, vip4), typeQinQ, typeVLAN), in: true, onlyEthernet: true},
	{name: "ARP of another protocol", frame: ether(typeARP, patch(arpPacket(arpReply, vip4, vip4), 2, 0x81))},
	{name: "ARP with addresses of another length", frame: ether(typeARP, patch(arpPacket(arpReply, vip4, vip4), 5, 16))},
	{name: "ARP cut in the sender", frame: ether(typeARP, arpPacket(arpReply, vip4, vip4)[:17])},
	{name: "ARP cut in the target", frame: ether(typeARP, arpPacket(arpRequest, other4, vip4)[:27])},

	{name: "IPv4 to the VIP", frame: ether(typeIPv4, ipv4(other4, vip4, 0)), in: true, forwarded: true},
	{name: "IPv4 from the VIP", frame: ether(typeIPv4, ipv4(vip4, other4, 0)), out: true, forwarded: true},
	{name: "IPv4 from and to the VIP", frame: ether(typeIPv4, ipv4(vip4, vip4, 0)), in: true, out: true, forwarded: true},
	{name: "IPv4 between others", frame: ether(typeIPv4, ipv4(other4, other4, 0))},
	{name: "IPv4 to the VIP, options", frame: ether(typeIPv4, ipv4(other4, vip4, 0, 148, 4, 0, 0)), in: true, forwarded: true},
	{name: "IPv4 from the VIP, options", frame: ether(typeIPv4, ipv4(vip4, other4, 0, 148, 4, 0, 0)), out: true, forwarded: true},
	{name: "IPv4 to the VIP, first fragment", frame: ether(typeIPv4, ipv4(other4, vip4, 0x2000)), in: true, forwarded: true},
	{name: "IPv4 to the VIP, later fragment", frame: ether(typeIPv4, ipv4(other4, vip4, 0x00b9)), in: true, forwarded: true},
	{name: "IPv4 to the VIP, tagged", frame: ether(typeIPv4, ipv4(other4, vip4, 0), typeVLAN), in: true, forwarded: true, onlyEthernet: true},
	{name: "IPv4 from the VIP, 802.1ad", frame: ether(typeIPv4, ipv4(vip4, other4, 0), typeQinQ), out: true, forwarded: true, onlyEthernet: true},
	{name: "IPv4 from the VIP, QinQ", frame: ether(typeIPv4, ipv4(vip4, other4, 0), typeQinQ, typeVLAN), out: true, forwarded: true, onlyEthernet: true},
	{name: "IPv4 from the VIP, old QinQ", frame: ether(typeIPv4, ipv4(vip4, other4, 0), 0x9100, typeVLAN), out: true, forwarded: true, onlyEthernet: true},
	{name: "IPv4 header without its last byte", frame: ether(typeIPv4, ipv4(other4, vip4, 0)[:19], typeVLAN), onlyEthernet: true},
	{name: "IPv4 header alone", frame: ether(typeIPv4, ipv4(other4, vip4, 0)[:20]), in: true, forwarded: true},
	{name: "a tag and nothing behind it", frame: ether(typeVLAN, []byte{0})},
	{name: "another protocol", frame: ether(0x88cc, ipv4(other4, vip4, 0))},
	{name: "the VIP's bytes elsewhere", frame: ether(typeIPv4, append(ipv4(other4, other4, 0), vip4.AsSlice()...))},

	{name: "IPv6 to the VIP", frame: ether(typeIPv6, ipv6(other6, vip6, udp, 0, 0)), in: true, forwarded: true},
	{name: "IPv6 from the VIP", frame: ether(typeIPv6, ipv6(vip6, other6, udp, 0, 0)), out: true, forwarded: true},
	{name: "IPv6 between others", frame: ether(typeIPv6, ipv6(other6, other6, udp, 0, 0))},
	{name: "IPv6 to the VIP, tagged", frame: ether(typeIPv6, ipv6(other6, vip6, udp, 0, 0), typeVLAN), in: true, forwarded: true, onlyEthernet: true},
	{name: "IPv6 to the VIP, fragment", frame: ether(typeIPv6, ipv6(other6, vip6, fragment, 17, 0, 0, 1, 0, 0, 0, 1)), in: true, forwarded: true},
	{name: "IPv6 to the VIP, header alone", frame: ether(typeIPv6, ipv6(other6, vip6, udp)), in: true, forwarded: true},
	{name: "IPv6 header without its last byte", frame: ether(typeIPv6, ipv6(other6, vip6, udp)[:39], typeVLAN), onlyEthernet: true},
	{name: "an echo request to others", frame: ether(typeIPv6, ipv6(other6, other6, icmpv6, neighbor(echo, vip6)...))},

	{name: "NS for the VIP", frame: ether(typeIPv6, ipv6(other6, group6, icmpv6, neighbor(solicit, vip6)...)), in: true},
	{name: "NS for another", frame: ether(typeIPv6, ipv6(other6, group6, icmpv6, neighbor(solicit, other6)...))},
	{name: "NS for the VIP, tagged", frame: ether(typeIPv6, ipv6(other6, group6, icmpv6, neighbor(solicit, vip6)...), typeVLAN), in: true, onlyEthernet: true},
	{name: "NS for the VIP, duplicate address detection", frame: ether(typeIPv6, ipv6(netip.IPv6Unspecified(), group6, icmpv6, neighbor(solicit, vip6)...)), in: true, out: true, forwarded: true},
	{name: "NS in the VIP's name", frame: ether(typeIPv6, ipv6(vip6, group6, icmpv6, neighbor(solicit, other6)...)), out: true, forwarded: true},
	{name: "NA of the VIP", frame: ether(typeIPv6, ipv6(other6, other6, icmpv6, neighbor(advertise, vip6)...)), out: true, forwarded: true},
	{name: "NA of another", frame: ether(typeIPv6, ipv6(other6, other6, icmpv6, neighbor(advertise, other6)...))},
	{name: "NS for the VIP behind a hop-by-hop header", frame: ether(typeIPv6, ipv6(other6, group6, hopByHop, extend(icmpv6, 0, neighbor(solicit, vip6))...)), in: true},
	{name: "NA of the VIP behind three headers", frame: ether(typeIPv6, ipv6(other6, other6, hopByHop,
		extend(routing, 0, extend(destOpts, 2, extend(icmpv6, 1, neighbor(advertise, vip6))))...)), out: true, forwarded: true},
	{name: "NA of the VIP behind four headers", frame: ether(typeIPv6, ipv6(other6, other6, destOpts,
		extend(destOpts, 0, extend(destOpts, 0, extend(destOpts, 0, extend(icmpv6, 0, neighbor(advertise, vip6)))))...)), out: true, forwarded: true},
	{name: "NS cut in the target", frame: ether(typeIPv6, ipv6(other6, group6, icmpv6, neighbor(solicit, vip6)[:23]...))},
	{name: "an extension header that is cut", frame: ether(typeIPv6, ipv6(other6, group6, hopByHop, icmpv6))},
}

func patch(b []byte, at int, v byte) []byte {
	b[at] = v
	return b
}

// skb is struct __sk_buff as BPF_PROG_TEST_RUN takes it: all else must be zero.
type skb struct {
	_              [9]uint32
	IngressIfindex uint32
	Ifindex        uint32
	_              [37]uint32
}

func verdict(t testing.TB, p *ebpf.Program, frame []byte) bool {
	t.Helper()
	ret, err := p.Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		t.Fatalf("run the program on %x: %v", frame, err)
	}
	switch ret {
	case gate.Pass:
		return false
	case gate.Drop:
		return true
	}
	t.Fatalf("the program returned %#x", ret)
	return false
}

// On every kernel: any that allows a gate (as root), and the one of the kernel tests.
func TestProgram(t *testing.T)       { testProgram(t) }
func TestKernelProgram(t *testing.T) { testProgram(t) }

func testProgram(t *testing.T) {
	needGate(t)
	g := newGate(t)
	must(g.Add(vip4, vip6))
	for name, state := range map[string]struct {
		set  func()
		open bool
	}{
		"shut":                {func() { must(g.Shut(vip4)); must(g.Shut(vip6)) }, false},
		"open until later":    {func() { setAll(g, boottime.Now()+time.Hour) }, true},
		"open until a ns ago": {func() { setAll(g, boottime.Now()-1) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			state.set()
			for _, f := range frames {
				if got := verdict(t, g.Program(gate.Ingress, gate.Ethernet), f.frame); got != (f.in && !state.open) {
					t.Errorf("%s: in: dropped is %v", f.name, got)
				}
				if got := verdict(t, g.Program(gate.Egress, gate.Ethernet), f.frame); got != (f.out && !state.open) {
					t.Errorf("%s: out: dropped is %v", f.name, got)
				}
				if f.onlyEthernet {
					continue
				}
				if got := verdict(t, g.Program(gate.Ingress, gate.Network), f.frame); got != (f.in && !state.open) {
					t.Errorf("%s: in, without Ethernet header: dropped is %v", f.name, got)
				}
				if got := verdict(t, g.Program(gate.Egress, gate.Network), f.frame); got != (f.out && !state.open) {
					t.Errorf("%s: out, without Ethernet header: dropped is %v", f.name, got)
				}
			}
		})
	}
}

func setAll(g *gate.Gate, deadline time.Duration) {
	for _, a := range g.Addresses() {
		must(g.Set(a, deadline))
	}
}

// A packet that names two VIPs needs both open; an address dropped is free; an
// address added again is shut.
func TestProgramAddresses(t *testing.T) {
	needGate(t)
	g := newGate(t)
	second := netip.MustParseAddr("10.0.0.101")
	out := g.Program(gate.Egress, gate.Ethernet)
	in := g.Program(gate.Ingress, gate.Ethernet)
	frame := ether(typeIPv4, ipv4(other4, vip4, 0))
	if verdict(t, in, frame) {
		t.Error("an address that was not added is gated")
	}
	must(g.Add(vip4, second))
	must(g.Add(vip4)) // twice is once
	if !verdict(t, in, frame) {
		t.Error("an address just added is open")
	}
	if n := g.Dropped(vip4); n != 1 {
		t.Errorf("%d packets dropped, want 1", n)
	}
	must(g.Set(vip4, boottime.Now()+time.Hour))
	if verdict(t, in, frame) || !verdict(t, in, ether(typeIPv4, ipv4(other4, second, 0))) {
		t.Error("VIPs are not gated each by its own deadline")
	}
	if verdict(t, out, ether(typeIPv4, ipv4(vip4, other4, 0))) || !verdict(t, out, ether(typeIPv4, ipv4(second, vip4, 0))) {
		t.Error("out: VIPs are not gated each by its own deadline")
	}
	must(g.Drop(vip4))
	must(g.Drop(vip4))
	if verdict(t, in, frame) {
		t.Error("an address that was dropped is gated")
	}
	must(g.Add(vip4))
	if !verdict(t, in, frame) || g.Dropped(vip4) != 1 {
		t.Error("an address that was dropped and added again has its old deadline")
	}
}

func TestProgramExempt(t *testing.T) {
	needGate(t)
	g := newGate(t)
	must(g.Add(vip4, vip6))
	in, out := g.Program(gate.Ingress, gate.Ethernet), g.Program(gate.Egress, gate.Ethernet)
	check := func(name string, p *ebpf.Program, frame []byte, want bool) {
		t.Helper()
		if got := verdict(t, p, frame); got != want {
			t.Errorf("%s: dropped is %v", name, got)
		}
	}
	to4, to6 := ether(typeIPv4, ipv4(other4, vip4, 0)), ether(typeIPv6, ipv6(other6, vip6, udp, 0, 0))
	from4, from6 := ether(typeIPv4, ipv4(vip4, other4, 0)), ether(typeIPv6, ipv6(vip6, other6, udp, 0, 0))
	for _, list := range [][]string{{"02:00:00:00:00:0a"}, {"02:00:00:00:00:0b", "02:00:00:00:00:0c", "02:00:00:00:00:0a"}} {
		exempt(t, g, list...)
		check("forwarded by the active director", in, to4, false)
		check("forwarded by the active director, IPv6", in, to6, false)
		check("forwarded, tagged", in, ether(typeIPv4, ipv4(other4, vip4, 0), typeVLAN), false)
		check("this real server's reply", out, from4, false)
		check("this real server's reply, IPv6", out, from6, false)
		check("ARP of the active director", in, ether(typeARP, arpPacket(arpRequest, other4, vip4)), true)
		check("ARP in the VIP's name", out, ether(typeARP, arpPacket(arpReply, vip4, other4)), true)
		check("NS for the VIP", in, ether(typeIPv6, ipv6(other6, group6, icmpv6, neighbor(solicit, vip6)...)), true)
		check("unicast NS for the VIP", in, ether(typeIPv6, ipv6(other6, vip6, icmpv6, neighbor(solicit, vip6)...)), true)
		check("NA of the VIP from the VIP", out, ether(typeIPv6, ipv6(vip6, other6, icmpv6, neighbor(advertise, vip6)...)), true)
	}
	exempt(t, g, "02:00:00:00:00:0b")
	check("forwarded by another", in, to4, true)
	anonymous := append(append(append([]byte{}, macB...), none...), to4[12:]...)
	check("without a source address", in, anonymous, true)
	exempt(t, g)
	check("nothing exempt", in, to4, true)
	check("nothing exempt, IPv6", in, to6, true)
	check("no reply without exemption", out, from4, true)
}

// A packet that came in on another interface is not this host's own.
func TestProgramForwarded(t *testing.T) {
	needGate(t)
	g := newGate(t)
	must(g.Add(vip4, vip6))
	for _, f := range frames {
		ret, err := g.Program(gate.Egress, gate.Ethernet).Run(&ebpf.RunOptions{Data: f.frame, Context: skb{IngressIfindex: 1, Ifindex: 1}})
		if err != nil {
			t.Skipf("SKIP: this kernel runs no test of a forwarded packet (%v): TestKernelGateIPVS covers it", err)
		}
		if (ret == gate.Drop) != f.forwarded {
			t.Errorf("%s: forwarded: dropped is %v", f.name, ret == gate.Drop)
		}
	}
}
