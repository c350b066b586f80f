package fencetest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence"
)

// Gate implements fence.Gate. Deadlines are absolute: whether an address is
// open depends on the clock that Open is given.
type Gate struct {
	// Hook, if set before first use, is called before each Add ("add", once for
	// each address), Drop ("drop"), Set ("set"), Shut ("shut") and Ensure
	// ("ensure", no address), without the lock. Its error is returned instead of
	// the act.
	Hook func(op string, a netip.Addr) error

	mu        sync.Mutex
	deadlines map[netip.Addr]time.Duration
}

var _ fence.Gate = (*Gate)(nil)

func (g *Gate) hook(op string, a netip.Addr) error {
	if g.Hook == nil {
		return nil
	}
	return g.Hook(op, a)
}

// Name implements fence.Gate.
func (*Gate) Name() string { return "kernel gate (in memory)" }

// Add implements fence.Gate.
func (g *Gate) Add(addrs ...netip.Addr) error {
	for _, a := range addrs {
		if err := g.hook("add", a); err != nil {
			return err
		}
		g.mu.Lock()
		if g.deadlines == nil {
			g.deadlines = map[netip.Addr]time.Duration{}
		}
		g.deadlines[a] += 0 // keeps its deadline
		g.mu.Unlock()
	}
	return nil
}

// Drop implements fence.Gate.
func (g *Gate) Drop(a netip.Addr) error {
	if err := g.hook("drop", a); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.deadlines, a)
	return nil
}

// Set implements fence.Gate.
func (g *Gate) Set(a netip.Addr, deadline time.Duration) error {
	if err := g.hook("set", a); err != nil {
		return err
	}
	return g.move(a, deadline)
}

// Shut implements fence.Gate.
func (g *Gate) Shut(a netip.Addr) error {
	if err := g.hook("shut", a); err != nil {
		return err
	}
	return g.move(a, 0)
}

func (g *Gate) move(a netip.Addr, deadline time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.deadlines[a]; !ok {
		return fmt.Errorf("gate of %v: was not added: %w", a, unix.ENOENT)
	}
	g.deadlines[a] = deadline
	return nil
}

// Addresses implements fence.Gate.
func (g *Gate) Addresses() []netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.SortedFunc(maps.Keys(g.deadlines), netip.Addr.Compare)
}

// Ensure implements fence.Gate.
func (g *Gate) Ensure() error { return g.hook("ensure", netip.Addr{}) }

// Open reports whether packets of an address pass at now: it is open, or not
// gated at all.
func (g *Gate) Open(a netip.Addr, now time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	deadline, ok := g.deadlines[a]
	return !ok || now < deadline
}
