package ipvs

import (
	"context"
	"slices"
	"testing"
)

// The schedulers whose modules must not be loaded by the kernel, under its lock,
// are loaded before.
func TestApplyLoadsSchedulersThatTheKernelMustNot(t *testing.T) {
	table := fakeTable(newFakeKernel())
	var loaded []string
	table.ready = func(_ context.Context, scheduler string) { loaded = append(loaded, scheduler) }
	there := []Service{service(t, "TCP 10.0.0.1:80", "lblc"), service(t, "TCP 10.0.0.2:80", "rr")}
	mustApply(t, table, Diff(there, nil, nil))
	mustApply(t, table, Diff([]Service{service(t, "TCP 10.0.0.2:80", "lblcr")}, there, nil))
	if want := []string{"lblc", "lblcr"}; !slices.Equal(loaded, want) {
		t.Errorf("loaded %v, want %v", loaded, want)
	}
}
