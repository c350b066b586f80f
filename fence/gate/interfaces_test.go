package gate_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/internal/boottime"
)

// foreign attaches a filter of someone else's, which lets everything pass for
// good (TC_ACT_OK), and returns how often it was asked.
func (l *lan) foreign(parent uint32, priority uint16) func() uint64 {
	count, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	must(err)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R1, 1),
		asm.LoadMapValue(asm.R2, count.FD(), 0),
		asm.StoreXAdd(asm.R2, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	must(err)
	l.t.Cleanup(func() { p.Close(); count.Close() })
	must(netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: l.link("s0").Attrs().Index, Parent: parent, Priority: priority, Handle: 1, Protocol: unix.ETH_P_ALL,
		},
		Fd: p.FD(), Name: "foreign", DirectAction: true,
	}))
	return func() (n uint64) {
		must(count.Lookup(uint32(0), &n))
		return n
	}
}

func TestKernelGateForeignFilters(t *testing.T) {
	for name, priority := range map[string]uint16{"at our priority": 1, "later": 49152} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			listen(t)
			run(t, "tc qdisc add dev s0 clsact")
			in := l.foreign(netlink.HANDLE_MIN_INGRESS, priority)
			out := l.foreign(netlink.HANDLE_MIN_EGRESS, priority)
			asked := func(state string) {
				t.Helper()
				inBefore, outBefore := in(), out()
				if !l.ping(other("10.0.0.1")) {
					t.Errorf("%s: the host's own address does not answer", state)
				}
				if in() == inBefore || out() == outBefore {
					t.Errorf("%s: the foreign filter is not asked any more", state)
				}
			}
			g := newGate(t)
			must(g.Add(vip4))
			must(g.Ensure())
			asked("gated")
			if l.dial(vip4) {
				t.Error("the foreign filter lets packets pass our gate")
			}
			must(g.Set(vip4, boottime.Now()+time.Hour))
			before := in()
			if !l.reaches(vip4) || in() == before {
				t.Error("what passes our gate does not reach the foreign filter")
			}
			wantStatus(t, g, gate.InterfaceStatus{Name: "s0", Index: l.link("s0").Attrs().Index, Ingress: true, Egress: true})
			must(gate.Remove())
			asked("removed")
			shown := run(t, "tc filter show dev s0 ingress") + run(t, "tc filter show dev s0 egress")
			if strings.Count(shown, "foreign") != 2 || strings.Contains(shown, "zklvs") {
				t.Errorf("after Remove:\n%s", shown)
			}
		})
	}
}

func wantStatus(t *testing.T, g *gate.Gate, want ...gate.InterfaceStatus) {
	t.Helper()
	got, err := g.Status()
	must(err)
	// A kernel with tunnels makes their interfaces in every namespace.
	got = without(got, "tunl0", "gre0", "gretap0", "erspan0", "sit0", "ip6tnl0", "ip6gre0", "ip_vti0", "ip6_vti0", "ifb0", "ifb1", "teql0")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("status (-want +got):\n%s", d)
	}
}

func without(all []gate.InterfaceStatus, names ...string) (out []gate.InterfaceStatus) {
next:
	for _, s := range all {
		for _, n := range names {
			if s.Name == n {
				continue next
			}
		}
		out = append(out, s)
	}
	return out
}

// What cannot be had is said, with the interface and the reason.
func TestKernelGateInTheWay(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   string
		status gate.InterfaceStatus
	}{
		"a filter of another kind at our priority": {
			`tc qdisc add dev s0 clsact
			tc filter add dev s0 ingress protocol ip prio 1 u32 match u32 0 0 classid 1:1`,
			"gate s0 ingress: add filter: invalid argument: priority 1 is taken (u32 filter, priority 1, handle",
			gate.InterfaceStatus{Egress: true},
		},
		"a qdisc ingress": {
			"tc qdisc add dev s0 ingress",
			"gate s0 egress: someone's qdisc ingress is where clsact should be: replace it with clsact",
			gate.InterfaceStatus{Ingress: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			listen(t)
			run(t, c.script)
			g := newGate(t)
			must(g.Add(vip4))
			for range 2 {
				if err := g.Ensure(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Ensure: %v, want %q", err, c.want)
				}
			}
			if l.dial(vip4) {
				t.Error("the hook that could be had does not gate")
			}
			got, err := g.Status()
			must(err)
			for _, s := range got {
				if s.Name == "s0" && (s.Ingress != c.status.Ingress || s.Egress != c.status.Egress) {
					t.Errorf("status %+v", s)
				}
			}
			must(gate.Remove())
			// The server's ARP request for the client, in the VIP's name, was dropped
			// where only egress was gated: it is repeated after a second.
			eventually(t, "the VIP answers after Remove", func() bool { return l.dial(vip4) })
			for line := range strings.Lines(c.script) {
				what := strings.Fields(line)[1]
				if !strings.Contains(run(t, "tc "+what+" show dev s0 ingress"), strings.Fields(line)[5]) && what == "qdisc" {
					t.Errorf("Remove took someone's %s", what)
				}
			}
		})
	}
}

// Someone puts a filter ahead of ours: Status says so.
func TestKernelGateAhead(t *testing.T) {
	l := newLAN(t)
	g := newGate(t)
	must(g.Ensure())
	l.foreign(netlink.HANDLE_MIN_INGRESS, 1)
	wantStatus(t, g, gate.InterfaceStatus{
		Name: "s0", Index: l.link("s0").Attrs().Index, Ingress: true, Egress: true,
		Ahead: []string{"ingress: bpf filter, priority 1, handle 0x1, foreign"},
	})
}

// What others take off comes back.
func TestKernelGateTakenOff(t *testing.T) {
	l := newLAN(t)
	var p *prober
	l.in(l.client, func() { p = newProber(t, "c0") })
	g := newGate(t)
	must(g.Add(vip4))
	must(g.Ensure())
	start(t, g)
	for _, command := range []string{
		"tc qdisc del dev s0 clsact", "tc filter del dev s0 egress", "tc filter del dev s0 ingress prio 1",
		"ip link set s0 down\nip link set s0 name s9\nip link set s9 up\ntc qdisc del dev s9 clsact\nip link set s9 down\nip link set s9 name s0\nip link set s0 up",
	} {
		run(t, command)
		eventually(t, "gated again after "+command, func() bool { return gated(g, "s0") })
		if p.asked() {
			t.Errorf("answers after %s", command)
		}
	}
}

// gated says whether both hooks of an interface have our filters.
func gated(g *gate.Gate, name string) bool {
	all, err := g.Status()
	must(err)
	for _, s := range all {
		if s.Name == name {
			return s.Ingress && s.Egress
		}
	}
	return false
}

// What the kernel did not report is found by looking.
func TestKernelGateRecheck(t *testing.T) {
	newLAN(t)
	g, err := gate.New(gate.Config{Logger: zap.NewNop(), Now: boottime.Now, Recheck: 10 * time.Millisecond})
	must(err)
	t.Cleanup(g.Close)
	start(t, g)
	eventually(t, "gated", func() bool { return gated(g, "s0") })
	other := newGate(t) // a filter that is replaced is no filter that is removed
	must(other.Ensure())
	eventually(t, "gated again", func() bool { return gated(g, "s0") })
}

// The window of an interface that appears: from its being up until Run has seen
// it. arp_ignore=1 as the default of new interfaces closes it.
func TestKernelGateNewInterface(t *testing.T) {
	for name, c := range map[string]struct {
		ignore string
		window bool
	}{"as Linux is": {"0", true}, "arp_ignore=1 by default": {"1", false}} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			g := newGate(t)
			must(g.Add(vip4))
			must(g.Ensure())
			start(t, g)
			must(os.WriteFile("/proc/sys/net/ipv4/conf/default/arp_ignore", []byte(c.ignore), 0))
			staging := newNamespace(t)
			must(netns.Set(l.server))
			var worst time.Duration
			answered := 0
			for range 10 {
				window, n := l.newInterface(g, staging)
				worst, answered = max(worst, window), answered+n
			}
			t.Logf("10 interfaces that appear up: %d requests answered, at worst until %v after the kernel said so", answered, worst)
			if !c.window && answered > 0 {
				t.Error("answered on a new interface")
			}
		})
	}
}

// newInterface moves an interface into the server's namespace and sets it up, in
// one message, while the client asks for the VIP on the other end. It returns
// until how long after the kernel's reply to that message answers came, and how
// many.
func (l *lan) newInterface(g *gate.Gate, staging netns.NsHandle) (window time.Duration, answers int) {
	l.t.Helper()
	var p *prober
	done := make(chan probe, 1)
	var up time.Duration
	l.in(staging, func() {
		run(l.t, "ip link add s1 type veth peer name c1")
		s1 := l.link("s1")
		l.move("c1")
		must(netns.Set(l.client))
		run(l.t, "ip link set c1 up")
		p = newProber(l.t, "c1")
		must(netns.Set(staging))
		end := boottime.Now() + 150*time.Millisecond
		go func() { done <- p.until(end) }()
		must(moveUp(s1, l.server))
		up = boottime.Now()
	})
	got := <-done
	if !gated(g, "s1") {
		l.t.Error("a new interface is not gated")
	}
	must(netlink.LinkDel(l.link("s1")))
	if len(got.answered) == 0 {
		return 0, 0
	}
	return got.newest() - up, len(got.answered)
}

// moveUp moves an interface to another namespace and sets it up there at once.
func moveUp(l netlink.Link, to netns.NsHandle) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(l.Attrs().Index), unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(to))))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// A tag that the kernel keeps beside the frame, and a VLAN interface on top.
func TestKernelGateVLAN(t *testing.T) {
	l := newLAN(t)
	g := newGate(t)
	must(g.Add(vip4))
	must(g.Ensure())
	start(t, g)
	var p *prober
	l.in(l.client, func() { p = newProber(t, "c0") })
	for _, f := range [][]byte{
		ether(typeARP, arpPacket(arpRequest, asker4, vip4), typeVLAN),
		ether(typeARP, arpPacket(arpRequest, asker4, vip4), typeQinQ, typeVLAN),
		ether(typeIPv4, ipv4(other4, vip4, 0), typeVLAN),
	} {
		copy(f, l.serverMAC)
		before := g.Dropped(vip4)
		p.send(f)
		eventually(t, "a tagged frame is dropped", func() bool { return g.Dropped(vip4) == before+1 })
	}
	vlan := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "s0.42", ParentIndex: l.link("s0").Attrs().Index}, VlanId: 42}
	err := netlink.LinkAdd(vlan)
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Log("this kernel has no VLAN interfaces: frames alone were tested")
		return
	}
	must(err)
	l.inClient(`ip link add link c0 name c0.42 type vlan id 42
		ip link set c0.42 up`)
	run(t, "ip link set s0.42 up")
	l.in(l.client, func() { p = newProber(t, "c0.42") })
	must(g.Ensure())
	if p.asked() {
		t.Error("answered on a VLAN while shut")
	}
	must(g.Set(vip4, boottime.Now()+time.Hour))
	if !p.asked() {
		t.Error("not answered on a VLAN while open")
	}
}
