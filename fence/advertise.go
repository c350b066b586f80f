package fence

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// unsolicited builds an Ethernet frame with an unsolicited neighbor
// advertisement of an address (RFC 4861, sections 4.4 and 7.2.6).
//
// Its source is the address itself, as keepalived has it, so that a gate finds
// the address twice. Override is set: neighbors take the new MAC at once. The
// router flag is not, whether or not this host forwards (keepalived sets it
// then): it says something to neighbors only that have the sender in their list
// of default routers, to which advertised link-local addresses belong (section
// 6.3.4), and those are no VIPs. A static route through the VIP is no matter of
// that flag.
func unsolicited(mac []byte, address netip.Addr) []byte {
	const (
		hopLimit       = 255        // else neighbors drop it (section 7.1.2)
		advertisement  = 136        // section 4.4
		override       = 0x20 << 24 // section 4.4
		targetLink     = 2          // section 4.6.1
		length         = 32         // header, target, option
		headerEthernet = 14
		headerIPv6     = 40
	)
	var (
		allNodes    = netip.MustParseAddr("ff02::1").As16()
		allNodesMAC = []byte{0x33, 0x33, 0, 0, 0, 1} // RFC 2464, section 7
		ip          = address.As16()
	)
	f := make([]byte, 0, headerEthernet+headerIPv6+length)
	f = append(f, allNodesMAC...)
	f = append(f, mac...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IPV6)
	f = binary.BigEndian.AppendUint32(f, 6<<28)
	f = binary.BigEndian.AppendUint16(f, length)
	f = append(f, unix.IPPROTO_ICMPV6, hopLimit)
	f = append(f, ip[:]...)
	f = append(f, allNodes[:]...)
	message := len(f)
	f = append(f, advertisement, 0, 0, 0) // code, checksum
	f = binary.BigEndian.AppendUint32(f, override)
	f = append(f, ip[:]...)
	f = append(f, targetLink, 1) // length in units of 8 bytes
	f = append(f, mac...)
	binary.BigEndian.PutUint16(f[message+2:], checksum6(ip, allNodes, unix.IPPROTO_ICMPV6, f[message:]))
	return f
}

// checksum6 is the Internet checksum of an upper-layer packet of even length and
// its pseudo-header (RFC 8200, section 8.1; RFC 1071). The packet's own checksum
// field must be zero.
func checksum6(source, destination [16]byte, next byte, packet []byte) uint16 {
	sum := uint32(len(packet)) + uint32(next)
	for _, part := range [][]byte{source[:], destination[:], packet} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
