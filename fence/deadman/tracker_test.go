package deadman_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zklvs/zklvs/fence/deadman"
)

// fakeSwitch is a timer that kills nobody.
type fakeSwitch struct {
	mu      sync.Mutex
	armed   bool
	at      time.Duration
	refuses bool
	calls   int
}

var errRefused = errors.New("refused")

func (f *fakeSwitch) set(armed bool, at time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.refuses {
		return errRefused
	}
	f.armed, f.at = armed, at
	return nil
}

func (f *fakeSwitch) Arm(at time.Duration) error { return f.set(true, at) }
func (f *fakeSwitch) Disarm() error              { return f.set(false, 0) }

// Whatever was set and cleared, with a switch that refuses now and then: after
// a success the switch is armed Margin before the earliest deadline, and never
// later than that of any deadline that was confirmed.
func TestTrackerArmsForTheEarliest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sw := &fakeSwitch{}
		tr := deadman.NewTracker(sw)
		confirmed := map[string]time.Duration{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
			sw.refuses = rapid.IntRange(0, 3).Draw(t, "refuses") == 0
			var err error
			if rapid.Bool().Draw(t, "clear") {
				delete(confirmed, key)
				err = tr.Clear(key)
			} else {
				d := time.Duration(rapid.IntRange(-5, 5).Draw(t, "deadline")) * time.Second
				if err = tr.Set(key, d); err == nil {
					confirmed[key] = d
				}
			}
			checkSwitch(t, sw, confirmed, err)
			if at, armed := tr.Next(); at != sw.at || armed != sw.armed {
				t.Fatalf("Next says %v %v, the switch is %v %v", at, armed, sw.at, sw.armed)
			}
		}
	})
}

func checkSwitch(t *rapid.T, sw *fakeSwitch, confirmed map[string]time.Duration, err error) {
	first, some := time.Duration(1<<62), false
	for _, d := range confirmed {
		first, some = min(first, d-deadman.Margin), true
	}
	switch {
	case some && (!sw.armed || sw.at > first):
		t.Fatalf("armed %v at %v, want %v at the latest", sw.armed, sw.at, first)
	case err == nil && (sw.armed != some || some && sw.at != first):
		t.Fatalf("armed %v at %v, want %v at %v", sw.armed, sw.at, some, first)
	case err != nil && !sw.refuses:
		t.Fatalf("failed without a cause: %v", err)
	}
}

func TestTrackerKeepsTheOldDeadlineOnFailure(t *testing.T) {
	sw := &fakeSwitch{}
	tr := deadman.NewTracker(sw)
	if err := tr.Set("a", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	sw.refuses = true
	if err := tr.Set("a", 20*time.Second); !errors.Is(err, errRefused) {
		t.Fatalf("got %v, want the switch's error", err)
	}
	sw.refuses = false
	if err := tr.Set("b", 15*time.Second); err != nil {
		t.Fatal(err)
	}
	if at, _ := tr.Next(); at != 10*time.Second-deadman.Margin {
		t.Errorf("armed at %v, want the deadline that was confirmed", at)
	}
}

// No system call where nothing changes.
func TestTrackerAsksOnlyForNews(t *testing.T) {
	sw := &fakeSwitch{}
	tr := deadman.NewTracker(sw)
	for i, step := range []struct {
		do    func() error
		calls int
	}{
		{func() error { return tr.Clear("a") }, 0},
		{func() error { return tr.Set("a", time.Minute) }, 1},
		{func() error { return tr.Set("a", time.Minute) }, 1},
		{func() error { return tr.Set("b", time.Hour) }, 1},
		{func() error { return tr.Clear("b") }, 1},
		{func() error { return tr.Set("a", 0) }, 2},
		{func() error { return tr.Clear("a") }, 3},
	} {
		if err := step.do(); err != nil || sw.calls != step.calls {
			t.Errorf("step %d: %d calls (error %v), want %d", i, sw.calls, err, step.calls)
		}
	}
}

func TestTrackerConcurrently(t *testing.T) {
	sw := &fakeSwitch{}
	tr := deadman.NewTracker(sw)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			key := fmt.Sprint(i)
			for n := range 200 {
				if tr.Set(key, time.Duration(n+1)*time.Second) != nil {
					t.Error("set failed")
				}
				if at, armed := tr.Next(); !armed || at > time.Duration(n+1)*time.Second-deadman.Margin {
					t.Errorf("armed %v at %v with a deadline of %d s", armed, at, n+1)
				}
			}
			tr.Clear(key)
		})
	}
	all.Wait()
	if _, armed := tr.Next(); armed || sw.armed {
		t.Error("still armed without a holding")
	}
}

func BenchmarkSet(b *testing.B) {
	timer, err := deadman.New()
	if err != nil {
		b.Fatal(err)
	}
	defer timer.Close()
	tr := deadman.NewTracker(timer)
	for i := range b.N {
		must(tr.Set("a", 1<<60+time.Duration(i)))
	}
}
