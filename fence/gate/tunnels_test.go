package gate_test

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/boottime"
)

// Interfaces without link-layer header.
func TestKernelGateTunnels(t *testing.T) {
	tested := 0
	for name, test := range map[string]func(*testing.T) bool{"tun": testTUN, "ipip": testIPIP} {
		t.Run(name, func(t *testing.T) {
			if !test(t) {
				t.Logf("this kernel has no %s", name)
				return
			}
			tested++
		})
	}
	if tested == 0 {
		t.Skip("SKIP: this kernel has neither tun nor ipip")
	}
}

func testTUN(t *testing.T) bool {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return false
	}
	newLAN(t)
	g := newGate(t)
	must(g.Add(vip4))
	tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI, Queues: 1}
	must(netlink.LinkAdd(tun))
	t.Cleanup(func() { tun.Fds[0].Close() })
	run(t, `ip address add 10.9.0.1/24 dev tun0
		ip link set tun0 up`)
	must(g.Ensure())
	request := ipv4(other("10.9.0.7"), vip4, 0)
	_, err := tun.Fds[0].Write(request)
	must(err)
	eventually(t, "dropped on tun0", func() bool { return g.Dropped(vip4) == 1 })
	must(g.Set(vip4, boottime.Now()+time.Hour))
	_, err = tun.Fds[0].Write(request)
	must(err)
	// The port is closed: the kernel answers with an ICMP error, from the VIP.
	eventually(t, "the VIP answers on tun0", func() bool {
		buf := make([]byte, 2048)
		n, err := tun.Fds[0].Read(buf)
		return err == nil && n >= 20 && buf[9] == unix.IPPROTO_ICMP && [4]byte(buf[12:16]) == vip4.As4()
	})
	must(g.Shut(vip4))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	defer unix.Close(fd)
	must(unix.Bind(fd, &unix.SockaddrInet4{Addr: vip4.As4()}))
	before := g.Dropped(vip4)
	_ = unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrInet4{Addr: [4]byte{10, 9, 0, 7}, Port: 9})
	if g.Dropped(vip4) != before+1 {
		t.Error("a packet from the VIP left through tun0")
	}
	return true
}

func testIPIP(t *testing.T) bool {
	l := newLAN(t)
	g := newGate(t)
	err := netlink.LinkAdd(&netlink.Iptun{
		LinkAttrs: netlink.LinkAttrs{Name: "t0"}, Local: net.IP{10, 0, 0, 1}, Remote: net.IP{10, 0, 0, 7}, Ttl: 64,
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return false
	}
	must(err)
	listen(t)
	run(t, `ip address add 10.9.0.1/24 dev t0
		ip link set t0 up`)
	l.inClient(`ip link add t0 type ipip local 10.0.0.7 remote 10.0.0.1
		ip address add 10.9.0.7/24 dev t0
		ip link set t0 up
		ip route add 10.0.0.100/32 dev t0`)
	must(g.Add(vip4))
	must(g.Ensure())
	if l.dial(vip4) || g.Dropped(vip4) == 0 {
		t.Error("answers through a tunnel while shut")
	}
	must(g.Set(vip4, boottime.Now()+time.Hour))
	if !l.reaches(vip4) {
		t.Error("does not answer through a tunnel while open")
	}
	return true
}
