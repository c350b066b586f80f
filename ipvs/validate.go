package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// maxWeight and maxPersistence are ipvsadm's own limits (ipvsadm.c,
// parse_service: MAX_TIMEOUT is 31 days).
const (
	maxWeight      = 65535
	maxPersistence = 31 * 24 * time.Hour
)

// Validate reports everything in a desired service that the kernel would
// refuse, or worse, take and do something else.
func (s Service) Validate() error {
	var errs []error
	bad := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	bad(s.Key.validate())
	bad(s.validateScheduler())
	bad(s.validatePersistence())
	if s.OnePacket {
		bad(s.validateOnePacket())
	}
	if s.Extras != "" {
		bad(fmt.Errorf("extras %q: these come from the kernel only", s.Extras))
	}
	for i := range s.Destinations {
		d := &s.Destinations[i]
		if twice(s.Destinations[:i], d.AddrPort()) {
			bad(fmt.Errorf("destination %v: stands there twice", d.AddrPort()))
		}
		if err := d.validate(&s.Key); err != nil {
			bad(fmt.Errorf("destination %v: %w", d.AddrPort(), err))
		}
	}
	if errs == nil {
		return nil
	}
	return fmt.Errorf("service %v: %w", s.Key, errors.Join(errs...))
}

// twice looks for a destination among those before it. A service has few.
func twice(before []Destination, name netip.AddrPort) bool {
	for i := range before {
		if before[i].Port == name.Port() && before[i].Address == name.Addr() {
			return true
		}
	}
	return false
}

func (k *Key) validate() error {
	switch {
	case k.Mark != 0 && (k.Protocol != 0 || k.Address.IsValid() || k.Port != 0):
		return errors.New("a firewall mark has neither protocol nor address nor port")
	case k.Mark != 0:
		return nil
	case k.IPv6:
		return errors.New("only a firewall mark needs its family said")
	case k.Protocol != TCP && k.Protocol != UDP && k.Protocol != SCTP:
		return fmt.Errorf("%v: expected TCP, UDP or SCTP", k.Protocol)
	}
	if err := validAddress(k.Address); err != nil {
		return fmt.Errorf("address %v: %w", k.Address, err)
	}
	return nil
}

func (s *Service) validateScheduler() error {
	switch {
	case !slices.Contains(schedulers[:], s.Scheduler):
		return fmt.Errorf("scheduler %q: expected one of %v", s.Scheduler, Schedulers())
	case s.SchedulerFlags&^allSched != 0:
		return fmt.Errorf("scheduler flags %#x: expected those of Fallback, HashPort and Flag3", uint8(s.SchedulerFlags))
	case s.SchedulerFlags != 0 && s.Scheduler != "sh" && s.Scheduler != "mh":
		return fmt.Errorf("scheduler flags %v: only sh and mh have any, not %s", s.SchedulerFlags.Words(s.Scheduler), s.Scheduler)
	}
	return nil
}

func (s *Service) validatePersistence() error {
	full := 32
	if s.Is6() {
		full = 128
	}
	switch {
	case s.Persistence < 0 || s.Persistence > maxPersistence || s.Persistence%time.Second != 0:
		return fmt.Errorf("persistence %v: expected whole seconds, 0s to %v", s.Persistence, maxPersistence)
	case s.PersistencePrefix < 0 || s.PersistencePrefix > full:
		return fmt.Errorf("persistence prefix %d: expected 1 to %d, or 0 for the whole address", s.PersistencePrefix, full)
	case s.Persistence != 0:
		return s.validateEngine()
	case s.PersistencePrefix != 0:
		return fmt.Errorf("persistence prefix %d: has no meaning without persistence", s.PersistencePrefix)
	case s.Engine != "":
		return fmt.Errorf("persistence engine %q: has no meaning without persistence", s.Engine)
	case s.Port == 0 && s.Mark == 0:
		// ip_vs_core.c, ip_vs_schedule: it would serve nobody.
		return errors.New("port 0: all ports are one service with persistence only, expected 1 to 65535")
	}
	return nil
}

// validateEngine: sip looks at UDP only (ip_vs_pe_sip.c, ip_vs_sip_fill_param).
func (s *Service) validateEngine() error {
	switch {
	case s.Engine == "":
		return nil
	case s.Engine != "sip":
		return fmt.Errorf("persistence engine %q: expected sip", s.Engine)
	case s.Mark == 0 && s.Protocol != UDP:
		return fmt.Errorf("persistence engine sip: works with UDP only, not with %v", s.Protocol)
	}
	return nil
}

// validateOnePacket: the kernel looks at the flag for UDP only (ip_vs_core.c,
// ip_vs_schedule), and an answer through NAT would find no connection.
func (s *Service) validateOnePacket() error {
	if s.Mark == 0 && s.Protocol != UDP {
		return fmt.Errorf("one packet: works with UDP only, not with %v", s.Protocol)
	}
	for i := range s.Destinations {
		if s.Destinations[i].Forward == NAT {
			return fmt.Errorf("one packet: does not work with nat, as destination %v has it", s.Destinations[i].AddrPort())
		}
	}
	return nil
}

func (d *Destination) validate(k *Key) error {
	if err := validAddress(d.Address); err != nil {
		return err
	}
	switch {
	case d.Forward != DR && d.Forward != TUN && d.Forward != NAT:
		return errors.New("no forwarding method: expected dr, tun or nat")
	case d.Address.Is4() == k.Is6() && d.Forward != TUN && (k.Mark != 0 || k.Address.IsValid()):
		return fmt.Errorf("%v from one address family to the other: only tun can do that", d.Forward)
	case d.Forward != NAT && d.Port != k.Port:
		// Neither method rewrites the port: the packet arrives at the VIP's
		// port whatever the table says.
		return fmt.Errorf("port %d with %v: only nat can change the port, expected %d", d.Port, d.Forward, k.Port)
	case d.Port == 0 && k.Port != 0:
		return errors.New("port 0: expected 1 to 65535")
	case d.Weight < 0 || d.Weight > maxWeight:
		return fmt.Errorf("weight %d: expected 0 to %d", d.Weight, maxWeight)
	case d.Lower > d.Upper:
		return fmt.Errorf("lower threshold %d: expected at most the upper one, %d", d.Lower, d.Upper)
	case d.Extras != "":
		return fmt.Errorf("extras %q: these come from the kernel only", d.Extras)
	case d.Forward != TUN && d.Tunnel != Tunnel{}:
		return fmt.Errorf("tunnel settings with %v: they are of tun", d.Forward)
	}
	return d.Tunnel.validate()
}

func (t Tunnel) validate() error {
	switch {
	case t.Type > GRE:
		return fmt.Errorf("tunnel type %d: expected ipip, gue or gre", t.Type)
	case t.Type == GUE && t.Port == 0:
		return errors.New("tunnel port 0: gue needs the port of the receiver, 1 to 65535")
	case t.Type != GUE && t.Port != 0:
		return fmt.Errorf("tunnel port %d: only gue has one", t.Port)
	case t.Checksum > RemoteChecksum:
		return fmt.Errorf("tunnel checksum %d: expected none, full or remote", t.Checksum)
	case t.Type == IPIP && t.Checksum != NoChecksum:
		return errors.New("tunnel checksum: ipip has none")
	case t.Type == GRE && t.Checksum == RemoteChecksum:
		return errors.New("tunnel checksum remote: only gue can leave it to the receiver")
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

// oneFamily refuses what people and programs take for an address of the other
// family, and what the kernel cannot store.
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
	seen := make(map[Key]struct{}, len(services))
	for i := range services {
		s := &services[i]
		if _, ok := seen[s.Key]; ok {
			errs = append(errs, fmt.Errorf("service %v: stands there twice", s.Key))
		}
		seen[s.Key] = struct{}{}
		if err := s.Validate(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
