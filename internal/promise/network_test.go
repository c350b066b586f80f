package promise

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace of a test.
type namespace struct {
	t  *testing.T
	ns netns.NsHandle
}

// newNamespace moves the test's goroutine into a fresh network namespace and runs
// ip commands there. Its thread is never unlocked and ends with the test, and the
// namespace with it.
func newNamespace(t *testing.T, commands ...string) namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: network namespaces need root")
	}
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	n := namespace{t, ns}
	n.ip(append([]string{"link set lo up"}, commands...)...)
	return n
}

// ip moves the test's goroutine into the namespace and runs ip commands.
func (n namespace) ip(commands ...string) {
	n.t.Helper()
	if err := netns.Set(n.ns); err != nil {
		n.t.Fatal(err)
	}
	for _, c := range commands {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			n.t.Fatalf("ip %s: %v\n%s", c, err, out)
		}
	}
}

// spawn runs a function in a goroutine of the namespace.
func (n namespace) spawn(run func()) {
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := netns.Set(n.ns); err != nil {
			n.t.Error(err)
		}
		run()
	}()
}

// A host with several addresses answers from the one that was asked, though its
// routes would have it use another one.
func TestAnswersFromTheAddressThatWasAsked(t *testing.T) {
	for _, tt := range []struct{ name, listen, client, asked string }{
		{"IPv4", "0.0.0.0:0", "127.0.0.1", "127.0.0.2"},
		{"IPv4 on a socket of both", ":0", "127.0.0.1", "127.0.0.2"},
		{"IPv6", "[::]:0", "fd00::1", "fd00::2"},
		{"IPv6 on a socket of both", ":0", "fd00::1", "fd00::2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns := newNamespace(t, "address add fd00::1/128 dev lo nodad", "address add fd00::2/128 dev lo nodad")
			b := newDirector(t, "node02", func(c *Config) { c.Listen = tt.listen })
			b.run(t, ns.spawn)
			to := netip.AddrPortFrom(netip.MustParseAddr(tt.asked), b.at().Port())
			from := netip.AddrPortFrom(netip.MustParseAddr(tt.client), 0)
			buffer, number := make([]byte, maxDatagram), uint64(0)
			// try asks once. A connected socket hears only the address that it is
			// connected to; it is a new one each time, since the kernel takes its
			// time with a new address and a socket remembers its route.
			try := func(voter life) *message {
				conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				number++
				if _, err := conn.Write(seal(t, questionTo(b.cfg.Self, question(number), lifeOf(1), voter))); err != nil {
					t.Fatal(err)
				}
				if err := conn.SetReadDeadline(time.Now().Add(patience / 20)); err != nil {
					t.Fatal(err)
				}
				n, err := conn.Read(buffer)
				if err != nil {
					return nil
				}
				return parse(t, buffer[:n])
			}
			ask := func(voter life) (m *message) {
				waitUntil(t, "an answer from "+tt.asked, func() bool { m = try(voter); return m != nil })
				return m
			}
			if m := ask(ask(life{}).voter); m.kind != kindAnswer || !m.promised {
				t.Errorf("got %+v, expected a promise", m)
			}
		})
	}
}

// Link-local voters can be asked too: their address names the asker's interface.
func TestAskOverALink(t *testing.T) {
	there, here := newNamespace(t), newNamespace(t, "link add d0 type veth peer name d1")
	d1, err := netlink.LinkByName("d1")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetNsFd(d1, int(there.ns)); err != nil {
		t.Fatal(err)
	}
	there.ip("link set d1 up", "address add fe80::2/64 dev d1 nodad", "address add fe80::3/64 dev d1 nodad")
	here.ip("link set d0 up", "address add fe80::1/64 dev d0 nodad")
	a, b := newDirector(t, "node01", func(c *Config) { c.Listen = ":0" }), newDirector(t, "node02", func(c *Config) { c.Listen = ":0" })
	a.run(t, here.spawn)
	b.run(t, there.spawn)
	d0, err := net.InterfaceByName("d0")
	if err != nil {
		t.Fatal(err)
	}
	// By its name d0 is known in the namespace only, where not all goroutines are.
	zone := netip.MustParseAddr("fe80::3").WithZone(strconv.Itoa(d0.Index))
	a.ask(t, reachedAt(b, netip.AddrPortFrom(zone, b.at().Port())), 1)
}

// A socket whose buffer is full, here because nobody answers ARP, makes sending
// fail at once.
func TestSendingNeverBlocks(t *testing.T) {
	newNamespace(t, "link add v0 type veth peer name v1", "link set v0 up", "link set v1 up", "address add 10.9.0.1/24 dev v0")
	sock, err := openSocket(context.Background(), "10.9.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sock.close()
	if err := sock.conn.SetWriteBuffer(1); err != nil { // the kernel's least
		t.Fatal(err)
	}
	full := make(chan error, 1)
	go func() {
		for range 10000 {
			if err := sock.send(make([]byte, maxDatagram), path{remote: netip.MustParseAddrPort("10.9.0.2:7390")}); err != nil {
				full <- err
				return
			}
		}
		full <- errors.New("10000 datagrams went out")
	}()
	select {
	case err := <-full:
		if !errors.Is(err, unix.EAGAIN) {
			t.Errorf("got %v, expected EAGAIN", err)
		}
	case <-time.After(time.Second):
		t.Error("sending waited for room")
	}
}
