package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zklvs/zklvs/internal/boottime"
)

// Witness watches one VIP from a client, and what the kernels of the hosts that
// may bind it say about it. A take-over is judged by it alone:
//
//   - It takes from the fault until the client first hears the next holder claim
//     the VIP: by an answer to one of its requests, or by an announcement. The same
//     is asked of keepalived, whose old master goes on answering, so that its
//     clients see two hosts and not a gap.
//   - Never two: no request is answered by two hosts, and none that was sent after
//     the next holder's first answer is answered by the earlier one.
//
// Hosts are known by the hardware address of their card eth0, as it was when the
// witness was made.
type Witness struct {
	*Prober
	watches []*AddressWatch
	hosts   []*Host
	macs    map[*Host]string
}

// NewWitness prepares to watch a VIP, IPv4 or IPv6, from card eth0 of a client:
// it asks once in an interval (0 is 5 ms). What is bound on the hosts by now is
// known. Run watches.
func NewWitness(client *Host, vip netip.Addr, interval time.Duration, hosts ...*Host) (*Witness, error) {
	w := &Witness{hosts: hosts, macs: map[*Host]string{}}
	for _, h := range hosts {
		mac, err := h.MAC("eth0")
		if err != nil {
			return nil, fmt.Errorf("watch %s: %w", vip, err)
		}
		w.macs[h] = mac.String()
	}
	ask := NewARPProber
	if vip.Is6() {
		ask = NewNSProber
	}
	var err error
	if w.Prober, err = ask(client, "eth0", vip, interval); err != nil {
		return nil, err
	}
	for _, h := range hosts {
		watch, err := NewAddressWatch(h, vip)
		if err != nil {
			w.discard()
			return nil, err
		}
		w.watches = append(w.watches, watch)
	}
	return w, nil
}

// discard closes the sockets of a witness that never ran.
func (w *Witness) discard() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, watch := range w.watches {
		_ = watch.Run(ended)
	}
	w.Prober.discard()
}

// Run watches until ctx ends, and closes the sockets: a witness runs once. What
// it has seen stays. A lost notice or a failed send ends it with an error.
func (w *Witness) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.Prober.Run(ctx) })
	for _, watch := range w.watches {
		group.Go(func() error { return watch.Run(ctx) })
	}
	return group.Wait()
}

// Go runs the witness in the background. The returned function ends it, waits
// for its end and returns Run's error; it may be called again.
func (w *Witness) Go(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return w.Run(ctx) })
	return func() error {
		cancel()
		return group.Wait()
	}
}

// HostOf returns the host that has a hardware address; nil for a stranger.
func (w *Witness) HostOf(mac string) *Host {
	for _, h := range w.hosts {
		if w.macs[h] == mac {
			return h
		}
	}
	return nil
}

// WaitClaim waits until a host has claimed the VIP at or after a time, and
// returns when it first did.
func (w *Witness) WaitClaim(ctx context.Context, h *Host, since time.Duration) (at time.Duration, err error) {
	err = w.wait(ctx, h.name+" claims the VIP", func() error {
		var found bool
		if at, found = w.FirstClaim(w.macs[h], since); !found {
			return errors.New("it does not")
		}
		return nil
	})
	return at, err
}

// WaitAnyAnswer waits until somebody has answered.
func (w *Witness) WaitAnyAnswer(ctx context.Context) error {
	return w.wait(ctx, "somebody answers", func() error {
		if len(w.Answers(0)) == 0 {
			return errors.New("nobody does")
		}
		return nil
	})
}

// WaitAnswered waits until a host has answered n requests that were sent since now.
func (w *Witness) WaitAnswered(ctx context.Context, h *Host, n int) error {
	since := boottime.Now()
	return w.wait(ctx, fmt.Sprintf("%s answers %d requests", h.name, n), func() error {
		count := 0
		for _, a := range w.Answers(since) {
			if a.MAC == w.macs[h] && a.Asked >= since {
				count++
			}
		}
		if count < n {
			return fmt.Errorf("it has answered %d", count)
		}
		return nil
	})
}

func (w *Witness) wait(ctx context.Context, what string, condition func() error) error {
	if err := WaitUntil(ctx, what, condition); err != nil {
		return fmt.Errorf("%w\n%s", err, w.BoundText())
	}
	return nil
}

// NeverTwo is the judgment of a take-over by one host after another; nil is good.
func (w *Witness) NeverTwo(before, after *Host) error {
	var errs []error
	if conflicts := w.Conflicts(); len(conflicts) > 0 {
		errs = append(errs, fmt.Errorf("%d requests were answered by two hosts\n%s", len(conflicts), w.BoundText()))
	}
	first := time.Duration(0)
	for _, a := range w.Answers(0) {
		if first == 0 && a.MAC == w.macs[after] {
			first = a.At
		}
		if first != 0 && a.MAC == w.macs[before] && a.Asked >= first {
			errs = append(errs, fmt.Errorf("%s answered a request that was sent %v after %s had answered\n%s",
				before.name, a.Asked-first, after.name, w.BoundText()))
			break
		}
	}
	return errors.Join(errs...)
}

// Outage is from the newest request that the earlier holder answered until a
// time, such as the first claim of the next one.
func (w *Witness) Outage(before *Host, claimed time.Duration) time.Duration {
	asked, _ := w.LastAnswered(w.macs[before])
	return claimed - asked
}

// Bound returns when which kernel had the VIP bound, by the time of binding.
func (w *Witness) Bound() []AddressSpan {
	var all []AddressSpan
	for _, watch := range w.watches {
		all = append(all, watch.Spans()...)
	}
	slices.SortStableFunc(all, func(a, b AddressSpan) int { return int(a.From - b.From) })
	return all
}

// BoundText is Bound in words, with the overlaps; see Overlaps.
func (w *Witness) BoundText() string {
	var b strings.Builder
	for _, s := range w.Bound() {
		fmt.Fprintf(&b, "bound on %v\n", s)
	}
	return b.String() + Overlaps(w.watches...)
}
