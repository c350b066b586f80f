package lab

import (
	"context"
	"slices"
	"testing"
	"time"
)

// localZooKeeper starts n servers and closes them with the test.
func localZooKeeper(t *testing.T, n int, options ZooKeeperOptions) *Ensemble {
	t.Helper()
	if err := requireZooKeeper(); err != nil {
		t.Skip("SKIP: " + err.Error())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	e, err := StartLocalZooKeeper(ctx, t.TempDir(), n, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestLocalZooKeeperSurvivesItsLeader(t *testing.T) {
	t.Parallel()
	e := localZooKeeper(t, 3, ZooKeeperOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	first, err := e.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Kill(first); err != nil {
		t.Fatal(err)
	}
	if mode, err := e.Mode(ctx, first); err == nil {
		t.Errorf("the killed server says that it is %q", mode)
	}
	second, err := e.Leader(ctx)
	if err != nil || second == first {
		t.Fatalf("Leader() = %d, %v after the leader %d was killed", second, err, first)
	}
	if err := e.Start(first); err != nil {
		t.Fatal(err)
	}
	if err := e.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	var modes []string
	for i := range 3 {
		mode, err := e.Mode(ctx, i)
		if err != nil {
			t.Fatal(err)
		}
		modes = append(modes, mode)
	}
	slices.Sort(modes)
	if want := []string{"follower", "follower", "leader"}; !slices.Equal(modes, want) {
		t.Errorf("modes %v, want %v", modes, want)
	}
}

func TestLocalZooKeeperFrozenDoesNotAnswer(t *testing.T) {
	t.Parallel()
	e := localZooKeeper(t, 1, ZooKeeperOptions{})
	if mode, err := e.Mode(t.Context(), 0); err != nil || mode != "standalone" {
		t.Fatalf("Mode() = %q, %v, want standalone", mode, err)
	}
	if err := e.Freeze(0); err != nil {
		t.Fatal(err)
	}
	if mode, err := e.Mode(t.Context(), 0); err == nil {
		t.Errorf("the frozen server says that it is %q", mode)
	}
	if err := e.Thaw(0); err != nil {
		t.Fatal(err)
	}
	if err := e.WaitReady(t.Context()); err != nil {
		t.Error(err)
	}
}
