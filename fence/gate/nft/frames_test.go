package nft_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

var (
	vip4   = netip.MustParseAddr("10.0.0.100")
	other4 = netip.MustParseAddr("10.0.0.7")
	asker4 = netip.MustParseAddr("10.0.9.9")
	vip6   = netip.MustParseAddr("fd00::100")
	other6 = netip.MustParseAddr("fd00::7")
	asker6 = netip.MustParseAddr("fd00::9:9")
	any6   = netip.IPv6Unspecified()
	group6 = netip.MustParseAddr("ff02::1:ff00:100") // solicited-node of vip6

	macA = []byte{2, 0, 0, 0, 0, 0xa}
	macB = []byte{2, 0, 0, 0, 0, 0xb}
)

// ether puts an Ethernet header with VLAN tags (type, then TCI) in band before a packet.
func ether(proto uint16, packet []byte, tags ...uint16) []byte {
	f := append(slices.Clone(macB), macA...)
	for _, t := range tags {
		f = binary.BigEndian.AppendUint16(f, t)
		f = append(f, 0, 42)
	}
	return append(binary.BigEndian.AppendUint16(f, proto), packet...)
}

const (
	arpRequest = 1
	arpReply   = 2
)

func arpPacket(op byte, sender, target netip.Addr) []byte {
	p := append([]byte{0, 1, 8, 0, 6, 4, 0, op}, macA...)
	p = append(p, sender.AsSlice()...)
	p = append(p, make([]byte, 6)...)
	return append(p, target.AsSlice()...)
}

// arpInfiniBand has hardware addresses of 20 bytes (RFC 4391, 9).
func arpInfiniBand(sender, target netip.Addr) []byte {
	p := append([]byte{0, 32, 8, 0, 20, 4, 0, arpRequest}, make([]byte, 20)...)
	p = append(p, sender.AsSlice()...)
	p = append(p, make([]byte, 20)...)
	return append(p, target.AsSlice()...)
}

// ipv4 makes a UDP packet with options (a multiple of four) in its header.
func ipv4(source, destination netip.Addr, fragment uint16, options ...byte) []byte {
	p := []byte{byte(4<<4 | (5 + len(options)/4)), 0, 0, 0, 0, 1}
	p = binary.BigEndian.AppendUint16(p, fragment)
	p = append(p, 64, 17, 0, 0)
	p = append(append(p, source.AsSlice()...), destination.AsSlice()...)
	p = append(append(p, options...), 0, 53, 0, 53, 0, 12, 0, 0, 'd', 'a', 't', 'a')
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	binary.BigEndian.PutUint16(p[10:], ^sum16(0, p[:20+len(options)]))
	return p
}

// sum16 is the sum of the Internet checksum (RFC 1071).
func sum16(start uint32, parts ...[]byte) uint16 {
	for _, part := range parts {
		for i := 0; i+1 < len(part); i += 2 {
			start += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for start > 0xffff {
		start = start>>16 + start&0xffff
	}
	return uint16(start)
}

// ipv6 makes a packet whose payload begins with a header of type next.
func ipv6(source, destination netip.Addr, next byte, payload ...byte) []byte {
	p := []byte{6 << 4, 0, 0, 0, 0, byte(len(payload)), next, 255}
	p = append(append(p, source.AsSlice()...), destination.AsSlice()...)
	return append(p, payload...)
}

const (
	udp      = 17
	icmpv6   = 58
	destOpts = 60

	solicit   = 135
	advertise = 136
)

func neighbor(kind byte, target netip.Addr) []byte {
	return append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
}

// extend puts an extension header of the common form before a payload.
func extend(next byte, payload []byte) []byte {
	return append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, payload...) // padded (RFC 8200, 4.2)
}

// checksummed fills in the checksum of ICMPv6 (RFC 4443, 2.3).
func checksummed(p []byte) []byte {
	payload := p[40:]
	binary.BigEndian.PutUint16(payload[2:], ^sum16(uint32(len(payload))+icmpv6, p[8:40], payload))
	return p
}
