package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
)

// maxRounds bounds how often one Reconcile reads anew because another program
// wrote to the table between its read and its write.
const maxRounds = 3

// kernelTable is what a Reconciler needs of a Table.
type kernelTable interface {
	Services() ([]Service, error)
	Apply(context.Context, Plan) (Result, error)
}

// Reconciler makes the kernel's table what is desired, again and again, and
// remembers what it left there, so that it can tell a change of mind from
// drift: a change that another program made.
type Reconciler struct {
	mu    sync.Mutex
	table kernelTable
	owned *Owned
	// left is what the table was seen to hold, or was made to, of ours at
	// the end of the last round. Services with a failed step are not in it.
	left []Service
	// earlier are the services that an earlier life left behind, as far as
	// this one has not come across them.
	earlier map[Key]bool
}

// NewReconciler joins a table and the record of what is ours in it.
func NewReconciler(table *Table, owned *Owned) (*Reconciler, error) {
	if table == nil || owned == nil {
		return nil, errors.New("reconciler: needs a table and the record of owned services")
	}
	return newReconciler(table, owned), nil
}

func newReconciler(table kernelTable, owned *Owned) *Reconciler {
	earlier := map[Key]bool{}
	for _, k := range owned.Keys() {
		earlier[k] = true
	}
	return &Reconciler{table: table, owned: owned, earlier: earlier}
}

// Report is what one Reconcile found and did.
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

// Reconcile reads the table, records ownership, and applies the difference.
// An empty desired table removes all that is ours. The report is of use even
// with an error, which is
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
	if err := ValidateAll(desired); err != nil {
		return report, fmt.Errorf("reconcile: %w", err)
	}
	for round := 1; ; round++ {
		err := r.round(ctx, desired, &report)
		if err == nil || round == maxRounds || !errors.Is(err, ErrRaced) || ctx.Err() != nil {
			return report, err
		}
		// The steps that failed are planned again from a new read.
		report.Result.Failed, report.Result.Skipped = nil, nil
	}
}

func (r *Reconciler) round(ctx context.Context, desired []Service, report *Report) error {
	actual, err := r.table.Services()
	if err != nil {
		return err
	}
	drift := findDrift(r.left, desired, actual)
	have, want := index(actual), index(desired)
	r.noteFound(report, have, want)
	if err := r.owned.Add(sortedKeys(want)...); err != nil {
		report.Drift = append(report.Drift, drift...)
		return err
	}
	result, err := r.table.Apply(ctx, Diff(desired, actual, r.owned.Has))
	broken := result.notDone()
	for i := range drift {
		drift[i].Repaired = !broken.touches(drift[i].Step)
	}
	report.Drift = append(report.Drift, drift...)
	report.Result.add(result)
	r.left = broken.without(desired)
	return errors.Join(err, r.giveUp(have, want, result))
}

// giveUp shrinks the record of what is ours by what is neither desired nor in
// the kernel any more.
func (r *Reconciler) giveUp(have, want map[Key]*Service, result Result) error {
	for _, s := range append(result.Done, result.Moot...) {
		if s.Op == DeleteService {
			delete(have, s.Service.Key)
		}
	}
	var gone []Key
	for _, k := range r.owned.Keys() {
		_, stands := have[k]
		_, wanted := want[k]
		if !stands && !wanted {
			gone = append(gone, k)
		}
	}
	return r.owned.Remove(gone...)
}

// noteFound reports what this life did not put into the table.
func (r *Reconciler) noteFound(report *Report, have, want map[Key]*Service) {
	for _, k := range sortedKeys(have) {
		_, wanted := want[k]
		switch {
		case wanted && !r.owned.Has(k):
			report.Adopted = append(report.Adopted, k)
		case !wanted && r.earlier[k]:
			report.Leftovers = append(report.Leftovers, k)
		}
		delete(r.earlier, k)
	}
}

func (r *Result) add(o Result) {
	r.Done = append(r.Done, o.Done...)
	r.Moot = append(r.Moot, o.Moot...)
	r.Failed = append(r.Failed, o.Failed...)
	r.Skipped = append(r.Skipped, o.Skipped...)
}

// objects is a set of services (with the zero AddrPort) and destinations.
type objects map[object]bool

type object struct {
	key  Key
	dest netip.AddrPort
}

func (s Step) object() object {
	if s.Op.onDestination() {
		return object{s.Service.Key, s.Destination.AddrPort()}
	}
	return object{key: s.Service.Key}
}

// notDone are the objects that are not as the plan wanted them.
func (r Result) notDone() objects {
	out := objects{}
	for _, f := range r.Failed {
		out[f.Step.object()] = true
	}
	for _, s := range r.Skipped {
		out[s.object()] = true
	}
	return out
}

func (o objects) touches(s Step) bool { return o[s.object()] }

// without copies the services of which no part is in the set.
func (o objects) without(services []Service) []Service {
	keys := make(map[Key]bool, len(o))
	for obj := range o {
		keys[obj.key] = true
	}
	var out []Service
	for _, s := range services {
		if !keys[s.Key] {
			s.Destinations = slices.Clone(s.Destinations)
			out = append(out, s)
		}
	}
	return out
}
