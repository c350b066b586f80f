package nemesis

import (
	"context"
	"errors"
	"testing"
)

// Whoever interrupts a run while the cluster gets well has found nothing.
func TestInterruptIsNoViolation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x := &suffering{run: &run{report: &Report{}}}
	if err := x.notWell(ctx, "web", "the client is not served again", ctx.Err()); !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotWell) {
		t.Errorf("got %v", err)
	}
	if n := len(x.report.Violations); n > 0 {
		t.Errorf("%d violations", n)
	}
}

// What cannot be played is refused before anything is started.
func TestOptionsAreRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"no fault":         {},
		"a kind":           {Faults: 1, Kinds: []string{"zk-cutt"}},
		"a lease":          {Faults: 1, Lease: 1},
		"a policy":         {Faults: 1, OnZooKeeperLoss: "hodl"},
		"a fault's number": {Faults: 3, Only: []int{4}},
	} {
		if report, err := Run(t.Context(), o); report != nil || !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
