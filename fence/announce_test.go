package fence_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/fence"
)

func TestAnnouncements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		now := func() time.Duration { return time.Since(start) }
		sent := &recorder{now: now}
		h, err := fence.New(fence.Config{Logger: zap.NewNop(), Kernel: newFake(now), Now: now, Announcer: sent, StatePath: filepath.Join(t.TempDir(), "s")})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Run(ctx) }()
		time.Sleep(2 * time.Second)
		must(t, h.Bind(web1, []fence.VIP{vipA}, now()+lease))
		for now() < 68*time.Second {
			time.Sleep(500 * time.Millisecond)
			must(t, h.Extend(web1, now()+lease))
		}
		synctest.Wait()
		var want []string
		for _, at := range []string{"2s", "2.2s", "2.4s", "2.6s", "2.8s", "7.8s", "1m7.8s"} {
			want = append(want, "10.0.0.100 eth0 "+at)
		}
		if d := cmp.Diff(want, sent.take()); d != "" {
			t.Error(d)
		}
		// Fenced in the middle of a burst: not one more.
		must(t, h.Fence(web1, "test"))
		must(t, h.Bind(web2, []fence.VIP{vipA}, now()+lease))
		time.Sleep(300 * time.Millisecond)
		must(t, h.Fence(web2, "test"))
		if got := sent.take(); len(got) != 2 {
			t.Errorf("announced %v", got)
		}
		// A lease that ran out: not one more.
		web3 := fence.Holding{Group: "web", Lock: "lock-3", Epoch: 3}
		must(t, h.Bind(web3, []fence.VIP{vipA}, now()+700*time.Millisecond))
		time.Sleep(time.Minute)
		if got := sent.take(); len(got) != 3 {
			t.Errorf("announced %v", got)
		}
		cancel()
		must(t, <-done)
	})
}

// A Bind that failed and could not be undone yet is not announced.
func TestFailedBindIsNotAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		now := func() time.Duration { return time.Since(start) }
		sent := &recorder{now: now}
		k := newFake(now)
		h, err := fence.New(fence.Config{Logger: zap.NewNop(), Kernel: k, Now: now, Announcer: sent, StatePath: filepath.Join(t.TempDir(), "s")})
		must(t, err)
		k.Hook = func(op string, a fence.Address) error {
			if op == "remove" || (op == "replace" && a.Prefix.Addr() == vipB.Address) {
				return errors.New("refused")
			}
			return nil
		}
		if h.Bind(web1, []fence.VIP{vipA, vipB}, now()+lease) == nil {
			t.Fatal("bound")
		}
		wantError(t, h.Extend(web1, now()+lease), fence.ErrNotHeld)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		must(t, h.Run(ctx))
		if got := sent.take(); len(got) != 0 {
			t.Errorf("announced %v", got)
		}
		k.Hook = nil
		must(t, h.Fence(web1, "test"))
		wantTable(t, k)
	})
}
