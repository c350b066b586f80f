package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/lab"
)

// Switchover counts the requests that planned switchovers cost.
type Switchover struct{}

const (
	caseSwitchover = "planned stop under load"

	lostRequests   = "requests lost in a switchover"
	lateRequests   = "requests late in a switchover"
	slowestRequest = "slowest request of a switchover"
	lostElsewhere  = "requests lost besides"
	allRequests    = "requests"

	// requestEvery and requestsPerRun make a switchover each 8 s.
	requestEvery   = 8 * time.Millisecond
	requestsPerRun = 1000
	// lateAfter is more than a request takes in a busy user-mode Linux, and less than
	// one that TCP had to send again.
	lateAfter = 500 * time.Millisecond
	// downFor is for how long the one that was stopped stays down.
	downFor = 2 * time.Second
)

// sloppyTCP lets a director that has not seen a connection begin forward its packets.
// zklvs sets it; here it is set on keepalived's directors too.
const sloppyTCP = "net.ipv4.vs.sloppy_tcp=1"

// Name is a word.
func (Switchover) Name() string { return "switchover" }

// Title heads the section's part of the page.
func (Switchover) Title() string { return "Requests lost in planned switchovers" }

// About says what is measured.
func (Switchover) About() string { return aboutSwitchover }

// Page names the page.
func (Switchover) Page() string { return "failover" }

// NeedsIPVS is true.
func (Switchover) NeedsIPVS() bool { return true }

// Measures are the rows of the table.
func (Switchover) Measures() []Measure {
	return []Measure{{Name: lostRequests, Total: true}, {Name: lateRequests, Total: true}, {Name: slowestRequest}, {Name: lostElsewhere}, {Name: allRequests, NoRatio: true}}
}

// Plots are none: most values are zero.
func (Switchover) Plots() []Plot { return nil }

// Targets wants no request lost.
func (Switchover) Targets() []Target {
	return []Target{
		{Case: caseSwitchover, Measure: lostRequests, Contender: Zklvs, AtMost: 0, Total: true},
		{Case: caseSwitchover, Measure: lostElsewhere, Contender: Zklvs, AtMost: 0, Total: true},
	}
}

// Run asks each contender's VIP in turn.
func (s Switchover) Run(ctx context.Context, env Env) (Result, error) {
	return inNetwork(ctx, env, networkOptions{
		scheduler: "mh", lease: usualLease, sysctls: []string{sloppyTCP}, contenders: []string{Zklvs, Notes, Tuned},
	}, func(n *network, r *Result) error { return s.measure(ctx, env, n, r) })
}

func (s Switchover) measure(ctx context.Context, env Env, n *network, r *Result) error {
	for _, c := range n.contenders {
		if err := s.contender(ctx, env, n, c, r); err != nil {
			return fmt.Errorf("%s: %w", c.name(), err)
		}
	}
	return nil
}

// window is a switchover: from the signal until the daemon is started again.
type window struct{ from, until time.Duration }

func (s Switchover) contender(ctx context.Context, env Env, n *network, c contender, r *Result) error {
	if err := served(ctx, n.client, c); err != nil {
		return err
	}
	q, err := lab.NewRequester(n.client, lab.RequesterOptions{
		Target: netip.AddrPortFrom(c.vip(), 80), Interval: requestEvery, Total: requestsPerRun * env.Runs,
	})
	if err != nil {
		return err
	}
	asking, cancel := context.WithCancel(ctx)
	group, asking := errgroup.WithContext(asking)
	group.Go(func() error { return q.Run(asking) })
	var windows []window
	for i := range env.Runs {
		w, err := s.switchOver(ctx, c, q, i)
		if err != nil {
			cancel()
			return errors.Join(err, group.Wait())
		}
		windows = append(windows, w)
		env.Progress("%s: switchover %d of %d done, %d requests lost so far", c.name(), i+1, env.Runs, q.Tally().Lost)
	}
	err = group.Wait()
	cancel()
	if err != nil {
		return err
	}
	s.count(env, c, q, windows, r)
	if !env.Logs {
		return nil
	}
	return keepOutcomes(env, c, q.Outcomes(0), windows)
}

// keepOutcomes writes down the requests that were lost or late, and the switchovers.
func keepOutcomes(env Env, c contender, all []lab.Outcome, windows []window) error {
	var b strings.Builder
	boot := time.Now().Add(-boottime.Now())
	stamp := func(at time.Duration) string { return boot.Add(at).UTC().Format("15:04:05.000") }
	for i, w := range windows {
		fmt.Fprintf(&b, "switchover %d: SIGTERM at %s, started again at %s\n", i+1, stamp(w.from), stamp(w.until))
	}
	for _, o := range all {
		if o.Err != nil || o.Took() > lateAfter {
			fmt.Fprintf(&b, "request %d: begun at %s, took %v, connected after %v, by %q, error %v\n", o.Number, stamp(o.Begun), o.Took(), o.Connected-o.Begun, o.Server, o.Err)
		}
	}
	if err := os.WriteFile(filepath.Join(env.Keep, "requests, "+c.name()+".txt"), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("keep the requests: %w", err)
	}
	return nil
}

// switchOver stops the holder amid the i-th thousand of requests, and starts it again.
func (s Switchover) switchOver(ctx context.Context, c contender, q *lab.Requester, i int) (w window, err error) {
	due, cancel := within(ctx, patience+requestEvery*requestsPerRun)
	defer cancel()
	if err := lab.WaitUntil(due, "it is time", func() error {
		if q.Tally().Sent < i*requestsPerRun+requestsPerRun/10 {
			return errNotYet
		}
		return nil
	}); err != nil {
		return w, err
	}
	holder, heir, err := c.ready(ctx)
	if err != nil {
		return w, err
	}
	w.from = boottime.Now()
	if err := c.strike(stopped, holder); err != nil {
		return w, err
	}
	if err := pause(ctx, downFor); err != nil {
		return w, err
	}
	if bound, err := heir.Bound("eth0", c.vip()); err != nil || !bound {
		return w, errors.Join(err, fmt.Errorf("%s has not taken over", heir.Name()))
	}
	w.until = boottime.Now()
	return w, c.repair(ctx, stopped, holder)
}

// count sorts the outcomes: a request belongs to a switchover if it was under way at
// any time of it.
func (s Switchover) count(env Env, c contender, q *lab.Requester, windows []window, r *Result) {
	add := func(measure, unit string, v float64) { r.Add(caseSwitchover, measure, c.name(), unit, Value{V: v}) }
	all, lostInWindows := q.Outcomes(0), 0
	for _, w := range windows {
		var lost, late int
		var slowest time.Duration
		for _, o := range all {
			switch {
			case o.Ended < w.from || o.Begun > w.until:
			case o.Err != nil:
				lost++
			default:
				slowest = max(slowest, o.Took())
				if o.Took() > lateAfter {
					late++
				}
			}
		}
		lostInWindows += lost
		add(lostRequests, "requests", float64(lost))
		add(lateRequests, "requests", float64(late))
		add(slowestRequest, "s", slowest.Seconds())
	}
	tally := q.Tally()
	add(lostElsewhere, "requests", float64(tally.Lost-lostInWindows))
	add(allRequests, "requests", float64(tally.Sent))
	env.Progress("%s: %d requests, %d switchovers, %d lost in them, %d besides%s", c.name(), tally.Sent, len(windows), lostInWindows,
		tally.Lost-lostInWindows, firstLosses(all))
}

// firstLosses tells why requests were lost.
func firstLosses(all []lab.Outcome) (text string) {
	why := map[string]int{}
	for _, o := range all {
		if o.Err != nil {
			why[o.Err.Error()]++
		}
	}
	for err, n := range why {
		text += fmt.Sprintf("; %d: %s", n, err)
	}
	return text
}

// served waits until a contender is ready and forwards to a real server.
func served(ctx context.Context, client *lab.Host, c contender) error {
	if _, _, err := c.ready(ctx); err != nil {
		return err
	}
	ctx, cancel := within(ctx, patience)
	defer cancel()
	return lab.WaitUntil(ctx, "the VIP is served", func() error {
		q, err := lab.NewRequester(client, lab.RequesterOptions{Target: netip.AddrPortFrom(c.vip(), 80), Total: 1, Timeout: time.Second})
		if err != nil {
			return err
		}
		if err := q.Run(ctx); err != nil {
			return err
		}
		return q.Outcomes(0)[0].Err
	})
}
