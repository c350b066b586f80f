package gate_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/internal/boottime"
)

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
	serverMAC      net.HardwareAddr
}

func newLAN(t testing.TB) *lan {
	t.Helper()
	needGate(t)
	l := &lan{t: t, client: newNamespace(t)}
	l.server = newNamespace(t)
	run(t, "ip link add s0 type veth peer name c0")
	l.move("c0")
	l.serverMAC = l.link("s0").Attrs().HardwareAddr
	run(t, `ip address add 10.0.0.1/16 dev s0
		ip -6 address add fd00::1/64 dev s0 nodad
		ip link set s0 up
		ip address add 10.0.0.100/32 dev s0
		ip -6 address add fd00::100/128 dev s0 nodad`)
	l.inClient(`ip address add 10.0.0.7/16 dev c0
		ip -6 address add fd00::7/64 dev c0 nodad
		ip link set c0 up`)
	// Without ARP and ND in the way, IP is tested by itself.
	l.inClient("ip neighbor replace 10.0.0.100 dev c0 lladdr " + l.serverMAC.String())
	l.inClient("ip neighbor replace fd00::100 dev c0 lladdr " + l.serverMAC.String())
	return l
}

func (l *lan) link(name string) netlink.Link {
	l.t.Helper()
	k, err := netlink.LinkByName(name)
	if err != nil {
		l.t.Fatalf("interface %s: %v", name, err)
	}
	return k
}

// move moves an interface from the server to the client.
func (l *lan) move(name string) {
	l.t.Helper()
	must(netlink.LinkSetNsFd(l.link(name), int(l.client)))
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

func (l *lan) inClient(script string) { l.in(l.client, func() { run(l.t, script) }) }

// dial says whether a TCP connection to an address from the client succeeds. A
// listener must run there.
func (l *lan) dial(a netip.Addr) (ok bool) {
	l.in(l.client, func() { ok = dialHere(a, refusal) })
	return ok
}

// reaches is dial where an answer is expected, however busy the machine is.
func (l *lan) reaches(a netip.Addr) (ok bool) {
	l.in(l.client, func() { ok = dialHere(a, patience) })
	return ok
}

const (
	refusal  = 300 * time.Millisecond // without an answer for so long, there is none
	patience = 10 * time.Second
)

// dialHere connects a raw socket on the calling thread: net.Dial would use
// others, in other namespaces.
func dialHere(a netip.Addr, within time.Duration) bool {
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(int64(within)) // for connect, too
	must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait))
	return unix.Connect(fd, sockaddr(a, port)) == nil
}

const port = 8080

func sockaddr(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Port: port, Addr: a.As16()}
}

// listen accepts TCP on every address of the thread's namespace.
func listen(t testing.TB) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	t.Cleanup(func() { unix.Close(fd) })
	must(unix.Bind(fd, &unix.SockaddrInet6{Port: port}))
	must(unix.Listen(fd, 128))
}

// ping says whether an address answers an echo request of the client.
func (l *lan) ping(a netip.Addr) bool {
	var err error
	l.in(l.client, func() { err = exec.Command("ping", "-c1", "-W1", a.String()).Run() })
	return err == nil
}

// prober asks for addresses by frames of its own.
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
	if _, err := unix.Write(p.fd, frame); err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) {
		p.t.Errorf("send a frame: %v", err)
	}
}

// These are nobody else's addresses, for asking teaches the server a MAC.
var (
	asker4 = netip.MustParseAddr("10.0.9.9")
	asker6 = netip.MustParseAddr("fd00::9:9")
)

// ask sends an ARP request for the VIP whose sender's MAC carries a number.
func (p *prober) ask(n uint32) {
	f := ether(typeARP, arpPacket(arpRequest, asker4, vip4))
	copy(f, []byte{255, 255, 255, 255, 255, 255})
	for _, at := range []int{6, 22} {
		copy(f[at:], []byte{2, 0xaa})
		binary.BigEndian.PutUint32(f[at+2:], n)
	}
	p.send(f)
}

// receive returns the length of the next frame, 0 if there is none.
func (p *prober) receive(buf []byte) int {
	n, _, err := unix.Recvfrom(p.fd, buf, unix.MSG_DONTWAIT)
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.EINTR) {
		p.t.Errorf("receive a frame: %v", err)
	}
	return max(n, 0)
}

// answers returns the numbers of the requests whose answers have come in.
func (p *prober) answers() (out []uint32) {
	buf := make([]byte, 2048)
	for n := p.receive(buf); n > 0; n = p.receive(buf) {
		f := buf[:n]
		if n >= 42 && f[12] == 8 && f[13] == 6 && f[21] == arpReply && f[32] == 2 && f[33] == 0xaa {
			out = append(out, binary.BigEndian.Uint32(f[34:]))
		}
	}
	return out
}

// probe is the outcome of asking for a while: when each request was sent, and
// which were answered.
type probe struct {
	sent     []time.Duration
	answered map[uint32]bool
}

// newest returns when the last request that was answered had been sent.
func (p probe) newest() (at time.Duration) {
	for n := range p.answered {
		at = max(at, p.sent[n])
	}
	return at
}

// until asks without pause until a time, then waits for late answers.
func (p *prober) until(end time.Duration) probe {
	out := probe{answered: map[uint32]bool{}}
	take := func() {
		for _, n := range p.answers() {
			out.answered[n] = true
		}
	}
	for boottime.Now() < end {
		out.sent = append(out.sent, boottime.Now())
		p.ask(uint32(len(out.sent) - 1))
		take()
	}
	late := time.NewTimer(20 * time.Millisecond)
	<-late.C
	take()
	return out
}

// asked says whether any of some requests is answered.
func (p *prober) asked() bool {
	return len(p.until(boottime.Now()+30*time.Millisecond).answered) > 0
}

// start runs a Gate until the test ends.
func start(t testing.TB, g *gate.Gate) {
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

func other(a string) netip.Addr { return netip.MustParseAddr(a) }
