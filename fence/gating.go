package fence

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

// Gate shuts VIPs in the kernel, whatever happens to the process. Package
// fence/gate has the real one, fencetest the one for tests. Its methods are
// safe for concurrent use.
type Gate interface {
	// Name is what a status shows, "kernel gate (eBPF)".
	Name() string
	// Add gates addresses, shut; one that is gated already keeps its deadline.
	Add(addrs ...netip.Addr) error
	// Drop ends the gating of an address: it passes. One that is not gated is no error.
	Drop(addr netip.Addr) error
	// Set opens an address that was added until a deadline on CLOCK_BOOTTIME.
	Set(addr netip.Addr, deadline time.Duration) error
	// Shut shuts an address that was added until the next Set.
	Shut(addr netip.Addr) error
	// Addresses returns what is gated.
	Addresses() []netip.Addr
	// Ensure puts every interface but lo under the gate. An interface that its
	// error names is not, or not fully, gated.
	Ensure() error
}

// gated is what may be open for a group. It is guarded by group.gating.
type gated struct {
	lock  string
	vips  []VIP
	until time.Duration // the deadline last set for all of them; 0: shut, or no gate
}

// Lateness returns the most by which this host may answer after a deadline when
// every process of ours is dead or frozen: LatenessGated or LatenessUngated.
func (h *Host) Lateness() time.Duration {
	if h.gate == nil {
		return LatenessUngated
	}
	return LatenessGated
}

// Layers names what keeps this host from answering after a deadline without any
// process, the fastest first.
func (h *Host) Layers() []string {
	const lifetime = "address lifetime"
	if h.gate == nil {
		return []string{lifetime}
	}
	return []string{h.gate.Name(), lifetime}
}

func addresses(vips []VIP) []netip.Addr {
	all := make([]netip.Addr, len(vips))
	for i, v := range vips {
		all[i] = v.Address
	}
	return all
}

// gateIn gates addresses, shut, on every interface. Addresses come first: what
// an earlier life's filters gated must not pass when they are replaced.
func (h *Host) gateIn(vips []VIP) error {
	if h.gate == nil {
		return nil
	}
	if err := h.gate.Add(addresses(vips)...); err != nil {
		return err
	}
	if err := h.gate.Ensure(); err != nil {
		return fmt.Errorf("not every interface can be gated, and each of them answers for a VIP: repair this, or do without (`gate: none`): %w", err)
	}
	return nil
}

// gateLeftovers shuts what an earlier life may have left bound. A failure is no
// reason not to remove it.
func (h *Host) gateLeftovers(left []VIP) {
	if h.gate == nil || len(left) == 0 {
		return
	}
	err := h.gateIn(left)
	for _, v := range left {
		err = errors.Join(err, h.gate.Shut(v.Address))
	}
	if err != nil {
		h.log.Warn("cannot shut the gate of what an earlier life left", zap.Stringers(logfield.VIP, left), zap.Error(err))
	}
}

// note says what a fence of the lock has to shut. The caller holds g.act.
func (g *group) note(lock string, vips []VIP) {
	g.gating.Lock()
	defer g.gating.Unlock()
	if g.gated.lock != lock {
		g.gated = gated{lock: lock}
	}
	g.gated.vips = vips
}

// openUntil returns until when the group's gate is open; 0: shut, or none.
func (g *group) openUntil() time.Duration {
	g.gating.Lock()
	defer g.gating.Unlock()
	return g.gated.until
}

// open opens the gate of vips until the holding's deadline, if the lock is not
// fenced and the lease lives: the last look at it before this host answers.
// Nothing is opened under a lock once its fence has begun: that shuts the gate
// under the same mutex. The caller holds g.act.
func (h *Host) open(g *group, vips []VIP) error {
	g.gating.Lock()
	defer g.gating.Unlock()
	for _, v := range vips {
		if _, err := h.permitAt(g, g.held.Lock, h.now(), g.held.deadline); err != nil {
			return err
		}
		if h.gate == nil {
			continue
		}
		if err := h.gate.Set(v.Address, g.held.deadline); err != nil {
			return fmt.Errorf("open the gate of %v: %w", v, err)
		}
		g.gated.until = g.held.deadline
	}
	return nil
}

// shut shuts the gate of vips, all of them also after an error with one.
func (h *Host) shut(g *group, vips []VIP) error {
	g.gating.Lock()
	defer g.gating.Unlock()
	return h.shutLocked(vips)
}

func (h *Host) shutLocked(vips []VIP) error {
	if h.gate == nil {
		return nil
	}
	var errs []error
	for _, v := range vips {
		if err := h.gate.Shut(v.Address); err != nil {
			errs = append(errs, fmt.Errorf("shut the gate of %v: %w", v, err))
		}
	}
	return errors.Join(errs...)
}

// shutNow shuts what may be open under a lock, without waiting for kernel acts
// of the group that are under way.
func (h *Host) shutNow(g *group, lock string) error {
	g.gating.Lock()
	defer g.gating.Unlock()
	if g.gated.lock != lock {
		return nil
	}
	err := h.shutLocked(g.gated.vips)
	if err == nil {
		g.gated.until = 0
		h.showOpen(g, 0)
	}
	return err
}

// showOpen corrects what status shows. The caller holds g.gating.
func (h *Host) showOpen(g *group, until time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g.bound != nil {
		b := *g.bound
		b.Open = until
		g.bound = &b
	}
}

// Watch gates every VIP of the cluster's documents on this host, shut unless it
// is held here, so that no copy of it answers, whoever binds it. What is gated
// and not listed any more is dropped, unless a group here has claimed it or it
// may be a leftover; a later call drops that. So it is to be called at start,
// after Sweep, whenever the documents change, and now and then. Without a gate
// it does nothing.
//
// Errors: the gate's, and the kernel's. They leave at most more gated than listed.
func (h *Host) Watch(vips []VIP) error {
	if h.gate == nil {
		return nil
	}
	err := h.gateIn(vips) // looks at every interface: a take-over must not wait for that
	h.sweeping.Lock()     // no Bind is between adding and claiming
	defer h.sweeping.Unlock()
	if err = errors.Join(err, h.dropAllBut(vips)); err != nil {
		return fmt.Errorf("gate the cluster's VIPs: %w", err)
	}
	return nil
}

// dropAllBut drops what is neither listed, nor claimed, nor possibly left bound
// by an earlier life.
func (h *Host) dropAllBut(vips []VIP) error {
	keep := addresses(append(slices.Clone(vips), h.claims.leftovers()...))
	drop := filter(h.gate.Addresses(), func(a netip.Addr) bool { return !slices.Contains(keep, a) && !h.claims.owned(a) })
	if len(drop) == 0 {
		return nil
	}
	table, err := h.kernel.Addresses()
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range drop {
		// Bound as a VIP is, and by nobody here: it goes with its lifetime.
		ours := func(b Address) bool {
			return b.Interface != "lo" && b.Prefix == hostPrefix(a) && !b.Peer.IsValid() && b.expiring()
		}
		if !slices.ContainsFunc(table, ours) {
			errs = append(errs, h.gate.Drop(a))
		}
	}
	return errors.Join(errs...)
}
