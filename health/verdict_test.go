package health

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var errDead = errors.New("dead")

// play feeds results to a check, each probe taking took, and returns one line
// for each: when it started, its result, the state after it.
func play(c *check, took time.Duration, results string) []string {
	var lines []string
	for _, r := range results {
		start := c.due
		o := outcome{started: start, ended: start + took}
		switch r {
		case '-':
			o.err = errDead
		case '?':
			o.err = fmt.Errorf("%w: no descriptors", ErrInconclusive)
		case 'z':
			o.err, o.ended = errDead, start+time.Minute
		}
		c.report(o)
		lines = append(lines, fmt.Sprintf("%v %c %v", start, r, c.verdict.State))
	}
	return lines
}

// The terms of the table: interval 5 s, timeout 1 s, retry delay 3 s, probes
// that take 100 ms. "+" answers, "-" fails, "?" says nothing, "z" fails a
// minute late.
func TestCheckScenarios(t *testing.T) {
	for _, tt := range []struct {
		name                string
		retries, rise, fall int
		results             string
		want                []string
	}{
		{"first success decides at once", 2, 3, 3, "+", []string{"0s + up"}},
		{"first failure decides at once, without retries", 2, 3, 3, "-", []string{"0s - down"}},
		{"retries are used up, then one failure", 2, 1, 1, "+---", []string{
			"0s + up", "5s - up", "8.1s - up", "11.2s - down"}},
		{"a retry that succeeds clears the failure", 2, 1, 1, "+--+---", []string{
			"0s + up", "5s - up", "8.1s - up", "11.2s + up", "15s - up", "18.1s - up", "21.2s - down"}},
		{"fall counts failures of their own slots", 0, 1, 3, "+--+---", []string{
			"0s + up", "5s - up", "10s - up", "15s + up", "20s - up", "25s - up", "30s - down"}},
		{"fall and retries", 1, 1, 2, "+----", []string{
			"0s + up", "5s - up", "8.1s - up", "10s - up", "13.1s - down"}},
		{"rise, started anew by a failure, which is not retried", 2, 2, 1, "-+-++", []string{
			"0s - down", "5s + down", "10s - down", "15s + down", "20s + up"}},
		{"nothing learnt, nothing changed", 0, 1, 2, "?+-??-", []string{
			"0s ? unknown", "5s + up", "10s - up", "15s ? up", "20s ? up", "25s - down"}},
		{"a late failure is not believed twice, then is", 0, 1, 1, "+zzz", []string{
			"0s + up", "5s z up", "1m5s z up", "2m5s z down"}},
		{"late failures apart from each other are not believed", 0, 1, 1, "+zz+zz+", []string{
			"0s + up", "5s z up", "1m5s z up", "2m5s + up", "2m10s z up", "3m10s z up", "4m10s + up"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target := tcpTarget("10.0.0.1:80")
			target.Retries, target.Rise, target.Fall = tt.retries, tt.rise, tt.fall
			c := newCheck(target, 0, time.Time{}, 0)
			if diff := cmp.Diff(tt.want, play(&c, 100*time.Millisecond, tt.results)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckFillsVerdict(t *testing.T) {
	target := tcpTarget("10.0.0.1:80")
	target.Retries = 0
	began := time.Unix(1000, 0)
	c := newCheck(target, 40*time.Second, began, 41*time.Second)
	if diff := cmp.Diff(Verdict{Since: 40 * time.Second, WallSince: began}, c.verdict); diff != "" {
		t.Errorf("at the start (-want +got):\n%s", diff)
	}
	up := outcome{started: 41 * time.Second, ended: 42 * time.Second, wall: began.Add(2 * time.Second)}
	c.report(up)
	want := Verdict{State: Up, Since: up.ended, WallSince: up.wall, LastLatency: time.Second, LastRun: up.ended, Changes: 1}
	if diff := cmp.Diff(want, c.verdict); diff != "" {
		t.Errorf("up (-want +got):\n%s", diff)
	}
	c.report(outcome{started: 46 * time.Second, ended: 47 * time.Second, err: fmt.Errorf("%w: x", ErrInconclusive)})
	want.LastError = "inconclusive: x"
	if diff := cmp.Diff(want, c.verdict); diff != "" {
		t.Errorf("inconclusive: only the error is new (-want +got):\n%s", diff)
	}
	down := outcome{started: 51 * time.Second, ended: 51 * time.Second, wall: began.Add(9 * time.Second), err: errDead}
	c.report(down)
	want = Verdict{State: Down, Since: down.ended, WallSince: down.wall, LastError: "dead", LastRun: down.ended, Changes: 2}
	if diff := cmp.Diff(want, c.verdict); diff != "" {
		t.Errorf("down (-want +got):\n%s", diff)
	}
}

func TestErrorTextIsBoundedAndHarmless(t *testing.T) {
	if got := errorText(errors.New("a\x1b[2Jb\nc\xff")); got != "a [2Jb c?" {
		t.Errorf("got %q", got)
	}
	if got := errorText(errors.New(strings.Repeat("ä", 1000))); len(got) > maxErrorText+4 {
		t.Errorf("%d bytes are kept", len(got))
	}
}

func drawTarget(t *rapid.T) Target {
	target := tcpTarget("10.0.0.1:80")
	target.Interval = time.Duration(rapid.IntRange(10, 10_000).Draw(t, "interval")) * time.Millisecond
	target.Timeout = time.Duration(rapid.IntRange(10, 10_000).Draw(t, "timeout")) * time.Millisecond
	target.RetryDelay = time.Duration(rapid.IntRange(0, 5_000).Draw(t, "retry delay")) * time.Millisecond
	target.Retries = rapid.IntRange(0, 4).Draw(t, "retries")
	target.Rise = rapid.IntRange(1, 4).Draw(t, "rise")
	target.Fall = rapid.IntRange(1, 4).Draw(t, "fall")
	return target
}

// Whatever the results: the next probe never lies in the past, regular ones
// keep to the schedule, retries to their delay, and no result turns a state
// into its opposite.
func TestCheckProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		target := drawTarget(t)
		c := newCheck(target, 0, time.Time{}, 0)
		for range rapid.IntRange(1, 60).Draw(t, "probes") {
			before := c.verdict.State
			late := time.Duration(rapid.IntRange(0, 20_000).Draw(t, "late")) * time.Millisecond
			took := time.Duration(rapid.Int64Range(0, int64(target.Timeout)).Draw(t, "took"))
			o := outcome{started: c.due + late}
			o.ended = o.started + took
			if rapid.Bool().Draw(t, "fails") {
				o.err = errDead
			}
			changed := c.report(o)
			checkStep(t, target, &c, o, before, changed)
		}
	})
}

func checkStep(t *rapid.T, target Target, c *check, o outcome, before State, changed bool) {
	after := c.verdict.State
	retrying := c.retries > 0
	switch {
	case changed != (before != after):
		t.Fatalf("changed=%v, but %v -> %v", changed, before, after)
	case after == Unknown:
		t.Fatalf("still unknown after a result")
	case before == Unknown && (after == Up) != (o.err == nil):
		t.Fatalf("first result (%v) gave %v", o.err, after)
	case changed && (after == Up) != (o.err == nil):
		t.Fatalf("result %v turned %v into %v", o.err, before, after)
	case c.due < o.ended:
		t.Fatalf("next probe at %v, before the end of this one at %v", c.due, o.ended)
	case retrying && (after != Up || o.err == nil || c.due != o.ended+target.RetryDelay):
		t.Fatalf("retry at %v in state %v after %v", c.due, after, o.err)
	case !retrying && c.due%target.Interval != 0:
		t.Fatalf("next probe at %v is off the schedule of %v", c.due, target.Interval)
	case !retrying && c.due > o.ended+target.Interval:
		t.Fatalf("next probe at %v, more than %v after %v", c.due, target.Interval, o.ended)
	}
}

// A target that dies at any moment is down within DetectionTime, and not before
// the number of failed probes that its terms ask for; it is up again after
// Rise successes.
func TestDetectionTimeIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		target := drawTarget(t)
		c := newCheck(target, 0, time.Time{}, 0)
		c.report(outcome{})
		died := time.Duration(rapid.Int64Range(0, int64(3*target.Interval)).Draw(t, "dies"))
		probes := 0
		for c.verdict.State == Up {
			o := outcome{started: c.due}
			o.ended = o.started
			if o.started >= died {
				o.err = errDead
				o.ended += time.Duration(rapid.Int64Range(0, int64(target.Timeout)).Draw(t, "took"))
				probes++
			}
			c.report(o)
		}
		if want := target.Fall * (target.Retries + 1); probes != want {
			t.Fatalf("down after %d failed probes, want %d", probes, want)
		}
		if took := c.verdict.Since - died; took > target.DetectionTime() {
			t.Fatalf("down after %v, DetectionTime says %v", took, target.DetectionTime())
		}
		for probes = 0; c.verdict.State == Down; probes++ {
			c.report(outcome{started: c.due, ended: c.due})
		}
		if probes != target.Rise {
			t.Fatalf("up after %d successes, want %d", probes, target.Rise)
		}
	})
}
