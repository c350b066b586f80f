package sim

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// defaultSchedules is what a plain `go test` plays.
const defaultSchedules = 20000

func envNumber(t *testing.T, name string, otherwise uint64) (n uint64, set bool) {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}

func envMishaps(t *testing.T) []Mishap {
	t.Helper()
	text := os.Getenv("ZKLVS_ONLY")
	if text == "" {
		return nil
	}
	only, err := ParseMishaps(text)
	if err != nil {
		t.Fatalf("ZKLVS_ONLY: %v", err)
	}
	return only
}

// TestSchedules plays ZKLVS_SCHEDULES schedules, or the one of ZKLVS_SEED with
// the mishaps of ZKLVS_ONLY.
func TestSchedules(t *testing.T) {
	if seed, set := envNumber(t, "ZKLVS_SEED", 0); set {
		report(t, Run(seed, envMishaps(t), true))
		return
	}
	n, _ := envNumber(t, "ZKLVS_SCHEDULES", defaultSchedules)
	began := time.Now()
	played, failed := playAll(n)
	took := time.Since(began)
	fmt.Printf("%d schedules in %.1f s: %.0f a second\n", played, took.Seconds(), float64(played)/took.Seconds())
	if failed < n {
		fail(t, failed)
	}
}

// playAll plays the schedules 0 to n-1 on all CPUs, and stops at a failure. It
// returns how many it played and the lowest seed that failed, n if none did.
func playAll(n uint64) (played, lowest uint64) {
	// Each schedule is garbage at its end: collect rarely.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(256 << 20))
	var next, failed atomic.Uint64
	failed.Store(n)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := next.Add(1) - 1; seed < failed.Load(); seed = next.Add(1) - 1 {
				if Run(seed, nil, false).Broken != "" {
					lower(&failed, seed)
				}
			}
		})
	}
	wg.Wait()
	lowest = failed.Load()
	return min(n, lowest+1), lowest
}

func lower(v *atomic.Uint64, to uint64) {
	for {
		was := v.Load()
		if was <= to || v.CompareAndSwap(was, to) {
			return
		}
	}
}

// fail shrinks a schedule that fails, and shows what is left of it.
func fail(t *testing.T, seed uint64) {
	t.Helper()
	whole := Run(seed, nil, false)
	if os.Getenv("ZKLVS_SHRINK") == "0" {
		report(t, whole)
		return
	}
	small := Shrink(whole)
	t.Logf("shrunk from %d mishaps to %d; the whole schedule: ZKLVS_SEED=%d go test ./internal/sim -run TestSchedules -v", len(whole.Mishaps), len(small.Mishaps), seed)
	report(t, small)
}

func report(t *testing.T, r Result) {
	t.Helper()
	for _, line := range r.Trace {
		t.Log(line)
	}
	if r.Broken != "" {
		t.Errorf("at %.3f s: %s: %s\nreplay: ZKLVS_SEED=%d ZKLVS_ONLY=%s go test ./internal/sim -run TestSchedules -v",
			r.At.Seconds(), r.Broken, r.Fail, r.Seed, FormatMishaps(r.Mishaps))
	}
}
