package nemesis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
)

// suffering is one fault under way.
type suffering struct {
	*run
	fault  Fault
	result Result
	begun  time.Duration
	base   time.Duration // from when the bound counts
	bound  time.Duration
	saved  bool // a capture was kept

	mu    sync.Mutex
	parts []Outcome
}

// suffer plays a fault, judges it, and returns when all is well again. An error is
// that of the nemesis itself, or of a cluster that does not get well.
func (r *run) suffer(ctx context.Context, f Fault) error {
	x := &suffering{run: r, fault: f, begun: boottime.Now(), parts: make([]Outcome, len(f.Parts))}
	x.result = Result{Number: f.Number, Name: f.Name(), Begun: r.at(x.begun)}
	for i, g := range r.site.groups {
		x.result.Groups = append(x.result.Groups, Cost{Group: g.name, Before: r.holder(i)})
	}
	watch, stopWatching := context.WithCancel(ctx)
	var watched sync.WaitGroup
	watched.Go(func() { x.watch(watch) })
	err := x.strike(ctx)
	if err == nil && ctx.Err() == nil {
		err = x.recover(ctx)
	}
	stopWatching()
	watched.Wait()
	x.judge()
	if ctx.Err() == nil { // one that was cut short says nothing of availability
		x.conclude()
	}
	return err
}

// strike injects all parts and heals them, each at its time. It heals also when
// ctx ends.
func (x *suffering) strike(ctx context.Context) error {
	targets := make([]struck, len(x.fault.Parts))
	for i, p := range x.fault.Parts {
		targets[i] = x.site.aim(p) // before any strikes
	}
	errs := make([]error, len(targets))
	var parts sync.WaitGroup
	for i, p := range targets {
		parts.Go(func() { errs[i] = x.part(ctx, i, p) })
	}
	parts.Wait()
	steady, cancel := demo.Within(context.WithoutCancel(ctx), patience)
	defer cancel()
	_, err := x.site.mend(steady) // what the fault has ended
	return errors.Join(append(errs, err)...)
}

// part injects one part and heals it. One that could not be injected, since the
// other part stands in its way, is noted.
func (x *suffering) part(ctx context.Context, i int, p struck) error {
	k := kindOf(p.Kind)
	rest(ctx, p.After)
	if ctx.Err() != nil {
		return nil
	}
	done := Outcome{Part: p.Part, Director: p.director, Injected: x.at(boottime.Now())}
	heal, err := k.inject(ctx, x.site, p)
	if err != nil {
		done.Note = "not injected, or in part: " + err.Error()
	} else {
		rest(ctx, p.Hold)
	}
	if heal != nil {
		steady, cancel := demo.Within(context.WithoutCancel(ctx), patience)
		err = lab.WaitUntil(steady, "it is healed", func() error { return heal(steady) })
		cancel()
	} else {
		err = nil
	}
	done.Healed = x.at(boottime.Now())
	x.mu.Lock()
	defer x.mu.Unlock()
	x.parts[i] = done
	return err
}

// rest waits, at most until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// recover waits until all is well, and judges how long the service took.
func (x *suffering) recover(ctx context.Context) error {
	x.base = boottime.Now()
	x.result.Healed = x.at(x.base)
	var zooKeeper, recordLost bool
	for _, p := range x.fault.Parts {
		zooKeeper = zooKeeper || kindOf(p.Kind).zooKeeper
		recordLost = recordLost || kindOf(p.Kind).recordLost
	}
	wait, cancel := demo.Within(ctx, 2*patience)
	defer cancel()
	if zooKeeper {
		if err := x.site.quorum(wait); err != nil {
			return x.notWell(ctx, "", "ZooKeeper has no quorum again", err)
		}
		x.base = boottime.Now()
	}
	x.result.Counted = x.at(x.base)
	x.bound = Bound(x.timing, recordLost)
	x.result.BoundMS = millis(x.bound)
	limit, cancelLimit := demo.Within(ctx, x.bound+patience)
	defer cancelLimit()
	stopMending := x.keepMending(limit)
	defer stopMending()
	for i := range x.site.groups {
		if err := x.returned(limit, i); err != nil {
			return x.notWell(ctx, x.site.groups[i].name, "the client is not served again", err)
		}
	}
	if err := lab.WaitUntil(limit, "all is well", func() error { return x.site.settled(limit) }); err != nil {
		return x.notWell(ctx, "", "a director is not in its place", err)
	}
	return nil
}

// ErrNotWell ends a run: the cluster does not get well after a fault, and others
// would say nothing. It is among the violations too.
var ErrNotWell = errors.New("the cluster does not get well")

func (x *suffering) notWell(ctx context.Context, group, what string, err error) error {
	if ctx.Err() != nil { // somebody interrupted: the cluster had no time to get well
		return context.Cause(ctx)
	}
	x.violate(Violation{Group: group, Text: fmt.Sprintf("%s: %v", what, err), From: x.at(x.base), Until: x.at(boottime.Now())})
	return fmt.Errorf("%w: %s: %w", ErrNotWell, what, err)
}

// keepMending starts what ends after the heal, and notes it. The returned function
// stops that.
func (x *suffering) keepMending(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var mending sync.WaitGroup
	mending.Go(func() {
		for rest(ctx, time.Second); ctx.Err() == nil; rest(ctx, time.Second) {
			ended, err := x.site.mend(ctx)
			if err != nil {
				ended = append(ended, "not started again: "+err.Error())
			}
			x.mu.Lock()
			x.result.Notes = append(x.result.Notes, ended...)
			x.mu.Unlock()
		}
	})
	return func() {
		cancel()
		mending.Wait()
	}
}

// returned waits until the client is served by a group again.
func (x *suffering) returned(ctx context.Context, group int) error {
	var at time.Duration
	err := lab.WaitUntil(ctx, "the client is served by group "+x.site.groups[group].name, func() error {
		rest(ctx, 90*time.Millisecond)
		var ok bool
		if at, ok = servedFrom(x.requesters[group].Outcomes(x.base), x.base); !ok {
			return errors.New("it is not")
		}
		return nil
	})
	if err != nil {
		return err
	}
	took := at - x.base
	x.result.ReturnMS = max(x.result.ReturnMS, millis(took))
	if took > x.bound {
		x.violate(Violation{
			Group: x.site.groups[group].name, From: x.at(x.base), Until: x.at(at), MS: millis(took - x.bound),
			Text: fmt.Sprintf("the client is served again only %.2f s after the heal, the bound is %.2f s", took.Seconds(), x.bound.Seconds()),
		})
	}
	return nil
}

// watch judges while the fault is under way, so that the capture of a violation
// still holds it.
func (x *suffering) watch(ctx context.Context) {
	for ctx.Err() == nil {
		x.judge()
		rest(ctx, time.Second)
	}
}

// overlapped is how far before a fault its judgment begins.
const overlapped = 5 * time.Second

// judge looks for overlaps that were not reported.
func (x *suffering) judge() {
	for i, g := range x.site.groups {
		since := max(x.begun-overlapped, 0)
		for _, o := range Judge(x.claims(i, since), x.removed(i), mostDelay) {
			if o.Until <= x.judged[i] {
				continue
			}
			x.judged[i] = o.Until
			x.violate(Violation{
				Safety: true, Group: g.name, From: x.at(o.From), Until: x.at(o.Until), MS: millis(o.Until - o.From), Text: o.text(),
			})
		}
	}
}

func (o Overlap) text() string {
	what := fmt.Sprintf("%d requests answered by both", o.Requests)
	if o.Interleaved {
		what += ", one answered between answers of the other"
	}
	if o.Announced {
		what += ", one announced while the other answered"
	}
	return fmt.Sprintf("%s and %s answered within %.1f ms: %s", o.Hosts[0], o.Hosts[1], millis(o.Until-o.From), what)
}

// violate notes a violation, with what is kept of it.
func (x *suffering) violate(v Violation) {
	x.mu.Lock()
	defer x.mu.Unlock()
	v.Fault, v.Name = x.fault.Number, x.fault.Name()
	v.Starved = !v.Safety && (x.stalled() > starvation || len(x.result.Notes) > 0)
	v.Replay = strings.Join(x.command([]int{v.Fault}), " ")
	x.result.Bad++
	if !x.saved {
		files, err := x.keep()
		if err != nil {
			x.Progress("what is known of a violation could not be kept: %v", err)
		}
		v.Files, x.saved = files, true
	}
	x.report.Violations = append(x.report.Violations, v)
	x.Progress("%v", v)
}

// starvation is a pause of the observers after which a late return is blamed on the
// machine. So it is where a process timer ended a director that no fault had struck.
const starvation = 300 * time.Millisecond

// stalled is the longest pause of the observers since the fault began.
func (x *suffering) stalled() (longest time.Duration) {
	for _, w := range x.witnesses {
		last := x.begun
		for _, at := range append(w.Sent(x.begun), boottime.Now()) {
			longest = max(longest, at-last-probeInterval)
			last = at
		}
	}
	return longest
}

// keep writes the capture of the LAN and the directors' logs.
func (x *suffering) keep() (files []string, err error) {
	if x.Dir == "" {
		return nil, nil
	}
	name := fmt.Sprintf("fault-%d.pcap", x.fault.Number)
	file, err := os.Create(filepath.Join(x.Dir, name))
	if err != nil {
		return nil, err
	}
	err = errors.Join(x.capture.Write(file, 0), file.Close())
	files = append(files, name)
	for _, director := range x.site.Directors() {
		name := fmt.Sprintf("fault-%d-%s.log", x.fault.Number, director)
		err = errors.Join(err, os.WriteFile(filepath.Join(x.Dir, name), []byte(x.site.Director(director).Log()), 0o644))
		files = append(files, name)
	}
	return files, err
}

// conclude notes the result.
func (x *suffering) conclude() {
	ended := boottime.Now()
	x.result.Ended, x.result.Parts, x.result.StallMS = x.at(ended), x.parts, millis(x.stalled())
	for i := range x.result.Groups {
		g := &x.result.Groups[i]
		longest, lost := unserved(x.requesters[i].Outcomes(x.begun), x.begun, ended, x.Interval)
		g.After, g.OutageMS, g.Lost = x.holder(i), millis(longest), lost
		g.Neighbors = len(x.neighbors.Changes(x.site.groups[i].vip, x.begun))
	}
	x.report.Faults = append(x.report.Faults, x.result)
	x.Progress("%s", x.result.line())
}

// line is the result for the progress.
func (r Result) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%3d  %-34s", r.Number, r.Name)
	for _, g := range r.Groups {
		moved := g.Before
		if g.After != g.Before {
			moved += " > " + g.After
		}
		fmt.Fprintf(&b, "  %s: out %5.2f s, lost %3d (%s)", g.Group, g.OutageMS/1000, g.Lost, moved)
	}
	fmt.Fprintf(&b, "  back after %.2f of %.2f s", r.ReturnMS/1000, r.BoundMS/1000)
	if r.Bad > 0 {
		fmt.Fprintf(&b, "  %d VIOLATIONS", r.Bad)
	}
	for _, p := range r.Parts {
		if p.Note != "" {
			fmt.Fprintf(&b, "\n       %s: %s", p.Kind, p.Note)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "\n       %s", n)
	}
	return b.String()
}
