package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// maxWeight and maxPersistence are ipvsadm's own limits (ipvsadm.c,
// parse_service: MAX_TIMEOUT is 31 days). The netlink library reads weights
// as 16 bits, too: a larger one could not be compared.
const (
	maxWeight      = 65535
	maxPersistence = 31 * 24 * time.Hour
)

// Validate reports everything in a desired service that the kernel would
// refuse, or worse, store as something else.
func (s Service) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Protocol != TCP && s.Protocol != UDP {
		bad("%v: expected TCP or UDP", s.Protocol)
	}
	if err := validAddress(s.Address); err != nil {
		bad("address %v: %w", s.Address, err)
	}
	if s.Port == 0 {
		bad("port 0: expected 1 to 65535")
	}
	if !slices.Contains(Schedulers(), s.Scheduler) {
		bad("scheduler %q: expected one of %v", s.Scheduler, Schedulers())
	}
	if s.Persistence < 0 || s.Persistence > maxPersistence || s.Persistence%time.Second != 0 {
		bad("persistence %v: expected whole seconds, 0s to %v", s.Persistence, maxPersistence)
	}
	if s.Extras != "" {
		bad("extras %q: these come from the kernel only", s.Extras)
	}
	seen := make(map[netip.AddrPort]bool, len(s.Destinations))
	for _, d := range s.Destinations {
		if seen[d.AddrPort()] {
			bad("destination %v: stands there twice", d.AddrPort())
		}
		seen[d.AddrPort()] = true
		if err := d.validate(s.Key); err != nil {
			bad("destination %v: %w", d.AddrPort(), err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("service %v: %w", s.Key, err)
	}
	return nil
}

func (d Destination) validate(k Key) error {
	if err := validAddress(d.Address); err != nil {
		return err
	}
	switch {
	case d.Address.Is4() != k.Address.Is4() && k.Address.IsValid():
		return fmt.Errorf("expected an address of the service's family, as %v is", k.Address)
	case d.Forward != DR && d.Forward != TUN && d.Forward != NAT:
		return errors.New("no forwarding method: expected dr, tun or nat")
	case d.Port == 0:
		return errors.New("port 0: expected 1 to 65535")
	case d.Forward != NAT && d.Port != k.Port:
		// Neither method rewrites the port: the packet arrives at the VIP's
		// port whatever the table says.
		return fmt.Errorf("port %d with %v: only nat can change the port, expected %d", d.Port, d.Forward, k.Port)
	case d.Weight < 0 || d.Weight > maxWeight:
		return fmt.Errorf("weight %d: expected 0 to %d", d.Weight, maxWeight)
	case d.Extras != "":
		return fmt.Errorf("extras %q: these come from the kernel only", d.Extras)
	}
	return nil
}

func validAddress(a netip.Addr) error {
	if err := oneFamily(a); err != nil {
		return err
	}
	switch {
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return errors.New("expected a unicast address")
	case a.Is6() && a.IsLinkLocalUnicast():
		// ip_vs_ctl.c, ip_vs_new_dest: not without an interface.
		return errors.New("link-local: expected a global or unique local address")
	}
	return nil
}

// oneFamily refuses what the kernel or the netlink library takes for an
// address of the other family, or cannot store.
func oneFamily(a netip.Addr) error {
	if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
		return errors.New("expected an IPv4 address, or an IPv6 one without a zone that is not IPv4-mapped")
	}
	return nil
}

// ValidateAll validates a whole desired table: every service, and that no key
// stands there twice. All errors come at once.
func ValidateAll(services []Service) error {
	var errs []error
	seen := make(map[Key]bool, len(services))
	for _, s := range services {
		if seen[s.Key] {
			errs = append(errs, fmt.Errorf("service %v: stands there twice", s.Key))
		}
		seen[s.Key] = true
		errs = append(errs, s.Validate())
	}
	return errors.Join(errs...)
}
