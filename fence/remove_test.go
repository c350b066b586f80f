package fence_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence"
)

func TestCollisions(t *testing.T) {
	for name, c := range map[string]struct {
		there []fence.Address
		want  []string
	}{
		"a permanent /32": {
			[]fence.Address{address("10.0.0.100/32", "eth0", "eth0:2", fence.Forever)},
			[]string{own, "10.0.0.100/32 eth0 eth0:2 5s"},
		},
		"another label": {
			[]fence.Address{address("10.0.0.100/32", "eth0", "eth0:7", fence.Forever)},
			[]string{own, "10.0.0.100/32 eth0 eth0:2 5s"},
		},
		"another prefix length": {
			[]fence.Address{address("10.0.0.100/24", "eth0", "", fence.Forever)},
			[]string{own, "10.0.0.100/32 eth0 eth0:2 5s"},
		},
		"another interface": {
			[]fence.Address{address("10.1.0.1/24", "eth1", "", fence.Forever), address("10.0.0.100/32", "eth1", "", fence.Forever)},
			[]string{own, "10.0.0.100/32 eth0 eth0:2 5s", "10.1.0.1/24 eth1 eth1 for ever"},
		},
		"hidden on lo": {
			[]fence.Address{address("10.0.0.100/32", "lo", "", fence.Forever)},
			[]string{own, "10.0.0.100/32 eth0 eth0:2 5s", "10.0.0.100/32 lo lo for ever"},
		},
		"the primary of the host's own": {
			[]fence.Address{address("10.2.0.100/24", "eth1", "", fence.Forever)},
			[]string{own, "10.0.0.100/32 eth0 eth0:2 5s", "10.2.0.100/24 eth1 eth1 for ever"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			for _, a := range c.there {
				must(t, b.kernel.Replace(a))
			}
			must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
			wantTable(t, b.kernel, c.want...)
		})
	}
}

// A VIP bound by hand as /24 before the host's own address is that one's
// primary: the kernel removes both, and ours is put back.
func TestOwnAddressIsPutBack(t *testing.T) {
	for _, promote := range []bool{false, true} {
		t.Run(fmt.Sprintf("promote_secondaries=%v", promote), func(t *testing.T) {
			b := newBench(t)
			b.kernel.PromoteSecondaries = promote
			must(t, b.kernel.Replace(address("10.3.0.100/24", "eth1", "", fence.Forever)))
			must(t, b.kernel.Replace(address("10.3.0.1/24", "eth1", "eth1:own", fence.Forever)))
			removed, _, err := b.RemoveForeign([]fence.VIP{{Address: netip.MustParseAddr("10.3.0.100"), Interface: "eth1"}})
			must(t, err)
			if len(removed) != 1 || removed[0].Prefix.String() != "10.3.0.100/24" {
				t.Errorf("removed %v", removed)
			}
			wantTable(t, b.kernel, own, "10.3.0.1/24 eth1 eth1:own for ever")
		})
	}
}

// A VIP that is the only address of an interface is taken for the host's own.
func TestOwnAddressIsRefused(t *testing.T) {
	b := newBench(t)
	mine := fence.VIP{Address: netip.MustParseAddr("10.0.0.1"), Interface: "eth0"}
	wantError(t, b.Bind(web1, []fence.VIP{mine}, b.deadline()), fence.ErrOwnAddress)
	must(t, b.Fence(web1, "cannot bind"))
	_, _, err := b.RemoveForeign([]fence.VIP{mine})
	wantError(t, err, fence.ErrOwnAddress)
	if !strings.Contains(err.Error(), "`ip address del 10.0.0.1/24 dev eth0`") {
		t.Errorf("error %v lacks the remedy", err)
	}
	wantTable(t, b.kernel, own)
}

func TestRemoveForeign(t *testing.T) {
	b := newBench(t)
	must(t, b.kernel.Replace(address("10.0.0.100/24", "eth0", "", fence.Forever)))
	must(t, b.kernel.Replace(address("10.0.0.100/32", "lo", "", fence.Forever)))
	must(t, b.Bind(db1, []fence.VIP{vipB}, b.deadline()))
	removed, hidden, err := b.RemoveForeign([]fence.VIP{vipA, vipB})
	must(t, err)
	if len(removed) != 1 || removed[0].Interface != "eth0" || len(hidden) != 1 || hidden[0].Interface != "lo" {
		t.Errorf("removed %v, hidden %v", removed, hidden)
	}
	wantTable(t, b.kernel, own, "10.0.0.100/32 lo lo for ever", "10.0.0.101/32 eth0 eth0 5s")
}

func TestSweep(t *testing.T) {
	b := newBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA, vipB}, b.deadline()))
	b.restart(t)
	must(t, b.Bind(db1, []fence.VIP{vipB}, b.deadline())) // taken over before the sweep
	found, err := b.Sweep()
	must(t, err)
	if !slices.Contains(found, vipA) {
		t.Errorf("found %v", found)
	}
	wantTable(t, b.kernel, own, "10.0.0.101/32 eth0 eth0 5s")
	must(t, b.Fence(db1, "test"))
	b.restart(t)
	found, err = b.Sweep()
	if err != nil || len(found) != 0 {
		t.Errorf("second sweep: %v, %v", found, err)
	}
}

// What has become the host's own since is not a leftover.
func TestSweepTouchesOnlyItsOwn(t *testing.T) {
	b := newBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	must(t, b.kernel.Replace(address("10.0.0.100/32", "eth0", "", fence.Forever)))
	b.restart(t)
	found, err := b.Sweep()
	must(t, err)
	if len(found) != 0 {
		t.Errorf("found %v", found)
	}
	wantTable(t, b.kernel, own, "10.0.0.100/32 eth0 eth0:2 for ever")
}

func address6(prefix, iface string, flags int) fence.Address {
	a := address(prefix, iface, "", fence.Forever)
	a.Flags = flags
	return a
}

func TestCollisions6(t *testing.T) {
	const there = "fd00::1/64 eth0  for ever"
	for name, c := range map[string]struct {
		there fence.Address
		want  []string
	}{
		"a permanent /128":                      {address6("fd00::100/128", "eth0", 0), []string{own, there, "fd00::100/128 eth0  5s"}},
		"another prefix length":                 {address6("fd00::100/64", "eth0", 0), []string{own, there, "fd00::100/128 eth0  5s"}},
		"duplicate address detection failed":    {address6("fd00::100/128", "eth0", unix.IFA_F_DADFAILED|unix.IFA_F_TENTATIVE), []string{own, there, "fd00::100/128 eth0  5s"}},
		"duplicate address detection under way": {address6("fd00::100/128", "eth0", unix.IFA_F_TENTATIVE), []string{own, there, "fd00::100/128 eth0  5s"}},
		"another interface":                     {address6("fd00::100/64", "eth1", 0), []string{own, there, "fd00::100/128 eth0  5s", "fd01::1/64 eth1  for ever"}},
		"hidden on lo":                          {address6("fd00::100/128", "lo", 0), []string{own, there, "fd00::100/128 eth0  5s", "fd00::100/128 lo  for ever"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, late := range []bool{false, true} {
				b := newBench(t)
				must(t, b.kernel.Replace(address6("fd00::1/64", "eth0", 0)))
				if c.there.Interface == "eth1" {
					must(t, b.kernel.Replace(address6("fd01::1/64", "eth1", 0)))
				}
				if !late {
					must(t, b.kernel.Replace(c.there))
				}
				must(t, b.Bind(web1, []fence.VIP{vip6}, b.deadline()))
				if late { // someone does it to a VIP that is bound
					must(t, b.kernel.Remove(address6("fd00::100/128", "eth0", 0)))
					must(t, b.kernel.Replace(c.there))
					must(t, b.Extend(web1, b.deadline()))
				}
				wantTable(t, b.kernel, c.want...)
				all, err := b.kernel.Addresses()
				must(t, err)
				for _, a := range all {
					if a.Prefix.String() == "fd00::100/128" && a.Interface == "eth0" &&
						a.Flags != unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE|unix.IFA_F_DEPRECATED {
						t.Errorf("flags %#x", a.Flags)
					}
				}
				must(t, b.Fence(web1, "test"))
				if left := table(t, b.kernel); slices.Contains(left, "fd00::100/128 eth0  5s") || len(left) != len(c.want)-1 {
					t.Errorf("after the fence: %v", left)
				}
			}
		})
	}
}

// Someone's IPv6 address that does not answer is no VIP that is bound.
func TestBindNeedsAnAnswer6(t *testing.T) {
	b := newBench(t)
	must(t, b.kernel.Replace(address6("fd00::1/64", "eth0", 0)))
	replaced := false
	b.kernel.Hook = func(op string, _ fence.Address) error {
		switch {
		case op == "replace":
			replaced = true
		case op == "dump" && replaced:
			replaced = false
			b.kernel.Hook = nil
			must(t, b.kernel.Remove(address6("fd00::100/128", "eth0", 0)))
			silent := address6("fd00::100/128", "eth0", unix.IFA_F_TENTATIVE)
			silent.Valid = 3
			return b.kernel.Replace(silent)
		}
		return nil
	}
	if err := b.Bind(web1, []fence.VIP{vip6}, b.deadline()); err == nil || !strings.Contains(err.Error(), "verify: fd00::100 on eth0 is not bound") {
		t.Errorf("error %v", err)
	}
}

// Only addresses of the same family make a host reachable without the VIP, and
// IPv6 link-local ones do not.
func TestOwnAddressByFamily(t *testing.T) {
	b := newBench(t)
	mine4 := fence.VIP{Address: netip.MustParseAddr("10.0.0.1"), Interface: "eth0"}
	mine6 := fence.VIP{Address: netip.MustParseAddr("fd00::1"), Interface: "eth0"}
	must(t, b.kernel.Replace(address6("fe80::1/64", "eth0", 0)))
	must(t, b.kernel.Replace(address6("fd00::1/64", "eth0", 0)))
	wantError(t, b.Bind(web1, []fence.VIP{mine4}, b.deadline()), fence.ErrOwnAddress)
	wantError(t, b.Bind(web1, []fence.VIP{mine6}, b.deadline()), fence.ErrOwnAddress)
	_, _, err := b.RemoveForeign([]fence.VIP{mine6})
	wantError(t, err, fence.ErrOwnAddress)
	must(t, b.kernel.Replace(address6("fd00::2/64", "eth0", 0)))
	must(t, b.Bind(web1, []fence.VIP{mine6}, b.deadline()))
	wantTable(t, b.kernel, own, "fd00::1/128 eth0  5s", "fd00::2/64 eth0  for ever")
}

func TestSweepAndForeign6(t *testing.T) {
	b := newBench(t)
	must(t, b.kernel.Replace(address6("fd00::1/64", "eth0", 0)))
	must(t, b.Bind(web1, []fence.VIP{vipA, vip6}, b.deadline()))
	b.restart(t)
	found, err := b.Sweep()
	must(t, err)
	if len(found) != 2 {
		t.Errorf("found %v", found)
	}
	wantTable(t, b.kernel, own, "fd00::1/64 eth0  for ever")
	must(t, b.kernel.Replace(address6("fd00::100/64", "eth0", 0)))
	must(t, b.kernel.Replace(address6("fd00::100/128", "lo", 0)))
	removed, hidden, err := b.RemoveForeign([]fence.VIP{vip6})
	must(t, err)
	if len(removed) != 1 || removed[0].Prefix.String() != "fd00::100/64" || len(hidden) != 1 || hidden[0].Interface != "lo" {
		t.Errorf("removed %v, hidden %v", removed, hidden)
	}
	wantTable(t, b.kernel, own, "fd00::1/64 eth0  for ever", "fd00::100/128 lo  for ever")
}
