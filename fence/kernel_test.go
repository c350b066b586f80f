package fence_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/fence/fencetest"
	"github.com/zklvs/zklvs/internal/boottime"
)

// The real kernel and the one in memory must pass the same tests. Each has the
// interfaces lo, eth0 and eth1, all up, without addresses of their own.

func TestKernelNetlink(t *testing.T) {
	testKernel(t, func(t *testing.T) fence.Kernel {
		newNamespace(t)
		run(t, twoInterfaces)
		sysctl(t, "conf/all/promote_secondaries", "0")
		sysctl(t, "conf/eth0/promote_secondaries", "0")
		return newNetlink(t)
	})
}

// twoInterfaces makes eth0 and eth1, up and with a carrier. (veth, not dummy:
// small kernels lack the latter.)
const twoInterfaces = `
	ip link add eth0 type veth peer name peer0
	ip link add eth1 type veth peer name peer1
	ip link set eth0 up
	ip link set eth1 up
	ip link set peer0 up
	ip link set peer1 up
	ip address flush dev lo`

func TestFake(t *testing.T) {
	testKernel(t, func(*testing.T) fence.Kernel { return newFake(boottime.Now) })
}

func newNetlink(t *testing.T) *fence.Netlink {
	t.Helper()
	k, err := fence.NewNetlink()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func newFake(now func() time.Duration) *fencetest.Kernel {
	k := fencetest.NewKernel(now)
	k.AddLink("eth0", []byte{2, 0, 0, 0, 0, 10})
	k.AddLink("eth1", []byte{2, 0, 0, 0, 0, 11})
	return k
}

func testKernel(t *testing.T, open func(*testing.T) fence.Kernel) {
	for name, test := range map[string]func(*testing.T, fence.Kernel){
		"replace adds, renews and keeps the label": testReplace,
		"another prefix length is another address": testPrefixes,
		"remove":                            testRemove,
		"IPv6: replace adds and renews":     testReplace6,
		"IPv6: once on an interface":        testPrefixes6,
		"IPv6: remove":                      testRemove6,
		"IPv6: a lifetime ends":             testExpiry6,
		"a lifetime ends":                   testExpiry,
		"a lifetime is shortened":           testShorten,
		"secondaries go with their primary": testSecondaries,
		"a /32 has no secondaries":          testNoSecondaries,
		"errors":                            testErrors,
		"links":                             testLinks,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func address(prefix, iface, label string, valid uint32) fence.Address {
	return fence.Address{Prefix: netip.MustParsePrefix(prefix), Interface: iface, Label: label, Valid: valid}
}

// table returns the dump as "prefix interface label lifetime", sorted; a
// lifetime that has begun to run is rounded up to the next multiple of five.
func table(t *testing.T, k fence.Kernel) []string {
	t.Helper()
	all, err := k.Addresses()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range all {
		if ip := a.Prefix.Addr(); ip.Is6() && (ip.IsLinkLocalUnicast() || ip.IsLoopback()) {
			continue // every interface has one; that of a fake has none
		}
		valid := "for ever"
		if a.Valid != fence.Forever {
			valid = (time.Duration((a.Valid+4)/5*5) * time.Second).String()
		}
		out = append(out, strings.Join([]string{a.Prefix.String(), a.Interface, a.Label, valid}, " "))
	}
	slices.Sort(out)
	return out
}

func wantTable(t *testing.T, k fence.Kernel, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, table(t, k), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("address table (-want +got):\n%s", d)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testReplace(t *testing.T, k fence.Kernel) {
	must(t, k.Replace(address("10.0.0.1/32", "eth0", "eth0:2", 10)))
	wantTable(t, k, "10.0.0.1/32 eth0 eth0:2 10s")
	must(t, k.Replace(address("10.0.0.1/32", "eth0", "other", 30)))
	wantTable(t, k, "10.0.0.1/32 eth0 eth0:2 30s")
	must(t, k.Replace(address("10.0.0.1/32", "eth0", "eth0:2", fence.Forever)))
	wantTable(t, k, "10.0.0.1/32 eth0 eth0:2 for ever")
	must(t, k.Replace(address("10.0.0.1/32", "eth0", "eth0:2", 10)))
	must(t, k.Replace(address("10.0.0.1/32", "eth1", "", 20)))
	wantTable(t, k, "10.0.0.1/32 eth0 eth0:2 10s", "10.0.0.1/32 eth1 eth1 20s")
}

func testPrefixes(t *testing.T, k fence.Kernel) {
	must(t, k.Replace(address("10.0.0.1/24", "eth0", "", fence.Forever)))
	must(t, k.Replace(address("10.0.0.1/32", "eth0", "eth0:2", 10)))
	wantTable(t, k, "10.0.0.1/24 eth0 eth0 for ever", "10.0.0.1/32 eth0 eth0:2 10s")
	must(t, k.Remove(address("10.0.0.1/24", "eth0", "", 0)))
	wantTable(t, k, "10.0.0.1/32 eth0 eth0:2 10s")
}

func testRemove(t *testing.T, k fence.Kernel) {
	must(t, k.Replace(address("10.0.0.1/32", "eth0", "eth0:2", 10)))
	must(t, k.Remove(address("10.0.0.1/32", "eth1", "", 0)))
	must(t, k.Remove(address("10.0.0.1/32", "eth9", "", 0)))
	must(t, k.Remove(address("10.0.0.2/32", "eth0", "", 0)))
	wantTable(t, k, "10.0.0.1/32 eth0 eth0:2 10s")
	must(t, k.Remove(address("10.0.0.1/32", "eth0", "", 0)))
	must(t, k.Remove(address("10.0.0.1/32", "eth0", "", 0)))
	wantTable(t, k)
}

// flags returns those of the only copy of an address.
func flags(t *testing.T, k fence.Kernel, a string) int {
	t.Helper()
	all, err := k.Addresses()
	must(t, err)
	all = slices.DeleteFunc(all, func(b fence.Address) bool { return b.Prefix.Addr() != netip.MustParseAddr(a) })
	if len(all) != 1 {
		t.Fatalf("%d copies of %s", len(all), a)
	}
	return all[0].Flags
}

func testReplace6(t *testing.T, k fence.Kernel) {
	vip := address("fd00::100/128", "eth0", "ignored", 10)
	vip.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	must(t, k.Replace(vip))
	wantTable(t, k, "fd00::100/128 eth0  10s")
	// Deprecated: never chosen as a source. Not tentative: answers at once.
	const want = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_DEPRECATED
	if got := flags(t, k, "fd00::100"); got != want {
		t.Errorf("flags %#x, want %#x", got, want)
	}
	vip.Valid = 30
	must(t, k.Replace(vip))
	wantTable(t, k, "fd00::100/128 eth0  30s")
	vip.Valid = fence.Forever
	must(t, k.Replace(vip))
	wantTable(t, k, "fd00::100/128 eth0  for ever")
	if got := flags(t, k, "fd00::100") & unix.IFA_F_DEPRECATED; got != 0 {
		t.Error("deprecated although it has no lifetime")
	}
	vip.Interface, vip.Valid = "eth1", 20
	must(t, k.Replace(vip))
	wantTable(t, k, "fd00::100/128 eth0  for ever", "fd00::100/128 eth1  20s")
}

func testPrefixes6(t *testing.T, k fence.Kernel) {
	must(t, k.Replace(address("fd00::1/64", "eth0", "", fence.Forever)))
	must(t, k.Replace(address("fd00::1/128", "eth0", "", 10)))
	wantTable(t, k, "fd00::1/64 eth0  10s")
	must(t, k.Remove(address("fd00::1/128", "eth0", "", 0)))
	wantTable(t, k, "fd00::1/64 eth0  10s")
	must(t, k.Replace(address("fd00::2/64", "eth0", "", fence.Forever)))
	must(t, k.Remove(address("fd00::1/64", "eth0", "", 0)))
	wantTable(t, k, "fd00::2/64 eth0  for ever")
}

func testRemove6(t *testing.T, k fence.Kernel) {
	must(t, k.Replace(address("fd00::100/128", "eth0", "", 10)))
	must(t, k.Remove(address("fd00::100/128", "eth1", "", 0)))
	must(t, k.Remove(address("fd00::100/128", "eth9", "", 0)))
	must(t, k.Remove(address("fd00::101/128", "eth0", "", 0)))
	wantTable(t, k, "fd00::100/128 eth0  10s")
	must(t, k.Remove(address("fd00::100/128", "eth0", "", 0)))
	must(t, k.Remove(address("fd00::100/128", "eth0", "", 0)))
	wantTable(t, k)
}

// waitEmpty waits until the table is empty and returns how long that took.
func waitEmpty(t *testing.T, k fence.Kernel, limit time.Duration) time.Duration {
	t.Helper()
	start := boottime.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for len(table(t, k)) > 0 {
		if boottime.Now()-start > limit {
			t.Fatalf("after %v still bound: %v", limit, table(t, k))
		}
		<-tick.C
	}
	return boottime.Now() - start
}

// early is how much before the full second a kernel may remove an address
// (ADDRCONF_TIMER_FUZZ_MINUS, include/net/addrconf.h, and a jiffy at HZ=100).
const early = 40 * time.Millisecond

func testExpiry(t *testing.T, k fence.Kernel) {
	must(t, k.Replace(address("10.0.0.1/32", "eth0", "", 1)))
	took := waitEmpty(t, k, fence.LatenessUngated)
	if took < time.Second-early {
		t.Errorf("an address with a lifetime of 1 s was gone after %v", took)
	}
	t.Logf("an address with a lifetime of 1 s was gone after %v", took)
}

func testExpiry6(t *testing.T, k fence.Kernel) {
	must(t, k.Replace(address("fd00::100/128", "eth0", "", 1)))
	took := waitEmpty(t, k, fence.LatenessUngated)
	if took < time.Second-early {
		t.Errorf("an address with a lifetime of 1 s was gone after %v", took)
	}
	t.Logf("an address with a lifetime of 1 s was gone after %v", took)
}

func testShorten(t *testing.T, k fence.Kernel) {
	must(t, k.Replace(address("10.0.0.1/32", "eth0", "", 50)))
	must(t, k.Replace(address("10.0.0.1/32", "eth0", "", 1)))
	waitEmpty(t, k, fence.LatenessUngated)
}

func testSecondaries(t *testing.T, k fence.Kernel) {
	must(t, k.Replace(address("10.0.0.1/24", "eth0", "", fence.Forever)))
	must(t, k.Replace(address("10.0.0.2/24", "eth0", "", fence.Forever)))
	must(t, k.Replace(address("10.0.0.3/32", "eth0", "", 10)))
	must(t, k.Replace(address("10.0.0.4/25", "eth0", "", fence.Forever)))
	must(t, k.Remove(address("10.0.0.1/24", "eth0", "", 0)))
	wantTable(t, k, "10.0.0.3/32 eth0 eth0 10s", "10.0.0.4/25 eth0 eth0 for ever")
}

func testNoSecondaries(t *testing.T, k fence.Kernel) {
	must(t, k.Replace(address("10.0.0.3/32", "eth0", "", 10)))
	must(t, k.Replace(address("10.0.0.1/24", "eth0", "", fence.Forever)))
	must(t, k.Remove(address("10.0.0.3/32", "eth0", "", 0)))
	wantTable(t, k, "10.0.0.1/24 eth0 eth0 for ever")
}

func testErrors(t *testing.T, k fence.Kernel) {
	if err := k.Replace(address("10.0.0.1/32", "eth9", "", 10)); err == nil || !strings.Contains(err.Error(), "eth9: no such interface") {
		t.Errorf("no interface: %v", err)
	}
	if err := k.Replace(address("10.0.0.1/32", "eth0", "0123456789abcdef", 10)); err == nil {
		t.Error("a label of 16 bytes was taken")
	}
	if err := k.Replace(address("10.0.0.1/32", "eth0", "", 0)); err == nil {
		t.Error("a lifetime of 0 was taken")
	}
	if _, err := k.Link("eth9"); err == nil || !strings.Contains(err.Error(), "eth9: no such interface") {
		t.Errorf("no interface: %v", err)
	}
	wantTable(t, k)
}

func testLinks(t *testing.T, k fence.Kernel) {
	l, err := k.Link("eth0")
	must(t, err)
	if l.Name != "eth0" || l.Index == 0 || len(l.MAC) != 6 || !l.Up || !l.Carrier {
		t.Errorf("link %+v", l)
	}
}
