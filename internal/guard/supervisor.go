package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
)

const (
	// patience is how long a guard may take to answer. One that is silent for
	// longer is killed: the host fences without it.
	patience = 2 * time.Second
	// killBy is how long before its deadline a fence that a guard does not
	// confirm is done without it: both processes' timers go off at 50 ms.
	killBy = 100 * time.Millisecond
	// The pause before a guard that died is replaced, doubled each time up to the last.
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
	// steady is how long a guard lives after which the pause begins anew.
	steady = time.Minute
)

var errKilled = errors.New("it was killed")

// ErrNoGuard says that nothing can be bound for now.
var ErrNoGuard = errors.New("no guard process runs")

// SupervisorConfig is what a Supervisor is made of. All fields are required.
type SupervisorConfig struct {
	// Launch starts a guard.
	Launch func() (*Child, error)
	// Settings are told to each.
	Settings Settings
	// FenceHere removes, verified, what a guard that died left bound.
	FenceHere func() error
	// Lost is called when a guard has died, before its leftovers are gone.
	Lost func(reason string)
	// Link reads whether an interface is up and has a carrier.
	Link   func(name string) (up, carrier bool, err error)
	Alarm  Alarm
	Now    func() time.Duration // CLOCK_BOOTTIME
	Logger *zap.Logger
}

// Supervisor is the director's side: it keeps a guard running, and is the
// director's Fencer through it. When a guard dies the supervisor fences by
// itself, and what was held under that guard is over: it is never resumed
// under another. Its methods are safe for concurrent use.
type Supervisor struct {
	SupervisorConfig
	log *zap.Logger

	mu       sync.Mutex         // guards what follows
	guard    *instance          // the last one; it may be dead
	life     Life               // of the first: no later one may offer less
	granted  map[string]granted // by lock
	refresh  time.Duration
	restarts int
}

// granted is under which guard a lock is held, and until when.
type granted struct {
	guard    *instance
	deadline time.Duration
}

// NewSupervisor returns a supervisor without a guard: see Start and Run.
func NewSupervisor(cfg SupervisorConfig) *Supervisor {
	return &Supervisor{SupervisorConfig: cfg, log: cfg.Logger, granted: map[string]granted{}}
}

// Status is what a supervisor shows.
type Status struct {
	PID      int // 0 while none runs
	Restarts int
}

// Status returns how it stands.
func (s *Supervisor) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Restarts: s.restarts}
	if s.guard != nil && !s.guard.isDead() {
		st.PID = s.guard.child.PID
	}
	return st
}

// Alive reports whether nothing may be bound under a deadline that has passed:
// what a watchdog of this process may be fed for.
func (s *Supervisor) Alive() bool {
	now := s.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.granted {
		if now >= h.deadline {
			return false
		}
	}
	return true
}

// Start starts the first guard and returns what it offers. Its error is a
// reason not to run at all.
func (s *Supervisor) Start() (Life, error) {
	g, err := s.launch()
	if err != nil {
		return Life{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guard, s.life = g, g.life
	return g.life, nil
}

// launch starts a guard and tells it its settings.
func (s *Supervisor) launch() (*instance, error) {
	child, err := s.Launch()
	if err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	g := newInstance(child)
	go s.follow(g)
	var a LifeAnswer
	if err := errors.Join(g.call("Hello", s.Settings, &a, 5*patience), a.Problem.err()); err != nil {
		s.discard(g)
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	if a.Life.Version != s.Settings.Version {
		s.discard(g)
		return nil, errVersion(s.Settings.Version, a.Life.Version)
	}
	g.life = a.Life
	return g, nil
}

// discard ends a guard under which nothing was held.
func (s *Supervisor) discard(g *instance) {
	s.mu.Lock()
	g.left = true
	s.mu.Unlock()
	g.kill()
	<-g.swept
}

// follow waits for a guard's end, fences in its place, and says so. It ends
// only when the addresses are verified gone.
func (s *Supervisor) follow(g *instance) {
	err := g.child.Wait()
	close(g.dead)
	g.client.Close()
	s.mu.Lock()
	left := g.left
	s.mu.Unlock()
	if !left {
		s.log.Error("the guard died: fencing in its place", zap.Int("pid", g.child.PID), zap.Error(err))
		s.Lost("the guard process died")
	}
	for {
		err := s.FenceHere()
		if err == nil {
			break
		}
		s.log.Error("the addresses that the guard left are not verified gone: trying again", zap.Error(err))
		time.Sleep(fenceRetry)
	}
	close(g.swept)
}

// Run replaces guards that die, until ctx ends: then it lets the last one go.
func (s *Supervisor) Run(ctx context.Context) error {
	pause := firstPause
	for {
		g, since := s.current(), s.Now()
		select {
		case <-ctx.Done():
			return s.dismiss(g)
		case <-g.swept:
		}
		if s.Now()-since > steady {
			pause = firstPause
		}
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			pause = min(2*pause, lastPause)
			if s.replace() {
				break
			}
		}
	}
}

// replace starts a guard in the place of one that died.
func (s *Supervisor) replace() bool {
	g, err := s.launch()
	if err == nil && (g.life.Lateness > s.life.Lateness || !slices.Equal(g.life.Layers, s.life.Layers)) {
		s.discard(g)
		err = fmt.Errorf("it offers the fence layers %q, the one before %q", g.life.Layers, s.life.Layers)
	}
	if err != nil {
		s.log.Error("no guard: nothing can be held here", zap.Error(err))
		return false
	}
	s.mu.Lock()
	s.guard = g
	s.restarts++
	refresh, restarts := s.refresh, s.restarts
	s.mu.Unlock()
	if refresh > 0 {
		s.SetGARPRefresh(refresh)
	}
	s.log.Info("another guard runs", zap.Int("pid", g.child.PID), zap.Int("restarts", restarts))
	return true
}

// dismiss ends a guard in order: the director has released everything.
func (s *Supervisor) dismiss(g *instance) error {
	s.mu.Lock()
	g.left = true
	s.mu.Unlock()
	err := g.call("Leave", None{}, new(Done), patience)
	g.client.Close() // ends it
	select {
	case <-g.swept:
		return nil
	case <-time.After(patience):
	}
	g.kill()
	<-g.swept
	return fmt.Errorf("the guard did not end by itself within %v: %w", patience, errors.Join(err, errKilled))
}

func (s *Supervisor) current() *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.guard
}

// ask calls the guard that runs. One that does not answer is killed.
func (s *Supervisor) ask(method string, args, answer any) error {
	g := s.current()
	if g == nil || g.isDead() {
		return ErrNoGuard
	}
	return s.askOne(g, method, args, answer, patience)
}

func (s *Supervisor) askOne(g *instance, method string, args, answer any, wait time.Duration) error {
	err := g.call(method, args, answer, wait)
	if err != nil {
		s.log.Error("the guard does not answer: ending it", zap.String("call", method), zap.Error(err))
		g.kill()
		return fmt.Errorf("guard: %s: %w", method, err)
	}
	return nil
}

// Sweep removes what an earlier life left.
func (s *Supervisor) Sweep() ([]fence.VIP, error) {
	var a Found
	err := s.ask("Sweep", None{}, &a)
	return a.Swept, errors.Join(err, a.Problem.err())
}

// Watch tells the guard every VIP of the documents.
func (s *Supervisor) Watch(vips []fence.VIP) error {
	var a Done
	return errors.Join(s.ask("Watch", vips, &a), a.Problem.err())
}

// Queued tells the guard which lock to settle if this process dies.
func (s *Supervisor) Queued(q election.Queued) error {
	var a Done
	return errors.Join(s.ask("Queued", q, &a), a.Problem.err())
}

// Bind binds a group's VIPs as fence.Host.Bind does. A holding begins and ends
// with one guard.
func (s *Supervisor) Bind(g election.Grant, vips []fence.VIP) error { return s.grant("Bind", g, vips) }

// Extend renews as fence.Host.Extend does.
func (s *Supervisor) Extend(g election.Grant) error { return s.grant("Extend", g, nil) }

func (s *Supervisor) grant(method string, g election.Grant, vips []fence.VIP) error {
	guard, err := s.guardOf(g)
	if err != nil {
		return err
	}
	if err := s.Alarm.Set(g.Holding.Lock, g.Deadline); err != nil {
		return fmt.Errorf("arm the process timer, without which nothing is bound: %w", err)
	}
	var a Done
	err = s.askOne(guard, method, BindArgs{Guard: guard.life.ID, Grant: g, VIPs: vips}, &a, patience)
	if err != nil {
		return fmt.Errorf("%w: %w", fence.ErrFenced, err) // it is being killed: the holding is over
	}
	return a.Problem.err()
}

// guardOf returns the guard under which a lock is held, the one that runs for
// a lock that is new. It looks at the clock before the process timer is set.
func (s *Supervisor) guardOf(g election.Grant) (*instance, error) {
	if left := g.Deadline - s.Now(); left <= fence.StepDownMargin {
		return nil, fmt.Errorf("lock %s: %w: %v left", g.Holding.Lock, fence.ErrLeaseOver, left)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	was, known := s.granted[g.Holding.Lock]
	if !known {
		was.guard = s.guard
	}
	switch {
	case known && was.guard.isDead():
		return nil, fmt.Errorf("lock %s: %w: its guard died", g.Holding.Lock, fence.ErrFenced)
	case was.guard == nil || was.guard.isDead():
		return nil, ErrNoGuard
	}
	was.deadline = g.Deadline
	s.granted[g.Holding.Lock] = was
	return was.guard, nil
}

// Fence makes this host stop answering for a holding, as fence.Host.Fence does:
// by its guard, or in place of a guard that died or does not answer.
func (s *Supervisor) Fence(h election.Holding, reason string) error {
	s.mu.Lock()
	held, known := s.granted[h.Lock]
	if !known {
		held.guard = s.guard
	}
	s.mu.Unlock()
	if held.guard == nil {
		return ErrNoGuard
	}
	if err := s.fenceBy(held, h, reason); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.granted, h.Lock)
	s.mu.Unlock()
	if err := s.Alarm.Clear(h.Lock); err != nil {
		s.log.Error("the process timer cannot be disarmed: it will end this director", zap.Error(err))
	}
	return nil
}

func (s *Supervisor) fenceBy(held granted, h election.Holding, reason string) error {
	g := held.guard
	if !g.isDead() {
		// What is left until the process timers go off is the time for it.
		wait := max(killBy, min(patience, held.deadline-s.Now()-killBy))
		var a Done
		err := s.askOne(g, "Fence", FenceArgs{h, reason}, &a, wait)
		if err == nil {
			return a.Problem.err()
		}
	}
	<-g.swept // it is dead or being killed
	return nil
}

// RemoveForeign removes VIPs that are not held here.
func (s *Supervisor) RemoveForeign(vips []fence.VIP) (removed, hidden []fence.Address, err error) {
	var a Found
	err = s.ask("RemoveForeign", vips, &a)
	return a.Removed, a.Hidden, errors.Join(err, a.Problem.err())
}

// Exempt lets packets from the given hardware addresses in to a VIP that is shut
// here, replacing an earlier list.
func (s *Supervisor) Exempt(vip netip.Addr, macs []net.HardwareAddr) error {
	var a Done
	return errors.Join(s.ask("Exempt", ExemptArgs{vip, macs}, &a), a.Problem.err())
}

// LinkState reports whether an interface can serve: not while no guard runs.
func (s *Supervisor) LinkState(name string) (up, carrier bool, err error) {
	if g := s.current(); g == nil || g.isDead() {
		return false, false, ErrNoGuard
	}
	return s.Link(name)
}

// SetGARPRefresh sets how often addresses are announced again, also by later guards.
func (s *Supervisor) SetGARPRefresh(every time.Duration) {
	s.mu.Lock()
	s.refresh = every
	s.mu.Unlock()
	var a Done
	if err := errors.Join(s.ask("SetGARPRefresh", every, &a), a.Problem.err()); err != nil {
		s.log.Warn("the guard does not take the announcement interval", zap.Duration("every", every), zap.Error(err))
	}
}
