package watchdog

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

// Fed every quarter of the timeout while healthy, not otherwise, and each
// change is logged once.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, start := newFake(), time.Now()
		logger, logs := observer.New(zapcore.InfoLevel)
		c := config(Required)
		c.Timeout, c.Logger = 8*time.Second, zap.New(logger)
		c.Now = func() time.Duration { return time.Since(start) }
		w, err := open(c, f.kernel())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 23*time.Second)
		defer cancel()
		go func() {
			time.Sleep(15 * time.Second)
			f.setWriteErr(unix.EIO)
			time.Sleep(4 * time.Second)
			f.setWriteErr(nil)
		}()
		healthy := func(now time.Duration) bool { return now < 5*time.Second || now > 9*time.Second }
		if err := w.Run(ctx, healthy); err != nil {
			t.Fatal(err)
		}
		var fed []int
		for _, at := range f.fed {
			fed = append(fed, int(at.Sub(start)/time.Second))
		}
		want := []int{0, 0, 2, 4, 10, 12, 14, 20, 22} // the first by Open
		if !slices.Equal(fed, want) {
			t.Errorf("fed at %v s, want %v", fed, want)
		}
		var said []string
		for _, line := range logs.All() {
			reason, _ := line.ContextMap()["reason"].(string)
			said = append(said, line.Message+"|"+reason)
		}
		if diff := cmp.Diff([]string{
			"the watchdog is on|",
			"the watchdog is not fed: this machine resets unless that changes|not healthy",
			"the watchdog is fed again|",
			"the watchdog is not fed: this machine resets unless that changes|feed /dev/watchdog: input/output error",
			"the watchdog is fed again|",
		}, said); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if !w.Status().Fed || !f.isOpen || f.magic {
			t.Error("Run closed the device, or left it fed without saying so")
		}
	})
}

func TestRunInactiveOnlyWaits(t *testing.T) {
	for _, w := range []*Watchdog{nil, {reason: "none"}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var ended atomic.Bool
			go func() {
				w.Run(ctx, func(time.Duration) bool { panic("asked without a watchdog") })
				ended.Store(true)
			}()
			synctest.Wait()
			if ended.Load() {
				t.Error("it did not wait")
			}
			cancel()
			synctest.Wait()
			if !ended.Load() {
				t.Error("it goes on when it should end")
			}
		})
	}
}
