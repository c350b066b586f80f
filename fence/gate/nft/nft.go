package nft

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/internal/logfield"
)

// DefaultEarly is how long before its deadline an address is shut: as early as a
// guard gives up anyway.
const DefaultEarly = 150 * time.Millisecond

// DefaultRecheck is how often Run looks at every interface, hint or not.
const DefaultRecheck = 5 * time.Second

// minOpen is the shortest timeout that is asked for: below, an address is shut.
// A timeout of 0 would mean for ever.
const minOpen = 10 * time.Millisecond

// ErrSlow says that an address was shut because the kernel took longer than half
// of Early to carry out each of several transactions.
var ErrSlow = errors.New("nftables is too slow to open an address")

// Window kills the process when it is frozen between reading the clock and the
// kernel's act; fence/deadman.Timer is one.
type Window interface {
	Arm(at time.Duration) error
	Disarm() error
}

// Config holds what a Gate needs. Logger and Now must be set.
type Config struct {
	Logger *zap.Logger
	// Now reads CLOCK_BOOTTIME.
	Now func() time.Duration
	// Early is how long before its deadline an address is shut. Half of it is what
	// a transaction may take.
	Early time.Duration
	// Window is armed for half of Early while an address is being opened. It must
	// not be used for anything else.
	Window Window
	// Recheck is how often Run looks at every interface without being told.
	Recheck time.Duration
}

func (c *Config) validate() error {
	if c.Logger == nil || c.Now == nil || c.Early < 0 || c.Recheck < 0 {
		return errors.New("nft gate: Logger and Now must be set, Early and Recheck not be negative")
	}
	if c.Early == 0 {
		c.Early = DefaultEarly
	}
	if c.Recheck == 0 {
		c.Recheck = DefaultRecheck
	}
	return nil
}

// Gate is the gate of one network namespace: that of the thread that called
// New. Its methods are safe for concurrent use.
type Gate struct {
	config Config
	log    *zap.Logger
	egress bool // the kernel has the hook

	links   *netlink.Handle
	changes []*nl.NetlinkSocket

	mu      sync.Mutex // guards what follows; one transaction at a time
	kernel  *conn
	vips    map[netip.Addr]*vip
	names   map[int]string // of the interfaces that have our chains, when they got them
	failing map[int]string // the last complaint of an interface, by index
	closed  bool
}

type vip struct {
	deadline time.Duration
	open     bool // an element was added, which may have expired since
	macs     []net.HardwareAddr
}

// New puts the table in place, on every interface but lo, and takes over, shut,
// what an earlier life's table gates.
//
// Errors: gate.ErrNotSupported, and the kernel's.
func New(c Config) (*Gate, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	g := &Gate{config: c, log: c.Logger, vips: map[netip.Addr]*vip{}, names: map[int]string{}, failing: map[int]string{}}
	if err := g.connect(); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// Name is what a status shows.
func (g *Gate) Name() string {
	if !g.egress {
		return "kernel gate (nftables, ingress only)"
	}
	return "kernel gate (nftables)"
}

// connect opens the sockets, in the calling thread's namespace, and takes over.
func (g *Gate) connect() (err error) {
	if g.kernel, err = dial(); err != nil {
		return err
	}
	if g.egress, err = probe(g.kernel); err != nil {
		return err
	}
	if !g.egress {
		g.log.Warn("this kernel has no nftables egress hook: what this host sends unasked in a VIP's name is not stopped",
			zap.String(logfield.Remedy, "Linux 5.16 or later with CONFIG_NETFILTER_EGRESS, or the eBPF gate"))
	}
	if g.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("nft gate: open netlink: %w", err)
	}
	for _, what := range []struct {
		protocol int
		group    uint
	}{{unix.NETLINK_ROUTE, unix.RTNLGRP_LINK}, {unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES}} {
		s, err := nl.Subscribe(what.protocol, what.group)
		if err != nil {
			return fmt.Errorf("nft gate: subscribe to changes of interfaces and tables: %w", err)
		}
		g.changes = append(g.changes, s)
	}
	if err := g.inherit(); err != nil {
		return err
	}
	return g.rebuild()
}

// Close releases what this process holds. Table and timeouts stay in the
// kernel: see Remove. Later calls fail with gate.ErrClosed.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.closed = true
	for _, s := range g.changes {
		s.Close()
	}
	if g.links != nil {
		g.links.Close()
	}
	if g.kernel != nil {
		g.kernel.close()
	}
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// find is called with mu held.
func (g *Gate) find(addr netip.Addr) (netip.Addr, *vip, error) {
	a := plain(addr)
	v := g.vips[a]
	switch {
	case g.closed:
		return a, nil, fmt.Errorf("gate of %v: %w", addr, gate.ErrClosed)
	case v == nil:
		return a, nil, fmt.Errorf("%v: %w", addr, gate.ErrNotGated)
	}
	return a, v, nil
}

// Add gates addresses, shut. One that is gated already keeps its deadline. It
// returns after the kernel knows, so that an address may be bound afterwards.
//
// Errors: gate.ErrClosed, and the kernel's; then none was added.
func (g *Gate) Add(addrs ...netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fmt.Errorf("gate %v: %w", addrs, gate.ErrClosed)
	}
	var fresh []netip.Addr
	for _, addr := range addrs {
		a := plain(addr)
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return fmt.Errorf("gate %v: not an address that a host can answer for", addr)
		}
		if g.vips[a] == nil && !slices.Contains(fresh, a) {
			fresh = append(fresh, a)
		}
	}
	g.queueGated(fresh)
	if err := g.kernel.commit(); err != nil {
		return fmt.Errorf("gate %v: %w", addrs, err)
	}
	for _, a := range fresh {
		g.vips[a] = &vip{}
	}
	return nil
}

// queueGated queues what makes addresses gated, as many a message as surely fit.
func (g *Gate) queueGated(addrs []netip.Addr) {
	for few := range slices.Chunk(addrs, 500) {
		var elements [2][]nftables.SetElement
		var self []nftables.SetElement
		for _, a := range few {
			elements[familyOf(a)] = append(elements[familyOf(a)], element(a))
			if a.Is4() {
				self = append(self, selfElement(a))
			}
		}
		for _, f := range families {
			g.add(setGated[f], elements[f]...)
		}
		g.add(setSelf, self...)
	}
}

// add and remove queue elements. The library refuses none of ours.
func (g *Gate) add(s *nftables.Set, elements ...nftables.SetElement) {
	if len(elements) > 0 {
		_ = g.kernel.SetAddElements(s, elements)
	}
}

func (g *Gate) remove(s *nftables.Set, elements ...nftables.SetElement) {
	if len(elements) > 0 {
		_ = g.kernel.SetDeleteElements(s, elements)
	}
}

// Drop ends the gating of an address, which passes from then on: only for one
// that is verified not to be bound. An address that is not gated is no error.
func (g *Gate) Drop(addr netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, v, err := g.find(addr)
	if errors.Is(err, gate.ErrNotGated) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := g.shut(a, v); err != nil {
		return fmt.Errorf("drop %v: %w", addr, err)
	}
	g.queueExempt(a, v.macs, nil)
	g.remove(setGated[familyOf(a)], element(a))
	if a.Is4() {
		g.remove(setSelf, selfElement(a))
	}
	if err := g.kernel.commit(); err != nil {
		return fmt.Errorf("drop %v: %w", addr, err)
	}
	delete(g.vips, a)
	return nil
}

// Addresses returns what is gated, sorted.
func (g *Gate) Addresses() []netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	return slices.SortedFunc(maps.Keys(g.vips), netip.Addr.Compare)
}

// Deadline returns until when an address is open, 0 after Shut; false if it is
// not gated.
func (g *Gate) Deadline(addr netip.Addr) (time.Duration, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, v, err := g.find(addr)
	if err != nil {
		return 0, false
	}
	return v.deadline, true
}

// Exempt is for a director that is also a real server of the VIP, see
// gate.Gate.Exempt. Here any number of addresses will do.
//
// Errors: gate.ErrNotGated, gate.ErrClosed, and the kernel's.
func (g *Gate) Exempt(addr netip.Addr, macs ...net.HardwareAddr) error {
	for _, m := range macs {
		if len(m) != 6 {
			return fmt.Errorf("exempt %v at %v: not an Ethernet address", m, addr)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a, v, err := g.find(addr)
	if err != nil {
		return err
	}
	unique := map[string]bool{}
	var want []net.HardwareAddr
	for _, m := range macs {
		if !unique[string(m)] {
			unique[string(m)] = true
			want = append(want, slices.Clone(m))
		}
	}
	g.queueExempt(a, v.macs, want)
	if err := g.kernel.commit(); err != nil {
		return fmt.Errorf("exempt at %v: %w", addr, err)
	}
	v.macs = want
	g.log.Info("the gate's exemption changed", zap.Stringer(logfield.VIP, addr), zap.Stringers("macs", macs))
	return nil
}

func (g *Gate) queueExempt(a netip.Addr, before, after []net.HardwareAddr) {
	f := familyOf(a)
	for _, m := range before {
		g.remove(setFrom[f], fromElement(m, a))
	}
	if len(before) > 0 {
		g.remove(setLeave[f], element(a))
	}
	for _, m := range after {
		g.add(setFrom[f], fromElement(m, a))
	}
	if len(after) > 0 {
		g.add(setLeave[f], element(a))
	}
}
