package ipvsadm

import (
	"net/netip"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/zklvs/zklvs/ipvs"
)

// sameTable compares tables but for their order.
var sameTable = []cmp.Option{
	cmpopts.EquateComparable(ipvs.Key{}, ipvs.Destination{}), cmpopts.EquateEmpty(),
	cmpopts.SortSlices(func(a, b ipvs.Service) bool { return compareServices(a, b) < 0 }),
	cmpopts.SortSlices(func(a, b ipvs.Destination) bool { return compareDestinations(a, b) < 0 }),
}

// schedulers are those of Debian's kernel, which has no twos.
var schedulers = slices.DeleteFunc(ipvs.Schedulers(), func(s string) bool { return s == "twos" })

// drawTable draws a table that the kernel takes.
func drawTable(t *rapid.T) []ipvs.Service {
	var out []ipvs.Service
	seen := map[ipvs.Key]bool{}
	for _, k := range rapid.SliceOfN(rapid.Custom(drawKey), 0, 8).Draw(t, "keys") {
		if !seen[k] {
			seen[k] = true
			out = append(out, drawService(t, k))
		}
	}
	return out
}

func drawKey(t *rapid.T) ipvs.Key {
	six := rapid.Bool().Draw(t, "six")
	if rapid.IntRange(0, 3).Draw(t, "mark?") == 0 {
		return ipvs.Key{Mark: rapid.Uint32Range(1, 1<<31-1).Draw(t, "mark"), IPv6: six}
	}
	return ipvs.Key{
		Protocol: rapid.SampledFrom([]ipvs.Protocol{ipvs.TCP, ipvs.UDP, ipvs.SCTP}).Draw(t, "protocol"),
		Address:  drawAddress(t, six), Port: rapid.Uint16Range(0, 3).Draw(t, "port"),
	}
}

// drawAddress keeps to a part of the addresses in which ipvsadm's order is one.
func drawAddress(t *rapid.T, six bool) netip.Addr {
	if six {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 7: byte(rapid.IntRange(0, 1).Draw(t, "half")), 15: rapid.Byte().Draw(t, "six")})
	}
	return netip.AddrFrom4([4]byte{rapid.ByteRange(11, 100).Draw(t, "first"), 0, 0, rapid.Byte().Draw(t, "last")})
}

func drawService(t *rapid.T, k ipvs.Key) ipvs.Service {
	s := ipvs.Service{Key: k, Scheduler: rapid.SampledFrom(schedulers).Draw(t, "scheduler")}
	highest := 7
	if s.Scheduler == "sh" || s.Scheduler == "mh" {
		highest = 3 // ipvsadm -S forgets flag-3
	}
	s.SchedulerFlags = ipvs.SchedulerFlags(rapid.IntRange(0, highest).Draw(t, "flags"))
	if k.Mark == 0 && k.Port == 0 || rapid.Bool().Draw(t, "persistent") {
		s.Persistence = time.Duration(rapid.IntRange(1, maxPersistence).Draw(t, "persistence")) * time.Second
		longest := 31
		if k.Is6() {
			longest = 127
		}
		s.PersistencePrefix = rapid.IntRange(0, longest).Draw(t, "prefix")
	}
	if k.Mark != 0 || k.Protocol == ipvs.UDP {
		s.OnePacket = rapid.Bool().Draw(t, "one packet")
	}
	if k.Protocol == ipvs.UDP && rapid.Bool().Draw(t, "sip") {
		s.Engine = "sip"
	}
	seen := map[netip.AddrPort]bool{}
	for range rapid.IntRange(0, 4).Draw(t, "real servers") {
		if d := drawDestination(t, k); !seen[d.AddrPort()] {
			seen[d.AddrPort()] = true
			s.Destinations = append(s.Destinations, d)
		}
	}
	return s
}

func drawDestination(t *rapid.T, k ipvs.Key) ipvs.Destination {
	d := ipvs.Destination{
		Forward: rapid.SampledFrom([]ipvs.Forward{ipvs.DR, ipvs.TUN, ipvs.NAT}).Draw(t, "forward"), Port: k.Port,
		Weight: rapid.OneOf(rapid.IntRange(0, 3), rapid.IntRange(0, 65535)).Draw(t, "weight"),
	}
	if d.Forward == ipvs.NAT || k.Mark != 0 {
		d.Port = rapid.Uint16().Draw(t, "own port")
	}
	six := k.Is6()
	if d.Forward == ipvs.TUN {
		six = six != rapid.Bool().Draw(t, "other family")
		d.Tunnel = drawTunnel(t)
	}
	d.Address = drawAddress(t, six)
	return d
}

func drawTunnel(t *rapid.T) ipvs.Tunnel {
	tunnel := ipvs.Tunnel{Type: ipvs.TunnelType(rapid.IntRange(0, 2).Draw(t, "tunnel"))}
	switch tunnel.Type {
	case ipvs.GUE:
		tunnel.Port = rapid.Uint16Range(1, 65535).Draw(t, "tunnel port")
		tunnel.Checksum = ipvs.TunnelChecksum(rapid.IntRange(0, 2).Draw(t, "checksum"))
	case ipvs.GRE:
		tunnel.Checksum = ipvs.TunnelChecksum(rapid.IntRange(0, 1).Draw(t, "checksum"))
	case ipvs.IPIP:
	}
	return tunnel
}

// drawThresholds adds what ipvsadm -R reads and ipvsadm -S forgets.
func drawThresholds(t *rapid.T, table []ipvs.Service) {
	for _, s := range table {
		for i := range s.Destinations {
			s.Destinations[i].Upper = rapid.Uint32Range(0, 1<<31-1).Draw(t, "upper")
			s.Destinations[i].Lower = rapid.Uint32Range(0, s.Destinations[i].Upper).Draw(t, "lower")
		}
	}
}
