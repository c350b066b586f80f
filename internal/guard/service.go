package guard

import (
	"errors"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
)

// None is an argument that says nothing (gob has no empty struct).
type None struct{ X bool }

// service is what a director can ask of its guard: one method a call, run
// concurrently. net/rpc finds them by their form.
type service struct{ p *Process }

var errNoHello = errors.New("guard: asked before it was told its settings")

// Hello tells the settings, once.
func (s *service) Hello(a Settings, r *LifeAnswer) error {
	life, err := s.p.hello(a)
	r.Life, r.Problem = life, describe(err)
	return nil
}

// Leave tells that the director ends in order: what it released it has settled.
func (s *service) Leave(_ None, _ *Done) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.core.Leave()
	s.p.left = true
	return nil
}

// Queued notes the director's lock in a queue.
func (s *service) Queued(q election.Queued, r *Done) error {
	r.Problem = describe(s.ready(func(p *Process) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.core.Queued(q)
	}))
	return nil
}

// Bind and Extend carry out a grant.
func (s *service) Bind(a BindArgs, r *Done) error {
	r.Problem = describe(s.ready(func(p *Process) error {
		return p.carryOut(a, func(h fence.Holding, until time.Duration) error { return p.parts.Host.Bind(h, a.VIPs, until) })
	}))
	return nil
}

// Extend renews what was bound.
func (s *service) Extend(a BindArgs, r *Done) error {
	r.Problem = describe(s.ready(func(p *Process) error { return p.carryOut(a, p.parts.Host.Extend) }))
	return nil
}

// Fence carries out a fence that the director orders.
func (s *service) Fence(a FenceArgs, r *Done) error {
	r.Problem = describe(s.ready(func(p *Process) error { return p.ordered(a.Holding, a.Reason) }))
	return nil
}

// Watch takes in the list of all VIPs.
func (s *service) Watch(vips []fence.VIP, r *Done) error {
	r.Problem = describe(s.ready(func(p *Process) error { return p.parts.Host.Watch(vips) }))
	return nil
}

// Sweep removes what an earlier life left.
func (s *service) Sweep(_ None, r *Found) error {
	r.Problem = describe(s.ready(func(p *Process) (err error) {
		r.Swept, err = p.parts.Host.Sweep()
		return err
	}))
	return nil
}

// RemoveForeign removes VIPs that are not held.
func (s *service) RemoveForeign(vips []fence.VIP, r *Found) error {
	r.Problem = describe(s.ready(func(p *Process) (err error) {
		r.Removed, r.Hidden, err = p.parts.Host.RemoveForeign(vips)
		return err
	}))
	return nil
}

// Exempt lets other directors' packets in to a VIP.
func (s *service) Exempt(a ExemptArgs, r *Done) error {
	r.Problem = describe(s.ready(func(p *Process) error { return p.parts.Exempt(a.VIP, a.MACs) }))
	return nil
}

// SetGARPRefresh sets how often addresses are announced again.
func (s *service) SetGARPRefresh(every time.Duration, r *Done) error {
	r.Problem = describe(s.ready(func(p *Process) error {
		p.parts.Host.SetGARPRefresh(every)
		return nil
	}))
	return nil
}

// ready does what is asked unless the guard has not been told its settings.
func (s *service) ready(do func(*Process) error) error {
	s.p.mu.Lock()
	ready := s.p.parts != nil
	s.p.mu.Unlock()
	if !ready {
		return errNoHello
	}
	return do(s.p)
}
