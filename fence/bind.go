package fence

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

// Bind binds the VIPs of a group behind their shut gate, looks at the lease
// again, opens the gate until deadline, and has the VIPs announced. Repeated
// with the same lock it replaces the list of VIPs and renews. An interface of
// this host that cannot be gated, be it that of a VIP or not, is an error.
//
// After an error nothing of the group answers or is bound, with two exceptions: when a
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
	if err := h.gateIn(vips); err != nil {
		return err
	}
	var before, open []VIP
	if g.held != nil {
		before = g.held.vips
		if g.held.bound && h.now() < g.openUntil() {
			open = before // their addresses live at least as long
		}
	}
	all := union(vips, before)
	if err := h.claims.take(hold.Group, all); err != nil {
		return errors.Join(err, h.claims.keep(hold.Group, before))
	}
	// From here on a fence knows of them, whatever happens.
	g.held = &held{Holding: hold, vips: all, deadline: deadline}
	g.note(hold.Lock, all)
	if err := h.install(g, vips, open); err != nil {
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

// install binds vips behind the shut gate, verified, and opens it; for those
// that are open already it moves the deadline first.
func (h *Host) install(g *group, vips, open []VIP) error {
	if err := h.open(g, open); err != nil {
		return err
	}
	if err := h.shut(g, without(vips, open)); err != nil {
		return err
	}
	if err := h.bindAll(g, vips); err != nil {
		return err
	}
	return h.open(g, vips)
}

// bindAll binds each VIP, takes over copies that others bound, and verifies
// the result in the kernel's dump.
func (h *Host) bindAll(g *group, vips []VIP) error {
	table, err := h.kernel.Addresses()
	if err != nil {
		return err
	}
	for _, v := range vips {
		if err := h.makeWay(table, v); err != nil {
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
	if err := h.remove(g, dropped); err != nil {
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
	if err := h.remove(g, without(g.held.vips, before)); err != nil {
		return err
	}
	h.hold(g, before)
	return nil
}

// hold makes vips the list that is bound, and gives up the claims to others.
func (h *Host) hold(g *group, vips []VIP) {
	g.held.vips, g.held.bound = vips, true
	g.note(g.held.Lock, vips)
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
		a := Address{Prefix: hostPrefix(v.Address), Interface: v.Interface, Label: v.label(), Flags: v.flags(), Valid: seconds}
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
		if !slices.ContainsFunc(table, func(a Address) bool { return a.binds(v) && a.expiring() && !a.silent() }) {
			return fmt.Errorf("verify: %v is not bound with a lifetime: someone else changes it", v)
		}
	}
	return nil
}

// Extend renews a bound group for a lease that now lasts until deadline: first
// the gate's deadline, for that is one store to memory, then the addresses'
// lifetimes. A VIP that vanished is put back, announced and reported; a copy
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
	errs := []error{h.open(g, g.held.vips)}
	h.publish(g)
	table, err := h.kernel.Addresses()
	errs = append(errs, err)
	if err == nil {
		h.noteMissing(g, table)
	}
	for _, v := range g.held.vips {
		err := errors.Join(h.makeWay(table, v), h.bindOne(g, v))
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
		if slices.ContainsFunc(table, func(a Address) bool { return a.binds(v) }) {
			continue
		}
		h.log.Warn("a bound VIP vanished, not by our doing: put back", zap.String(logfield.Group, g.held.Group), zap.Stringer(logfield.VIP, v))
		g.held.announce = schedule{}
		h.hint()
	}
}
