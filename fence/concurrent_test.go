package fence_test

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/fence/fencetest"
	"github.com/zklvs/zklvs/internal/boottime"
)

// A Bind or an Extend in flight when a fence begins is stopped and waited for:
// when Fence returns nothing is bound, and nothing is bound later.
func TestFenceInterrupts(t *testing.T) {
	for name, extend := range map[string]bool{"bind": false, "extend": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if extend {
				must(t, b.Bind(web1, []fence.VIP{vipA, vipB}, b.deadline()))
			}
			inFlight, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			var acts atomic.Int32
			b.kernel.Hook = func(op string, _ fence.Address) error {
				if op == "replace" {
					acts.Add(1)
					once.Do(func() { close(inFlight); <-goOn })
				}
				return nil
			}
			acted, fenced := make(chan error, 1), make(chan error, 1)
			go func() {
				if extend {
					acted <- b.Extend(web1, b.deadline())
				} else {
					acted <- b.Bind(web1, []fence.VIP{vipA, vipB}, b.deadline())
				}
			}()
			<-inFlight
			go func() { fenced <- b.Fence(web1, "test") }()
			// The fence is known at once, although it waits for the act.
			for limit := time.Now().Add(10 * time.Second); !b.Fenced(web1); runtime.Gosched() {
				if time.Now().After(limit) {
					t.Fatal("a fence that waits for an act is not known to be under way")
				}
			}
			close(goOn)
			wantError(t, <-acted, fence.ErrFenced)
			must(t, <-fenced)
			wantTable(t, b.kernel, own)
			if n := acts.Load(); n != 1 {
				t.Errorf("%d kernel acts, want 1: the second VIP was bound under a fence", n)
			}
		})
	}
}

// A sweep that began before a Bind does not take what that binds for a leftover.
func TestSweepExcludesBind(t *testing.T) {
	for name, sweep := range map[string]func(*bench) error{
		"foreign": func(b *bench) error { _, _, err := b.RemoveForeign([]fence.VIP{vipA}); return err },
		"sweep":   func(b *bench) error { _, err := b.Sweep(); return err },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			must(t, b.Bind(web1, []fence.VIP{vipA}, b.deadline()))
			b.restart(t) // vipA is a leftover, and not held
			var begun atomic.Bool
			bound := make(chan error, 1)
			b.kernel.Hook = func(string, fence.Address) error {
				if begun.Swap(true) {
					return nil
				}
				done := make(chan struct{})
				go func() { bound <- b.Bind(web2, []fence.VIP{vipA}, b.deadline()); close(done) }()
				select {
				case <-done: // it did not wait for the sweep
				case <-time.After(50 * time.Millisecond):
				}
				return nil
			}
			must(t, sweep(b))
			must(t, <-bound)
			wantTable(t, b.kernel, own, "10.0.0.100/32 eth0 eth0:2 5s")
		})
	}
}

// Random schedules: at every act of binding the lease lives and the lock is not
// fenced; what is bound anew is shut; nothing that answers (bound, and its gate
// open) does so under a fenced lock or after its deadline; after a fence none of
// its addresses is there.
func TestHostProperties(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		c := &clock{now: time.Hour}
		k := newFake(c.Now)
		deadlines := map[string]time.Duration{} // by group
		fenced := map[string]bool{}
		group := map[string]string{"10.0.0.100": "web", "fd00::100": "db"}
		lock := map[string]string{}
		g := &fencetest.Gate{}
		granted := map[string]time.Duration{} // by lock, the latest
		binding := false
		k.Hook = func(op string, a fence.Address) error {
			c.Add(time.Duration(rapid.Int64Range(0, int64(150*time.Millisecond)).Draw(t, "act")))
			answers(t, k, g, c.Now(), func(a netip.Addr) bool {
				for l, until := range granted {
					if strings.HasPrefix(l, group[a.String()]) && !fenced[l] && c.Now() < until {
						return true
					}
				}
				return false
			})
			if op == "replace" {
				ip := a.Prefix.Addr()
				if binding && !present(k, ip) && g.Open(ip, c.Now()) {
					t.Fatalf("%v is bound before an open gate", a)
				}
				g := group[ip.String()]
				if fenced[lock[g]] {
					t.Fatalf("%v bound under the fenced %s", a, lock[g])
				}
				if end := c.Now() + time.Duration(a.Valid)*time.Second; end >= deadlines[g]+time.Second+150*time.Millisecond {
					t.Fatalf("%v would live until %v, the lease until %v", a, end, deadlines[g])
				}
			}
			return nil
		}
		h, err := fence.New(fence.Config{Logger: zap.NewNop(), Kernel: k, Announcer: &recorder{now: c.Now}, Gate: g, Now: c.Now, StatePath: filepath.Join(dir, fmt.Sprint(n))})
		if err != nil {
			t.Fatal(err)
		}
		vip := map[string]fence.VIP{"web": vipA, "db": vip6}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			c.Add(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "pause")))
			g := rapid.SampledFrom([]string{"web", "db"}).Draw(t, "group")
			hold := fence.Holding{Group: g, Lock: g + fmt.Sprint(rapid.IntRange(1, 4).Draw(t, "lock"))}
			deadline := c.Now() + time.Duration(rapid.Int64Range(0, int64(lease)).Draw(t, "lease"))
			op := rapid.IntRange(0, 4).Draw(t, "op")
			if op < 3 {
				lock[g], deadlines[g] = hold.Lock, deadline
				granted[hold.Lock] = max(granted[hold.Lock], deadline)
			}
			switch binding = op < 2; op {
			case 0, 1:
				err = h.Bind(hold, []fence.VIP{vip[g]}, deadline)
				if fenced[hold.Lock] && !errors.Is(err, fence.ErrFenced) {
					t.Fatalf("bind under the fenced %s: %v", hold.Lock, err)
				}
			case 2:
				_ = h.Extend(hold, deadline) // refused or not: agree looks at what is there
			case 4:
				listed := []fence.VIP{vipA, vip6}[rapid.IntRange(0, 2).Draw(t, "from"):]
				if err := h.Watch(listed); err != nil {
					t.Fatal(err)
				}
			case 3:
				if err := h.Fence(hold, "test"); err != nil {
					t.Fatal(err)
				}
				fenced[hold.Lock] = true
				for _, b := range h.Bound() {
					if b.Lock == hold.Lock {
						t.Fatalf("bound after its fence: %+v", b)
					}
				}
			}
			agree(t, h, k)
		}
	})
}

// present reports whether an address is bound, without the kernel's hook.
func present(k *fencetest.Kernel, ip netip.Addr) bool {
	return slices.ContainsFunc(k.Table(), func(a fence.Address) bool { return a.Prefix.Addr() == ip })
}

// answers fails the test if an address is bound, passes the gate, and may not.
func answers(t *rapid.T, k *fencetest.Kernel, g *fencetest.Gate, now time.Duration, may func(netip.Addr) bool) {
	for _, a := range k.Table() {
		if ip := a.Prefix.Addr(); g.Open(ip, now) && !may(ip) {
			t.Fatalf("%v is open and must not be", a)
		}
	}
}

// agree checks that every address in the table is one that the Host says it bound.
func agree(t *rapid.T, h *fence.Host, k fence.Kernel) {
	table, err := k.Addresses()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range table {
		known := false
		for _, b := range h.Bound() {
			known = known || b.VIPs[0].Address == a.Prefix.Addr()
		}
		if !known {
			t.Fatalf("%v is bound, the Host says %+v", a, h.Bound())
		}
	}
}

// Many goroutines at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	k, g := newFake(boottime.Now), &fencetest.Gate{}
	h, err := fence.New(fence.Config{
		Logger: zap.NewNop(), Kernel: k, Announcer: &recorder{now: boottime.Now}, Gate: g, Now: boottime.Now,
		StatePath: filepath.Join(t.TempDir(), "vips.json"),
	})
	must(t, err)
	var wg sync.WaitGroup
	go h.Run(t.Context()) //nolint:errcheck // always nil
	for _, v := range []fence.VIP{vipA, vip6} {
		wg.Go(func() {
			for i := range 100 {
				hold := fence.Holding{Group: v.Address.String(), Lock: fmt.Sprint(v.Address, i)}
				must(t, h.Bind(hold, []fence.VIP{v}, boottime.Now()+lease))
				wg.Go(func() { h.Extend(hold, boottime.Now()+lease) }) //nolint:errcheck // may be fenced
				h.Bound()
				must(t, h.Fence(hold, "test"))
				if g.Open(v.Address, boottime.Now()) && slices.Contains(g.Addresses(), v.Address) {
					t.Errorf("the gate of %v is open after the fence", v)
				}
			}
		})
		wg.Go(func() {
			for range 100 {
				must(t, h.Watch(nil))
				must(t, h.Watch([]fence.VIP{v}))
			}
		})
		wg.Go(func() {
			for range 100 {
				if removed, _, err := h.RemoveForeign([]fence.VIP{vipA, vip6}); err != nil || len(removed) != 0 {
					t.Errorf("removed %v, %v: held or just gone", removed, err)
				}
			}
		})
	}
	wg.Wait()
	wantTable(t, k)
}
