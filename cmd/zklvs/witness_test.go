package main

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
)

// witness is a lab.Witness that fails the test.
type witness struct {
	*testing.T
	*lab.Witness
	end func() error
}

// newWitness starts one on a host. Directors are those that may bind the VIP.
func newWitness(t *testing.T, client *lab.Host, vip netip.Addr, interval time.Duration, directors ...*lab.Host) *witness {
	t.Helper()
	w, err := lab.NewWitness(client, vip, interval, directors...)
	if err != nil {
		t.Fatal(err)
	}
	started := &witness{t, w, w.Go(t.Context())}
	t.Cleanup(func() { _ = started.end() })
	return started
}

func (w *witness) stop() {
	w.Helper()
	if err := w.end(); err != nil {
		w.Fatal(err)
	}
}

// until lets it wait, for as long as a take-over may take and more.
func (w *witness) until(wait func(context.Context) error) {
	w.Helper()
	ctx, cancel := demo.Within(w.T.Context(), patience)
	defer cancel()
	if err := wait(ctx); err != nil {
		w.Fatal(err)
	}
}

// waitClaim waits until a host has claimed the VIP since a time, and returns when.
func (w *witness) waitClaim(h *lab.Host, since time.Duration) (at time.Duration) {
	w.Helper()
	w.until(func(ctx context.Context) (err error) {
		at, err = w.WaitClaim(ctx, h, since)
		return err
	})
	return at
}

// waitAnyAnswer waits until somebody answers.
func (w *witness) waitAnyAnswer() {
	w.Helper()
	w.until(w.WaitAnyAnswer)
}

// waitAnswered waits until a host has answered n requests that were sent since now.
func (w *witness) waitAnswered(h *lab.Host, n int) {
	w.Helper()
	w.until(func(ctx context.Context) error { return w.WaitAnswered(ctx, h, n) })
}

// neverTwo is the judgment.
func (w *witness) neverTwo(before, after *lab.Host) {
	w.Helper()
	if err := w.NeverTwo(before, after); err != nil {
		w.Error(err)
	}
}
