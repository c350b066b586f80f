package ipvs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zklvs/zklvs/internal/boottime"
)

// maxRounds bounds how often one Reconcile reads anew because another program
// wrote to the table between its read and its write.
const maxRounds = 3

// kernelTable is what a Reconciler needs of a Table.
type kernelTable interface {
	services(keys []Key, destinations func(Key) bool) ([]Service, error)
	visible(f func(*procService)) error
	Apply(ctx context.Context, plan Plan) (Result, error)
}

// Reconciler makes the kernel's table what is desired, again and again, and
// remembers what it left there, so that it can tell a change of mind from
// drift: a change that another program made.
//
// It reads no more than it has to. A change of mind costs a read of the services
// that it is about. Drift shows in /proc/net/ip_vs, which is read in each pass
// (less often if that takes long); what does not show there (thresholds,
// tunnels, flags of schedulers, engines) is found when the whole table is read,
// at first and then every minute or, if that takes long, less often.
type Reconciler struct {
	mu    sync.Mutex
	table kernelTable
	owned *Owned
	now   func() time.Duration
	// left is what the table was seen to hold, or was made to, of what is
	// desired. A service with a failed step is not in it, but in unsure.
	left   map[Key]*leftService
	unsure map[Key]bool
	// earlier are the services that an earlier life left behind, as far as
	// this one has not come across them.
	earlier map[Key]bool
	pass    uint64 // numbers the passes and the looks at /proc
	hz      uint64 // the kernel's ticks a second, 0 as long as it is unknown
	shown   pace   // of looks at /proc/net/ip_vs
	whole   pace   // of reads of the whole table

	drift, looks, reads, wholes atomic.Uint64
}

// leftService is replaced, never changed: drift points to it.
type leftService struct {
	Service
	wanted uint64 // the last pass in which it was desired
	seen   uint64 // the last look that showed it as it was left
}

// Counts are how often something happened in the life of a Reconciler.
type Counts struct {
	// Drift is the number of things that another program had changed.
	Drift uint64
	// Looks are reads of /proc/net/ip_vs, Reads those of some services, Wholes
	// those of the whole table.
	Looks, Reads, Wholes uint64
}

// NewReconciler joins a table and the record of what is ours in it.
func NewReconciler(table *Table, owned *Owned) (*Reconciler, error) {
	if table == nil || owned == nil {
		return nil, errors.New("reconciler: needs a table and the record of owned services")
	}
	return newReconciler(table, owned, boottime.Now), nil
}

// RemoveOwned removes what is ours from the table of the calling thread's network
// namespace. It is for the time when no director lives there.
func RemoveOwned(ctx context.Context, owned *Owned) error {
	table, err := Open()
	if err != nil {
		return err
	}
	defer table.Close()
	_, err = newReconciler(table, owned, boottime.Now).Reconcile(ctx, nil)
	return err
}

func newReconciler(table kernelTable, owned *Owned, now func() time.Duration) *Reconciler {
	earlier := map[Key]bool{}
	for _, k := range owned.Keys() {
		earlier[k] = true
	}
	return &Reconciler{
		table: table, owned: owned, now: now, earlier: earlier,
		left: map[Key]*leftService{}, unsure: map[Key]bool{},
		shown: pace{least: 500 * time.Millisecond, share: 20},
		whole: pace{least: time.Minute, share: 100},
	}
}

// Counts may be called at any time.
func (r *Reconciler) Counts() Counts {
	return Counts{Drift: r.drift.Load(), Looks: r.looks.Load(), Reads: r.reads.Load(), Wholes: r.wholes.Load()}
}

// Report is what one Reconcile found and did. It points into the desired table.
type Report struct {
	// Drift is what another program had changed since the last Reconcile.
	Drift []Drift
	// Adopted are desired services that stood in the kernel and were not
	// ours; they are now.
	Adopted []Key
	// Leftovers are services of an earlier life that are not desired; they
	// were to be removed.
	Leftovers []Key
	// Result is what was done, over all rounds.
	Result Result
}

// Reconcile finds out what differs, records ownership, and applies the
// difference. An empty desired table removes all that is ours. The report is of
// use even with an error, which is
//   - that of ValidateAll if desired is not valid: nothing was read or done;
//   - that of the state file: if it could not be extended nothing was done;
//   - that of the read, or an *ApplyError. A step that failed because another
//     program was faster is tried again after another read, three reads in all.
//
// Calling it again is always right.
func (r *Reconciler) Reconcile(ctx context.Context, desired []Service) (Report, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var report Report
	touched, err := r.changes(desired)
	if err != nil {
		return report, fmt.Errorf("reconcile: %w", err)
	}
	looked := r.look(touched)
	defer func() { looked(len(report.Drift) == 0) }()
	for round := 1; ; round++ {
		if len(touched) > 0 || len(r.unsure) > 0 || r.wholeDue() {
			err = r.round(ctx, desired, touched, &report)
		}
		if err == nil || round == maxRounds || !errors.Is(err, ErrRaced) || ctx.Err() != nil {
			return report, err
		}
		// The steps that failed are planned again from a new read.
		report.Result.Failed, report.Result.Skipped = nil, nil
	}
}

// keySet is a set of services.
type keySet map[Key]struct{}

// changes finds the services of which something else is desired than was left.
func (r *Reconciler) changes(desired []Service) (keySet, error) {
	r.pass++
	touched := keySet{}
	known, valid := 0, true
	for i := range desired {
		s := &desired[i]
		if l := r.left[s.Key]; l != nil {
			known++
			valid = valid && l.wanted != r.pass // else it stands there twice
			l.wanted = r.pass
			if s.same(&l.Service) {
				continue
			}
		} else if _, twice := touched[s.Key]; twice {
			valid = false
		}
		touched[s.Key] = struct{}{}
		valid = valid && s.Validate() == nil
	}
	if !valid {
		return nil, ValidateAll(desired)
	}
	if known < len(r.left) {
		for k, l := range r.left {
			if l.wanted != r.pass {
				touched[k] = struct{}{}
			}
		}
	}
	return touched, nil
}

// wholeDue tells whether it is time to read the whole table.
func (r *Reconciler) wholeDue() bool { return r.whole.due(r.now()) }

// round reads the touched services, or all, and puts right what differs.
func (r *Reconciler) round(ctx context.Context, desired []Service, touched keySet, report *Report) error {
	for k := range r.unsure {
		touched[k] = struct{}{}
	}
	sc, err := r.read(desired, touched)
	if err != nil {
		return err
	}
	drift := findDrift(sc.left, sc.desired, sc.actual)
	r.drift.Add(uint64(len(drift)))
	have, want := index(sc.actual), index(sc.desired)
	r.noteFound(report, have, want)
	if err := r.owned.Add(sortedKeys(want)...); err != nil {
		report.Drift = append(report.Drift, drift...)
		return err
	}
	result, err := r.table.Apply(ctx, Diff(sc.desired, sc.actual, r.owned.Has))
	broken := result.notDone()
	for i := range drift {
		drift[i].Repaired = !broken[drift[i].Step.object()]
	}
	report.Drift = append(report.Drift, drift...)
	report.Result.add(result)
	r.remember(sc, broken)
	err = errors.Join(err, r.giveUp(sc, have, want, result))
	clear(touched) // what is not as desired now is unsure
	return err
}

// remember notes what the table holds now.
func (r *Reconciler) remember(sc part, broken map[object]bool) {
	r.forget(sc)
	for o := range broken {
		r.unsure[o.key] = true
	}
	for i := range sc.desired {
		s := &sc.desired[i]
		if r.unsure[s.Key] {
			continue
		}
		l := sc.was[s.Key]
		if l == nil || !s.same(&l.Service) {
			l = &leftService{Service: s.clone()}
		}
		l.wanted = r.pass
		r.left[s.Key] = l
	}
}

// forget says that nothing is known of the services in the scope.
func (r *Reconciler) forget(sc part) {
	if sc.whole {
		clear(r.left)
		clear(r.unsure)
		return
	}
	for k := range sc.keys {
		delete(r.left, k)
		delete(r.unsure, k)
	}
}

// giveUp shrinks the record of what is ours by what is neither desired nor in
// the kernel any more.
func (r *Reconciler) giveUp(sc part, have, want map[Key]*Service, result Result) error {
	for _, steps := range [][]Step{result.Done, result.Moot} {
		for i := range steps {
			if steps[i].Op == DeleteService {
				delete(have, steps[i].Service.Key)
			}
		}
	}
	var gone []Key
	look := func(k Key) {
		if have[k] == nil && want[k] == nil {
			gone = append(gone, k)
		}
	}
	if sc.whole {
		r.owned.each(look)
	} else {
		for k := range sc.keys {
			look(k)
		}
	}
	return r.owned.Remove(gone...)
}

// noteFound reports what this life did not put into the table.
func (r *Reconciler) noteFound(report *Report, have, want map[Key]*Service) {
	for _, k := range sortedKeys(have) {
		wanted := want[k] != nil
		switch {
		case wanted && !r.owned.Has(k):
			report.Adopted = append(report.Adopted, k)
		case !wanted && r.earlier[k]:
			report.Leftovers = append(report.Leftovers, k)
		}
		delete(r.earlier, k)
	}
}
