package main

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/nemesis"
)

// nemesisFor is how long the test lets faults begin; ZKLVS_NEMESIS=10m is for a
// longer look.
func nemesisFor(t *testing.T, usual time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("ZKLVS_NEMESIS")
	if text == "" {
		return usual
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("ZKLVS_NEMESIS=%s: %v", text, err)
	}
	return d
}

// playNemesis plays, and wants no violation: none of safety, whatever the machine
// does, and none of availability unless the machine was too busy for anybody.
func playNemesis(t *testing.T, o nemesis.Options) {
	t.Helper()
	o.Zklvs, o.Version, o.Faults, o.Dir = program(t), versionString(), 200, t.TempDir()
	o.Progress = t.Logf
	report, err := nemesis.Run(t.Context(), o)
	if err != nil && !errors.Is(err, nemesis.ErrNotWell) { // that is among the violations
		t.Error(err)
	}
	if report == nil {
		return
	}
	t.Logf("\n%s\n%s", report.Table(), report.Verdict())
	if len(report.Faults) == 0 {
		t.Error("no fault was played")
	}
	for _, v := range report.Violations {
		if v.Starved {
			t.Logf("not held against it: %v", v)
			continue
		}
		t.Error(v)
	}
}

// The lease of the text, a second, on this machine's own kernel: groups
// without services need no IPVS.
func TestHostNemesis(t *testing.T) {
	requireHost(t)
	if testing.Short() {
		t.Skip("SKIP: takes a minute")
	}
	playNemesis(t, nemesis.Options{Seed: 1, Lease: time.Second, Duration: nemesisFor(t, time.Minute)})
}
