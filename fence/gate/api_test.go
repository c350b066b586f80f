package gate_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/internal/boottime"
)

func exempt(t testing.TB, g *gate.Gate, macs ...string) {
	t.Helper()
	var list []net.HardwareAddr
	for _, m := range macs {
		a, err := net.ParseMAC(m)
		must(err)
		list = append(list, a)
	}
	for _, a := range g.Addresses() {
		must(g.Exempt(a, list...))
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]gate.Config{
		"no logger":         {Now: boottime.Now},
		"no clock":          {Logger: zap.NewNop()},
		"negative capacity": {Logger: zap.NewNop(), Now: boottime.Now, Capacity: -1},
		"negative recheck":  {Logger: zap.NewNop(), Now: boottime.Now, Recheck: -1},
	} {
		if g, err := gate.New(c); err == nil {
			g.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAddresses(t *testing.T) {
	needGate(t)
	g, err := gate.New(gate.Config{Logger: zap.NewNop(), Now: boottime.Now, Capacity: 2})
	must(err)
	defer g.Close()
	if err := g.Set(vip4, time.Hour); !errors.Is(err, gate.ErrNotGated) || !strings.Contains(err.Error(), "10.0.0.100") {
		t.Errorf("set of an unknown address: %v", err)
	}
	for _, bad := range []netip.Addr{{}, netip.IPv4Unspecified(), netip.MustParseAddr("224.0.0.1"), netip.IPv6LinkLocalAllNodes(), netip.MustParseAddr("127.0.0.1")} {
		if err := g.Add(bad); err == nil {
			t.Errorf("%v was added", bad)
		}
	}
	must(g.Add(vip6, netip.MustParseAddr("::ffff:10.0.0.100")))
	if err := g.Add(other4); !errors.Is(err, gate.ErrFull) {
		t.Errorf("a third of two: %v", err)
	}
	if d := cmp.Diff([]netip.Addr{vip4, vip6}, g.Addresses(), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("addresses (-want +got):\n%s", d)
	}
	must(g.Set(vip4, time.Hour))
	if d, ok := g.Deadline(vip4); d != time.Hour || !ok {
		t.Errorf("deadline %v, %v", d, ok)
	}
	must(g.Set(vip4, -time.Hour))
	if d, ok := g.Deadline(vip4); d != 0 || !ok {
		t.Errorf("deadline before boot: %v, %v", d, ok)
	}
	if _, ok := g.Deadline(other4); ok {
		t.Error("an address that was not added has a deadline")
	}
	must(g.Set(vip6, time.Hour))
	must(g.Drop(vip6))
	must(g.Add(other4))
	if d, ok := g.Deadline(other4); d != 0 || !ok {
		t.Errorf("deadline of an address in another's old slot: %v, %v", d, ok)
	}
	if err := g.Exempt(vip4, make([]net.HardwareAddr, 4)...); err == nil {
		t.Error("four exemptions were taken")
	}
	if err := g.Exempt(vip4, net.HardwareAddr{1, 2, 3}); err == nil {
		t.Error("an address of three bytes was taken")
	}
}

func TestClosed(t *testing.T) {
	needGate(t)
	g := newGate(t)
	must(g.Add(vip4))
	g.Close()
	g.Close()
	_, statusErr := g.Status()
	for name, err := range map[string]error{
		"Add": g.Add(other4), "Drop": g.Drop(vip4), "Set": g.Set(vip4, 1), "Shut": g.Shut(vip4),
		"Exempt": g.Exempt(vip4), "Ensure": g.Ensure(), "Status": statusErr, "Run": g.Run(t.Context()),
	} {
		if !errors.Is(err, gate.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

func TestSetAllocatesNothing(t *testing.T) {
	needGate(t)
	g := newGate(t)
	must(g.Add(vip4))
	if n := testing.AllocsPerRun(100, func() { must(g.Set(vip4, time.Hour)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Set goes on while addresses come and go and the Gate is closed.
func TestSetWhileChanging(t *testing.T) {
	needGate(t)
	g := newGate(t)
	must(g.Add(vip4))
	done := make(chan error)
	go func() {
		for {
			if err := g.Set(vip4, time.Hour); err != nil {
				done <- err
				return
			}
		}
	}()
	for i := range 200 {
		a := netip.MustParseAddr(fmt.Sprintf("10.1.0.%d", i+1))
		must(g.Add(a))
		must(g.Drop(a))
	}
	g.Close()
	if err := <-done; !errors.Is(err, gate.ErrClosed) {
		t.Error(err)
	}
}

func BenchmarkSet(b *testing.B) {
	needGate(b)
	g := newGate(b)
	must(g.Add(vip4))
	for b.Loop() {
		must(g.Set(vip4, time.Hour))
	}
}

func BenchmarkProgram(b *testing.B) {
	needGate(b)
	g := newGate(b)
	for i := range 200 {
		must(g.Add(netip.AddrFrom4([4]byte{10, 7, 0, byte(i)})))
	}
	must(g.Add(vip4, vip6))
	setAll(g, boottime.Now()+time.Hour)
	b.Run("what the measurement itself costs", func(b *testing.B) {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
		must(err)
		defer p.Close()
		benchmark(b, p, ether(typeIPv4, ipv4(other4, vip4, 0)))
	})
	for _, c := range []struct {
		name  string
		frame []byte
	}{
		{"none/other protocol", ether(0x88cc, make([]byte, 46))},
		{"ipv4/no VIP", ether(typeIPv4, ipv4(other4, other4, 0))},
		{"ipv4/to the VIP, open", ether(typeIPv4, ipv4(other4, vip4, 0))},
		{"ipv4/from the VIP, open", ether(typeIPv4, ipv4(vip4, other4, 0))},
		{"ipv6/no VIP", ether(typeIPv6, ipv6(other6, other6, udp, 0, 0))},
		{"ipv6/to the VIP, open", ether(typeIPv6, ipv6(other6, vip6, udp, 0, 0))},
		{"arp/for the VIP, open", ether(typeARP, arpPacket(arpRequest, other4, vip4))},
		{"nd/for the VIP, open", ether(typeIPv6, ipv6(other6, group6, icmpv6, neighbor(solicit, vip6)...))},
	} {
		b.Run(c.name+"/in", func(b *testing.B) { benchmark(b, g.Program(gate.Ingress, gate.Ethernet), c.frame) })
		b.Run(c.name+"/out", func(b *testing.B) { benchmark(b, g.Program(gate.Egress, gate.Ethernet), c.frame) })
	}
}

func benchmark(b *testing.B, p *ebpf.Program, frame []byte) {
	_, took, err := p.Benchmark(frame, b.N, nil)
	must(err)
	b.ReportMetric(float64(took.Nanoseconds()), "ns/op")
}
