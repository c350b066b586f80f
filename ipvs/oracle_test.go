package ipvs

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/moby/ipvs"
)

// moby/ipvs is another program's idea of the kernel's table: what we write must
// read back the same through it, where it is right.

// oracle opens moby's handle on the namespace.
func (n *namespace) oracle() *ipvs.Handle {
	n.t.Helper()
	var h *ipvs.Handle
	n.inside(func() (err error) {
		h, err = ipvs.New("")
		return err
	})
	n.t.Cleanup(h.Close)
	return h
}

// told is the part of a service that moby reads right.
type told struct {
	Key       Key
	Scheduler string
	Flags     uint32
	Timeout   uint32
	Dests     map[netip.AddrPort]toldDest
}

type toldDest struct {
	Forward      uint32
	Weight       int
	Upper, Lower uint32
}

// byOracle reads the table through moby.
func byOracle(t testing.TB, h *ipvs.Handle) map[Key]told {
	t.Helper()
	services, err := h.GetServices()
	if err != nil {
		t.Fatal(err)
	}
	out := map[Key]told{}
	for _, s := range services {
		one := told{Key: oracleKey(s), Scheduler: s.SchedName, Flags: s.Flags &^ flagHashed, Timeout: s.Timeout, Dests: map[netip.AddrPort]toldDest{}}
		ds, err := h.GetDestinations(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			a, _ := netip.AddrFromSlice(d.Address)
			one.Dests[netip.AddrPortFrom(a, d.Port)] = toldDest{d.ConnectionFlags & fwdMask, d.Weight, d.UpperThreshold, d.LowerThreshold}
		}
		out[one.Key] = one
	}
	return out
}

func oracleKey(s *ipvs.Service) Key {
	if s.FWMark != 0 {
		return Key{Mark: s.FWMark, IPv6: s.AddressFamily == afINET6}
	}
	a, _ := netip.AddrFromSlice(s.Address)
	return Key{Protocol: Protocol(s.Protocol), Address: a, Port: s.Port}
}

// asTold is what an oracle that is right says of services that we wrote.
func asTold(services []Service) map[Key]told {
	out := map[Key]told{}
	for _, s := range services {
		one := told{Key: s.Key, Scheduler: s.Scheduler, Flags: uint32(s.SchedulerFlags) << 3, Timeout: uint32(s.Persistence.Seconds()), Dests: map[netip.AddrPort]toldDest{}}
		if s.Persistence > 0 {
			one.Flags |= 1
		}
		if s.OnePacket {
			one.Flags |= 4
		}
		for _, d := range s.Destinations {
			one.Dests[d.AddrPort()] = toldDest{map[Forward]uint32{DR: 3, TUN: 2, NAT: 0}[d.Forward], d.Weight, d.Upper, d.Lower}
		}
		out[s.Key] = one
	}
	return out
}

// Where moby/ipvs is wrong, and why this package does not use it. If one of
// these fails it was mended.
func TestKernelOracleIsWrong(t *testing.T) {
	n := newNamespace(t)
	table, h := n.open(), n.oracle()
	four := &ipvs.Service{AddressFamily: afINET, Protocol: 6, Address: net.IP{10, 0, 0, 1}, Port: 80, SchedName: "rr", Netmask: 0xFFFFFFFF}
	t.Run("an IPv6 destination of an IPv4 service becomes an IPv4 one", func(t *testing.T) {
		if err := h.NewService(four); err != nil {
			t.Fatal(err)
		}
		d := &ipvs.Destination{AddressFamily: afINET6, Address: net.ParseIP("2001:db8::2"), Port: 80, Weight: 1, ConnectionFlags: fwdTun}
		if err := h.NewDestination(four, d); err != nil {
			t.Fatal(err)
		}
		noDiff(t, "table", []Service{service(t, "TCP 10.0.0.1:80", "rr", dest("32.1.13.184:80", TUN, 1))}, mustRead(t, table))
		noDiff(t, "ipvsadm", "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 32.1.13.184:80 -i -w 1 --tun-type ipip\n", strings.ReplaceAll(n.ipvsadm("-Sn"), "\n\n", "\n"))
	})
	t.Run("a persistence engine is not read", func(t *testing.T) {
		s := service(t, "UDP 10.0.0.1:5060", "rr")
		s.Persistence, s.Engine = 60e9, "sip"
		mustApply(t, table, Diff([]Service{s}, nil, nil))
		noDiff(t, "we read it", []Service{s}, mustRead(t, table)[1:])
		services, err := h.GetServices()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range services {
			if s.PEName != "" {
				t.Errorf("moby read %q", s.PEName)
			}
		}
	})
	t.Run("destinations of a service that is not there are no error", func(t *testing.T) {
		four.Port = 81
		if ds, err := h.GetDestinations(four); err != nil || len(ds) != 0 {
			t.Errorf("%v, %v", ds, err)
		}
	})
}
