// Package fencetest is a kernel's address table and a kernel gate in memory, for
// tests of what uses package fence. The table's behavior is checked against the
// real kernel by the same tests.
package fencetest

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence"
)

// Kernel implements fence.Kernel. Lifetimes run on the clock that it was given;
// the real kernel is later by up to fence.LatenessUngated.
type Kernel struct {
	// Hook, if set before first use, is called before each Addresses ("dump"),
	// Replace ("replace"), Remove ("remove") and Link ("link"), without the lock.
	// Its error is returned instead of the act.
	Hook func(op string, a fence.Address) error
	// PromoteSecondaries is the sysctl of that name, for all interfaces.
	PromoteSecondaries bool

	now func() time.Duration

	mu    sync.Mutex
	links map[string]fence.Link
	table []entry
	index int
}

type entry struct {
	fence.Address
	expiry time.Duration // zero: never
}

// NewKernel returns a table with lo and no addresses.
func NewKernel(now func() time.Duration) *Kernel {
	k := &Kernel{now: now, links: map[string]fence.Link{}}
	k.AddLink("lo", nil)
	return k
}

// AddLink adds an interface that is up and has a carrier.
func (k *Kernel) AddLink(name string, mac net.HardwareAddr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.index++
	k.links[name] = fence.Link{Index: k.index, Name: name, MAC: mac, Up: true, Carrier: true}
}

// SetLink changes the state of an interface.
func (k *Kernel) SetLink(name string, up, carrier bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.links[name]
	l.Up, l.Carrier = up, up && carrier
	k.links[name] = l
}

// DeleteLink removes an interface and its addresses.
func (k *Kernel) DeleteLink(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.links, name)
	k.table = slices.DeleteFunc(k.table, func(e entry) bool { return e.Interface == name })
}

func (k *Kernel) hook(op string, a fence.Address) error {
	if k.Hook == nil {
		return nil
	}
	return k.Hook(op, a)
}

// expire drops what is past its lifetime. The caller holds k.mu.
func (k *Kernel) expire() {
	now := k.now()
	k.table = slices.DeleteFunc(k.table, func(e entry) bool { return e.expiry != 0 && now >= e.expiry })
}

// Addresses implements fence.Kernel.
func (k *Kernel) Addresses() ([]fence.Address, error) {
	if err := k.hook("dump", fence.Address{}); err != nil {
		return nil, err
	}
	return k.Table(), nil
}

// Table returns what Addresses does, and asks no Hook.
func (k *Kernel) Table() []fence.Address {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expire()
	now := k.now()
	var all []fence.Address
	for _, e := range k.table {
		a := e.Address
		if a.Valid = fence.Forever; e.expiry != 0 {
			a.Valid = uint32((e.expiry - now + time.Second - 1) / time.Second)
		}
		all = append(all, a)
	}
	slices.SortStableFunc(all, func(a, b fence.Address) int { return cmp.Compare(a.Index, b.Index) })
	return all
}

// Replace implements fence.Kernel.
func (k *Kernel) Replace(a fence.Address) error {
	if err := k.hook("replace", a); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expire()
	link, ok := k.links[a.Interface]
	switch {
	case !ok:
		return fmt.Errorf("bind %v on %s: no such interface: %w", a.Prefix, a.Interface, unix.ENODEV)
	case len(a.Label) >= unix.IFNAMSIZ:
		return fmt.Errorf("bind %v on %s: %w", a.Prefix, a.Interface, unix.ERANGE)
	case a.Valid == 0:
		return fmt.Errorf("bind %v on %s: %w", a.Prefix, a.Interface, unix.EINVAL)
	}
	e := entry{Address: a}
	e.Index = link.Index
	e.Label = cmp.Or(a.Label, a.Interface)
	if a.Valid != fence.Forever {
		e.expiry = k.now() + time.Duration(a.Valid)*time.Second
	}
	if a.Prefix.Addr().Is6() {
		k.replace6(e)
		return nil
	}
	if i := slices.IndexFunc(k.table, e.same); i >= 0 {
		k.table[i].expiry = e.expiry // the label stays
		return nil
	}
	e.Flags &^= unix.IFA_F_SECONDARY
	if slices.ContainsFunc(k.table, func(o entry) bool { return o.subnet(e) && o.Flags&unix.IFA_F_SECONDARY == 0 }) {
		e.Flags |= unix.IFA_F_SECONDARY
	}
	k.table = append(k.table, e)
	return nil
}

// replace6 adds an IPv6 address, or changes the one that is on the interface
// with whatever prefix (inet6_addr_modify, net/ipv6/addrconf.c). The caller
// holds k.mu.
func (k *Kernel) replace6(e entry) {
	e.Label = ""
	e.Flags &^= unix.IFA_F_DEPRECATED
	if e.expiry != 0 {
		e.Flags |= unix.IFA_F_DEPRECATED
	}
	i := slices.IndexFunc(k.table, func(o entry) bool {
		return o.Interface == e.Interface && o.Prefix.Addr() == e.Prefix.Addr()
	})
	if i < 0 {
		k.table = append(k.table, e)
		return
	}
	const stays = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	k.table[i].expiry = e.expiry
	k.table[i].Flags = e.Flags&^stays | k.table[i].Flags&stays
}

// Remove implements fence.Kernel.
func (k *Kernel) Remove(a fence.Address) error {
	if err := k.hook("remove", a); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expire()
	i := slices.IndexFunc(k.table, entry{Address: a}.same)
	if i < 0 {
		return nil
	}
	gone := k.table[i]
	k.table = slices.Delete(k.table, i, i+1)
	if gone.Flags&unix.IFA_F_SECONDARY != 0 || gone.Prefix.Addr().Is6() {
		return nil
	}
	if !k.PromoteSecondaries {
		k.table = slices.DeleteFunc(k.table, gone.subnet)
	} else if i := slices.IndexFunc(k.table, gone.subnet); i >= 0 {
		k.table[i].Flags &^= unix.IFA_F_SECONDARY
	}
	return nil
}

// Link implements fence.Kernel.
func (k *Kernel) Link(name string) (fence.Link, error) {
	if err := k.hook("link", fence.Address{Interface: name}); err != nil {
		return fence.Link{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	l, ok := k.links[name]
	if !ok {
		return fence.Link{}, fmt.Errorf("interface %s: no such interface: %w", name, unix.ENODEV)
	}
	return l, nil
}

// same reports whether o is the same entry of the table, whatever its lifetime.
func (e entry) same(o entry) bool {
	return e.Interface == o.Interface && e.Prefix == o.Prefix && e.Peer == o.Peer
}

// subnet reports whether o is in the same subnet of the same interface, so that
// one is secondary to the other.
func (e entry) subnet(o entry) bool {
	return e.Interface == o.Interface && e.Prefix.Masked() == o.Prefix.Masked()
}
