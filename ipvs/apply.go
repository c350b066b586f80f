package ipvs

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Result is what Apply really did. Together the four hold every step of the
// plan, each once, in the plan's order.
type Result struct {
	// Done are the steps that the kernel carried out.
	Done []Step
	// Moot are removals whose object somebody else had removed before.
	Moot []Step
	// Failed are the steps that the kernel refused, or of which nobody knows.
	Failed []*StepError
	// Skipped could not succeed, or were not tried: their service could not be
	// added or is gone, the context ended, or no step could succeed any more.
	Skipped []Step
}

// Outcomes of a step that are no failure.
var (
	errMoot    = errors.New("moot")
	errSkipped = errors.New("skipped")
)

// Apply carries out a plan, in batches of about 100 steps. A step that fails
// does not stop the others; the error is then an *ApplyError that wraps a
// *StepError for each. A context that ends stops before the next batch.
//
// The result points into the plan.
func (t *Table) Apply(ctx context.Context, plan Plan) (Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		return Result{Skipped: plan}, fmt.Errorf("apply to the IPVS table: %w", ErrClosed)
	}
	t.prepare(ctx, plan)
	a := &application{t: t, plan: plan, outcome: make([]error, len(plan)), missing: map[Key]bool{}}
	next := 0
	for next < len(plan) && a.cause == nil {
		if a.cause = ctx.Err(); a.cause == nil {
			next = a.fill(next)
			a.send()
		}
	}
	for ; next < len(plan); next++ {
		a.outcome[next] = errSkipped
	}
	return a.result()
}

// application is one Apply.
type application struct {
	t       *Table
	plan    Plan
	outcome []error // of each step; nil is done
	batch   []int   // the steps in the batch
	missing map[Key]bool
	cause   error // why no more steps are sent
	asked   bool  // the family was asked for again
}

// fill puts steps into the batch, from the given one on, and returns the first
// that found no room. Those about a service that is not there are passed over.
func (a *application) fill(from int) int {
	a.t.batch.Reset()
	a.batch = a.batch[:0]
	for ; from < len(a.plan) && !a.t.batch.Full(); from++ {
		s := &a.plan[from]
		switch {
		case a.missing[s.Service.Key]:
			a.outcome[from] = errSkipped
		case s.Op.command() == 0:
			a.outcome[from] = &StepError{Step: *s, Err: fmt.Errorf("unknown operation %q", byte(s.Op))}
		default:
			s.encode(&a.t.batch, a.t.family)
			a.batch = append(a.batch, from)
		}
	}
	return from
}

// send sends the batch and judges its outcome.
func (a *application) send() {
	if len(a.batch) == 0 {
		return
	}
	err := a.t.conn.Send(&a.t.batch, func(i int, err error) { a.outcome[a.batch[i]] = err })
	if a.familyChanged() {
		a.t.batch.Reset()
		for _, i := range a.batch {
			a.outcome[i] = nil
			a.plan[i].encode(&a.t.batch, a.t.family)
		}
		err = a.t.conn.Send(&a.t.batch, func(i int, err error) { a.outcome[a.batch[i]] = err })
	}
	if err != nil && a.cause == nil {
		a.cause = err
	}
	for _, i := range a.batch {
		a.judge(i, err)
	}
}

// familyChanged asks for the family again if a step failed as if there were
// none, once in a plan.
func (a *application) familyChanged() bool {
	for _, i := range a.batch {
		if !a.asked && familyGone(a.outcome[i]) {
			a.asked = true
			changed, err := a.t.resolveAnew()
			if err != nil {
				a.cause = err
			}
			return changed && err == nil
		}
	}
	return false
}

// judge says what the kernel's answer means for a step. unknown is why there
// may be none.
func (a *application) judge(i int, unknown error) {
	s, err := a.plan[i], a.outcome[i]
	if err == nil {
		err = unknown
	}
	switch {
	case err == nil:
		return
	case a.missing[s.Service.Key] && errors.Is(err, syscall.ESRCH):
		a.outcome[i] = errSkipped
		return
	case alreadyGone(s, err):
		a.outcome[i] = errMoot
		return
	}
	failed := &StepError{Step: s, Err: explain(s, err)}
	if familyGone(err) && a.cause != nil {
		failed.Err = a.cause
	}
	a.outcome[i] = failed
	if errors.Is(err, syscall.ESRCH) || s.Op == AddService && !errors.Is(err, syscall.EEXIST) {
		a.missing[s.Service.Key] = true
	}
	if a.cause == nil && fatal(failed.Err) {
		a.cause = failed
	}
}

// result files the outcomes. Where all is done the plan itself is the result.
func (a *application) result() (Result, error) {
	var r Result
	bad := 0
	for _, err := range a.outcome {
		if err != nil {
			bad++
		}
	}
	if bad == 0 {
		r.Done = a.plan[:len(a.plan):len(a.plan)]
		return r, nil
	}
	r.Done = make([]Step, 0, len(a.plan)-bad)
	for i, err := range a.outcome {
		switch failed := (*StepError)(nil); {
		case err == nil:
			r.Done = append(r.Done, a.plan[i])
		case errors.Is(err, errMoot):
			r.Moot = append(r.Moot, a.plan[i])
		case errors.As(err, &failed):
			r.Failed = append(r.Failed, failed)
		default:
			r.Skipped = append(r.Skipped, a.plan[i])
		}
	}
	if a.cause == nil && len(r.Failed) == 0 && len(r.Skipped) == 0 {
		return r, nil
	}
	return r, &ApplyError{Failed: r.Failed, Skipped: len(r.Skipped), Cause: a.cause}
}
