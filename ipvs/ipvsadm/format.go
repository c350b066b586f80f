package ipvsadm

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/zklvs/zklvs/ipvs"
)

// Format writes a table as ipvsadm -S -n prints it, in its order, and what
// ipvsadm -R makes the table from. Nothing is written if a service cannot be
// said in ipvsadm's words; the error names each.
func Format(w io.Writer, services []ipvs.Service) error {
	var errs []error
	for _, s := range services {
		if err := sayable(s); err != nil {
			errs = append(errs, fmt.Errorf("service %v: %w", s.Key, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	for _, s := range slices.SortedFunc(slices.Values(services), compareServices) {
		fmt.Fprintln(out, ipvs.Step{Op: ipvs.AddService, Service: &s})
		for _, d := range slices.SortedFunc(slices.Values(s.Destinations), compareDestinations) {
			fmt.Fprintln(out, ipvs.Step{Op: ipvs.AddDestination, Service: &s, Destination: &d})
		}
	}
	return out.Flush()
}

// compareServices is ipvsadm's order (libipvs.c, ipvs_cmp_services), without
// its overflows: mark, family, protocol, address, port.
func compareServices(a, b ipvs.Service) int {
	return cmp.Or(cmp.Compare(a.Mark, b.Mark), compareBool(a.Is6(), b.Is6()), cmp.Compare(a.Protocol, b.Protocol),
		a.Address.Compare(b.Address), cmp.Compare(a.Port, b.Port))
}

// compareDestinations goes by the first word of an address, of IPv4 the only
// one, whatever its family (ipvs_cmp_dests).
func compareDestinations(a, b ipvs.Destination) int {
	return cmp.Or(bytes.Compare(a.Address.AsSlice(), b.Address.AsSlice()), cmp.Compare(a.Port, b.Port))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// sayable checks what ipvsadm has no word for.
func sayable(s ipvs.Service) error {
	switch {
	case s.Mark == 0 && (!s.Address.IsValid() || s.Address.Is4In6() || s.Address.Zone() != ""):
		return fmt.Errorf("address %v: expected an IPv4 or IPv6 address", s.Address)
	case s.Mark == 0 && s.Protocol.Flag() == "-?":
		return fmt.Errorf("%v: expected tcp, udp or sctp", s.Protocol)
	case s.Extras != "":
		return fmt.Errorf("has settings that ipvsadm cannot say: %s", s.Extras)
	case s.Persistence < 0 || s.Persistence > maxPersistence*time.Second || s.Persistence%time.Second != 0:
		return fmt.Errorf("persistence %v: expected whole seconds up to 31 days", s.Persistence)
	}
	if err := parseScheduler(s.Scheduler); err != nil {
		return err
	}
	for _, d := range s.Destinations {
		switch {
		case !d.Address.IsValid() || d.Address.Is4In6() || d.Address.Zone() != "":
			return fmt.Errorf("real server %v: expected an IPv4 or IPv6 address", d.Address)
		case d.Forward.Flag() == "-?":
			return fmt.Errorf("real server %v: no forwarding method", d.AddrPort())
		case d.Weight < 0:
			return fmt.Errorf("real server %v: weight %d: expected 0 or more", d.AddrPort(), d.Weight)
		case d.Extras != "":
			return fmt.Errorf("real server %v has settings that ipvsadm cannot say: %s", d.AddrPort(), d.Extras)
		}
	}
	return nil
}
