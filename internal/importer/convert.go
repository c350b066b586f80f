package importer

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/ipvs"
)

// serviceName makes a service's name out of what it listens on:
// tcp-10-0-0-1-80, udp-2001-db8--1-53, fwmark-5-ipv4. No two keys have one name.
func serviceName(k ipvs.Key) string {
	l := listen(k)
	if k.Mark != 0 {
		return strings.NewReplacer(":", "-", "/", "-").Replace(l.String())
	}
	address := strings.NewReplacer(":", "-", ".", "-").Replace(k.Address.String())
	return fmt.Sprintf("%s-%s-%d", l.Protocol, address, k.Port)
}

func listen(k ipvs.Key) spec.Listen {
	protocols := map[ipvs.Protocol]spec.Protocol{ipvs.TCP: spec.TCP, ipvs.UDP: spec.UDP, ipvs.SCTP: spec.SCTP}
	return spec.Listen{Address: k.Address, Port: k.Port, Protocol: protocols[k.Protocol], Mark: k.Mark, IPv6: k.IPv6}
}

func forward(f ipvs.Forward) spec.Forward {
	switch f {
	case ipvs.TUN:
		return spec.Tun
	case ipvs.NAT:
		return spec.NAT
	}
	return spec.DR
}

func tunnel(t ipvs.Tunnel) spec.Tunnel {
	types := map[ipvs.TunnelType]spec.TunnelType{ipvs.IPIP: spec.IPIP, ipvs.GUE: spec.GUE, ipvs.GRE: spec.GRE}
	checksums := map[ipvs.TunnelChecksum]spec.Checksum{
		ipvs.NoChecksum: spec.ChecksumNone, ipvs.Checksum: spec.ChecksumFull, ipvs.RemoteChecksum: spec.ChecksumRemote}
	return spec.Tunnel{Type: types[t.Type], Port: int(t.Port), Checksum: checksums[t.Checksum]}
}

// methods are the method and the encapsulation that most real servers have; they
// become the service's.
func methods(ds []ipvs.Destination) (spec.Forward, *spec.Tunnel) {
	var forwards []spec.Forward
	var tunnels []spec.Tunnel
	for _, d := range ds {
		forwards = append(forwards, forward(d.Forward))
		if d.Forward == ipvs.TUN {
			tunnels = append(tunnels, tunnel(d.Tunnel))
		}
	}
	f := most(forwards, spec.DefaultService().Forward)
	if t := most(tunnels, spec.DefaultTunnel()); f == spec.Tun && t != spec.DefaultTunnel() {
		return f, &t
	}
	return f, nil
}

// most is the value that comes most often, the earliest of several.
func most[T comparable](values []T, otherwise T) T {
	count := map[T]int{}
	for _, v := range values {
		count[v]++
	}
	best := otherwise
	for _, v := range values {
		if count[v] > count[best] {
			best = v
		}
	}
	return best
}

// realServer is a real server of s, with settings of its own where they are not
// those of s.
func realServer(s spec.Service, d ipvs.Destination) spec.RealServer {
	out := spec.RealServer{Address: netip.AddrPortFrom(d.Address, d.Port), Weight: d.Weight,
		UpperThreshold: int(d.Upper), LowerThreshold: int(d.Lower)}
	if f := forward(d.Forward); f != s.Forward {
		out.Forward = f
	}
	if d.Forward == ipvs.TUN {
		if t := tunnel(d.Tunnel); t != s.TunnelOf(out) {
			out.Tunnel = &t
		}
	}
	return out
}
