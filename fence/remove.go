package fence

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

// removeTries is how often removal and dump are repeated before a fence reports
// that it failed. Its caller tries again.
const removeTries = 3

// Fence makes this host stop answering for a group under one lock: it shuts the
// gate at once, removes the holding's VIPs from every interface but lo, and
// returns nil only when the gate is shut and the kernel's dump shows none of
// them. It is final for the lock: Bind and Extend
// for it are refused from the moment of the call, one in flight is stopped at
// its next kernel act and waited for. After an error the caller must call it
// again until it succeeds. Fencing what is not bound only remembers the lock.
//
// Finality goes by the lock's name, which is never used twice, and not by its
// epoch: a record that was deleted by hand and made anew counts epochs from the
// start.
func (h *Host) Fence(hold Holding, reason string) error {
	if err := hold.validate(); err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	start := h.now()
	g := h.group(hold.Group)
	h.mu.Lock()
	g.fenced.Add(hold.Lock)
	h.mu.Unlock()
	// From here on nothing is opened under this lock: see open. Should this fail,
	// release tries again and reports.
	_ = h.shutNow(g, hold.Lock)
	g.act.Lock()
	defer g.act.Unlock()
	if g.held == nil || g.held.Lock != hold.Lock {
		return nil
	}
	vips := g.held.vips
	if err := h.release(g); err != nil {
		return fmt.Errorf("fence group %s: %w", hold.Group, err)
	}
	h.log.Info("fenced: no VIP of the group is bound here any more", zap.String(logfield.Group, hold.Group),
		zap.Stringers(logfield.VIP, vips), zap.String(logfield.Lock, hold.Lock),
		zap.String(logfield.Reason, reason), zap.Duration(logfield.Took, h.now()-start))
	return nil
}

// release shuts and removes everything that is held, verified. The caller
// holds g.act.
func (h *Host) release(g *group) error {
	err := errors.Join(h.shutNow(g, g.held.Lock), h.removeAll(among(g.held.vips)))
	if err != nil {
		return err
	}
	name := g.held.Group
	g.held = nil
	g.note("", nil)
	h.publish(g)
	h.keep(name, nil)
	return nil
}

// Sweep removes what an earlier life of this process left bound, verified, and
// returns what it found. Only addresses of the form that this package binds (a
// /32 or /128 with a short lifetime on the interface noted) are touched. Their
// gate is shut, and stays so until Watch drops them.
func (h *Host) Sweep() ([]VIP, error) {
	h.sweeping.Lock()
	defer h.sweeping.Unlock()
	left := h.claims.leftovers()
	// Nothing that is not claimed now is bound before this function returns.
	free := filter(left, func(v VIP) bool { return !h.claims.owned(v.Address) })
	h.gateLeftovers(free)
	table, err := h.kernel.Addresses()
	if err != nil {
		return nil, fmt.Errorf("remove leftovers: %w", err)
	}
	found := filter(free, func(v VIP) bool { return slices.ContainsFunc(table, ownForm(v).match) })
	for _, v := range found {
		if err := h.removeAll(ownForm(v)); err != nil {
			return found, fmt.Errorf("remove leftovers: %w", err)
		}
	}
	if err := h.claims.forget(left); err != nil {
		return found, fmt.Errorf("remove leftovers: %w", err)
	}
	return found, nil
}

// remove shuts the gate of some of a group's VIPs, then removes them, verified.
func (h *Host) remove(g *group, vips []VIP) error {
	if len(vips) == 0 {
		return nil
	}
	return errors.Join(h.shut(g, vips), h.removeAll(among(vips)))
}

// RemoveForeign is the standby's check that this host does not answer for VIPs
// that it does not hold: it removes each that is bound on an interface other
// than lo, whoever bound it, and returns what it removed. VIPs on lo are left
// (a real server hides them there) and returned as hidden. A VIP held by some
// group of this host is passed over; one that looks like the host's own
// address is left, with ErrOwnAddress.
func (h *Host) RemoveForeign(vips []VIP) (removed, hidden []Address, err error) {
	h.sweeping.Lock()
	defer h.sweeping.Unlock()
	free := filter(vips, func(v VIP) bool { return !h.claims.owned(v.Address) })
	table, err := h.kernel.Addresses()
	if err != nil {
		return nil, nil, fmt.Errorf("look for VIPs that are not held: %w", err)
	}
	var errs []error
	for _, v := range free {
		copies := filter(table, func(a Address) bool { return a.Prefix.Addr() == v.Address })
		onLo := func(a Address) bool { return a.Interface == "lo" }
		hidden = append(hidden, filter(copies, onLo)...)
		copies = slices.DeleteFunc(copies, onLo)
		if len(copies) == 0 {
			continue
		}
		if err := refuseOwn(table, v.Address); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := h.removeAll(foreign(v)); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, copies...)
	}
	return removed, hidden, errors.Join(errs...)
}

// target says which addresses are to go, and why, for the log.
type target struct {
	match func(Address) bool
	why   string // empty: not worth a line
}

// among matches every copy of the VIPs that answers: on any interface but lo,
// with any prefix length.
func among(vips []VIP) target {
	return target{match: func(a Address) bool {
		return a.Interface != "lo" && slices.ContainsFunc(vips, func(v VIP) bool { return v.Address == a.Prefix.Addr() })
	}}
}

// foreign matches every copy of a VIP that is not held.
func foreign(v VIP) target {
	return target{match: among([]VIP{v}).match, why: "a VIP that this host does not hold"}
}

// strays matches copies of bound VIPs in a form in which we do not bind them: with
// another prefix length, with a peer, or on another interface.
func strays(vips []VIP) target {
	all := among(vips)
	return target{why: "a copy of a bound VIP that is not ours", match: func(a Address) bool {
		return all.match(a) && !slices.ContainsFunc(vips, a.binds)
	}}
}

// ownForm matches v as this package binds it.
func ownForm(v VIP) target {
	return target{why: "left by an earlier life", match: func(a Address) bool { return a.binds(v) && a.expiring() }}
}

// removeAll removes the addresses that match until a dump shows none.
func (h *Host) removeAll(t target) error {
	var last []Address
	var errs error
	for range removeTries {
		table, err := h.kernel.Addresses()
		if err != nil {
			errs = err
			continue
		}
		last = filter(table, t.match)
		if len(last) == 0 {
			return nil
		}
		errs = nil
		for _, a := range last {
			errs = errors.Join(errs, h.removeOne(table, a, t))
		}
	}
	table, err := h.kernel.Addresses()
	if err != nil {
		return fmt.Errorf("verify removal: %w", errors.Join(errs, err))
	}
	if last = filter(table, t.match); len(last) == 0 {
		return nil
	}
	return errors.Join(fmt.Errorf("verify removal: still bound: %v", last), errs)
}

// removeOne removes one address, and puts back the host's own that went with it:
// unless promote_secondaries is set, the kernel removes all secondary IPv4
// addresses of a subnet with its primary one (__inet_del_ifa, net/ipv4/devinet.c).
func (h *Host) removeOne(before []Address, a Address, t target) error {
	if t.why != "" {
		h.log.Warn("removing an address: "+t.why, zap.String(logfield.VIP, a.String()), zap.String(logfield.Interface, a.Interface))
	}
	if err := h.kernel.Remove(a); err != nil {
		return err
	}
	if a.Prefix.IsSingleIP() || a.Prefix.Addr().Is6() {
		return nil // has no secondaries
	}
	after, err := h.kernel.Addresses()
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range before {
		if !dependsOn(b, a) || t.match(b) || slices.ContainsFunc(after, func(c Address) bool { return c.key() == b.key() }) {
			continue
		}
		h.log.Warn("the kernel removed this host's own address along with a VIP of its subnet: put back",
			zap.String(logfield.VIP, a.String()), zap.String(logfield.Interface, b.Interface), zap.Stringer("address", b.Prefix))
		errs = append(errs, h.kernel.Replace(b))
	}
	return errors.Join(errs...)
}

// dependsOn reports whether the kernel may remove b along with a.
func dependsOn(b, a Address) bool {
	return b.Interface == a.Interface && b.key() != a.key() && b.Prefix.Masked() == a.Prefix.Masked()
}

// makeWay removes what is there on the VIP's interface and would keep a form
// that is not ours when it is replaced.
func (h *Host) makeWay(table []Address, v VIP) error {
	for _, a := range table {
		why := inTheWay(a, v)
		if why == "" {
			continue
		}
		if err := h.removeOne(table, a, target{match: among([]VIP{v}).match, why: why}); err != nil {
			return err
		}
	}
	return nil
}

// inTheWay says why a must go before v is bound; empty: it need not.
func inTheWay(a Address, v VIP) string {
	switch {
	case a.Interface != v.Interface || a.Prefix.Addr() != v.Address:
		return ""
	case !a.binds(v) && v.Address.Is6():
		return "an IPv6 address is bound once on an interface, and this one not as a VIP is"
	case a.silent():
		return "duplicate address detection keeps it from answering"
	case a.binds(v) && a.Label != v.label():
		return "it has another label than the VIP"
	}
	return ""
}

// refuseOwn reports ErrOwnAddress if address is bound, not by us, as the only
// address of its family of an interface: then it is more likely this host's own
// than a VIP, and to take it over could cut the host off. IPv6 link-local
// addresses do not count: every interface has one, and nobody reaches a host by
// it from afar.
func refuseOwn(table []Address, address netip.Addr) error {
	for _, a := range table {
		if a.Prefix.Addr() != address || a.Interface == "lo" || (a.Prefix.IsSingleIP() && a.expiring()) {
			continue
		}
		others := func(b Address) bool {
			ip := b.Prefix.Addr()
			return b.Interface == a.Interface && ip != address && ip.Is4() == address.Is4() && (ip.Is4() || !ip.IsLinkLocalUnicast())
		}
		if !slices.ContainsFunc(table, others) {
			return fmt.Errorf("VIP %v: %w (%v is the only address of %s): if it is not, remove it with `ip address del %v dev %s`",
				address, ErrOwnAddress, a.Prefix, a.Interface, a.Prefix, a.Interface)
		}
	}
	return nil
}
