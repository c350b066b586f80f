package fence

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors that callers decide by.
var (
	// ErrFenced: the lock named was fenced; it is never resumed.
	ErrFenced = errors.New("the lock was fenced")
	// ErrLeaseOver: too little of the lease is left to bind or renew.
	ErrLeaseOver = errors.New("the lease is over")
	// ErrHeld: the group is bound under another lock, which must be fenced first.
	ErrHeld = errors.New("the group is bound under another lock")
	// ErrNotHeld: there is nothing to renew.
	ErrNotHeld = errors.New("the group is not bound")
	// ErrTaken: another group has bound the address.
	ErrTaken = errors.New("the address belongs to another group")
	// ErrOwnAddress: the VIP looks like this host's own address.
	ErrOwnAddress = errors.New("the address looks like this host's own")
)

// VIP is one virtual address, IPv4 or IPv6, and where it is bound: always as
// the address of one host, /32 or /128.
type VIP struct {
	Address   netip.Addr `json:"address"`
	Interface string     `json:"interface"`
	// Label is what `ip addr` shows, at most 15 bytes; empty means the
	// interface's name. iproute2 wants it to begin with that name; the kernel
	// does not, so neither does this package. The kernel has labels for IPv4
	// only: at an IPv6 VIP it is without effect.
	Label string `json:"label,omitempty"`
}

func (v VIP) String() string { return v.Address.String() + " on " + v.Interface }

// label returns what the kernel's dump shows for this VIP.
func (v VIP) label() string {
	switch {
	case v.Address.Is6():
		return ""
	case v.Label == "":
		return v.Interface
	}
	return v.Label
}

// flags returns the IFA_F_* bits with which this VIP is bound. IPv6 would ask
// the network for a second or more whether someone has the address, and not
// answer meanwhile (RFC 4862, 5.4): that nobody has is the lease's matter. Nor
// does it need a route to itself, which would be changed with every renewal.
func (v VIP) flags() int {
	if v.Address.Is4() {
		return 0
	}
	return unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
}

// Validate says what is wrong with v.
func (v VIP) Validate() error {
	switch a := v.Address; {
	case !a.Is4() && (a.Is4In6() || a.Zone() != "" || !a.IsGlobalUnicast()):
		return fmt.Errorf("VIP %v: expected an IPv4 address or a global IPv6 address", a)
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("VIP %v: expected a unicast address of a network", v.Address)
	case v.Interface == "lo":
		return fmt.Errorf("VIP %v: a director does not bind on lo", v.Address)
	}
	if err := checkName(v.Interface); err != nil {
		return fmt.Errorf("VIP %v: interface: %w", v.Address, err)
	}
	if v.Label == "" {
		return nil
	}
	if err := checkName(v.Label); err != nil {
		return fmt.Errorf("VIP %v: label: %w", v.Address, err)
	}
	return nil
}

// checkName refuses what the kernel would refuse or cut: names of interfaces
// and labels hold 15 bytes (IFNAMSIZ, include/uapi/linux/if.h).
func checkName(name string) error {
	switch {
	case name == "" || len(name) >= unix.IFNAMSIZ:
		return fmt.Errorf("%.40q has %d bytes: expected 1 to %d", name, len(name), unix.IFNAMSIZ-1)
	case name == "." || name == "..":
		return fmt.Errorf("%q is not a name", name)
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }); i >= 0 {
		return fmt.Errorf("%q: unexpected character %q", name, name[i:i+1])
	}
	return nil
}

// Holding names what entitles a group to be bound: a lock, which is used for
// one holding only, and the epoch that came with it (for logs and status).
type Holding struct {
	Group string
	Lock  string
	Epoch uint64
}

func (h Holding) validate() error {
	if h.Group == "" || h.Lock == "" {
		return fmt.Errorf("holding %+v: expected a group and a lock", h)
	}
	return nil
}

// validateVIPs refuses an empty list, a bad VIP and an address given twice.
func validateVIPs(vips []VIP) error {
	if len(vips) == 0 {
		return errors.New("expected at least one VIP")
	}
	seen := make(map[netip.Addr]bool, len(vips))
	for _, v := range vips {
		if err := v.Validate(); err != nil {
			return err
		}
		if seen[v.Address] {
			return fmt.Errorf("VIP %v is given twice", v.Address)
		}
		seen[v.Address] = true
	}
	return nil
}
