package fence_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/boottime"
)

// newRealHost returns a Host over the real kernel, in the thread's namespace.
func newRealHost(t *testing.T, statePath string) (*fence.Host, *fence.Netlink) {
	t.Helper()
	k := newNetlink(t)
	arp, err := fence.NewPacketAnnouncer()
	must(t, err)
	t.Cleanup(func() { arp.Close() })
	h, err := fence.New(fence.Config{
		Logger: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)), Kernel: k, Announcer: arp,
		Now: boottime.Now, StatePath: statePath,
	})
	must(t, err)
	return h, k
}

func newRealBench(t *testing.T) (*fence.Host, *fence.Netlink, string) {
	t.Helper()
	newNamespace(t)
	run(t, twoInterfaces)
	// The worst case: a primary address takes its secondaries with it.
	sysctl(t, "conf/all/promote_secondaries", "0")
	sysctl(t, "conf/eth0/promote_secondaries", "0")
	run(t, `ip address add 10.0.0.1/24 dev eth0
		ip route add default via 10.0.0.254`)
	path := filepath.Join(t.TempDir(), "vips.json")
	h, k := newRealHost(t, path)
	return h, k, path
}

func TestKernelBindAndFence(t *testing.T) {
	h, k, _ := newRealBench(t)
	must(t, h.Bind(web1, []fence.VIP{vipA, vipB}, boottime.Now()+lease))
	shown := run(t, "ip -4 address show label eth0:2")
	if !strings.Contains(shown, "inet 10.0.0.100/32 scope global") || !strings.Contains(shown, "eth0:2") || !strings.Contains(shown, "valid_lft 3sec") {
		t.Errorf("ip address shows\n%s", shown)
	}
	must(t, h.Extend(web1, boottime.Now()+10*time.Second))
	wantTable(t, k, own, "10.0.0.100/32 eth0 eth0:2 10s", "10.0.0.101/32 eth0 eth0 10s")
	must(t, h.Fence(web1, "test"))
	wantTable(t, k, own)
	wantError(t, h.Bind(web1, []fence.VIP{vipA}, boottime.Now()+lease), fence.ErrFenced)
	wantTable(t, k, own)
	if routes := run(t, "ip route"); !strings.Contains(routes, "default via 10.0.0.254") || !strings.Contains(routes, "10.0.0.0/24") {
		t.Errorf("the host's own routes:\n%s", routes)
	}
}

// Nobody renews and nobody fences: the kernel removes the address by D + Lateness.
func TestKernelAddressOutlivesNobody(t *testing.T) {
	h, k, _ := newRealBench(t)
	deadline := boottime.Now() + time.Second
	must(t, h.Bind(web1, []fence.VIP{vipA, vipB}, deadline))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for len(table(t, k)) > 1 {
		if boottime.Now() > deadline+fence.LatenessUngated {
			t.Fatalf("still bound %v after the lease: %v", fence.LatenessUngated, table(t, k))
		}
		<-tick.C
	}
	if now := boottime.Now(); now < deadline-early {
		t.Errorf("removed %v before the end of the lease", deadline-now)
	}
	t.Logf("removed by the kernel %v after the deadline", boottime.Now()-deadline)
	wantTable(t, k, own)
}

func TestKernelSweep(t *testing.T) {
	h, k, path := newRealBench(t)
	must(t, h.Bind(web1, []fence.VIP{vipA, vipB}, boottime.Now()+lease))
	// As after SIGKILL: nothing of the old life is called any more.
	h, _ = newRealHost(t, path)
	found, err := h.Sweep()
	must(t, err)
	if len(found) != 2 {
		t.Errorf("found %v", found)
	}
	wantTable(t, k, own)
}

func TestKernelCollisions(t *testing.T) {
	h, k, _ := newRealBench(t)
	run(t, `ip address add 10.0.0.100/24 dev eth0
		ip address add 10.0.0.100/32 dev eth0 label eth0:7
		ip address add 10.0.0.101/32 dev eth0
		ip address add 10.1.0.1/24 dev eth1
		ip address add 10.0.0.101 peer 10.9.9.9 dev eth1
		ip address add 10.0.0.100/32 dev lo`)
	must(t, h.Bind(web1, []fence.VIP{vipA, vipB}, boottime.Now()+lease))
	want := []string{own, "10.0.0.100/32 eth0 eth0:2 5s", "10.0.0.100/32 lo lo for ever", "10.0.0.101/32 eth0 eth0 5s", "10.1.0.1/24 eth1 eth1 for ever"}
	wantTable(t, k, want...)
	run(t, `ip address add 10.0.0.100/16 dev eth1
		ip address del 10.0.0.101/32 dev eth0`)
	must(t, h.Extend(web1, boottime.Now()+lease))
	wantTable(t, k, want...)
}

// A VIP bound by hand as the primary address of the host's own subnet.
func TestKernelOwnAddressSurvives(t *testing.T) {
	h, k, _ := newRealBench(t)
	run(t, `ip address add 10.0.0.100/24 dev eth0
		ip address del 10.0.0.1/24 dev eth0
		ip address add 10.0.0.100/24 dev eth0
		ip address add 10.0.0.1/24 dev eth0`)
	if !strings.Contains(run(t, "ip address show dev eth0 to 10.0.0.1"), "secondary") {
		t.Fatal("the test lacks its premise: the host's own address is not secondary")
	}
	must(t, h.Bind(web1, []fence.VIP{vipA}, boottime.Now()+lease))
	wantTable(t, k, own, "10.0.0.100/32 eth0 eth0:2 5s")
	must(t, h.Fence(web1, "test"))
	wantTable(t, k, own)
	if !strings.Contains(run(t, "ip route"), "10.0.0.0/24 dev eth0") {
		t.Error("the subnet's route is gone")
	}
	mine := fence.VIP{Address: netip.MustParseAddr("10.0.0.1"), Interface: "eth0"}
	wantError(t, h.Bind(web2, []fence.VIP{mine}, boottime.Now()+lease), fence.ErrOwnAddress)
	wantTable(t, k, own)
}

func TestKernelGratuitousARP(t *testing.T) {
	client := newNamespace(t)
	server := newNamespace(t)
	run(t, twoInterfaces)
	h, k := newRealHost(t, filepath.Join(t.TempDir(), "vips.json"))
	link, err := k.Link("eth0")
	must(t, err)
	peer, err := netlink.LinkByName("peer0")
	must(t, err)
	must(t, netlink.LinkSetNsFd(peer, int(client)))
	enter(t, client)
	run(t, "ip link set peer0 up")
	frames := listen(t, "peer0")
	enter(t, server)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }() // other threads, other namespaces: the sockets are ours
	start := boottime.Now()
	must(t, h.Bind(web1, []fence.VIP{vipA}, start+lease))
	want := append([]byte{255, 255, 255, 255, 255, 255}, link.MAC...)
	want = append(want, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	want = append(append(want, link.MAC...), 10, 0, 0, 100)
	want = append(want, 0, 0, 0, 0, 0, 0, 10, 0, 0, 100)
	for i := range 5 {
		if got := receive(t, frames, 2*time.Second); !bytes.Equal(got, want) {
			t.Errorf("announcement %d\n%x\nwant\n%x", i, got, want)
		}
	}
	if took := boottime.Now() - start; took > 1200*time.Millisecond {
		t.Errorf("five announcements took %v", took)
	}
	must(t, h.Fence(web1, "test"))
	if got := receive(t, frames, 300*time.Millisecond); got != nil {
		t.Errorf("announced after the fence: %x", got)
	}
	cancel()
	must(t, <-done)
}

// listen opens a packet socket for ARP on an interface of the thread's namespace.
func listen(t *testing.T, iface string) int {
	t.Helper()
	return listenTo(t, iface, unix.ETH_P_ARP)
}

// listenTo opens a packet socket for one protocol.
func listenTo(t *testing.T, iface string, protocol uint16) int {
	t.Helper()
	swapped := protocol<<8 | protocol>>8 // network byte order, on a little-endian machine
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(swapped))
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	link, err := newNetlink(t).Link(iface)
	must(t, err)
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swapped, Ifindex: link.Index}))
	return fd
}

// receive returns the next frame, or nil after limit.
func receive(t *testing.T, fd int, limit time.Duration) []byte {
	t.Helper()
	tv := unix.NsecToTimeval(int64(limit))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
	buf := make([]byte, 2000)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case err == nil:
			return buf[:n]
		case errors.Is(err, unix.EAGAIN):
			return nil
		case !errors.Is(err, unix.EINTR):
			t.Fatal(err)
		}
	}
}

func TestKernelLinkWatch(t *testing.T) {
	h, _, _ := newRealBench(t)
	w, err := fence.NewLinkWatch()
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for _, c := range []struct {
		command     string
		up, carrier bool
	}{
		{"ip link set peer0 down", true, false},
		{"ip link set peer0 up", true, true},
		{"ip link set eth0 down", false, false},
	} {
		run(t, c.command)
		waitLink(t, h, w, c.up, c.carrier)
	}
	if _, _, err := h.LinkState("eth9"); err == nil {
		t.Error("eth9 exists")
	}
	cancel()
	must(t, <-done)
}

// waitLink waits for hints until eth0 is in the state wanted.
func waitLink(t *testing.T, h *fence.Host, w *fence.LinkWatch, wantUp, wantCarrier bool) {
	t.Helper()
	limit := time.After(5 * time.Second)
	for {
		select {
		case <-w.Hints():
		case <-limit:
			t.Fatalf("no hint led to up=%v, carrier=%v", wantUp, wantCarrier)
		}
		up, carrier, err := h.LinkState("eth0")
		must(t, err)
		if up == wantUp && carrier == wantCarrier {
			return
		}
	}
}

func TestKernelNoRights(t *testing.T) {
	newNamespace(t)
	// Only this thread's effective rights: it ends with the test.
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	must(t, unix.Capget(&hdr, &data[0]))
	data[0].Effective = 0
	must(t, unix.Capset(&hdr, &data[0]))
	k := newNetlink(t)
	err := k.Replace(address("10.0.0.1/32", "lo", "", 1))
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("error %v", err)
	}
	if _, err := fence.NewPacketAnnouncer(); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_RAW") {
		t.Errorf("error %v", err)
	}
}
