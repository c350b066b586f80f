package lab

import (
	"bytes"
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"
)

// The first two bytes of the made-up sender addresses: locally administered.
// The number of the request follows.
var senderPrefix = []byte{0x02, 0x5a}

func madeUp(number uint32) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(senderPrefix), number)
}

func numberOf(mac []byte) uint32 { return binary.BigEndian.Uint32(mac[2:6]) }

// Operations of ARP (RFC 826), the low byte.
const (
	arpRequest = 1
	arpReply   = 2
)

// arpQuestion asks by ARP (RFC 826). The sender's protocol address is 0 (a
// probe, RFC 5227 section 2.1.1): no host learns anything from it.
type arpQuestion struct{ vip [4]byte }

func (arpQuestion) ethertype() uint16 { return unix.ETH_P_ARP }

func (q arpQuestion) frame(card net.HardwareAddr, number uint32) []byte {
	b := make([]byte, 0, 42)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	b = append(b, card...)
	b = append(b, 0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, arpRequest)
	b = append(b, madeUp(number)...)
	b = append(b, 0, 0, 0, 0)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, q.vip[:]...)
}

func (q arpQuestion) read(frame []byte) (claim, bool) {
	if len(frame) < 42 || !bytes.Equal(frame[28:32], q.vip[:]) {
		return claim{}, false // its sender is another
	}
	return claim{
		mac: bytes.Clone(frame[22:28]), number: numberOf(frame[32:38]),
		asked: frame[21] == arpReply && bytes.HasPrefix(frame[32:38], senderPrefix),
	}, true
}

// Neighbor discovery (RFC 4861 sections 4.3, 4.4 and 4.6.1) in an Ethernet frame.
const (
	neighborSolicitation  = 135
	neighborAdvertisement = 136
	optionSource          = 1 // link-layer address
	optionTarget          = 2
	icmpAt                = 14 + 40
	icmpLength            = 8 + 16 + 8 // header, target, one option
)

// nsQuestion asks by neighbor solicitation, from a made-up link-local address.
// Hosts that answer note it among their neighbors; it is always the same.
type nsQuestion struct{ vip [16]byte }

func (nsQuestion) ethertype() uint16 { return unix.ETH_P_IPV6 }

// asker is fe80::25a.
var asker = [16]byte{0: 0xfe, 1: 0x80, 14: 0x02, 15: 0x5a}

func (q nsQuestion) frame(card net.HardwareAddr, number uint32) []byte {
	// The solicited-node group of the address, RFC 4291 section 2.7.1.
	group := [16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: q.vip[13], 14: q.vip[14], 15: q.vip[15]}
	b := make([]byte, 0, icmpAt+icmpLength)
	b = append(b, 0x33, 0x33, group[12], group[13], group[14], group[15])
	b = append(b, card...)
	b = append(b, 0x86, 0xdd, 6<<4, 0, 0, 0, 0, icmpLength, unix.IPPROTO_ICMPV6, 255)
	b = append(b, asker[:]...)
	b = append(b, group[:]...)
	b = append(b, neighborSolicitation, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, q.vip[:]...)
	b = append(b, optionSource, 1)
	b = append(b, madeUp(number)...)
	binary.BigEndian.PutUint16(b[icmpAt+2:], icmpChecksum(b))
	return b
}

// icmpChecksum is that of the ICMPv6 message in a frame whose checksum is 0
// (RFC 8200 section 8.1: over addresses, length and protocol too).
func icmpChecksum(frame []byte) uint16 {
	sum := uint32(len(frame)-icmpAt) + unix.IPPROTO_ICMPV6
	for at := icmpAt - 32; at < len(frame); at += 2 {
		sum += uint32(binary.BigEndian.Uint16(frame[at:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func (q nsQuestion) read(frame []byte) (claim, bool) {
	if len(frame) < icmpAt+24 || frame[20] != unix.IPPROTO_ICMPV6 || frame[icmpAt] != neighborAdvertisement ||
		!bytes.Equal(frame[icmpAt+8:icmpAt+24], q.vip[:]) {
		return claim{}, false
	}
	mac := frame[6:12]
	if option := frame[icmpAt+24:]; len(option) >= 8 && option[0] == optionTarget {
		mac = option[2:8]
	}
	return claim{mac: bytes.Clone(mac), number: numberOf(frame[:6]), asked: bytes.HasPrefix(frame, senderPrefix)}, true
}
