package director

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/health"
	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/ipvs"
)

// rules keeps the kernel's IPVS table as desired. Passes are serialized; the
// table is opened when it is first needed, so that groups without services need
// no ip_vs.
type rules struct {
	open    func() (Table, error)
	desired func(held map[string]bool) []ipvs.Service
	done    func() // after a pass that made the table what desired returned
	log     *zap.Logger
	beat

	pass sync.Mutex // one at a time; guards table
	tab  Table

	mu   sync.Mutex // guards held
	held map[string]bool

	opened atomic.Bool // the table is open

	drift atomic.Uint64 // things that another program had changed, since the director's start
}

func newRules(open func() (Table, error), desired func(map[string]bool) []ipvs.Service, done func(), log *zap.Logger) *rules {
	return &rules{open: open, desired: desired, done: done, log: log, held: map[string]bool{}, beat: newBeat()}
}

// run repairs drift at an interval and follows kicks.
func (r *rules) run(ctx context.Context) error {
	return r.loop(ctx, func() {
		if err := r.sync(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("IPVS rules are not as desired", zap.Error(err))
		}
	})
}

// hold notes that the rules of a group are wanted here, or no longer are.
func (r *rules) hold(group string, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if held {
		r.held[group] = true
	} else {
		delete(r.held, group)
	}
}

// groups are those whose rules are wanted here.
func (r *rules) groups() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.held)
}

// sync makes the table what is desired now.
func (r *rules) sync(ctx context.Context) error {
	r.pass.Lock()
	defer r.pass.Unlock()
	desired := r.desired(r.groups())
	if len(desired) > 0 || r.tab != nil {
		if err := r.reconcile(ctx, desired); err != nil {
			return err
		}
	}
	r.done()
	return nil
}

// clear removes every rule that is ours.
func (r *rules) clear(ctx context.Context) error {
	r.pass.Lock()
	defer r.pass.Unlock()
	return r.reconcile(ctx, nil)
}

func (r *rules) reconcile(ctx context.Context, desired []ipvs.Service) error {
	if err := r.ensure(); err != nil {
		if len(desired) == 0 && errors.Is(err, ipvs.ErrNoKernelSupport) {
			return nil // nothing can be there
		}
		return err
	}
	report, err := r.tab.Reconcile(ctx, desired)
	r.tell(report.Drift)
	for _, k := range report.Adopted {
		r.log.Info("adopted an IPVS service", zap.Stringer(logfield.Service, k))
	}
	return err
}

// maxDriftLines is how many changes of one pass are logged one by one: `ipvsadm -C`
// changes everything.
const maxDriftLines = 20

// tell counts and logs what another program had changed.
func (r *rules) tell(drift []ipvs.Drift) {
	r.drift.Add(uint64(len(drift)))
	for _, d := range drift[:min(len(drift), maxDriftLines)] {
		r.log.Warn("the IPVS table was changed by another program", zap.Stringer(logfield.Reason, d), zap.Bool("repaired", d.Repaired))
	}
	if more := len(drift) - maxDriftLines; more > 0 {
		r.log.Warn("further changes of the IPVS table by other programs", zap.Int("more", more))
	}
}

func (r *rules) ensure() error {
	if r.tab != nil {
		return nil
	}
	tab, err := r.open()
	if err != nil {
		return err
	}
	r.tab = tab
	r.opened.Store(true)
	return nil
}

// available reports why IPVS cannot be used here, nil if it can. It waits for a
// pass under way only while the table is not open: such passes are short.
func (r *rules) available() error {
	if r.opened.Load() {
		return nil
	}
	r.pass.Lock()
	defer r.pass.Unlock()
	return r.ensure()
}

// asked is what the desired rules follow from.
type asked struct {
	spec       *spec.Spec
	here, held map[string]bool
	drains     uint64
	verdicts   map[health.Target]health.Verdict
}

func (a asked) same(b asked) bool {
	return a.spec == b.spec && a.drains == b.drains && maps.Equal(a.here, b.here) && maps.Equal(a.held, b.held) &&
		maps.EqualFunc(a.verdicts, b.verdicts, func(v, w health.Verdict) bool { return v.State == w.State })
}

// desiredRules is spec x role x verdicts. It is called in passes over the rules
// only, most of which find what the one before has found: thousands of services
// are not to be made anew each second.
func (d *Director) desiredRules(held map[string]bool) []ipvs.Service {
	d.mu.Lock()
	sp := d.docs.spec
	d.mu.Unlock()
	if sp == nil {
		return nil
	}
	now := asked{spec: sp, here: d.rulesHere(held), held: held, drains: d.drains.revision(), verdicts: d.cfg.Checks.Snapshot()}
	if now.same(d.asked) {
		return d.desired
	}
	services := Rules(sp, now.here, func(s spec.Service, rs spec.RealServer) bool { return usable(s, rs, now.verdicts) })
	d.asked, d.desired = now, d.drains.reduce(sp, now.here, held, services)
	return d.desired
}

// usable reports whether a real server may get connections. One whose check
// has not come to a result yet gets none; the first result decides at once.
func usable(s spec.Service, rs spec.RealServer, verdicts map[health.Target]health.Verdict) bool {
	if s.Check == nil {
		return true
	}
	t, err := checkTarget(s, rs)
	return err == nil && verdicts[t].State == health.Up
}
