package director

import (
	"fmt"
	"maps"
	"slices"

	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/ipvs"
)

// Rules are the kernel's services for the groups that are held, by service and
// in the order of its listen: each port of a list or a range is one. A real
// server that is not usable is left out, or has weight 0 if its service's
// on_failure says so. sp has passed its own checks.
func Rules(sp *spec.Spec, held map[string]bool, usable func(spec.Service, spec.RealServer) bool) []ipvs.Service {
	var out []ipvs.Service
	for _, name := range slices.Sorted(maps.Keys(sp.Services)) {
		s := sp.Services[name]
		if !held[s.Group] {
			continue
		}
		servers := inUse(s, usable)
		for _, l := range s.Listen {
			for port := int(l.Port); port <= int(l.High()); port++ {
				out = append(out, kernelService(s, l, uint16(port), servers))
			}
		}
	}
	return out
}

// inUse are the real servers of s that stand in the kernel, with their weights.
func inUse(s spec.Service, usable func(spec.Service, spec.RealServer) bool) []spec.RealServer {
	out := make([]spec.RealServer, 0, len(s.RealServers))
	for _, rs := range s.RealServers {
		if !usable(s, rs) {
			if s.OnFailure == spec.Remove {
				continue
			}
			rs.Weight = 0
		}
		out = append(out, rs)
	}
	return out
}

// kernelService is s at one of the ports that it listens on.
func kernelService(s spec.Service, l spec.Listen, port uint16, servers []spec.RealServer) ipvs.Service {
	out := ipvs.Service{
		Key:       ipvs.Key{Protocol: protocol(l.Protocol), Address: l.Address, Port: port, Mark: l.Mark, IPv6: l.IPv6},
		Scheduler: s.Scheduler, SchedulerFlags: ipvs.SchedulerFlags(s.SchedulerFlagBits()), OnePacket: s.OnePacket,
		Persistence: s.Persistence, PersistencePrefix: s.PersistencePrefix, Engine: s.PersistenceEngine,
	}
	if len(servers) > 0 {
		out.Destinations = make([]ipvs.Destination, len(servers))
	}
	for i, rs := range servers {
		out.Destinations[i] = destination(s, rs, port)
	}
	return out
}

func destination(s spec.Service, rs spec.RealServer, port uint16) ipvs.Destination {
	out := ipvs.Destination{
		Address: rs.Address.Addr(), Port: rs.Address.Port(), Forward: forward(s.ForwardOf(rs)), Weight: rs.Weight,
		Upper: uint32(rs.UpperThreshold), Lower: uint32(rs.LowerThreshold),
	}
	if out.Port == 0 {
		out.Port = port
	}
	if out.Forward == ipvs.TUN {
		out.Tunnel = tunnel(s.TunnelOf(rs))
	}
	return out
}

// protocol is 0 for a firewall mark.
func protocol(p spec.Protocol) ipvs.Protocol {
	switch p {
	case spec.TCP:
		return ipvs.TCP
	case spec.UDP:
		return ipvs.UDP
	case spec.SCTP:
		return ipvs.SCTP
	}
	return 0
}

func forward(f spec.Forward) ipvs.Forward {
	switch f {
	case spec.DR:
		return ipvs.DR
	case spec.Tun:
		return ipvs.TUN
	case spec.NAT:
		return ipvs.NAT
	}
	panic(fmt.Sprintf("director: forwarding method %q passed the documents' checks", f))
}

func tunnel(t spec.Tunnel) ipvs.Tunnel {
	types := map[spec.TunnelType]ipvs.TunnelType{spec.IPIP: ipvs.IPIP, spec.GUE: ipvs.GUE, spec.GRE: ipvs.GRE}
	checksums := map[spec.Checksum]ipvs.TunnelChecksum{
		spec.ChecksumNone: ipvs.NoChecksum, spec.ChecksumFull: ipvs.Checksum, spec.ChecksumRemote: ipvs.RemoteChecksum}
	return ipvs.Tunnel{Type: types[t.Type], Port: uint16(t.Port), Checksum: checksums[t.Checksum]}
}
