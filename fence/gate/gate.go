package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/logfield"
)

// DefaultCapacity is how many addresses can be gated unless Config says otherwise.
const DefaultCapacity = 1024

// DefaultRecheck is how often Run looks at every interface, hint or not.
const DefaultRecheck = 5 * time.Second

// Config holds what a Gate needs. Logger and Now must be set.
type Config struct {
	Logger *zap.Logger
	// Now reads CLOCK_BOOTTIME.
	Now func() time.Duration
	// Capacity is how many addresses can be gated at a time.
	Capacity int
	// Recheck is how often Run looks at every interface without being told.
	Recheck time.Duration
}

// Gate is the gate of one network namespace: that of the thread that called
// New. Its methods are safe for concurrent use.
type Gate struct {
	log     *zap.Logger
	now     func() time.Duration
	recheck time.Duration

	kernel *loaded
	vips   atomic.Pointer[table] // what Set reads; replaced, never changed

	mu     sync.Mutex // guards all changes of addresses
	free   []uint32   // slots; the one longest free is used first, for a Set may be under way
	closed bool

	attaching sync.Mutex // one at a time attaches
	netlink   *netlink.Handle
	changes   *nl.NetlinkSocket
	failing   map[int]string // the last complaint of an interface, by index
}

// table says where each gated address has its slot.
type table struct {
	shared *shared
	slot   map[netip.Addr]uint32
}

// New loads the program. It gates, shut, what an earlier life's filters in this
// namespace gate, and attaches nothing. To read an earlier life's addresses the
// kernel demands CAP_SYS_ADMIN; without it a warning is logged, and what is not
// added before Ensure passes after it.
//
// Errors: ErrNotSupported; ErrFull if the earlier life gated more than Capacity.
func New(c Config) (*Gate, error) {
	if c.Logger == nil || c.Now == nil || c.Capacity < 0 || c.Recheck < 0 {
		return nil, errors.New("gate: Logger and Now must be set, Capacity and Recheck not be negative")
	}
	if c.Capacity == 0 {
		c.Capacity = DefaultCapacity
	}
	if c.Recheck == 0 {
		c.Recheck = DefaultRecheck
	}
	kernel, err := load(c.Capacity)
	if err != nil {
		return nil, fmt.Errorf("load the gate: %w", err)
	}
	g := &Gate{log: c.Logger, now: c.Now, recheck: c.Recheck, kernel: kernel, failing: map[int]string{}}
	for i := range c.Capacity {
		g.free = append(g.free, uint32(i))
	}
	g.vips.Store(&table{shared: kernel.shared, slot: map[netip.Addr]uint32{}})
	if err := g.connect(); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// Name is what a status shows.
func (g *Gate) Name() string { return "kernel gate (eBPF)" }

// connect opens the sockets, in the calling thread's namespace, and inherits.
func (g *Gate) connect() (err error) {
	if g.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("gate: open netlink: %w", err)
	}
	if g.changes, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_TC); err != nil {
		return fmt.Errorf("gate: subscribe to changes of interfaces and filters: %w", err)
	}
	return g.inherit()
}

// Close releases what this process holds. Filters, program and deadlines stay
// in the kernel: see Remove. Later calls fail with ErrClosed.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.attaching.Lock()
	defer g.attaching.Unlock()
	if g.closed {
		return
	}
	g.closed = true
	g.vips.Store(nil)
	g.kernel.close()
	if g.changes != nil {
		g.changes.Close()
	}
	if g.netlink != nil {
		g.netlink.Close()
	}
}

// Add gates addresses, shut. One that is gated already keeps its deadline. It
// returns after the kernel knows, so that an address may be bound afterwards;
// on an error some may be gated.
//
// Errors: ErrFull, ErrClosed, and the kernel's.
func (g *Gate) Add(addrs ...netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range addrs {
		if err := g.add(a.Unmap().WithZone("")); err != nil {
			return fmt.Errorf("gate %v: %w", a, err)
		}
	}
	return nil
}

func (g *Gate) add(a netip.Addr) error {
	t := g.vips.Load()
	switch {
	case g.closed:
		return ErrClosed
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
		return errors.New("not an address that a host can answer for")
	}
	if _, ok := t.slot[a]; ok {
		return nil
	}
	if len(g.free) == 0 {
		return fmt.Errorf("%w: %d are", ErrFull, len(t.slot))
	}
	i := g.free[0]
	t.shared.reset(i)
	if err := g.kernel.addresses.Put(a.As16(), i); err != nil {
		return explain(err)
	}
	g.free = g.free[1:]
	slot := maps.Clone(t.slot)
	slot[a] = i
	g.vips.Store(&table{shared: t.shared, slot: slot})
	return nil
}

// Drop ends the gating of an address, which passes from then on: only for one
// that is verified not to be bound. An address that is not gated is no error.
func (g *Gate) Drop(addr netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fmt.Errorf("drop %v: %w", addr, ErrClosed)
	}
	a := addr.Unmap().WithZone("")
	t := g.vips.Load()
	i, ok := t.slot[a]
	if !ok {
		return nil
	}
	if err := g.kernel.addresses.Delete(a.As16()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("drop %v: %w", addr, explain(err))
	}
	slot := maps.Clone(t.slot)
	delete(slot, a)
	g.vips.Store(&table{shared: t.shared, slot: slot})
	g.free = append(g.free, i)
	return nil
}

// Addresses returns what is gated, sorted.
func (g *Gate) Addresses() []netip.Addr {
	t := g.vips.Load()
	if t == nil {
		return nil
	}
	return slices.SortedFunc(maps.Keys(t.slot), netip.Addr.Compare)
}

// find returns the slot of a gated address.
func (g *Gate) find(addr netip.Addr) (*shared, uint32, error) {
	t := g.vips.Load()
	if t == nil {
		return nil, 0, fmt.Errorf("gate of %v: %w", addr, ErrClosed)
	}
	i, ok := t.slot[addr.Unmap().WithZone("")]
	if !ok {
		return nil, 0, fmt.Errorf("%v: %w", addr, ErrNotGated)
	}
	return t.shared, i, nil
}

// Set opens an address until deadline on CLOCK_BOOTTIME, or moves its deadline,
// forwards or back. It is one store to memory, never blocks and allocates
// nothing.
//
// Errors: ErrNotGated, ErrClosed.
func (g *Gate) Set(addr netip.Addr, deadline time.Duration) error {
	s, i, err := g.find(addr)
	if err != nil {
		return err
	}
	s.set(i, max(deadline, 0))
	return nil
}

// Shut shuts an address until the next Set, from the packet on that the program
// looks at next.
//
// Errors: ErrNotGated, ErrClosed.
func (g *Gate) Shut(addr netip.Addr) error { return g.Set(addr, 0) }

// Deadline returns until when an address is open, 0 after Shut; false if it is
// not gated.
func (g *Gate) Deadline(addr netip.Addr) (time.Duration, bool) {
	s, i, err := g.find(addr)
	if err != nil {
		return 0, false
	}
	return s.deadline(i), true
}

// Dropped returns how many packets found an address shut since Add.
func (g *Gate) Dropped(addr netip.Addr) uint64 {
	s, i, err := g.find(addr)
	if err != nil {
		return 0
	}
	return s.dropped(i)
}

// Exempt is for a director that is also a real server of the VIP: although it is
// shut, IP packets to it come in from these Ethernet source addresses (those of
// the active director), and IP packets from it leave. ARP and ND stay gated. It
// replaces an earlier list; an empty one ends the exemption.
//
// Errors: ErrNotGated, ErrClosed, and for more than three addresses.
func (g *Gate) Exempt(addr netip.Addr, macs ...net.HardwareAddr) error {
	if len(macs) > maxMACs {
		return fmt.Errorf("exempt %d addresses at %v: at most %d", len(macs), addr, maxMACs)
	}
	var list [maxMACs]uint64
	for k, m := range macs {
		if len(m) != 6 {
			return fmt.Errorf("exempt %v at %v: not an Ethernet address", m, addr)
		}
		list[k] = binary.NativeEndian.Uint64(append(slices.Clone(m), 0, 0))
	}
	s, i, err := g.find(addr)
	if err != nil {
		return err
	}
	if s.exempt(i, list) {
		g.log.Info("the gate's exemption changed", zap.Stringer(logfield.VIP, addr), zap.Stringers("macs", macs))
	}
	return nil
}
