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

	"github.com/zklvs/zklvs/internal/finality"
)

// DefaultGARPRefresh is how often a bound VIP is announced again.
const DefaultGARPRefresh = time.Minute

// Config holds what a Host needs. All but Gate and GARPRefresh must be set.
type Config struct {
	Logger    *zap.Logger
	Kernel    Kernel
	Announcer Announcer
	// Gate is the kernel gate. Without one (nil: `gate: none`) a process that is
	// frozen at the wrong moment answers after its deadline: see the package doc.
	Gate Gate
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
	gate      Gate // may be nil
	now       func() time.Duration
	claims    *claims
	refresh   atomic.Int64  // time.Duration between announcements
	wake      chan struct{} // there is something new to announce

	// sweeping is held for reading while something is bound anew, so that Sweep,
	// RemoveForeign and Watch, which hold it for writing, never mistake that for
	// something that nobody here has claimed.
	sweeping sync.RWMutex

	mu     sync.Mutex // guards groups, and fenced and bound of each group
	groups map[string]*group
}

// group is one group's place on this host. Its locks are taken in the order
// act, gating, Host.mu.
type group struct {
	act  sync.Mutex // held during a whole sequence of kernel acts
	held *held      // guarded by act

	gating sync.Mutex // held while the gate is moved, and for no other kernel act
	gated  gated      // guarded by gating

	fenced finality.Memory // guarded by Host.mu, so that a fence is known at once
	bound  *Bound          // guarded by Host.mu: what status shows
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
	// Open is until when the gate lets the VIPs answer, on CLOCK_BOOTTIME; 0: it
	// is shut, or there is none.
	Open time.Duration
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
		gate:      c.Gate,
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
	fenced := g.fenced.Has(lock)
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
	g.gating.Lock() // a fence under way may shut the gate
	defer g.gating.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	g.bound = nil
	if g.held != nil {
		g.bound = &Bound{Holding: g.held.Holding, VIPs: g.held.vips, Deadline: g.held.deadline, Open: g.gated.until}
	}
}
