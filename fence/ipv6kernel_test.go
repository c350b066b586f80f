package fence_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/boottime"
)

func TestKernelBindAndFence6(t *testing.T) {
	h, k, _ := newRealBench(t)
	run(t, "ip -6 address add fd00::1/64 dev eth0 nodad")
	const own6 = "fd00::1/64 eth0  for ever"
	must(t, h.Bind(web1, []fence.VIP{vip6}, boottime.Now()+lease))
	wantTable(t, k, own, "fd00::1/64 eth0  for ever", "fd00::100/128 eth0  5s")
	shown := run(t, "ip -6 address show dev eth0 to fd00::100")
	for _, want := range []string{"inet6 fd00::100/128 scope global", "deprecated", " nodad", "noprefixroute", "valid_lft 3sec preferred_lft 0sec"} {
		if !strings.Contains(shown, want) {
			t.Errorf("ip address lacks %q:\n%s", want, shown)
		}
	}
	if route := run(t, "ip -6 route get fd00::7"); !strings.Contains(route, "src fd00::1 ") {
		t.Errorf("the VIP is chosen as a source: %s", route)
	}
	must(t, h.Extend(web1, boottime.Now()+10*time.Second))
	wantTable(t, k, own, own6, "fd00::100/128 eth0  10s")
	must(t, h.Fence(web1, "test"))
	wantTable(t, k, own, own6)
	routes := run(t, "ip -6 route show table all")
	if strings.Contains(routes, "fd00::100") || !strings.Contains(routes, "fd00::/64 dev eth0") {
		t.Errorf("routes after the fence:\n%s", routes)
	}
}

// Copies in every form give way, and the host's own address stays.
func TestKernelCollisions6(t *testing.T) {
	h, k, _ := newRealBench(t)
	run(t, `ip -6 address add fd00::1/64 dev eth0 nodad
		ip -6 address add fd01::1/64 dev eth1 nodad
		ip -6 address add fd00::100/64 dev eth0 nodad
		ip -6 address add fd00::100 peer fd09::9 dev eth1 nodad
		ip -6 address add fd00::100/128 dev lo`)
	want := []string{own, "fd00::1/64 eth0  for ever", "fd00::100/128 eth0  5s", "fd00::100/128 lo  for ever", "fd01::1/64 eth1  for ever"}
	must(t, h.Bind(web1, []fence.VIP{vip6}, boottime.Now()+lease))
	wantTable(t, k, want...)
	run(t, `ip -6 address del fd00::100/128 dev eth0
		ip -6 address add fd00::100/48 dev eth0 nodad
		ip -6 address add fd00::100/64 dev eth1 nodad`)
	must(t, h.Extend(web1, boottime.Now()+lease))
	wantTable(t, k, want...)
	if !strings.Contains(run(t, "ip -6 route"), "fd00::/64 dev eth0") {
		t.Error("the subnet's route is gone")
	}
	mine := fence.VIP{Address: netip.MustParseAddr("fd00::1"), Interface: "eth0"}
	must(t, h.Fence(web1, "test"))
	wantError(t, h.Bind(web2, []fence.VIP{mine}, boottime.Now()+lease), fence.ErrOwnAddress)
}

// An address that someone bound in the ordinary way, and that duplicate address
// detection took out of service, is no VIP.
func TestKernelDuplicateAddress(t *testing.T) {
	client, server := newWire(t)
	h, k := newRealHost(t, filepath.Join(t.TempDir(), "vips.json"))
	enter(t, client)
	run(t, "ip -6 address add fd00::100/64 dev c0 nodad")
	enter(t, server)
	run(t, "ip -6 address add fd00::100/128 dev eth0")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := boottime.Now() + 5*time.Second; flags(t, k, "fd00::100")&unix.IFA_F_DADFAILED == 0; <-tick.C {
		if boottime.Now() > limit {
			t.Fatalf("the test lacks its premise: %s", run(t, "ip -6 address show dev eth0"))
		}
	}
	must(t, h.Bind(web1, []fence.VIP{vip6}, boottime.Now()+lease))
	const want = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_DEPRECATED
	if got := flags(t, k, "fd00::100"); got != want {
		t.Errorf("flags %#x, want %#x", got, want)
	}
}

func TestKernelIPv6IsOff(t *testing.T) {
	h, k, _ := newRealBench(t)
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0))
	err := h.Bind(web1, []fence.VIP{vipA, vip6}, boottime.Now()+lease)
	if !errors.Is(err, unix.EACCES) || !strings.Contains(err.Error(), "disable_ipv6=0") {
		t.Errorf("error %v", err)
	}
	wantTable(t, k, own)
}

// Nobody renews and nobody fences: the kernel removes an IPv6 address by
// D + LatenessUngated too, also when another one is added near its end.
func TestKernelAddressOutlivesNobody6(t *testing.T) {
	for name, another := range map[string]string{"alone": "", "another is added": "ip -6 address add fd00::7/128 dev eth0 valid_lft 60 preferred_lft 60 nodad"} {
		t.Run(name, func(t *testing.T) {
			h, k, _ := newRealBench(t)
			deadline := boottime.Now() + time.Second
			must(t, h.Bind(web1, []fence.VIP{vip6}, deadline))
			bound := func() bool { return strings.Contains(strings.Join(table(t, k), "\n"), "fd00::100/128") }
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for bound() {
				now := boottime.Now()
				if now > deadline+fence.LatenessUngated {
					t.Fatalf("still bound %v after the lease: %v", fence.LatenessUngated, table(t, k))
				}
				if another != "" && now > deadline-30*time.Millisecond {
					run(t, another)
					another = ""
				}
				<-tick.C
			}
			late := boottime.Now() - deadline
			if late < -early {
				t.Errorf("removed %v before the end of the lease", -late)
			}
			t.Logf("removed by the kernel %v after the deadline", late)
		})
	}
}
