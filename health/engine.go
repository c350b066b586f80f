package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

// MaxConcurrent is how many probes run at a time. It bounds descriptors; it is
// this large because each server that silently drops packets occupies a place
// for its whole timeout.
const MaxConcurrent = 1024

// startGap is the average distance between the first probes of targets that
// are added together: a few are probed at once, many are spread over up to
// their interval.
const startGap = 2 * time.Millisecond

// Prober probes targets of one kind or more. Probe returns nil if the target
// is well, and otherwise an error that says what was expected. It returns soon
// after ctx ends, leaves no goroutine, descriptor or process behind, and may be
// called from several goroutines.
type Prober interface {
	Probe(ctx context.Context, t Target) error
}

// Engine probes a changing set of targets. Its methods may be called from any
// goroutine.
type Engine struct {
	log     *zap.Logger
	now     func() time.Duration
	probers map[Kind]Prober
	limit   int
	wake    chan struct{}
	changed chan struct{}

	mu      sync.Mutex
	entries map[Target]*entry
	queue   queue
	active  int // probes that run
	started bool
}

// New returns an engine without targets. now reads CLOCK_BOOTTIME; probers has
// one prober for each kind of target that will be set.
func New(log *zap.Logger, now func() time.Duration, probers map[Kind]Prober) *Engine {
	return &Engine{
		log:     log,
		now:     now,
		probers: probers,
		limit:   MaxConcurrent,
		wake:    make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
		entries: make(map[Target]*entry),
	}
}

// Probers returns a prober for every kind of this package; execDir is the
// directory of scripts, see [ExecProber].
func Probers(execDir string) map[Kind]Prober {
	return map[Kind]Prober{
		TCP:  TCPProber{},
		HTTP: HTTPProber{},
		Exec: &ExecProber{Dir: execDir},
		ICMP: GatewayProber{},
		ARP:  GatewayProber{},
	}
}

// Set replaces the targets. Those that stay keep verdict and schedule. A new
// one that asks the same question on other terms (a changed interval, say)
// starts with the verdict so far, so that an edit of the terms takes no server
// out of service. Probes of targets that go are broken off. If any target is
// invalid or has no prober, nothing is changed and the error names each.
func (e *Engine) Set(targets []Target) error {
	if err := e.validate(targets); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	wanted := make(map[Target]bool, len(targets))
	var added []Target
	for _, t := range targets {
		if !wanted[t] && e.entries[t] == nil {
			added = append(added, t)
		}
		wanted[t] = true
	}
	known := e.answers(len(added) > 0)
	for t, en := range e.entries {
		if !wanted[t] {
			e.drop(en)
		}
	}
	e.add(added, known)
	poke(e.wake)
	return nil
}

func (e *Engine) validate(targets []Target) error {
	var errs []error
	for _, t := range targets {
		if err := t.Validate(); err != nil {
			errs = append(errs, err)
		} else if e.probers[t.Kind] == nil {
			errs = append(errs, fmt.Errorf("%s: no prober for kind %q", t, t.Kind))
		}
	}
	return errors.Join(errs...)
}

// answers returns the newest verdict by question, if it is needed at all.
func (e *Engine) answers(needed bool) map[Target]Verdict {
	if !needed {
		return nil
	}
	known := make(map[Target]Verdict, len(e.entries))
	for t, en := range e.entries {
		if old, ok := known[t.question()]; !ok || old.LastRun < en.verdict.LastRun {
			known[t.question()] = en.verdict
		}
	}
	return known
}

func (e *Engine) drop(en *entry) {
	delete(e.entries, en.target)
	e.queue.remove(en)
	if en.cancel != nil {
		en.cancel()
	}
}

func (e *Engine) add(added []Target, known map[Target]Verdict) {
	now, wall := e.now(), time.Now()
	for _, t := range added {
		window := min(t.Interval, time.Duration(len(added))*startGap)
		en := &entry{check: newCheck(t, now, wall, now+rand.N(window))}
		if v, ok := known[t.question()]; ok {
			en.adopt(v)
		}
		e.entries[t] = en
		e.queue.add(en)
	}
}

// Snapshot returns the verdicts of all targets.
func (e *Engine) Snapshot() map[Target]Verdict {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[Target]Verdict, len(e.entries))
	for t, en := range e.entries {
		out[t] = en.verdict
	}
	return out
}

// Changed gives a hint that some target's State has changed since the hint
// before. Many changes can be one hint.
func (e *Engine) Changed() <-chan struct{} { return e.changed }

// Run probes until ctx ends, waits for the probes it broke off, and returns
// nil. It fails only if it runs already.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.begin(); err != nil {
		return err
	}
	defer e.end()
	ctx, cancel := context.WithCancel(ctx)
	var probes sync.WaitGroup
	defer probes.Wait()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if wait, ok := e.startDue(ctx, &probes); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		case <-timer.C:
		}
	}
}

func (e *Engine) begin() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started {
		return errors.New("health: the engine runs already")
	}
	e.started = true
	return nil
}

func (e *Engine) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.started = false
}

// startDue starts what is due, as far as there is room, and returns how long
// until the next is. It reports false when there is nothing to wait for but a
// wake: the end of a probe, or Set.
func (e *Engine) startDue(ctx context.Context, probes *sync.WaitGroup) (time.Duration, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	for e.active < e.limit {
		en := e.queue.next()
		if en == nil {
			return 0, false
		}
		if en.due > now {
			return en.due - now, true
		}
		e.queue.remove(en)
		e.active++
		probeCtx, cancel := context.WithCancel(ctx)
		en.cancel = cancel
		probes.Go(func() { e.probe(probeCtx, en) })
	}
	return 0, false
}

// probe runs one probe and takes in its outcome.
func (e *Engine) probe(ctx context.Context, en *entry) {
	t := en.target // set once, so no lock
	timed, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	o := outcome{started: e.now()}
	o.err = e.probers[t.Kind].Probe(timed, t)
	if o.err == nil && timed.Err() != nil {
		o.err = fmt.Errorf("%s: answered, but not within %s", t, t.Timeout)
	}
	o.ended, o.wall = e.now(), time.Now()
	e.finish(en, o, ctx.Err() != nil)
}

// finish puts the entry back into the queue with its outcome, which counts for
// nothing if the probe was broken off. It logs without holding the lock: a log
// that blocks must not block Snapshot.
func (e *Engine) finish(en *entry, o outcome, brokenOff bool) {
	before, after, changed := e.settle(en, o, brokenOff)
	poke(e.wake)
	switch {
	case changed:
		poke(e.changed)
		e.logChange(en.target, before.State, after, o)
	case errors.Is(o.err, ErrInconclusive) && before.LastError != after.LastError:
		e.log.Warn("probe says nothing about its target: verdict kept",
			zap.Stringer(logfield.Check, en.target), zap.String(logfield.Reason, after.LastError))
	}
}

// settle does finish's work on the engine's state.
func (e *Engine) settle(en *entry, o outcome, brokenOff bool) (before, after Verdict, changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active--
	en.cancel()
	en.cancel = nil
	before = en.verdict
	if e.entries[en.target] != en { // dropped, or dropped and set anew
		return before, before, false
	}
	if !brokenOff {
		changed = en.report(o)
	}
	e.queue.add(en)
	return before, en.verdict, changed
}

func (e *Engine) logChange(t Target, from State, v Verdict, o outcome) {
	level, reason := zap.InfoLevel, "answers"
	if v.State == Down {
		level, reason = zap.WarnLevel, v.LastError
	}
	e.log.Log(level, "verdict changed",
		zap.Stringer(logfield.Check, t),
		zap.Stringer(logfield.From, from),
		zap.Stringer(logfield.To, v.State),
		zap.String(logfield.Reason, reason),
		zap.Duration(logfield.Took, o.ended-o.started))
}

// poke puts a hint into a channel of one place, and never blocks.
func poke(hint chan struct{}) {
	select {
	case hint <- struct{}{}:
	default:
	}
}
