package nft

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
)

// attempts is how often Set tries to open an address in time.
const attempts = 3

// Set opens an address until deadline on CLOCK_BOOTTIME, less Early, or moves its
// deadline, forwards or back. When it returns nil the kernel has it so.
//
// Errors: gate.ErrNotGated, gate.ErrClosed, ErrSlow, and the kernel's or the
// Window's; after these the address is open for at most as long as it was before,
// or shut.
func (g *Gate) Set(addr netip.Addr, deadline time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, v, err := g.find(addr)
	if err != nil {
		return err
	}
	v.deadline = max(deadline, 0)
	if err := g.apply(a, v); err != nil {
		return fmt.Errorf("open %v: %w", addr, err)
	}
	return nil
}

// Shut shuts an address until the next Set. When it returns nil it is shut.
//
// Errors: gate.ErrNotGated, gate.ErrClosed, and the kernel's.
func (g *Gate) Shut(addr netip.Addr) error { return g.Set(addr, 0) }

// apply makes the kernel's element say what v says.
func (g *Gate) apply(a netip.Addr, v *vip) error {
	for range attempts {
		before := g.config.Now()
		left := v.deadline - g.config.Early - before
		if left < minOpen {
			return g.shut(a, v)
		}
		if err := g.replace(a, v, before, left); err != nil {
			return err
		}
		// The kernel counted from a moment before the clock is read now.
		if g.config.Now()-before <= g.slack() {
			return nil
		}
	}
	if err := g.shut(a, v); err != nil {
		return err
	}
	return fmt.Errorf("%w: %d transactions of more than %v", ErrSlow, attempts, g.slack())
}

// slack is what a transaction may take. The other half of Early is for the
// kernel's ticks.
func (g *Gate) slack() time.Duration { return g.config.Early / 2 }

// replace puts an element in the place of the one that is there, if any, within
// the window: later than that this process does not live to send it.
func (g *Gate) replace(a netip.Addr, v *vip, before, left time.Duration) (err error) {
	if w := g.config.Window; w != nil {
		if err := w.Arm(before + g.slack()); err != nil {
			return fmt.Errorf("arm: %w", err)
		}
		defer func() {
			if disarmErr := w.Disarm(); err == nil && disarmErr != nil {
				err = fmt.Errorf("disarm: %w", disarmErr)
			}
		}()
	}
	set := timed(a)
	fresh := nftables.SetElement{Key: a.AsSlice(), Timeout: left}
	if v.open {
		g.remove(set, element(a))
		g.add(set, fresh)
		if err = g.kernel.commit(); !missing(err) {
			return err
		}
	} // else, or if it has expired meanwhile, there is nothing to replace
	g.add(set, fresh)
	err = g.kernel.commit()
	v.open = v.open || err == nil
	return err
}

// shut removes the element. One that expired is gone already.
func (g *Gate) shut(a netip.Addr, v *vip) error {
	if !v.open {
		return nil
	}
	g.remove(setOpen[familyOf(a)], element(a))
	if err := g.kernel.commit(); err != nil && !missing(err) {
		return err
	}
	v.open = false
	return nil
}

// timed is the set of open addresses, described so that the library sends
// timeouts.
func timed(a netip.Addr) *nftables.Set {
	s := *setOpen[familyOf(a)]
	s.HasTimeout = true
	return &s
}
