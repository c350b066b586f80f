package fence_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/internal/boottime"
)

// newGatedHost returns a Host with the real gate over the real kernel, in the
// thread's namespace.
func newGatedHost(t *testing.T) (*fence.Host, *fence.Netlink) {
	t.Helper()
	g, err := gate.New(gate.Config{Logger: zap.NewNop(), Now: boottime.Now})
	if errors.Is(err, gate.ErrNotSupported) {
		t.Skipf("SKIP: this kernel allows no gate: %v", err)
	}
	must(t, err)
	t.Cleanup(g.Close)
	k := newNetlink(t)
	a, err := fence.NewPacketAnnouncer()
	must(t, err)
	t.Cleanup(func() { a.Close() })
	h, err := fence.New(fence.Config{
		Logger: zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)), Kernel: k, Announcer: a, Gate: g,
		Now: boottime.Now, StatePath: filepath.Join(t.TempDir(), "vips.json"),
	})
	must(t, err)
	return h, k
}

// newWire makes a client (c0) and a server (eth0) on one wire. The test is in
// the server's namespace.
func newWire(t *testing.T) (client, server netns.NsHandle) {
	t.Helper()
	client = newNamespace(t)
	server = newNamespace(t)
	run(t, "ip link add eth0 type veth peer name c0")
	peer, err := netlink.LinkByName("c0")
	must(t, err)
	must(t, netlink.LinkSetNsFd(peer, int(client)))
	run(t, `ip address add 10.0.0.1/16 dev eth0
		ip -6 address add fd00::1/64 dev eth0 nodad
		ip link set eth0 up`)
	enter(t, client)
	run(t, `ip address add 10.0.0.7/16 dev c0
		ip -6 address add fd00::7/64 dev c0 nodad
		ip link set c0 up`)
	enter(t, server)
	return client, server
}

// asker asks for vipA by ARP and for vip6 by neighbor solicitation, in frames
// that carry a number, and notes which were answered.
type asker struct {
	t    *testing.T
	fd   int
	sent []time.Duration // CLOCK_BOOTTIME, by number
	arp  map[int]bool
	ns   map[int]bool
}

func newAsker(t *testing.T, iface string) *asker {
	t.Helper()
	return &asker{t: t, fd: listenTo(t, iface, unix.ETH_P_ALL), arp: map[int]bool{}, ns: map[int]bool{}}
}

// until asks without pause until a time, then waits for late answers.
func (a *asker) until(end time.Duration) {
	for boottime.Now() < end {
		n := len(a.sent)
		a.sent = append(a.sent, boottime.Now())
		mac := binary.BigEndian.AppendUint32([]byte{2, 0xaa}, uint32(n))
		for _, f := range [][]byte{askARP(mac), askNS(mac)} {
			_, err := unix.Write(a.fd, f)
			must(a.t, err)
		}
		a.take()
	}
	<-time.After(50 * time.Millisecond)
	a.take()
}

// take notes answers by the MAC that they are for.
func (a *asker) take() {
	buf := make([]byte, 200)
	for {
		n, _, err := unix.Recvfrom(a.fd, buf, unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		if n < 42 || buf[0] != 2 || buf[1] != 0xaa {
			continue
		}
		number := int(binary.BigEndian.Uint32(buf[2:]))
		switch {
		case buf[12] == 0x08 && buf[13] == 0x06 && buf[21] == 2 && [4]byte(buf[28:32]) == vipA.Address.As4():
			a.arp[number] = true
		case buf[12] == 0x86 && n >= 78 && buf[54] == 136 && [16]byte(buf[62:78]) == vip6.Address.As16():
			a.ns[number] = true
		}
	}
}

// newest returns when the last one that was answered had been asked.
func (a *asker) newest(answered map[int]bool) (at time.Duration) {
	for n := range answered {
		at = max(at, a.sent[n])
	}
	return at
}

func askARP(mac []byte) []byte {
	f := append([]byte{255, 255, 255, 255, 255, 255}, mac...)
	f = append(f, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	f = append(append(f, mac...), 10, 0, 9, 9)
	return append(f, 0, 0, 0, 0, 0, 0, 10, 0, 0, 100)
}

// askNS is a neighbor solicitation (RFC 4861, 4.3) for vip6 to its solicited-node
// group.
func askNS(mac []byte) []byte {
	from, to := netip.MustParseAddr("fd00::9:9").As16(), netip.MustParseAddr("ff02::1:ff00:100").As16()
	target := vip6.Address.As16()
	m := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
	m = append(append(m, 1, 1), mac...)
	binary.BigEndian.PutUint16(m[2:], fence.Checksum6(from, to, unix.IPPROTO_ICMPV6, m))
	f := append([]byte{0x33, 0x33, 0xff, 0, 1, 0}, mac...)
	f = append(f, 0x86, 0xdd, 6<<4, 0, 0, 0, 0, byte(len(m)), unix.IPPROTO_ICMPV6, 255)
	f = append(append(f, from[:]...), to[:]...)
	return append(f, m...)
}

// Nobody renews: at D the VIPs stop answering, although they are bound for
// what their lifetimes were rounded up by, and more.
func TestKernelGateStopsAnswering(t *testing.T) {
	client, server := newWire(t)
	h, k := newGatedHost(t)
	enter(t, client)
	a := newAsker(t, "c0")
	enter(t, server)
	late := map[string][]time.Duration{}
	must(t, h.Watch([]fence.VIP{vipA, vip6})) // attaches the gate, which takes a while
	for i := range 5 {
		hold := fence.Holding{Group: "web", Lock: fmt.Sprint("lock-", i)}
		deadline := boottime.Now() + 500*time.Millisecond // bound for 1 s
		must(t, h.Bind(hold, []fence.VIP{vipA, vip6}, deadline))
		if open := h.Bound()[0].Open; open != deadline {
			t.Errorf("status says open until %v, want %v", open, deadline)
		}
		a.sent, a.arp, a.ns = nil, map[int]bool{}, map[int]bool{}
		a.until(deadline + 200*time.Millisecond)
		bound := strings.Join(table(t, k), "\n")
		if !strings.Contains(bound, "10.0.0.100/32") || !strings.Contains(bound, "fd00::100/128") {
			t.Fatalf("the test lacks its premise, that the VIPs are still bound:\n%s", bound)
		}
		for name, answered := range map[string]map[int]bool{"ARP": a.arp, "NS": a.ns} {
			if len(answered) == 0 {
				t.Errorf("%s: not one of %d was answered before the deadline", name, len(a.sent))
				continue
			}
			late[name] = append(late[name], a.newest(answered)-deadline)
		}
		must(t, h.Fence(hold, "test"))
	}
	for name, all := range late {
		slices.Sort(all)
		t.Logf("%s: newest answered request against the deadline: %v", name, all)
		// The clock is read before the request is sent: it cannot be late.
		if worst := all[len(all)-1]; worst > 0 {
			t.Errorf("%s: a request was answered that was sent %v after the deadline", name, worst)
		}
	}
}

// A watched VIP that somebody binds on a standby does not answer, and that of a
// holder answers no longer than until its fence begins.
func TestKernelGateShutsBothFamilies(t *testing.T) {
	client, server := newWire(t)
	h, _ := newGatedHost(t)
	answers := func() (bool, bool) {
		t.Helper()
		enter(t, client)
		a := newAsker(t, "c0")
		a.until(boottime.Now() + 50*time.Millisecond)
		enter(t, server)
		return len(a.arp) > 0, len(a.ns) > 0
	}
	want := func(state string, v bool) {
		t.Helper()
		if arp, ns := answers(); arp != v || ns != v {
			t.Errorf("%s: ARP answered=%v, NS answered=%v, want %v", state, arp, ns, v)
		}
	}
	run(t, `ip address add 10.0.0.100/16 dev eth0
		ip -6 address add fd00::100/64 dev eth0 nodad`)
	want("bound by hand", true)
	vips := []fence.VIP{vipA, vip6}
	must(t, h.Watch(vips))
	want("watched", false)
	must(t, h.Bind(web1, vips, boottime.Now()+10*time.Second))
	want("held", true)
	must(t, h.Watch(vips))
	want("held and watched", true)
	must(t, h.Fence(web1, "test"))
	want("fenced", false)
	run(t, `ip address add 10.0.0.100/16 dev eth0
		ip -6 address add fd00::100/64 dev eth0 nodad`)
	want("bound by hand after the fence", false)
	must(t, h.Watch(nil))
	want("no VIP any more", true)
}

func TestKernelGateCannotCover(t *testing.T) {
	newNamespace(t)
	run(t, twoInterfaces)
	h, k := newGatedHost(t)
	run(t, "tc qdisc add dev eth1 ingress")
	err := h.Bind(web1, []fence.VIP{vipA}, boottime.Now()+lease)
	if err == nil || !strings.Contains(err.Error(), "gate eth1 egress: ") || !strings.Contains(err.Error(), "`gate: none`") {
		t.Errorf("error %v", err)
	}
	wantTable(t, k)
	run(t, "tc qdisc del dev eth1 ingress")
	must(t, h.Bind(web1, []fence.VIP{vipA}, boottime.Now()+lease))
}

// Neighbors take the announcements, through the gate, at once: ARP and NA.
func TestKernelAnnouncementsAreTaken(t *testing.T) {
	client, server := newWire(t)
	h, k := newGatedHost(t)
	link, err := k.Link("eth0")
	must(t, err)
	enter(t, client)
	run(t, `ip neighbor replace 10.0.0.100 dev c0 lladdr 02:00:00:00:00:99 nud reachable
		ip neighbor replace fd00::100 dev c0 lladdr 02:00:00:00:00:99 nud reachable`)
	frames := listenTo(t, "c0", unix.ETH_P_IPV6)
	enter(t, server)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	start := boottime.Now()
	must(t, h.Bind(web1, []fence.VIP{vipA, vip6}, start+lease))
	for i := range 5 {
		if !receiveNA(t, frames, 2*time.Second) {
			t.Fatalf("%d neighbor advertisements, want 5", i)
		}
	}
	if took := boottime.Now() - start; took > 1200*time.Millisecond {
		t.Errorf("five announcements took %v", took)
	}
	enter(t, client)
	for _, a := range []string{"10.0.0.100", "fd00::100"} {
		if shown := run(t, "ip neighbor show "+a+" dev c0"); !strings.Contains(shown, link.MAC.String()) {
			t.Errorf("the neighbor was not taken over: %s", shown)
		}
	}
	enter(t, server)
	must(t, h.Fence(web1, "test"))
	if receiveNA(t, frames, 300*time.Millisecond) {
		t.Error("announced after the fence")
	}
	cancel()
	must(t, <-done)
}

// receiveNA waits for a neighbor advertisement of vip6.
func receiveNA(t *testing.T, fd int, limit time.Duration) bool {
	t.Helper()
	for end := boottime.Now() + limit; boottime.Now() < end; {
		f := receive(t, fd, max(end-boottime.Now(), time.Millisecond))
		if len(f) == 86 && f[54] == 136 && [16]byte(f[62:78]) == vip6.Address.As16() {
			return true
		}
	}
	return false
}
