package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Echo requests and replies (RFC 792) over IPv4 (RFC 791) in an Ethernet frame.
const (
	echoReply   = 0
	echoRequest = 8
	ipAt        = 14
	echoAt      = ipAt + 20
	echoLength  = 8
)

// echoQuestion asks one host, by its hardware address, whether it accepts packets
// for an address: nobody's neighbor table has a say.
type echoQuestion struct {
	asker, vip [4]byte
	host       net.HardwareAddr
}

// NewEchoProber prepares to send, once in an interval, an ICMP echo request for an
// IPv4 address straight to a host, from a network card of another one in its LAN.
// An answer means that the host has accepted a packet for the address, whatever it
// says when it is asked by ARP. Run asks.
func NewEchoProber(h *Host, nic string, vip netip.Addr, host net.HardwareAddr, interval time.Duration) (*Prober, error) {
	if !vip.Is4() {
		return nil, fmt.Errorf("probe %s from %s: not an IPv4 address", vip, h.name)
	}
	return newProber(h, nic, vip, echoQuestion{h.Addr(nic).As4(), vip.As4(), host}, interval)
}

func (echoQuestion) ethertype() uint16 { return unix.ETH_P_IP }

func (q echoQuestion) frame(card net.HardwareAddr, number uint32) []byte {
	b := make([]byte, 0, echoAt+echoLength)
	b = append(b, q.host...)
	b = append(b, card...)
	b = append(b, 0x08, 0x00)
	b = append(b, 0x45, 0, 0, 20+echoLength, 0, 0, 0, 0, 64, unix.IPPROTO_ICMP, 0, 0)
	b = append(b, q.asker[:]...)
	b = append(b, q.vip[:]...)
	b = append(b, echoRequest, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, number) // identifier and sequence number
	binary.BigEndian.PutUint16(b[ipAt+10:], checksum(b[ipAt:echoAt]))
	binary.BigEndian.PutUint16(b[echoAt+2:], checksum(b[echoAt:]))
	return b
}

// checksum is that of the internet (RFC 1071) over an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func (q echoQuestion) read(frame []byte) (claim, bool) {
	if len(frame) < echoAt+echoLength || frame[ipAt] != 0x45 || frame[ipAt+9] != unix.IPPROTO_ICMP || frame[echoAt] != echoReply ||
		!bytes.Equal(frame[ipAt+12:ipAt+16], q.vip[:]) || !bytes.Equal(frame[6:12], q.host) {
		return claim{}, false
	}
	return claim{mac: bytes.Clone(frame[6:12]), asked: true, number: binary.BigEndian.Uint32(frame[echoAt+4:])}, true
}
