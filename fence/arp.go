package fence

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// gratuitous builds an Ethernet frame with an ARP announcement (RFC 5227
// section 2.3; RFC 826 for the layout): a broadcast request in which both
// protocol addresses are the announced one. The request form is used because
// Linux neighbors take it at once, while they ignore a reply to an entry
// that is under a second old.
func gratuitous(mac []byte, address netip.Addr) []byte {
	const (
		hardwareEthernet = 1 // ARPHRD_ETHER, linux/if_arp.h
		opRequest        = 1 // ARPOP_REQUEST, linux/if_arp.h
	)
	ip := address.As4()
	f := make([]byte, 0, 42)
	f = append(f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	f = append(f, mac...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_ARP)
	f = binary.BigEndian.AppendUint16(f, hardwareEthernet)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IP)
	f = append(f, 6, 4)
	f = binary.BigEndian.AppendUint16(f, opRequest)
	f = append(f, mac...)
	f = append(f, ip[:]...)
	f = append(f, 0, 0, 0, 0, 0, 0) // target hardware address: unknown in a request
	f = append(f, ip[:]...)
	return f
}
