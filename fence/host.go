package fence

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

// DefaultGARPRefresh is how often a bound VIP is announced again.
const DefaultGARPRefresh = time.Minute

// Config holds what a Host needs. All but GARPRefresh must be set.
type Config struct {
	Logger    *zap.Logger
	Kernel    Kernel
	Announcer Announcer
	// Now reads CLOCK_BOOTTIME.
	Now func() time.Duration
	// StatePath is the file that lists what may be bound, on a file system that
	// is empty after a boot and private to this network namespace (/run/zklvs).
	StatePath string
	// GARPRefresh defaults to DefaultGARPRefresh.
	GARPRefresh time.Duration
}

// Host owns the VIPs of all groups on this host. Its methods are safe for
// concurrent use. What is done for one group is done in order; groups do not
// wait for each other, except for the kernel's own lock.
type Host struct {
	log       *zap.Logger
	kernel    Kernel
	announcer Announcer
	now       func() time.Duration
	claims    *claims
	refresh   atomic.Int64  // time.Duration between announcements
	wake      chan struct{} // there is something new to announce

	// sweeping is held for reading while something is bound anew, so that a sweep,
	// which holds it for writing, never mistakes that for a leftover.
	sweeping sync.RWMutex

	mu     sync.Mutex // guards groups, and fenced and bound of each group
	groups map[string]*group
}

// group is one group's place on this host.
type group struct {
	act  sync.Mutex // held during a whole sequence of kernel acts
	held *held      // guarded by act

	fenced memory // guarded by Host.mu, so that a fence is known at once
	bound  *Bound // guarded by Host.mu: what status shows
}

// held is what may be bound for a group: from just before the first address is
// bound until all are verified gone.
type held struct {
	Holding
	vips     []VIP
	deadline time.Duration
	announce schedule
	bound    bool // Bind succeeded: may be renewed and announced
}

// Bound is one bound group, as shown in a status.
type Bound struct {
	Holding
	VIPs     []VIP
	Deadline time.Duration // CLOCK_BOOTTIME
}

// New checks the configuration and reads the state file. It changes nothing
// and starts nothing: call Sweep for leftovers, Run for announcements.
func New(c Config) (*Host, error) {
	if c.Logger == nil || c.Kernel == nil || c.Announcer == nil || c.Now == nil || c.StatePath == "" {
		return nil, errors.New("fence: Logger, Kernel, Announcer, Now and StatePath must be set")
	}
	cl, err := newClaims(c.StatePath)
	if err != nil {
		return nil, err
	}
	h := &Host{
		log:       c.Logger,
		kernel:    c.Kernel,
		announcer: c.Announcer,
		now:       c.Now,
		claims:    cl,
		wake:      make(chan struct{}, 1),
		groups:    map[string]*group{},
	}
	h.SetGARPRefresh(c.GARPRefresh)
	return h, nil
}

// LinkState reports whether an interface is up and has a carrier.
func (h *Host) LinkState(name string) (up, carrier bool, err error) {
	l, err := h.kernel.Link(name)
	return l.Up, l.Carrier, err
}

// Bound returns what is bound, sorted by group.
func (h *Host) Bound() []Bound {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []Bound
	for _, g := range h.groups {
		if g.bound != nil {
			b := *g.bound
			b.VIPs = slices.Clone(b.VIPs)
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b Bound) int { return cmp.Compare(a.Group, b.Group) })
	return all
}

// Bind binds the VIPs of a group until deadline and has them announced.
// Repeated with the same lock it replaces the list of VIPs and renews.
//
// After an error nothing of the group is bound, with two exceptions: when a
// list could not be replaced, the old one stays bound unless the error is
// ErrFenced or ErrLeaseOver; and when a removal could not be verified the error
// says so and Fence must be repeated until it succeeds.
//
// Errors: ErrFenced, ErrLeaseOver, ErrHeld, ErrTaken, ErrOwnAddress, and the
// kernel's.
func (h *Host) Bind(hold Holding, vips []VIP, deadline time.Duration) error {
	err := errors.Join(hold.validate(), validateVIPs(vips))
	if err == nil {
		err = h.bind(hold, slices.Clone(vips), deadline)
	}
	if err != nil {
		return fmt.Errorf("bind group %s: %w", hold.Group, err)
	}
	return nil
}

func (h *Host) bind(hold Holding, vips []VIP, deadline time.Duration) error {
	h.sweeping.RLock()
	defer h.sweeping.RUnlock()
	g := h.group(hold.Group)
	g.act.Lock()
	defer g.act.Unlock()
	if err := h.mayBind(g, hold, vips, deadline); err != nil {
		return err
	}
	var before []VIP
	if g.held != nil {
		before = g.held.vips
	}
	all := union(vips, before)
	if err := h.claims.take(hold.Group, all); err != nil {
		return errors.Join(err, h.claims.keep(hold.Group, before))
	}
	// From here on a fence knows of them, whatever happens.
	g.held = &held{Holding: hold, vips: all, deadline: deadline}
	if err := h.bindAll(g, vips); err != nil {
		return errors.Join(err, h.retreat(g, before, err))
	}
	return h.settle(g, vips, without(all, vips))
}

// mayBind refuses a Bind before anything is changed.
func (h *Host) mayBind(g *group, hold Holding, vips []VIP, deadline time.Duration) error {
	if _, err := h.permitAt(g, hold.Lock, h.now(), deadline); err != nil {
		return err
	}
	if g.held != nil && g.held.Lock != hold.Lock {
		return fmt.Errorf("lock %s: %w (%s): fence that first", hold.Lock, ErrHeld, g.held.Lock)
	}
	table, err := h.kernel.Addresses()
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range vips {
		errs = append(errs, refuseOwn(table, v.Address))
	}
	return errors.Join(errs...)
}

// bindAll binds each VIP, takes over copies that others bound, and verifies
// the result in the kernel's dump.
func (h *Host) bindAll(g *group, vips []VIP) error {
	table, err := h.kernel.Addresses()
	if err != nil {
		return err
	}
	for _, v := range vips {
		if err := h.relabel(table, v); err != nil {
			return err
		}
		if err := h.bindOne(g, v); err != nil {
			return err
		}
	}
	if err := h.removeAll(strays(vips)); err != nil {
		return err
	}
	return h.verifyBound(vips)
}

// settle drops the VIPs that a new list no longer has, and publishes the rest.
func (h *Host) settle(g *group, vips, dropped []VIP) error {
	if err := h.removeAll(among(dropped)); err != nil {
		return err // still in held.vips: the fence will remove them
	}
	h.hold(g, vips)
	h.hint()
	h.log.Info("bound", zap.String(logfield.Group, g.held.Group), zap.Stringers(logfield.VIP, vips),
		zap.String(logfield.Lock, g.held.Lock), zap.Uint64(logfield.Epoch, g.held.Epoch),
		zap.Duration(logfield.Deadline, g.held.deadline-h.now()))
	return nil
}

// retreat undoes a Bind that failed for cause: all of it when the group was
// not bound before or may not be any more, else only what was new.
func (h *Host) retreat(g *group, before []VIP, cause error) error {
	if errors.Is(cause, ErrFenced) || errors.Is(cause, ErrLeaseOver) || len(before) == 0 {
		return h.release(g)
	}
	if err := h.removeAll(among(without(g.held.vips, before))); err != nil {
		return err
	}
	h.hold(g, before)
	return nil
}

// hold makes vips the list that is bound, and gives up the claims to others.
func (h *Host) hold(g *group, vips []VIP) {
	g.held.vips, g.held.bound = vips, true
	h.publish(g)
	h.keep(g.held.Group, vips)
}

// keep gives up claims to addresses that are verified gone. Should that fail,
// a list that names too many only costs the next life a look.
func (h *Host) keep(group string, vips []VIP) {
	if err := h.claims.keep(group, vips); err != nil {
		h.log.Warn("a VIP that is not bound any more stays in the list", zap.String(logfield.Group, group), zap.Error(err))
	}
}

// actTries is how often a kernel act that took longer than actSlack is repeated.
const actTries = 3

// bindOne binds or renews one VIP. The lease is checked immediately before the
// act and again after it.
func (h *Host) bindOne(g *group, v VIP) error {
	for range actTries {
		before := h.now()
		seconds, err := h.permitAt(g, g.held.Lock, before, g.held.deadline)
		if err != nil {
			return err
		}
		a := Address{Prefix: prefix32(v.Address), Interface: v.Interface, Label: v.label(), Valid: seconds}
		if err := h.kernel.Replace(a); err != nil {
			return err
		}
		after := h.now()
		if _, err := h.permitAt(g, g.held.Lock, after, g.held.deadline); err != nil {
			return fmt.Errorf("after binding %v: %w", v, err)
		}
		if after-before <= actSlack {
			return nil
		}
	}
	// The lifetime runs from the end of a slow act: too long by what it took.
	return fmt.Errorf("bind %v: the kernel took more than %v, %d times in a row", v, actSlack, actTries)
}

// verifyBound asks the kernel's dump whether all VIPs are bound as they should be.
func (h *Host) verifyBound(vips []VIP) error {
	table, err := h.kernel.Addresses()
	if err != nil {
		return err
	}
	for _, v := range vips {
		if !slices.ContainsFunc(table, func(a Address) bool { return a.is32(v) && a.expiring() }) {
			return fmt.Errorf("verify: %v is not bound with a lifetime: someone else changes it", v)
		}
	}
	return nil
}

// Extend renews the lifetimes of a bound group for a lease that now lasts until
// deadline. A VIP that vanished is put back, announced and reported; a copy
// that someone else bound is removed. It goes on after an error with one VIP.
// An act that ended after the lease has everything removed before it returns.
//
// Errors: ErrFenced, ErrLeaseOver, ErrHeld, ErrNotHeld, and the kernel's.
func (h *Host) Extend(hold Holding, deadline time.Duration) error {
	g := h.group(hold.Group)
	g.act.Lock()
	defer g.act.Unlock()
	err := h.extend(g, hold, deadline)
	if err != nil {
		return fmt.Errorf("renew group %s: %w", hold.Group, err)
	}
	return nil
}

func (h *Host) extend(g *group, hold Holding, deadline time.Duration) error {
	if _, err := h.permitAt(g, hold.Lock, h.now(), deadline); err != nil {
		return err
	}
	switch {
	case g.held == nil || !g.held.bound:
		return ErrNotHeld
	case g.held.Lock != hold.Lock:
		return fmt.Errorf("lock %s: %w (%s)", hold.Lock, ErrHeld, g.held.Lock)
	}
	g.held.deadline = deadline
	h.publish(g)
	table, err := h.kernel.Addresses()
	errs := []error{err}
	if err == nil {
		h.noteMissing(g, table)
	}
	for _, v := range g.held.vips {
		err := h.bindOne(g, v)
		if errors.Is(err, ErrFenced) || errors.Is(err, ErrLeaseOver) {
			return errors.Join(err, h.release(g))
		}
		errs = append(errs, err)
	}
	if stray := strays(g.held.vips); slices.ContainsFunc(table, stray.match) {
		errs = append(errs, h.removeAll(stray))
	}
	return errors.Join(errs...)
}

// noteMissing reports VIPs that vanished, and has them announced again.
func (h *Host) noteMissing(g *group, table []Address) {
	for _, v := range g.held.vips {
		if slices.ContainsFunc(table, func(a Address) bool { return a.is32(v) }) {
			continue
		}
		h.log.Warn("a bound VIP vanished, not by our doing: put back", zap.String(logfield.Group, g.held.Group), zap.Stringer(logfield.VIP, v))
		g.held.announce = schedule{}
		h.hint()
	}
}

// group returns a group's place, made at its first use.
func (h *Host) group(name string) *group {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.groups[name]
	if g == nil {
		g = &group{}
		h.groups[name] = g
	}
	return g
}

// permitAt says for how many seconds an address may be bound at now under a lock.
func (h *Host) permitAt(g *group, lock string, now, deadline time.Duration) (uint32, error) {
	h.mu.Lock()
	fenced := g.fenced.has(lock)
	h.mu.Unlock()
	if fenced {
		return 0, fmt.Errorf("lock %s: %w", lock, ErrFenced)
	}
	seconds, ok := Lifetime(now, deadline)
	if !ok {
		return 0, fmt.Errorf("lock %s: %w: %v left, expected more than %v", lock, ErrLeaseOver, deadline-now, StepDownMargin)
	}
	return seconds, nil
}

// publish makes what is held visible in Bound. The caller holds g.act.
func (h *Host) publish(g *group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g.bound = nil
	if g.held != nil {
		g.bound = &Bound{Holding: g.held.Holding, VIPs: g.held.vips, Deadline: g.held.deadline}
	}
}
