package fence

import (
	"fmt"
	"math"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Forever is the lifetime of a permanent address (INFINITY_LIFE_TIME,
// include/net/addrconf.h).
const Forever uint32 = math.MaxUint32

// Kernel is the part of the kernel's address table that this package needs.
// Netlink is the real one, fencetest.Kernel the one for tests.
type Kernel interface {
	// Addresses returns every IPv4 and IPv6 address of every interface.
	Addresses() ([]Address, error)
	// Replace adds an address, or gives the lifetime to the one that is there
	// with the same interface, local address and prefix. That one keeps its label.
	// An IPv6 address is on an interface once: one with another prefix or a peer
	// keeps them and gets the lifetime. An IPv6 address with a lifetime is
	// deprecated from the start (preferred_lft 0): it serves whoever asks for it,
	// and is never chosen as a source, for tunnels to real servers least of all.
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
	// Label is never empty in a dump of IPv4, and always of IPv6; in an argument
	// empty means the interface's name.
	Label string
	// Scope is an RT_SCOPE_* number, 0 = global (linux/rtnetlink.h).
	Scope int
	// Flags are IFA_F_* bits (linux/if_addr.h).
	Flags int
	// Valid is the lifetime that is left in seconds, or Forever.
	Valid uint32
}

func (a Address) String() string {
	s := fmt.Sprintf("%v dev %s", a.Prefix, a.Interface)
	if a.Label != "" {
		s += " label " + a.Label
	}
	if a.Valid == Forever {
		return s + " valid_lft forever"
	}
	return fmt.Sprintf("%s valid_lft %ds", s, a.Valid)
}

// key identifies an entry among all others.
func (a Address) key() [3]string {
	return [3]string{a.Interface, a.Prefix.String(), a.Peer.String()}
}

// binds reports whether a has the form in which vip is bound, whatever its lifetime.
func (a Address) binds(vip VIP) bool {
	return a.Interface == vip.Interface && a.Prefix == hostPrefix(vip.Address) && !a.Peer.IsValid()
}

// silent reports whether a does not answer although it is bound: duplicate
// address detection found another, or is under way (RFC 4862, 5.4).
func (a Address) silent() bool {
	return a.Prefix.Addr().Is6() && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0
}

// hostPrefix returns the prefix with which a VIP is bound: /32 or /128.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

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
