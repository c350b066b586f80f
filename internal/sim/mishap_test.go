package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestMishapsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one := rapid.Custom(func(t *rapid.T) Mishap {
			return Mishap{rapid.ByteRange('a', 'z').Draw(t, "stream"), rapid.Uint16().Draw(t, "n"), rapid.Uint8Min(1).Draw(t, "sub")}
		})
		want := rapid.SliceOf(one).Draw(t, "mishaps")
		text := FormatMishaps(want)
		got, err := ParseMishaps(text)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(want, got) {
			t.Fatalf("%q: (-want +got):\n%s", text, cmp.Diff(want, got))
		}
	})
}

func TestMishapsThatAreNone(t *testing.T) {
	for _, text := range []string{"", "f", "3", "f3,", "F3", "f3.x", "f70000", "f3.300", "f-1"} {
		if got, err := ParseMishaps(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

// A schedule is its seed and its mishaps: nothing else decides.
func TestSchedulesAreRepeatable(t *testing.T) {
	for seed := range uint64(50) {
		first := Run(seed, nil, true)
		if diff := cmp.Diff(first, Run(seed, nil, true)); diff != "" {
			t.Fatalf("seed %d went another way (-first +second):\n%s", seed, diff)
		}
		if diff := cmp.Diff(first, Run(seed, first.Mishaps, true)); diff != "" {
			t.Fatalf("seed %d with its own mishaps went another way (-first +second):\n%s", seed, diff)
		}
	}
}

// Without mishaps the first director takes at once and keeps what it has.
func TestNothingGoesWrong(t *testing.T) {
	for seed := range uint64(50) {
		if r := Run(seed, []Mishap{}, true); r.Broken != "" || len(r.Mishaps) != 0 {
			t.Errorf("seed %d: %s: %s; mishaps %v", seed, r.Broken, r.Fail, r.Mishaps)
		}
	}
}

func TestEventsAreInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q events
		var want []event
		for i, at := range rapid.SliceOf(rapid.IntRange(0, 5)).Draw(t, "times") {
			e := event{at: time.Duration(at), seq: i}
			q.push(e)
			want = append(want, e)
		}
		slices.SortStableFunc(want, func(a, b event) int { return int(a.at - b.at) })
		for i, w := range want {
			if got := q.pop(); got.at != w.at || got.seq != w.seq {
				t.Fatalf("event %d is number %d at %v, want number %d at %v", i, got.seq, got.at, w.seq, w.at)
			}
		}
	})
}

// Every kind of fault, and every kind of mishap of requests, comes true often.
func TestEverythingGoesWrong(t *testing.T) {
	streams := map[byte]int{}
	for seed := range uint64(300) {
		for _, m := range Run(seed, nil, false).Mishaps {
			streams[m.Stream]++
		}
	}
	for _, stream := range []byte{streamSetup, streamFault, streamDirector, streamDirector + 1, streamDirector + 2,
		streamGuard, streamGuard + 1, streamAct, streamAct + 1, streamAct + 2} {
		if streams[stream] < 10 {
			t.Errorf("stream %c had %d mishaps in 300 schedules", stream, streams[stream])
		}
	}
}
