package ipvs

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/zklvs/zklvs/ipvs/genl"
)

// ServiceStats are the counters of a service since it was added, or since Zero.
type ServiceStats struct {
	Key
	Counters
	Scheduler    string
	Destinations []DestinationStats
}

// DestinationStats are the counters of a destination since it was added, or
// since Zero.
type DestinationStats struct {
	AddrPort netip.AddrPort
	Forward  Forward
	Weight   int
	// ActiveConn counts TCP connections that are established or about to be
	// (SYN_RECV too), as `ipvsadm -L` does.
	ActiveConn int
	// InactConn counts all others: closing ones, and all of UDP.
	InactConn int
	// PersistConn counts the persistence templates: clients that are bound to
	// this destination.
	PersistConn int
	Counters
}

// Counters count what passed, as of the kernel's last estimation: they are up
// to 2 s old (ip_vs_est.c), unlike the numbers of connections. Those about
// packets and bytes that went out are 0 for dr and tun: answers do not pass the
// director. Rates are the kernel's, a second, averaged over some.
type Counters struct {
	Connections, InPackets, OutPackets, InBytes, OutBytes                uint64
	ConnectionRate, InPacketRate, OutPacketRate, InByteRate, OutByteRate uint64
}

// Stats reads the counters of the given services, or of all if there are
// none. A service that the kernel does not have is left out.
func (t *Table) Stats(keys ...Key) ([]ServiceStats, error) {
	var out []ServiceStats
	err := t.each(keys, reading{stats: true}, func(s *rawService, ds []rawDest) { out = append(out, s.stats(ds)) })
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b ServiceStats) int { return a.Key.Compare(b.Key) })
	return out, nil
}

func (r *rawService) stats(ds []rawDest) ServiceStats {
	out := ServiceStats{Key: r.key(), Counters: r.counters, Scheduler: r.scheduler}
	for i := range ds {
		d := &ds[i]
		is := d.destination()
		out.Destinations = append(out.Destinations, DestinationStats{
			AddrPort: is.AddrPort(), Forward: is.Forward, Weight: is.Weight,
			ActiveConn: int(d.active), InactConn: int(d.inact), PersistConn: int(d.persist),
			Counters: d.counters,
		})
	}
	slices.SortFunc(out.Destinations, func(a, b DestinationStats) int { return compareNames(a.AddrPort, b.AddrPort) })
	return out
}

// Zero sets the counters of these services and their destinations to zero, or
// of all if there are none, foreign ones too. The numbers of connections stay.
func (t *Table) Zero(keys ...Key) error {
	return t.call("zero the IPVS counters", func() error {
		if len(keys) == 0 {
			return t.conn.Get(t.family, cmdZero, func(*genl.Encoder) {}, ignore)
		}
		for _, k := range keys {
			err := t.conn.Get(t.family, cmdZero, func(e *genl.Encoder) { e.End(k.encodeKey(e)) }, ignore)
			if err != nil {
				return fmt.Errorf("service %v: %w", k, err)
			}
		}
		return nil
	})
}

func ignore(*genl.Decoder) {}
