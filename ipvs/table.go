package ipvs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
)

// handle is what Table needs of *ipvs.Handle.
type handle interface {
	GetServices() ([]*ipvs.Service, error)
	GetDestinations(*ipvs.Service) ([]*ipvs.Destination, error)
	NewService(*ipvs.Service) error
	UpdateService(*ipvs.Service) error
	DelService(*ipvs.Service) error
	NewDestination(*ipvs.Service, *ipvs.Destination) error
	UpdateDestination(*ipvs.Service, *ipvs.Destination) error
	DelDestination(*ipvs.Service, *ipvs.Destination) error
	Close()
}

// Table is the IPVS table of one network namespace. Its methods may be called
// from several goroutines; they take turns, since the netlink handle below
// must not be shared.
type Table struct {
	mu sync.Mutex
	h  handle // nil after Close
	// supported tells why the kernel does not answer as it did at Open.
	supported func() error
}

// Open opens the table of the calling thread's network namespace. Where the
// kernel does not have ip_vs loaded it runs modprobe; if that does not help
// the error wraps ErrNoKernelSupport, without the right to use the table
// ErrPermission. The netlink library remembers the first ip_vs that it met in
// this process: after a reload of the module there is only ErrReloaded.
func Open() (*Table, error) {
	if _, err := familyID(); err != nil {
		probe := runModprobe(context.Background(), "ip_vs")
		if _, err := familyID(); err != nil {
			return nil, fmt.Errorf("open the IPVS table: %w", noSupport(probe, err))
		}
	}
	id, err := familyID()
	if err != nil {
		return nil, fmt.Errorf("open the IPVS table: %w", noSupport(nil, err))
	}
	h, err := ipvs.New("")
	if err != nil {
		return nil, fmt.Errorf("open the IPVS table: netlink socket: %w", err)
	}
	t := &Table{h: h, supported: func() error { return sameFamily(id) }}
	if _, err := h.GetConfig(); err != nil {
		h.Close()
		if errors.Is(err, syscall.ENOENT) { // of a family that was there a moment ago
			err = ErrReloaded
		}
		return nil, fmt.Errorf("open the IPVS table: %w", t.readError(err))
	}
	return t, nil
}

// Close frees the netlink socket. The kernel's table stays as it is.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.h != nil {
		t.h.Close()
		t.h = nil
	}
}

// Services reads the whole table, sorted by name: every service for TCP or UDP
// with its destinations. It costs one system call and more a service
// (1,000 services x 4 take 1.5 to 2.7 s in user-mode Linux).
func (t *Table) Services() ([]Service, error) {
	var out []Service
	err := t.each(nil, func(s *ipvs.Service, ds []*ipvs.Destination) {
		out = append(out, fromKernel(s, ds))
	})
	if err != nil {
		return nil, err
	}
	sortTable(out)
	return out, nil
}

// each calls f for every service that the model can name and whose key is in
// only (nil: all).
func (t *Table) each(only map[Key]bool, f func(*ipvs.Service, []*ipvs.Destination)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.h == nil {
		return fmt.Errorf("read the IPVS table: %w", ErrClosed)
	}
	services, err := t.h.GetServices()
	if err != nil {
		return fmt.Errorf("read the IPVS table: %w", t.readError(err))
	}
	for _, s := range services {
		key, ok := keyFromKernel(s)
		if !ok || (only != nil && !only[key]) {
			continue
		}
		// A service removed since the dump has no destinations and no
		// error here; the next read does not find it at all.
		ds, err := t.h.GetDestinations(s)
		if err != nil {
			return fmt.Errorf("read the destinations of %v: %w", key, t.readError(err))
		}
		f(s, ds)
	}
	return nil
}

// Result is what Apply really did. Together the four hold every step of the
// plan, each once.
type Result struct {
	// Done are the steps that the kernel acknowledged.
	Done []Step
	// Moot are removals whose object somebody else had removed before.
	Moot []Step
	// Failed are the steps that the kernel refused.
	Failed []*StepError
	// Skipped were not tried: their service could not be added or is gone,
	// the context ended, or no step could succeed any more.
	Skipped []Step
}

// Apply carries out a plan, step by step. A step that fails does not stop
// those about other services; the error is then an *ApplyError that wraps a
// *StepError for each. A context that ends stops before the next step.
func (t *Table) Apply(ctx context.Context, plan Plan) (Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.h == nil {
		return Result{Skipped: plan}, fmt.Errorf("apply to the IPVS table: %w", ErrClosed)
	}
	var r Result
	var cause error
	missing := make(map[Key]bool) // services whose further steps are pointless
	for i, s := range plan {
		if cause == nil {
			cause = ctx.Err()
		}
		if cause != nil {
			r.Skipped = append(r.Skipped, plan[i:]...)
			break
		}
		if missing[s.Service.Key] {
			r.Skipped = append(r.Skipped, s)
			continue
		}
		cause = t.record(&r, s, t.do(s), missing)
	}
	if cause == nil && len(r.Failed) == 0 {
		return r, nil
	}
	return r, &ApplyError{Failed: r.Failed, Skipped: len(r.Skipped), Cause: cause}
}

// record files the outcome of one step. It returns an error if that outcome
// ends the whole plan.
func (t *Table) record(r *Result, s Step, err error, missing map[Key]bool) error {
	switch {
	case err == nil:
		r.Done = append(r.Done, s)
		return nil
	case alreadyGone(s, err):
		r.Moot = append(r.Moot, s)
		return nil
	}
	failed := &StepError{Step: s, Err: t.stepReason(s, err)}
	r.Failed = append(r.Failed, failed)
	if s.Op == AddService || errors.Is(err, syscall.ESRCH) {
		missing[s.Service.Key] = true
	}
	if fatal(failed.Err) {
		return failed
	}
	return nil
}

// stepReason is why the kernel refused s. ENOENT is also what it says to a
// family of messages that it does not know any more.
func (t *Table) stepReason(s Step, err error) error {
	if errors.Is(err, syscall.ENOENT) {
		if gone := t.supported(); gone != nil {
			return gone
		}
	}
	return explain(s, err)
}

// readError is why a read failed.
func (t *Table) readError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EOPNOTSUPP):
		if gone := t.supported(); gone != nil {
			return gone
		}
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w (%w)", ErrPermission, err)
	}
	return err
}

// do carries out one step.
func (t *Table) do(s Step) error {
	if s.Op.onDestination() && s.Destination.Address.Is4() != s.Service.Address.Is4() {
		if s.Service.Address.Is4() {
			return errIPv6Destination
		}
		return errIPv4Destination
	}
	svc := s.Service.toKernel()
	switch s.Op {
	case AddService:
		return t.h.NewService(svc)
	case EditService:
		return t.h.UpdateService(svc)
	case DeleteService:
		return t.h.DelService(svc)
	case AddDestination:
		return t.h.NewDestination(svc, s.Destination.toKernel())
	case EditDestination:
		return t.h.UpdateDestination(svc, s.Destination.toKernel())
	case DeleteDestination:
		return t.h.DelDestination(svc, s.Destination.toKernel())
	}
	return fmt.Errorf("unknown operation %q", byte(s.Op))
}

// familyID asks the kernel for the number of IPVS's netlink family. It is
// asked before the netlink library is, which asks once in a process's life
// and would remember for ever that there was none.
func familyID() (uint16, error) {
	f, err := netlink.GenlFamilyGet("IPVS")
	if err != nil {
		return 0, err
	}
	return f.ID, nil
}

// sameFamily tells whether ip_vs is still the one that was there at Open: the
// library cannot talk to one that was unloaded and loaded again.
func sameFamily(id uint16) error {
	now, err := familyID()
	if err != nil {
		return noSupport(nil, err)
	}
	if now != id {
		return ErrReloaded
	}
	return nil
}

// noSupport is ErrNoKernelSupport with what modprobe said, or the kernel.
func noSupport(modprobe, kernel error) error {
	if !errors.Is(kernel, syscall.ENOENT) {
		return fmt.Errorf("ask for the netlink family IPVS: %w", kernel)
	}
	if modprobe != nil {
		return fmt.Errorf("%w: %w", ErrNoKernelSupport, modprobe)
	}
	return ErrNoKernelSupport
}
