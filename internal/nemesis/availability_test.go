package nemesis

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/lab"
)

// asked are requests every 20 ms in a time, lost or answered.
func asked(from, until time.Duration, err error) (outcomes []lab.Outcome) {
	for at := from; at < until; at += 20 * ms {
		outcomes = append(outcomes, lab.Outcome{Begun: at, Ended: at + ms, Err: err})
	}
	return outcomes
}

func TestServedFrom(t *testing.T) {
	lost := errors.New("lost")
	const s = time.Second
	for name, c := range map[string]struct {
		outcomes []lab.Outcome
		since    time.Duration
		want     time.Duration
		never    bool
	}{
		"nothing asked":          {never: true},
		"always":                 {outcomes: asked(0, 5*s, nil), since: s, want: s},
		"never":                  {outcomes: asked(0, 5*s, lost), never: true},
		"again":                  {outcomes: slices.Concat(asked(0, 2*s, lost), asked(2*s, 5*s, nil)), since: s, want: 2 * s},
		"too short by now":       {outcomes: slices.Concat(asked(0, 2*s, lost), asked(2*s, 3*s, nil)), since: s, never: true},
		"one lost between":       {outcomes: slices.Concat(asked(s, 2*s, nil), asked(2*s, 2*s+ms, lost), asked(2*s+20*ms, 5*s, nil)), since: s, want: 2*s + 20*ms},
		"lost only after return": {outcomes: slices.Concat(asked(s, 3*s, nil), asked(3*s, 5*s, lost)), since: s, want: s},
		"not asked for a while":  {outcomes: slices.Concat(asked(s, 2*s, nil), asked(4*s, 6*s, nil)), since: s, want: 4 * s},
		"before":                 {outcomes: asked(0, 2*s, nil), since: s, never: true},
	} {
		t.Run(name, func(t *testing.T) {
			if at, ok := servedFrom(c.outcomes, c.since); ok == c.never || at != c.want {
				t.Errorf("served from %v, %t; want %v, %t", at, ok, c.want, !c.never)
			}
		})
	}
}

func TestUnserved(t *testing.T) {
	outcomes := slices.Concat(asked(0, time.Second, nil), asked(time.Second, 1500*ms, errors.New("lost")), asked(1500*ms, 3*time.Second, nil))
	longest, lost := unserved(outcomes, 500*ms, 3*time.Second, 20*ms)
	if longest != 500*ms || lost != 25 {
		t.Errorf("%v, %d lost; want 500ms, 25", longest, lost)
	}
	if longest, _ := unserved(asked(0, time.Second, nil), 0, 4*time.Second, 20*ms); longest < 2*time.Second {
		t.Errorf("nothing answered for the last 3 s, and the longest pause is %v", longest)
	}
}

func TestBound(t *testing.T) {
	timing := election.Timing{Lease: time.Second, Renew: 100 * ms, Drift: 0.1, Lateness: 50 * ms}
	if got, want := Bound(timing, false), 3510*ms; got != want {
		t.Errorf("bound %v, want W + 2 s = %v", got, want)
	}
	if got, want := Bound(timing, true), 14250*ms; got != want {
		t.Errorf("bound %v, want %v", got, want)
	}
}

// A fault is the same however many are drawn, and each kind has its turn.
func TestDraw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed, n := rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 150).Draw(t, "n")
		faults, err := Draw(seed, n, usualKinds())
		if err != nil {
			t.Fatal(err)
		}
		more, err := Draw(seed, n+50, usualKinds())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(faults, more[:n]); diff != "" {
			t.Fatal(diff)
		}
		alone, leads := map[string]int{}, map[string]int{}
		for _, f := range faults {
			count := alone
			if len(f.Parts) == 2 {
				count = leads
			}
			count[f.Parts[0].Kind]++
			for i, p := range f.Parts {
				k := kindOf(p.Kind)
				if p.Hold < k.shortest || p.Hold > k.longest || k.asked || len(f.Parts) == 2 && k.alone || i > 0 && p.Kind == f.Parts[0].Kind {
					t.Fatalf("fault %d: %+v", f.Number, f)
				}
			}
		}
		for _, name := range usualKinds() {
			turns := n / 2 / len(usualKinds())
			if alone[name] < turns || leads[name] < turns && !kindOf(name).alone {
				t.Fatalf("%s has come %d times alone and %d times as the first of two in %d faults", name, alone[name], leads[name], n)
			}
		}
	})
}

func TestDrawRefusesUnknownKinds(t *testing.T) {
	if _, err := Draw(1, 1, []string{"director-kil"}); err == nil {
		t.Error("taken")
	}
}
