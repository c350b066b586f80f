package ipvs

import (
	"net/netip"
	"slices"

	"github.com/moby/ipvs"
)

// ServiceStats are the counters of a service since it was added.
type ServiceStats struct {
	Key
	Counters
	Destinations []DestinationStats
}

// DestinationStats are the counters of a destination since it was added.
type DestinationStats struct {
	AddrPort netip.AddrPort
	// ActiveConn counts TCP connections that are established or about to be
	// (SYN_RECV too), as `ipvsadm -L` does.
	ActiveConn int
	// InactConn counts all others: closing ones, and all of UDP.
	InactConn int
	Counters
}

// Counters count what passed, as of the kernel's last estimation: they are up
// to 2 s old (ip_vs_est.c), unlike ActiveConn and InactConn. The packet and
// connection counts are 32 bits wide in the messages read here and wrap.
type Counters struct {
	Connections uint32
	InPackets   uint32
	OutPackets  uint32 // 0 for dr and tun: answers do not pass the director
	InBytes     uint64
	OutBytes    uint64
}

// Stats reads the counters of the given services, or of all if there are
// none. A service that the kernel does not have is left out.
func (t *Table) Stats(keys ...Key) ([]ServiceStats, error) {
	var only map[Key]bool
	if len(keys) > 0 {
		only = make(map[Key]bool, len(keys))
		for _, k := range keys {
			only[k] = true
		}
	}
	var out []ServiceStats
	err := t.each(only, func(s *ipvs.Service, ds []*ipvs.Destination) {
		out = append(out, statsFromKernel(s, ds))
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b ServiceStats) int { return a.Key.Compare(b.Key) })
	return out, nil
}

func statsFromKernel(s *ipvs.Service, ds []*ipvs.Destination) ServiceStats {
	key, _ := keyFromKernel(s)
	out := ServiceStats{Key: key, Counters: counters(s.Stats)}
	for _, d := range ds {
		addr, _ := netip.AddrFromSlice(d.Address)
		out.Destinations = append(out.Destinations, DestinationStats{
			AddrPort:   netip.AddrPortFrom(addr, d.Port),
			ActiveConn: d.ActiveConnections,
			InactConn:  d.InactiveConnections,
			Counters:   counters(ipvs.SvcStats(d.Stats)),
		})
	}
	slices.SortFunc(out.Destinations, func(a, b DestinationStats) int { return compareNames(a.AddrPort, b.AddrPort) })
	return out
}

func counters(s ipvs.SvcStats) Counters {
	return Counters{
		Connections: s.Connections,
		InPackets:   s.PacketsIn, OutPackets: s.PacketsOut,
		InBytes: s.BytesIn, OutBytes: s.BytesOut,
	}
}
