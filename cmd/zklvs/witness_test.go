package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/lab"
)

// witness watches one VIP from the client, and what the directors' kernels say
// about it. A take-over is judged by it alone:
//
//   - It takes from the fault until the client first hears the next director claim
//     the VIP: by an answer to one of its requests, or by an announcement. The same
//     is asked of keepalived, whose old master goes on answering, so that its
//     clients see two hosts and not a gap.
//   - Never two: no request is answered by two hosts, and none that was sent after
//     the next director's first answer is answered by the earlier one.
type witness struct {
	*testing.T
	prober  *lab.Prober
	watches []*lab.AddressWatch
	end     func() error
}

// newWitness starts one on a host. Directors are those that may bind the VIP.
func newWitness(t *testing.T, client *lab.Host, vip netip.Addr, interval time.Duration, directors ...*lab.Host) *witness {
	t.Helper()
	w := &witness{T: t}
	ask := lab.NewARPProber
	if vip.Is6() {
		ask = lab.NewNSProber
	}
	ctx, cancel := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(ctx)
	w.end = func() error {
		cancel()
		return group.Wait()
	}
	var err error
	if w.prober, err = ask(client, "eth0", vip, interval); err != nil {
		t.Fatal(err)
	}
	group.Go(func() error { return w.prober.Run(ctx) })
	t.Cleanup(func() { _ = w.end() })
	for _, d := range directors {
		watch, err := lab.NewAddressWatch(d, vip)
		if err != nil {
			t.Fatal(err)
		}
		w.watches = append(w.watches, watch)
		group.Go(func() error { return watch.Run(ctx) })
	}
	return w
}

func (w *witness) stop() {
	w.Helper()
	if err := w.end(); err != nil {
		w.Fatal(err)
	}
}

// until waits for a condition, for as long as a take-over may take and more.
func (w *witness) until(what string, condition func() error) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	if err := lab.WaitUntil(ctx, what, condition); err != nil {
		w.Fatalf("%v\n%s", err, w.spans())
	}
}

// waitClaim waits until a host has claimed the VIP since a time, and returns when.
func (w *witness) waitClaim(h *lab.Host, since time.Duration) (at time.Duration) {
	w.Helper()
	mac := macOf(w.T, h)
	w.until(h.Name()+" claims the VIP", func() error {
		var found bool
		if at, found = w.prober.FirstClaim(mac, since); !found {
			return errors.New("it does not")
		}
		return nil
	})
	return at
}

// waitAnyAnswer waits until somebody answers.
func (w *witness) waitAnyAnswer() {
	w.Helper()
	w.until("somebody answers", func() error {
		if len(w.prober.Answers(0)) == 0 {
			return errors.New("nobody does")
		}
		return nil
	})
}

// waitAnswered waits until a host has answered n requests that were sent since now.
func (w *witness) waitAnswered(h *lab.Host, n int) {
	w.Helper()
	mac, since := macOf(w.T, h), boottime.Now()
	w.until(fmt.Sprintf("%s answers %d requests", h.Name(), n), func() error {
		count := 0
		for _, a := range w.prober.Answers(since) {
			if a.MAC == mac && a.Asked >= since {
				count++
			}
		}
		if count < n {
			return fmt.Errorf("it has answered %d", count)
		}
		return nil
	})
}

// neverTwo is the judgement.
func (w *witness) neverTwo(before, after *lab.Host) {
	w.Helper()
	if conflicts := w.prober.Conflicts(); len(conflicts) > 0 {
		w.Errorf("%d requests were answered by two hosts\n%s", len(conflicts), w.spans())
	}
	first, old, next := time.Duration(0), macOf(w.T, before), macOf(w.T, after)
	for _, a := range w.prober.Answers(0) {
		if first == 0 && a.MAC == next {
			first = a.At
		}
		if first != 0 && a.MAC == old && a.Asked >= first {
			w.Errorf("%s answered a request that was sent %v after %s had answered\n%s", before.Name(), a.Asked-first, after.Name(), w.spans())
			return
		}
	}
}

// outage is from the newest request that the earlier holder answered until the
// first claim of the next.
func (w *witness) outage(before *lab.Host, claimed time.Duration) time.Duration {
	asked, _ := w.prober.LastAnswered(macOf(w.T, before))
	return claimed - asked
}

// spans tells when which kernel had the VIP bound.
func (w *witness) spans() string {
	var all []lab.AddressSpan
	for _, watch := range w.watches {
		all = append(all, watch.Spans()...)
	}
	slices.SortFunc(all, func(a, b lab.AddressSpan) int { return int(a.From - b.From) })
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "bound on %v\n", s)
	}
	return b.String() + lab.Overlaps(w.watches...)
}

func macOf(t *testing.T, h *lab.Host) string {
	t.Helper()
	mac, err := h.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	return mac.String()
}
