package fence

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestLifetime(t *testing.T) {
	const d = 1000 * time.Second
	for name, c := range map[string]struct {
		left time.Duration
		want uint32
		ok   bool
	}{
		"a whole lease":            {3 * time.Second, 3, true},
		"a bit more":               {3*time.Second + 1, 4, true},
		"a bit less":               {3*time.Second - 1, 3, true},
		"just above the margin":    {StepDownMargin + 1, 1, true},
		"at the margin":            {StepDownMargin, 0, false},
		"over":                     {-time.Second, 0, false},
		"a wrong clock":            {61 * time.Second, 0, false},
		"the longest that is used": {60 * time.Second, 60, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := Lifetime(d-c.left, d)
			if got != c.want || ok != c.ok {
				t.Errorf("Lifetime with %v left = %d, %v; want %d, %v", c.left, got, ok, c.want, c.ok)
			}
		})
	}
}

// A lifetime is never shorter than the lease that is left, and never longer by a second or more.
func TestLifetimeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Duration(rapid.Int64Range(0, int64(1e6*time.Hour)/1000).Draw(t, "now"))
		left := time.Duration(rapid.Int64Range(-int64(time.Minute), int64(90*time.Second)).Draw(t, "left"))
		seconds, ok := Lifetime(now, now+left)
		if !ok {
			if left > StepDownMargin && left <= time.Minute {
				t.Fatalf("%v left: nothing may be bound", left)
			}
			return
		}
		if left <= StepDownMargin {
			t.Fatalf("%v left: %d s", left, seconds)
		}
		valid := time.Duration(seconds) * time.Second
		if valid < left || valid >= left+time.Second {
			t.Fatalf("%v left: valid_lft %v", left, valid)
		}
	})
}

func TestSchedule(t *testing.T) {
	const refresh = 60 * time.Second
	var s schedule
	var now time.Duration
	var at []time.Duration
	for range 8 {
		at = append(at, now)
		s = s.after(now, refresh)
		now = s.next
	}
	ms := time.Millisecond
	want := []time.Duration{0, 200 * ms, 400 * ms, 600 * ms, 800 * ms, 5800 * ms, 65800 * ms, 125800 * ms}
	for i := range want {
		if at[i] != want[i] {
			t.Fatalf("announced at %v, want %v", at, want)
		}
	}
}
