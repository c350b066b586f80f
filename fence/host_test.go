package fence_test

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zklvs/zklvs/fence"
)

func TestBindExtendFence(t *testing.T) {
	b := newBench(t)
	deadline := b.deadline()
	must(t, b.Bind(web1, []fence.VIP{vipA, vipB}, deadline))
	wantTable(t, b.kernel, "10.0.0.1/24 eth0 eth0 for ever", "10.0.0.100/32 eth0 eth0:2 5s", "10.0.0.101/32 eth0 eth0 5s")
	want := []fence.Bound{{Holding: web1, VIPs: []fence.VIP{vipA, vipB}, Deadline: deadline}}
	if d := cmp.Diff(want, b.Bound(), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Error(d)
	}
	for range 20 {
		b.clock.Add(500 * time.Millisecond)
		must(t, b.Extend(web1, b.deadline()))
	}
	must(t, b.Fence(web1, "test"))
	wantTable(t, b.kernel, own)
	if len(b.Bound()) != 0 {
		t.Errorf("bound: %+v", b.Bound())
	}
	wantError(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()), fence.ErrFenced)
	wantError(t, b.Extend(web1, b.deadline()), fence.ErrFenced)
	wantTable(t, b.kernel, own)
	must(t, b.Bind(web2, []fence.VIP{vipA}, b.deadline()))
}

func TestFenceBeforeBindIsFinal(t *testing.T) {
	b := newBench(t)
	must(t, b.Fence(web1, "its reply was lost"))
	wantError(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()), fence.ErrFenced)
	wantTable(t, b.kernel, own)
}

func TestLeaseTooShort(t *testing.T) {
	b := newBench(t)
	wantError(t, b.Bind(web1, []fence.VIP{vipA}, b.clock.Now()+fence.StepDownMargin), fence.ErrLeaseOver)
	wantTable(t, b.kernel, own)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	wantError(t, b.Extend(web1, b.clock.Now()), fence.ErrLeaseOver)
	b.clock.Add(lease)
	wantTable(t, b.kernel, own)
}

func TestAnotherLock(t *testing.T) {
	b := newBench(t)
	wantError(t, b.Extend(web1, b.deadline()), fence.ErrNotHeld)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	wantError(t, b.Bind(web2, []fence.VIP{vipA}, b.deadline()), fence.ErrHeld)
	wantError(t, b.Extend(web2, b.deadline()), fence.ErrHeld)
	must(t, b.Fence(web2, "not the one that is bound"))
	must(t, b.Extend(web1, b.deadline()))
	wantError(t, b.Bind(db1, []fence.VIP{vipB, vipA}, b.deadline()), fence.ErrTaken)
	wantTable(t, b.kernel, own, "10.0.0.100/32 eth0 eth0:2 5s")
	must(t, b.Bind(db1, []fence.VIP{vipB}, b.deadline()))
}

// A Bind or Extend whose kernel act outlasts the lease undoes it.
func TestActEndsAfterTheLease(t *testing.T) {
	for name, act := range map[string]func(*bench) error{
		"bind":   func(b *bench) error { return b.Bind(web1, []fence.VIP{vipA, vipB}, b.deadline()) },
		"extend": func(b *bench) error { return b.Extend(web1, b.deadline()) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if name == "extend" {
				must(t, b.Bind(web1, []fence.VIP{vipA, vipB}, b.deadline()))
			}
			b.kernel.Hook = func(op string, a fence.Address) error {
				if op == "replace" && a.Prefix.Addr() == vipB.Address {
					b.clock.Add(lease - fence.StepDownMargin)
				}
				return nil
			}
			wantError(t, act(b), fence.ErrLeaseOver)
			wantTable(t, b.kernel, own)
		})
	}
}

// The lease is checked after the act too, however short that was.
func TestLeaseEndsDuringAct(t *testing.T) {
	b := newBench(t)
	b.kernel.Hook = func(op string, _ fence.Address) error {
		if op == "replace" {
			b.clock.Add(90 * time.Millisecond)
		}
		return nil
	}
	deadline := b.clock.Now() + fence.StepDownMargin + 50*time.Millisecond
	wantError(t, b.Bind(web1, []fence.VIP{vipA}, deadline), fence.ErrLeaseOver)
	wantTable(t, b.kernel, own)
}

// The lifetime counts from the end of an act: a slow one is done again.
func TestSlowActIsRepeated(t *testing.T) {
	b := newBench(t)
	slow := 1
	b.kernel.Hook = func(op string, _ fence.Address) error {
		if op == "replace" && slow > 0 {
			slow--
			b.clock.Add(1500 * time.Millisecond)
		}
		return nil
	}
	deadline := b.deadline()
	must(t, b.Bind(web1, []fence.VIP{vipA}, deadline))
	b.clock.Add(deadline + time.Second - b.clock.Now())
	wantTable(t, b.kernel, own)

	b = newBench(t)
	b.kernel.Hook = func(op string, _ fence.Address) error {
		if op == "replace" {
			b.clock.Add(300 * time.Millisecond)
		}
		return nil
	}
	if err := b.Bind(web1, []fence.VIP{vipA}, b.deadline()); err == nil || !strings.Contains(err.Error(), "the kernel took more than 100ms") {
		t.Errorf("error %v", err)
	}
	wantTable(t, b.kernel, own)
}

// Bind believes the kernel's dump only.
func TestBindIsVerified(t *testing.T) {
	b := newBench(t)
	replaced := false
	b.kernel.Hook = func(op string, _ fence.Address) error {
		switch {
		case op == "replace":
			replaced = true
		case op == "dump" && replaced:
			replaced = false
			return b.kernel.Remove(address("10.0.0.100/32", "eth0", "", 0))
		}
		return nil
	}
	if err := b.Bind(web1, []fence.VIP{vipA}, b.deadline()); err == nil || !strings.Contains(err.Error(), "is not bound with a lifetime") {
		t.Errorf("error %v", err)
	}
	wantTable(t, b.kernel, own)
}

func TestFailedBindLeavesNothing(t *testing.T) {
	b := newBench(t)
	other := fence.VIP{Address: netip.MustParseAddr("10.0.0.102"), Interface: "eth9"}
	if err := b.Bind(web1, []fence.VIP{vipA, other}, b.deadline()); err == nil || !strings.Contains(err.Error(), "bind group web: bind 10.0.0.102/32 on eth9: no such interface") {
		t.Errorf("error %v", err)
	}
	wantTable(t, b.kernel, own)
	if len(b.Bound()) != 0 {
		t.Errorf("bound: %+v", b.Bound())
	}
	must(t, b.Bind(db1, []fence.VIP{vipA}, b.deadline())) // the claim is free
}

func TestNewListOfVIPs(t *testing.T) {
	b := newBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	must(t, b.Bind(web1, []fence.VIP{vipA, vipB}, b.deadline()))
	wantTable(t, b.kernel, own, "10.0.0.100/32 eth0 eth0:2 5s", "10.0.0.101/32 eth0 eth0 5s")
	must(t, b.Bind(web1, []fence.VIP{vipB}, b.deadline()))
	wantTable(t, b.kernel, own, "10.0.0.101/32 eth0 eth0 5s")
	moved := vipB
	moved.Interface = "eth1"
	must(t, b.Bind(web1, []fence.VIP{moved}, b.deadline()))
	wantTable(t, b.kernel, own, "10.0.0.101/32 eth1 eth1 5s")
	bad := fence.VIP{Address: netip.MustParseAddr("10.0.0.102"), Interface: "eth9"}
	if b.Bind(web1, []fence.VIP{moved, vipA, bad}, b.deadline()) == nil {
		t.Error("bound on eth9")
	}
	wantTable(t, b.kernel, own, "10.0.0.101/32 eth1 eth1 5s")
	must(t, b.Extend(web1, b.deadline()))
	must(t, b.Fence(web1, "test"))
	wantTable(t, b.kernel, own)
}

func TestExtendRepairs(t *testing.T) {
	b := newBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA, vipB}, b.deadline()))
	must(t, b.kernel.Remove(address("10.0.0.100/32", "eth0", "", 0)))
	must(t, b.kernel.Replace(address("10.0.0.101/24", "eth1", "", fence.Forever)))
	must(t, b.kernel.Replace(address("10.0.0.101/32", "eth0", "", fence.Forever)))
	must(t, b.Extend(web1, b.deadline()))
	wantTable(t, b.kernel, own, "10.0.0.100/32 eth0 eth0:2 5s", "10.0.0.101/32 eth0 eth0 5s")
}

// A kernel that cannot be dumped must not keep lifetimes from being renewed.
func TestExtendWithoutDump(t *testing.T) {
	b := newBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	b.clock.Add(2 * time.Second)
	broken := errors.New("broken")
	b.kernel.Hook = func(op string, _ fence.Address) error {
		if op == "dump" {
			return broken
		}
		return nil
	}
	wantError(t, b.Extend(web1, b.deadline()), broken)
	b.kernel.Hook = nil
	b.clock.Add(2 * time.Second)
	wantTable(t, b.kernel, own, "10.0.0.100/32 eth0 eth0:2 5s")
}

func TestFenceIsVerified(t *testing.T) {
	for name, c := range map[string]struct {
		fail func(op string, failing *bool) error
		want string
	}{
		"remove fails": {func(op string, failing *bool) error {
			if op == "remove" && *failing {
				return errors.New("refused")
			}
			return nil
		}, "still bound: [10.0.0.100/32 dev eth0 label eth0:2 valid_lft 3s]"},
		"the dump fails": {func(op string, failing *bool) error {
			if op == "dump" && *failing {
				return errors.New("refused")
			}
			return nil
		}, "verify removal: refused"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
			failing := true
			b.kernel.Hook = func(op string, _ fence.Address) error { return c.fail(op, &failing) }
			err := b.Fence(web1, "test")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
			if len(b.Bound()) != 1 {
				t.Error("shown as not bound")
			}
			wantError(t, b.Extend(web1, b.deadline()), fence.ErrFenced)
			// What is not verified gone is not bound under another lock.
			wantError(t, b.Bind(web2, []fence.VIP{vipA}, b.deadline()), fence.ErrHeld)
			failing = false
			must(t, b.Fence(web1, "again"))
			wantTable(t, b.kernel, own)
		})
	}
}

// Someone who binds the VIP again and again keeps a fence from being verified.
func TestFenceAgainstAnotherBinder(t *testing.T) {
	b := newBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	again := true
	b.kernel.Hook = func(op string, _ fence.Address) error {
		if op == "dump" && again {
			return b.rebind()
		}
		return nil
	}
	if b.Fence(web1, "test") == nil {
		t.Error("fenced although the address is bound")
	}
	again = false
	must(t, b.Fence(web1, "test"))
	wantTable(t, b.kernel, own)
}

func (b *bench) rebind() error {
	return b.kernel.Replace(address("10.0.0.100/24", "eth1", "", fence.Forever))
}

// The list is on disk before the first address is bound; without it nothing is bound.
func TestStateFirst(t *testing.T) {
	b := newBench(t)
	b.kernel.Hook = func(op string, a fence.Address) error {
		if op != "replace" {
			return nil
		}
		data, err := os.ReadFile(b.state)
		if err != nil || !strings.Contains(string(data), a.Prefix.Addr().String()) {
			t.Errorf("%v is bound while the list is %q, %v", a, data, err)
		}
		return nil
	}
	must(t, b.Bind(web1, []fence.VIP{vipA, vipB}, b.deadline()))

	b = newBench(t)
	must(t, os.Mkdir(b.state, 0o755)) // cannot be replaced by a file
	if err := b.Bind(web1, []fence.VIP{vipA}, b.deadline()); err == nil || !strings.Contains(err.Error(), "write the list of bound VIPs") {
		t.Errorf("error %v", err)
	}
	wantTable(t, b.kernel, own)
}

func TestValidation(t *testing.T) {
	b := newBench(t)
	for name, c := range map[string]struct {
		vips []fence.VIP
		want string
	}{
		"none":           {nil, "expected at least one VIP"},
		"twice":          {[]fence.VIP{vipA, vipA}, "VIP 10.0.0.100 is given twice"},
		"no address":     {[]fence.VIP{{Interface: "eth0"}}, "expected an IPv4 address or a global IPv6 address"},
		"IPv6 multicast": {[]fence.VIP{{Address: netip.MustParseAddr("ff02::1"), Interface: "eth0"}}, "or a global IPv6 address"},
		"link-local":     {[]fence.VIP{{Address: netip.MustParseAddr("fe80::1"), Interface: "eth0"}}, "or a global IPv6 address"},
		"zone":           {[]fence.VIP{{Address: netip.MustParseAddr("2001:db8::1%eth0"), Interface: "eth0"}}, "or a global IPv6 address"},
		"mapped":         {[]fence.VIP{{Address: netip.MustParseAddr("::ffff:10.0.0.1"), Interface: "eth0"}}, "or a global IPv6 address"},
		"multicast":      {[]fence.VIP{{Address: netip.MustParseAddr("224.0.0.18"), Interface: "eth0"}}, "expected a unicast address"},
		"lo":             {[]fence.VIP{{Address: vipA.Address, Interface: "lo"}}, "does not bind on lo"},
		"label":          {[]fence.VIP{{Address: vipA.Address, Interface: "eth0", Label: "eth0:0123456789a"}}, `label: "eth0:0123456789a" has 16 bytes: expected 1 to 15`},
		"interface":      {[]fence.VIP{{Address: vipA.Address}}, `interface: "" has 0 bytes`},
	} {
		t.Run(name, func(t *testing.T) {
			if err := b.Bind(web1, c.vips, b.deadline()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
	wantTable(t, b.kernel, own)
}
