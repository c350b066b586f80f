package fence_test

import (
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zklvs/zklvs/fence"
)

// wantGated checks what is gated.
func (b *bench) wantGated(t *testing.T, want ...fence.VIP) {
	t.Helper()
	var addrs []netip.Addr
	for _, v := range want {
		addrs = append(addrs, v.Address)
	}
	if d := cmp.Diff(addrs, b.gate.Addresses(), cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("gated (-want +got):\n%s", d)
	}
}

func TestWatch(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.Watch([]fence.VIP{vipA, vipB, vip6}))
	b.wantGated(t, vipA, vipB, vip6)
	b.wantOpen(t)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	must(t, b.Watch([]fence.VIP{vipA, vipB}))
	b.wantGated(t, vipA, vipB)
	b.wantOpen(t, vipA) // watching shuts nothing that is held
	// Held: not dropped before its fence.
	must(t, b.Watch(nil))
	b.wantGated(t, vipA)
	b.wantOpen(t, vipA)
	must(t, b.kernel.Remove(address("10.0.0.100/32", "eth0", "", 0))) // by someone, to be put back
	must(t, b.Watch(nil))
	b.wantGated(t, vipA)
	must(t, b.Fence(web1, "test"))
	b.wantGated(t, vipA)
	b.wantOpen(t)
	must(t, b.Watch(nil))
	b.wantGated(t)
}

// All that is listed is gated before filters of an earlier life are replaced.
func TestWatchOrder(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.Watch([]fence.VIP{vip6}))
	var s story
	b.gate.Hook = s.gate
	must(t, b.Watch([]fence.VIP{vipA, vipB}))
	s.want(t, "watch", "add 10.0.0.100", "add 10.0.0.101", "ensure", "drop fd00::100")
}

// What an earlier life may have left is shut, removed, and only then dropped.
func TestGateOfLeftovers(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA, vip6}, b.deadline()))
	b.wantOpen(t, vipA, vip6)
	b.restart(t)
	must(t, b.kernel.Replace(address("10.0.0.100/32", "eth0", "eth0:2", fence.Forever)))
	must(t, b.Watch(nil))
	b.wantGated(t, vipA, vip6)
	must(t, b.kernel.Replace(address("10.0.0.100/32", "eth0", "eth0:2", 3)))
	var s story
	b.kernel.Hook, b.gate.Hook = s.kernel, s.gate
	found, err := b.Sweep()
	must(t, err)
	if len(found) != 2 {
		t.Errorf("found %v", found)
	}
	s.want(t, "sweep", "add 10.0.0.100", "add fd00::100", "ensure", "shut 10.0.0.100", "shut fd00::100",
		"dump", "remove 10.0.0.100/32", "dump", "remove fd00::100/128", "dump")
	wantTable(t, b.kernel, own)
	b.wantGated(t, vipA, vip6)
	must(t, b.Watch(nil))
	b.wantGated(t)
}

// A gate that fails is no reason to leave what an earlier life bound.
func TestSweepWithoutGate(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	b.restart(t)
	b.gate.Hook = func(string, netip.Addr) error { return errors.New("broken") }
	found, err := b.Sweep()
	must(t, err)
	if len(found) != 1 {
		t.Errorf("found %v", found)
	}
	wantTable(t, b.kernel, own)
}

// What is not listed any more and bound: with a short lifetime it is somebody's
// VIP yet; for good it has become the host's own.
func TestWatchDropsWhatIsNoVIP(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.kernel.Replace(address("10.0.0.100/32", "eth0", "", 10)))
	must(t, b.kernel.Replace(address("10.0.0.101/24", "eth0", "", fence.Forever)))
	must(t, b.kernel.Replace(address("10.0.0.102/32", "eth0", "", fence.Forever)))
	must(t, b.kernel.Replace(address("fd00::100/128", "lo", "", 10)))
	vipC := fence.VIP{Address: netip.MustParseAddr("10.0.0.102"), Interface: "eth0"}
	must(t, b.Watch([]fence.VIP{vipA, vipB, vipC, vip6}))
	must(t, b.Watch(nil))
	b.wantGated(t, vipA)
	b.clock.Add(10 * time.Second)
	must(t, b.Watch(nil))
	b.wantGated(t)
}

func TestWatchFails(t *testing.T) {
	b := newGatedBench(t)
	fail := ""
	b.gate.Hook = func(op string, _ netip.Addr) error {
		if op == fail {
			return errors.New("broken")
		}
		return nil
	}
	for _, op := range []string{"add", "ensure", "drop"} {
		fail = ""
		must(t, b.gate.Add(vipB.Address))
		fail = op
		if err := b.Watch([]fence.VIP{vipA}); err == nil || !strings.Contains(err.Error(), "gate the cluster's VIPs: ") || !strings.Contains(err.Error(), "broken") {
			t.Errorf("%s fails: error %v", op, err)
		}
	}
	b.wantGated(t, vipA, vipB)
	fail = "none"
	b.kernel.Hook = func(string, fence.Address) error { return errors.New("broken") }
	if b.Watch([]fence.VIP{vipA}) == nil {
		t.Error("dropped without a look at the kernel")
	}
	b.wantGated(t, vipA, vipB)
}

// A Bind waits for a Watch that has decided what to drop.
func TestWatchExcludesBind(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.Watch([]fence.VIP{vipA}))
	bound := make(chan error, 1)
	var begun atomic.Bool
	b.gate.Hook = func(op string, _ netip.Addr) error {
		if op != "drop" || begun.Swap(true) {
			return nil
		}
		done := make(chan struct{})
		go func() { bound <- b.Bind(web1, []fence.VIP{vipA}, b.deadline()); close(done) }()
		select {
		case <-done: // it did not wait
		case <-time.After(50 * time.Millisecond):
		}
		return nil
	}
	must(t, b.Watch(nil))
	must(t, <-bound)
	b.wantGated(t, vipA)
	b.wantOpen(t, vipA)
}
