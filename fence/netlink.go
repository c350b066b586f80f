package fence

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dumpTries is how often a dump is read again when the table changed under it
// (NLM_F_DUMP_INTR): such a dump may lack entries, and proves nothing.
const dumpTries = 10

// netlinkTimeout bounds the wait for the kernel's answer. A change is made
// within the send itself, so that a late answer never means a late act.
const netlinkTimeout = 5 * time.Second

// Netlink is the real Kernel, in the network namespace in which it was made.
// It is safe for concurrent use.
type Netlink struct{ handle *netlink.Handle }

// NewNetlink opens a route netlink socket in the calling thread's network
// namespace. Close releases it.
func NewNetlink() (*Netlink, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a route netlink socket: %w", err)
	}
	if err := h.SetSocketTimeout(netlinkTimeout); err != nil {
		h.Close()
		return nil, fmt.Errorf("set the netlink timeout: %w", err)
	}
	return &Netlink{handle: h}, nil
}

// Close closes the socket.
func (k *Netlink) Close() { k.handle.Close() }

// Addresses implements Kernel.
func (k *Netlink) Addresses() ([]Address, error) {
	names, err := k.names()
	if err != nil {
		return nil, err
	}
	var all []Address
	// One by one: asked for all at once, the kernel adds families that are not IP.
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		found, err := retryDump(func() ([]netlink.Addr, error) { return k.handle.AddrList(nil, family) })
		if err != nil {
			return nil, fmt.Errorf("dump addresses: %w", err)
		}
		for _, f := range found {
			a, err := fromNetlink(f)
			if err != nil {
				return nil, fmt.Errorf("dump addresses: %w", err)
			}
			// An interface that appeared between the dumps is kept by its number: an
			// address must not be overlooked.
			if a.Interface = names[a.Index]; a.Interface == "" {
				a.Interface = fmt.Sprintf("if%d", a.Index)
			}
			all = append(all, a)
		}
	}
	return all, nil
}

// names maps the numbers of all interfaces to their names.
func (k *Netlink) names() (map[int]string, error) {
	links, err := retryDump(k.handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("dump interfaces: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	return names, nil
}

// retryDump reads a dump until it is consistent.
func retryDump[T any](dump func() ([]T, error)) ([]T, error) {
	var err error
	for range dumpTries {
		var all []T
		if all, err = dump(); err == nil {
			return all, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, err
		}
	}
	return nil, err
}

func fromNetlink(f netlink.Addr) (Address, error) {
	a := Address{Index: f.LinkIndex, Label: f.Label, Scope: f.Scope, Flags: f.Flags, Valid: uint32(f.ValidLft)}
	prefix, err := toPrefix(f.IPNet)
	if err != nil {
		return Address{}, err
	}
	a.Prefix = prefix
	if f.Peer == nil {
		return a, nil
	}
	a.Peer, err = toPrefix(f.Peer)
	return a, err
}

func toPrefix(n *net.IPNet) (netip.Prefix, error) {
	if n == nil {
		return netip.Prefix{}, errors.New("an entry has no address")
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits != ip.BitLen() {
		return netip.Prefix{}, fmt.Errorf("an entry has the address %v", n)
	}
	return netip.PrefixFrom(ip.Unmap(), ones), nil
}

// Replace implements Kernel.
func (k *Netlink) Replace(a Address) error {
	if a.Valid == 0 {
		// The library would leave the attribute out: a permanent address.
		return fmt.Errorf("bind %v on %s: a lifetime of 0 s: %w", a.Prefix, a.Interface, unix.EINVAL)
	}
	n, err := k.toNetlink(a)
	if err != nil {
		return fmt.Errorf("bind %v on %s: %w", a.Prefix, a.Interface, explain(err))
	}
	if a.Valid != Forever {
		n.ValidLft = int(a.Valid)
		if a.Prefix.Addr().Is4() {
			n.PreferedLft = int(a.Valid)
		}
	}
	// Without a lifetime the attribute is left out, which means: for ever.
	if err := k.handle.AddrReplace(nil, n); err != nil {
		return fmt.Errorf("bind %v on %s: %w", a.Prefix, a.Interface, explain(err))
	}
	return nil
}

// Remove implements Kernel.
func (k *Netlink) Remove(a Address) error {
	n, err := k.toNetlink(a)
	if err == nil {
		n.Label = "" // not needed to find it
		err = k.handle.AddrDel(nil, n)
	}
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %v from %s: %w", a.Prefix, a.Interface, explain(err))
	}
	return nil
}

// gone reports whether err says that there was nothing to remove.
func gone(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) || errors.As(err, &missing) ||
		errors.Is(err, unix.ENXIO) // an interface without IPv6 (inet6_addr_del, net/ipv6/addrconf.c)
}

// kernelFlags are the flags that the kernel alone sets.
const kernelFlags = unix.IFA_F_PERMANENT | unix.IFA_F_SECONDARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED

func (k *Netlink) toNetlink(a Address) (*netlink.Addr, error) {
	index := a.Index
	if index == 0 {
		l, err := k.handle.LinkByName(a.Interface)
		if err != nil {
			return nil, err
		}
		index = l.Attrs().Index
	}
	n := &netlink.Addr{
		IPNet:     toIPNet(a.Prefix),
		LinkIndex: index,
		Label:     a.Label,
		Scope:     a.Scope,
		Flags:     a.Flags &^ kernelFlags,
	}
	if a.Peer.IsValid() {
		n.Peer = toIPNet(a.Peer)
	}
	return n, nil
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// explain adds the remedy to the errors that an operator meets.
func explain(err error) error {
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("no such interface: %w", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: run as root, or with CAP_NET_ADMIN", err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: IPv6 is off on this interface: set net.ipv6.conf.<interface>.disable_ipv6=0", err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: this kernel runs without IPv6 (ipv6.disable=1?)", err)
	}
	return err
}

// Link implements Kernel.
func (k *Netlink) Link(name string) (Link, error) {
	l, err := k.handle.LinkByName(name)
	if err != nil {
		return Link{}, fmt.Errorf("interface %s: %w", name, explain(err))
	}
	a := l.Attrs()
	const running = unix.IFF_RUNNING | unix.IFF_LOWER_UP
	return Link{
		Index:   a.Index,
		Name:    a.Name,
		MAC:     a.HardwareAddr,
		Up:      a.RawFlags&unix.IFF_UP != 0,
		Carrier: a.RawFlags&running == running,
	}, nil
}
