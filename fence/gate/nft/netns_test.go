package nft_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/fence/gate/nft"
	"github.com/zklvs/zklvs/internal/boottime"
)

var _ fence.Gate = (*nft.Gate)(nil)

// newNamespace moves the test's goroutine into a fresh network namespace. Its
// thread is never unlocked, so it ends with the test and the namespace with it.
func newNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: network namespaces need root")
	}
	runtime.LockOSThread()
	ns, err := netns.New()
	must(err)
	t.Cleanup(func() { ns.Close() })
	run(t, "ip link set lo up")
	if err := nft.Supported(); errors.Is(err, gate.ErrNotSupported) {
		t.Skipf("SKIP: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	return ns
}

// run runs commands, one a line, in the thread's namespace.
func run(t testing.TB, script string) string {
	t.Helper()
	var all strings.Builder
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		all.Write(out)
	}
	return all.String()
}

// lan is a client (c0) and a server (s0) on one wire. The server binds the
// VIPs; the test is in the server's namespace.
type lan struct {
	t              testing.TB
	client, server netns.NsHandle
	probe          *prober // of the client
}

func newLAN(t testing.TB) *lan {
	t.Helper()
	l := &lan{t: t, client: newNamespace(t)}
	l.server = newNamespace(t)
	run(t, "ip link add s0 type veth peer name c0")
	c0, err := netlink.LinkByName("c0")
	must(err)
	must(netlink.LinkSetNsFd(c0, int(l.client)))
	run(t, `ip address add 10.0.0.1/16 dev s0
		ip -6 address add fd00::1/64 dev s0 nodad
		ip link set s0 up
		ip address add 10.0.0.100/32 dev s0
		ip -6 address add fd00::100/128 dev s0 nodad`)
	l.in(l.client, func() {
		run(t, `ip address add 10.0.0.7/16 dev c0
			ip -6 address add fd00::7/64 dev c0 nodad
			ip link set c0 up`)
		l.probe = newProber(t, "c0")
	})
	eventually(t, "the server answers", func() bool { return l.probe.solicited() && l.probe.asked() })
	return l
}

// in runs do in a namespace, and comes back.
func (l *lan) in(ns netns.NsHandle, do func()) {
	l.t.Helper()
	before, err := netns.Get()
	must(err)
	defer before.Close()
	must(netns.Set(ns))
	defer func() { must(netns.Set(before)) }()
	do()
}

// ping says whether an address answers an echo request of the client, which
// needs no ARP or ND for it.
func (l *lan) ping(a netip.Addr) bool {
	var err error
	s0, linkErr := netlink.LinkByName("s0")
	must(linkErr)
	l.in(l.client, func() {
		run(l.t, "ip neighbor replace "+a.String()+" dev c0 lladdr "+s0.Attrs().HardwareAddr.String())
		err = exec.Command("ping", "-c1", "-W1", a.String()).Run()
		run(l.t, "ip neighbor del "+a.String()+" dev c0")
	})
	return err == nil
}

// replies is what the VIPs answer, by every way of asking.
func (l *lan) replies() map[string]bool {
	return map[string]bool{
		"ARP": l.probe.asked(), "NS": l.probe.solicited(), "ping": l.ping(vip4), "ping6": l.ping(vip6),
	}
}

func all(v bool) map[string]bool { return map[string]bool{"ARP": v, "NS": v, "ping": v, "ping6": v} }

func newGate(t testing.TB, change ...func(*nft.Config)) *nft.Gate {
	t.Helper()
	c := nft.Config{Logger: zap.NewNop(), Now: boottime.Now}
	for _, f := range change {
		f(&c)
	}
	g, err := nft.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func setAll(g *nft.Gate, deadline time.Duration) {
	must(g.Set(vip4, deadline))
	must(g.Set(vip6, deadline))
}

// start runs a Gate until the test ends.
func start(t testing.TB, g *nft.Gate) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// prober sends and receives frames of its own.
type prober struct {
	t  testing.TB
	fd int
}

// newProber opens a packet socket on an interface of the thread's namespace.
func newProber(t testing.TB, iface string) *prober {
	t.Helper()
	all := net16(unix.ETH_P_ALL)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	must(err)
	t.Cleanup(func() { unix.Close(fd) })
	k, err := netlink.LinkByName(iface)
	must(err)
	must(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: k.Attrs().Index}))
	return &prober{t: t, fd: fd}
}

func net16(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

func (p *prober) send(frame []byte) {
	if _, err := unix.Write(p.fd, frame); err != nil && !errors.Is(err, unix.ENOBUFS) {
		p.t.Errorf("send a frame: %v", err)
	}
}

// receive returns the next frame, nil if there is none.
func (p *prober) receive(buf []byte) []byte {
	n, _, err := unix.Recvfrom(p.fd, buf, unix.MSG_DONTWAIT)
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
		p.t.Errorf("receive a frame: %v", err)
	}
	return buf[:max(n, 0)]
}

// ask sends an ARP request for the VIP whose sender's MAC carries a number. The
// sender is nobody else, for asking teaches the server a MAC.
func (p *prober) ask(n uint32) {
	f := ether(unix.ETH_P_ARP, arpPacket(arpRequest, asker4, vip4))
	copy(f, []byte{255, 255, 255, 255, 255, 255})
	for _, at := range []int{6, 22} {
		copy(f[at:], []byte{2, 0xaa})
		binary.BigEndian.PutUint32(f[at+2:], n)
	}
	p.send(f)
}

// outcome says when each request was sent, and which were answered.
type outcome struct {
	sent     []time.Duration
	answered map[uint32]bool
}

// newest returns when the last request that was answered had been sent.
func (o outcome) newest() (at time.Duration) {
	for n := range o.answered {
		at = max(at, o.sent[n])
	}
	return at
}

// until asks without pause until a time, then waits for late answers.
func (p *prober) until(end time.Duration) outcome {
	out := outcome{answered: map[uint32]bool{}}
	buf := make([]byte, 2048)
	take := func() {
		for f := p.receive(buf); len(f) > 0; f = p.receive(buf) {
			if len(f) >= 42 && f[12] == 8 && f[13] == 6 && f[21] == arpReply && f[32] == 2 && f[33] == 0xaa {
				out.answered[binary.BigEndian.Uint32(f[34:])] = true
			}
		}
	}
	for boottime.Now() < end {
		out.sent = append(out.sent, boottime.Now())
		p.ask(uint32(len(out.sent) - 1))
		take()
	}
	<-time.After(20 * time.Millisecond)
	take()
	return out
}

// asked says whether any of some ARP requests is answered.
func (p *prober) asked() bool { return len(p.until(boottime.Now()+30*time.Millisecond).answered) > 0 }

// solicited says whether a neighbor solicitation for the IPv6 VIP is answered.
func (p *prober) solicited() bool {
	sourceMAC := append([]byte{1, 1}, macA...) // RFC 4861, 4.6.1
	f := ether(unix.ETH_P_IPV6, checksummed(ipv6(asker6, group6, icmpv6, append(neighbor(solicit, vip6), sourceMAC...)...)))
	copy(f, []byte{0x33, 0x33, 0xff, 0, 1, 0})
	end := boottime.Now() + 50*time.Millisecond
	buf := make([]byte, 2048)
	p.send(f)
	for boottime.Now() < end {
		a := p.receive(buf)
		if len(a) >= 78 && a[12] == 0x86 && a[54] == advertise && netip.AddrFrom16([16]byte(a[62:78])) == vip6 {
			return true
		}
	}
	return false
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
