package ipvs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestSchedulerAvailable(t *testing.T) {
	sys := t.TempDir()
	if err := os.Mkdir(filepath.Join(sys, "ip_vs_rr"), 0o755); err != nil {
		t.Fatal(err)
	}
	modprobe := func(_ context.Context, module string) error {
		if module == "ip_vs_wlc" {
			return nil
		}
		return errors.New("not found")
	}
	for name, want := range map[string]string{
		"rr":  "<nil>", // loaded
		"wlc": "<nil>", // can be loaded
		"mh":  `scheduler "mh": kernel has no such scheduler: module ip_vs_mh: not found`,
		"x;y": `scheduler "x;y": kernel has no such scheduler: expected one of [dh fo lblc lblcr lc mh nq ovf rr sed sh twos wlc wrr]`,
	} {
		err := schedulerAvailable(t.Context(), name, sys, modprobe)
		noDiff(t, name, want, fmt.Sprint(err))
		if err != nil && !errors.Is(err, ErrNoScheduler) {
			t.Errorf("%v is not ErrNoScheduler", err)
		}
	}
}
