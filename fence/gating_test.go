package fence_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/fence/fencetest"
)

// story is the acts on kernel, gate and network in the order in which they
// happened. Dumps in a row count as one.
type story struct {
	mu   sync.Mutex
	acts []string
}

func (s *story) add(act string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if act == "dump" && len(s.acts) > 0 && s.acts[len(s.acts)-1] == "dump" {
		return
	}
	s.acts = append(s.acts, act)
}

func (s *story) want(t *testing.T, what string, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := cmp.Diff(want, s.acts); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
	s.acts = nil
}

func (s *story) kernel(op string, a fence.Address) error {
	switch op {
	case "dump":
		s.add(op)
	case "replace", "remove":
		s.add(op + " " + a.Prefix.String())
	}
	return nil
}

func (s *story) gate(op string, a netip.Addr) error {
	if op == "ensure" {
		s.add(op)
	} else {
		s.add(op + " " + a.String())
	}
	return nil
}

func (s *story) Announce(_ fence.Link, a netip.Addr) error {
	s.add("announce " + a.String())
	return nil
}

// Gated before bound, opened when bound and before announcing, shut before removed.
func TestGateOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s story
		start := time.Now()
		now := func() time.Duration { return time.Since(start) }
		k, g := newFake(now), &fencetest.Gate{Hook: s.gate}
		k.Hook = s.kernel
		h, err := fence.New(fence.Config{Logger: zap.NewNop(), Kernel: k, Now: now, Announcer: &s, Gate: g, StatePath: filepath.Join(t.TempDir(), "s")})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Run(ctx) }()

		must(t, h.Bind(web1, []fence.VIP{vipA, vip6}, now()+lease))
		synctest.Wait()
		s.want(t, "bind",
			"dump", "add 10.0.0.100", "add fd00::100", "ensure", "shut 10.0.0.100", "shut fd00::100",
			"dump", "replace 10.0.0.100/32", "replace fd00::100/128", "dump",
			"set 10.0.0.100", "set fd00::100", "announce 10.0.0.100", "announce fd00::100")

		must(t, h.Extend(web1, now()+lease))
		s.want(t, "extend", "set 10.0.0.100", "set fd00::100", "dump", "replace 10.0.0.100/32", "replace fd00::100/128")

		// Another list: what is held stays open, what goes is shut first.
		must(t, h.Bind(web1, []fence.VIP{vipA, vipB}, now()+lease))
		synctest.Wait()
		s.want(t, "a new list",
			"dump", "add 10.0.0.100", "add 10.0.0.101", "ensure",
			"set 10.0.0.100", "set fd00::100", "shut 10.0.0.101",
			"dump", "replace 10.0.0.100/32", "replace 10.0.0.101/32", "dump",
			"set 10.0.0.100", "set 10.0.0.101",
			"shut fd00::100", "dump", "remove fd00::100/128", "dump",
			"announce 10.0.0.100", "announce 10.0.0.101")

		// Shut at once, and once more when nothing else is under way.
		must(t, h.Fence(web1, "test"))
		s.want(t, "fence",
			"shut 10.0.0.100", "shut 10.0.0.101", "shut 10.0.0.100", "shut 10.0.0.101",
			"dump", "remove 10.0.0.100/32", "remove 10.0.0.101/32", "dump")
		cancel()
		must(t, <-done)
	})
}

// The gate keeps to the deadline by itself, and status says until when it is open.
func TestGateFollowsTheLease(t *testing.T) {
	b := newGatedBench(t)
	open := func() time.Duration { return b.Bound()[0].Open }
	first := b.deadline()
	must(t, b.Bind(web1, []fence.VIP{vipA, vip6}, first))
	b.wantOpen(t, vipA, vip6)
	if open() != first {
		t.Errorf("open until %v, want %v", open(), first)
	}
	b.clock.Add(time.Second)
	must(t, b.Extend(web1, b.deadline()))
	if want := first + time.Second; open() != want {
		t.Errorf("open until %v, want %v", open(), want)
	}
	b.clock.Add(lease)
	b.wantOpen(t) // although the address is still there
	must(t, b.Fence(web1, "test"))
	b.wantOpen(t)
	wantTable(t, b.kernel, own)
}

// Whatever of the gate fails, nothing is bound, and nothing stays open.
func TestGateFailsBind(t *testing.T) {
	for name, c := range map[string]struct {
		op   string
		addr string
		want string
	}{
		"it is full":                      {"add", "fd00::100", "broken"},
		"an interface cannot be gated":    {"ensure", "invalid IP", "repair this, or do without (`gate: none`): broken"},
		"it cannot be shut":               {"shut", "fd00::100", "shut the gate of fd00::100 on eth0: broken"},
		"it cannot be opened":             {"set", "10.0.0.100", "open the gate of 10.0.0.100 on eth0: broken"},
		"it cannot be opened for another": {"set", "fd00::100", "open the gate of fd00::100 on eth0: broken"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newGatedBench(t)
			broken := true
			b.gate.Hook = func(op string, a netip.Addr) error {
				if broken && op == c.op && a.String() == c.addr {
					return errors.New("broken")
				}
				return nil
			}
			err := b.Bind(web1, []fence.VIP{vipA, vip6}, b.deadline())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
			b.wantOpen(t)
			wantTable(t, b.kernel, own)
			broken = false
			must(t, b.Fence(web1, "could not be bound"))
			must(t, b.Bind(web2, []fence.VIP{vipA, vip6}, b.deadline()))
			b.wantOpen(t, vipA, vip6)
		})
	}
}

// A lease that ends while the addresses are bound and verified opens nothing.
func TestGateStaysShutAfterTheLease(t *testing.T) {
	b := newGatedBench(t)
	bound := false
	b.kernel.Hook = func(op string, _ fence.Address) error {
		switch {
		case op == "replace":
			bound = true
		case op == "dump" && bound:
			bound = false
			b.clock.Add(lease - fence.StepDownMargin)
		}
		return nil
	}
	b.gate.Hook = func(op string, a netip.Addr) error {
		if op == "set" {
			t.Errorf("%v is opened", a)
		}
		return nil
	}
	wantError(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()), fence.ErrLeaseOver)
	wantTable(t, b.kernel, own)
}

// A Bind that is refused does not touch the gate of another group, and one that
// cannot replace its list leaves the old one open.
func TestGateOfOthersStaysOpen(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	wantError(t, b.Bind(db1, []fence.VIP{vipB, vipA}, b.deadline()), fence.ErrTaken)
	b.wantOpen(t, vipA)
	bad := fence.VIP{Address: netip.MustParseAddr("10.0.0.102"), Interface: "eth9"}
	if b.Bind(web1, []fence.VIP{vipA, vip6, bad}, b.deadline()) == nil {
		t.Error("bound on eth9")
	}
	b.wantOpen(t, vipA)
	wantTable(t, b.kernel, own, "10.0.0.100/32 eth0 eth0:2 5s")
}

// A fence shuts the gate although an Extend hangs in the kernel, and what that
// does later opens nothing.
func TestFenceShutsAtOnce(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA, vip6}, b.deadline()))
	inFlight, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.kernel.Hook = func(op string, _ fence.Address) error {
		if op == "replace" {
			once.Do(func() { close(inFlight); <-goOn })
		}
		return nil
	}
	extended, fenced := make(chan error, 1), make(chan error, 1)
	go func() { extended <- b.Extend(web1, b.deadline()) }()
	<-inFlight
	go func() { fenced <- b.Fence(web1, "test") }()
	b.waitShut(t, vipA, vip6)
	for limit := time.Now().Add(10 * time.Second); b.Bound()[0].Open != 0; runtime.Gosched() {
		if time.Now().After(limit) {
			t.Fatal("status does not say that the gate is shut")
		}
	}
	close(goOn)
	wantError(t, <-extended, fence.ErrFenced)
	must(t, <-fenced)
	b.wantOpen(t)
	wantTable(t, b.kernel, own)
}

func (b *bench) waitShut(t *testing.T, vips ...fence.VIP) {
	t.Helper()
	limit := time.Now().Add(10 * time.Second)
	for _, v := range vips {
		for b.gate.Open(v.Address, b.clock.Now()) {
			if time.Now().After(limit) {
				t.Fatalf("the gate of %v is open while its fence waits", v)
			}
			runtime.Gosched()
		}
	}
}

// An Extend that passed the check of its lock just before the fence, and hangs
// before it moves the deadline: the fence waits, shuts, and no other is moved.
func TestFenceDuringSet(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA, vip6}, b.deadline()))
	inFlight, goOn := make(chan struct{}), make(chan struct{})
	sets := 0 // only the Extend's
	b.gate.Hook = func(op string, _ netip.Addr) error {
		if op == "set" {
			if sets++; sets == 1 {
				close(inFlight)
				<-goOn
			}
		}
		return nil
	}
	extended, fenced := make(chan error, 1), make(chan error, 1)
	go func() { extended <- b.Extend(web1, b.deadline()) }()
	<-inFlight
	go func() { fenced <- b.Fence(web1, "test") }()
	for limit := time.Now().Add(10 * time.Second); !b.Fenced(web1); runtime.Gosched() {
		if time.Now().After(limit) {
			t.Fatal("a fence that waits is not known to be under way")
		}
	}
	close(goOn)
	wantError(t, <-extended, fence.ErrFenced)
	must(t, <-fenced)
	if sets != 1 {
		t.Errorf("%d VIPs opened, want 1: the second was opened under a fence", sets)
	}
	b.wantOpen(t)
	wantTable(t, b.kernel, own)
}

// The addresses go although the gate cannot be shut, but that is no fence yet.
func TestFenceNeedsTheGate(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	broken := errors.New("broken")
	fail := broken
	b.gate.Hook = func(op string, _ netip.Addr) error {
		if op == "shut" {
			return fail
		}
		return nil
	}
	wantError(t, b.Fence(web1, "test"), broken)
	wantTable(t, b.kernel, own)
	if len(b.Bound()) != 1 {
		t.Error("shown as not held")
	}
	fail = nil
	must(t, b.Fence(web1, "again"))
	b.wantOpen(t)
	if len(b.Bound()) != 0 {
		t.Errorf("bound: %+v", b.Bound())
	}
}

// A gate that cannot be moved keeps no address from being renewed.
func TestExtendWithoutGate(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	b.clock.Add(2 * time.Second)
	broken := errors.New("broken")
	b.gate.Hook = func(op string, _ netip.Addr) error {
		if op == "set" {
			return broken
		}
		return nil
	}
	wantError(t, b.Extend(web1, b.deadline()), broken)
	b.clock.Add(2 * time.Second)
	wantTable(t, b.kernel, own, "10.0.0.100/32 eth0 eth0:2 5s")
	b.wantOpen(t)
}

// The fence of another lock is no reason to stop answering.
func TestFenceOfAnotherLockShutsNothing(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	must(t, b.Fence(web2, "not the one that is bound"))
	b.wantOpen(t, vipA)
	// Nor is that of a lock that is fenced already and had the same VIP.
	must(t, b.Fence(web1, "test"))
	must(t, b.Bind(db1, []fence.VIP{vipA}, b.deadline()))
	must(t, b.Fence(web1, "again"))
	b.wantOpen(t, vipA)
}

// A list that is bound again after a lapse is new: its addresses are gone.
func TestBindAgainAfterALapse(t *testing.T) {
	b := newGatedBench(t)
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	b.clock.Add(lease + time.Second)
	wantTable(t, b.kernel, own)
	b.kernel.Hook = func(op string, a fence.Address) error {
		if op == "replace" && b.gate.Open(a.Prefix.Addr(), b.clock.Now()) {
			t.Errorf("%v is bound before an open gate", a)
		}
		return nil
	}
	must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
	b.wantOpen(t, vipA)
}

func TestLatenessAndLayers(t *testing.T) {
	with, without := newGatedBench(t), newBench(t)
	if with.Lateness() != fence.LatenessGated || without.Lateness() != fence.LatenessUngated {
		t.Errorf("lateness %v with a gate, %v without", with.Lateness(), without.Lateness())
	}
	if d := cmp.Diff([]string{"kernel gate (in memory)", "address lifetime"}, with.Layers()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"address lifetime"}, without.Layers()); d != "" {
		t.Error(d)
	}
	must(t, without.Watch([]fence.VIP{vipA}))
}
