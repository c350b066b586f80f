package fence

import (
	"fmt"
	"math"
	"net"
	"net/netip"
)

// Forever is the lifetime of a permanent address (INFINITY_LIFE_TIME,
// include/net/addrconf.h).
const Forever uint32 = math.MaxUint32

// Kernel is the part of the kernel's address table that this package needs.
// Netlink is the real one, fencetest.Kernel the one for tests.
type Kernel interface {
	// Addresses returns every IPv4 address of every interface.
	Addresses() ([]Address, error)
	// Replace adds an address, or gives the lifetime to the one that is there
	// with the same interface, local address and prefix. That one keeps its label.
	Replace(Address) error
	// Remove removes one address. An address or an interface that is not there
	// (any more) is no error.
	Remove(Address) error
	// Link returns the state of an interface.
	Link(name string) (Link, error)
}

// Address is one entry of the kernel's address table.
type Address struct {
	// Prefix is the local address with its prefix length.
	Prefix netip.Prefix
	// Peer is the other end of a point-to-point address, else the zero Prefix.
	Peer      netip.Prefix
	Interface string
	// Index is the interface's number; 0 in an argument means: look it up.
	Index int
	// Label is never empty in a dump; in an argument empty means the interface's name.
	Label string
	// Scope is an RT_SCOPE_* number, 0 = global (linux/rtnetlink.h).
	Scope int
	// Flags are IFA_F_* bits (linux/if_addr.h).
	Flags int
	// Valid is the lifetime that is left in seconds, or Forever.
	Valid uint32
}

func (a Address) String() string {
	s := fmt.Sprintf("%v dev %s label %s", a.Prefix, a.Interface, a.Label)
	if a.Valid == Forever {
		return s + " valid_lft forever"
	}
	return fmt.Sprintf("%s valid_lft %ds", s, a.Valid)
}

// key identifies an entry among all others.
func (a Address) key() [3]string {
	return [3]string{a.Interface, a.Prefix.String(), a.Peer.String()}
}

// is32 reports whether a has the form in which VIPs are bound, on vip's interface.
func (a Address) is32(vip VIP) bool {
	return a.Interface == vip.Interface && a.Prefix.Addr() == vip.Address && a.Prefix.Bits() == 32 && !a.Peer.IsValid()
}

// expiring reports whether a carries a lifetime such as this package gives.
func (a Address) expiring() bool { return a.Valid <= maxLifetime }

// Link is the state of an interface.
type Link struct {
	Index int
	Name  string
	MAC   net.HardwareAddr
	// Up is the administrator's setting.
	Up bool
	// Carrier is what the driver says: a cable with something at its other end,
	// and the interface operational. It is false while Up is false.
	Carrier bool
}
