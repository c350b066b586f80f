package health

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// GatewayProber asks a router on the link whether it is there: by ICMP echo
// (kind icmp), or by ARP (kind arp) for routers that drop pings. ARP needs no
// route, no address, and is not filtered. IPv4 only.
//
// icmp uses an unprivileged ping socket where net.ipv4.ping_group_range allows
// it and otherwise a raw socket, which needs CAP_NET_RAW, as arp does.
type GatewayProber struct{}

// Probe implements [Prober].
func (GatewayProber) Probe(ctx context.Context, t Target) error {
	ask := pingOnce
	if t.Kind == ARP {
		ask = arpOnce
	}
	err := ask(ctx, t)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: no reply within %s: %w", t, t.Timeout, ctx.Err())
	}
	return fmt.Errorf("%s: %w", t, local(err))
}

// ICMP, RFC 792 page 14.
const (
	icmpEchoReply   = 0
	icmpEchoRequest = 8
	icmpHeaderLen   = 8
)

// pingOnce sends one echo request and waits for its reply.
func pingOnce(ctx context.Context, t Target) error {
	fd, raw, err := icmpSocket()
	if err != nil {
		return err
	}
	socket := socketFile(fd, "icmp")
	defer socket.Close()
	if t.Interface != "" {
		if err := unix.BindToDevice(fd, t.Interface); err != nil {
			return fmt.Errorf("bind to interface %s: %w", t.Interface, err)
		}
	}
	// Connected, the socket gets packets of the gateway only.
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: t.Address.Addr().As4()}); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer breakOff(ctx, socket)()
	token := rand.Uint64()
	if _, err := socket.Write(echoRequest(token)); err != nil {
		return fmt.Errorf("send echo request: %w", cause(err))
	}
	return receive(socket, func(packet []byte) bool { return isEchoReply(packet, raw, token) })
}

// icmpSocket returns a ping socket or, where the sysctl forbids those, a raw
// one. Both are non-blocking.
func icmpSocket() (fd int, raw bool, err error) {
	const flags = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|flags, unix.IPPROTO_ICMP)
	if err == nil {
		return fd, false, nil
	}
	if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		return -1, false, fmt.Errorf("open ping socket: %w", err)
	}
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|flags, unix.IPPROTO_ICMP)
	if err != nil {
		return -1, false, fmt.Errorf("open raw ICMP socket (needs CAP_NET_RAW or net.ipv4.ping_group_range): %w", err)
	}
	return fd, true, nil
}

// echoRequest returns a request that carries token. The identifier is of no use
// for telling replies apart: on a ping socket the kernel writes its own.
func echoRequest(token uint64) []byte {
	packet := make([]byte, icmpHeaderLen+8)
	packet[0] = icmpEchoRequest
	binary.BigEndian.PutUint16(packet[4:], uint16(token))
	binary.BigEndian.PutUint64(packet[icmpHeaderLen:], token)
	binary.BigEndian.PutUint16(packet[2:], checksum(packet))
	return packet
}

// isEchoReply reports whether packet, with its IPv4 header if raw, answers the
// request with token.
func isEchoReply(packet []byte, raw bool, token uint64) bool {
	if raw {
		if len(packet) < 20 {
			return false
		}
		headerLen := int(packet[0]&0x0f) * 4 // RFC 791 section 3.1, IHL
		if headerLen < 20 || len(packet) < headerLen {
			return false
		}
		packet = packet[headerLen:]
	}
	return len(packet) >= icmpHeaderLen+8 && packet[0] == icmpEchoReply && packet[1] == 0 &&
		binary.BigEndian.Uint64(packet[icmpHeaderLen:]) == token
}

// checksum is that of RFC 1071, for an even number of bytes.
func checksum(data []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// receive reads packets until accept takes one.
func receive(socket *os.File, accept func([]byte) bool) error {
	buf := make([]byte, 2048)
	for {
		n, err := socket.Read(buf)
		if err != nil {
			return fmt.Errorf("receive: %w", cause(err))
		}
		if accept(buf[:n]) {
			return nil
		}
	}
}

// ARP for IPv4 over Ethernet, RFC 826 and linux/if_arp.h.
const (
	arpLen     = 28
	arpEther   = 1
	arpRequest = 1
	arpReply   = 2
)

// arpOnce broadcasts one request on the target's interface and waits for the
// gateway's reply.
func arpOnce(ctx context.Context, t Target) error {
	link, err := net.InterfaceByName(t.Interface)
	if err != nil {
		return fmt.Errorf("interface %s: %w", t.Interface, err)
	}
	if len(link.HardwareAddr) != 6 {
		return fmt.Errorf("interface %s: has no Ethernet address, expected one: use icmp there", t.Interface)
	}
	gateway := t.Address.Addr()
	source, err := onLinkSource(link, gateway)
	if err != nil {
		return err
	}
	fd, err := arpSocket(link.Index)
	if err != nil {
		return err
	}
	socket := socketFile(fd, "arp")
	defer socket.Close()
	defer breakOff(ctx, socket)()
	everyone := unix.SockaddrLinklayer{Protocol: bigEndian16(unix.ETH_P_ARP), Ifindex: link.Index, Halen: 6,
		Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	if err := unix.Sendto(fd, arpPacket(link.HardwareAddr, source, gateway), 0, &everyone); err != nil {
		return fmt.Errorf("send ARP request: %w", err)
	}
	return receive(socket, func(packet []byte) bool { return isARPReply(packet, gateway, link.HardwareAddr) })
}

// onLinkSource returns the interface's own address in the gateway's subnet. A
// VIP never qualifies: it is bound as a /32, which holds no other address than
// itself. A director that asked in a VIP's name would move the VIP in the
// gateway's cache. Without an address the request is an ARP probe, from 0.0.0.0 (RFC 5227 section 1.1),
// which touches no cache.
func onLinkSource(link *net.Interface, gateway netip.Addr) (netip.Addr, error) {
	addrs, err := link.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("addresses of interface %s: %w", link.Name, err)
	}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr() != gateway && prefix.Contains(gateway) {
			return prefix.Addr(), nil
		}
	}
	return netip.IPv4Unspecified(), nil
}

// arpSocket returns a non-blocking packet socket that gets the ARP of one
// interface, link-layer header stripped.
func arpSocket(ifindex int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC,
		int(bigEndian16(unix.ETH_P_ARP)))
	if err != nil {
		return -1, fmt.Errorf("open packet socket (needs CAP_NET_RAW): %w", err)
	}
	address := unix.SockaddrLinklayer{Protocol: bigEndian16(unix.ETH_P_ARP), Ifindex: ifindex}
	if err := unix.Bind(fd, &address); err != nil {
		_ = unix.Close(fd) // the bind error is the one to tell
		return -1, fmt.Errorf("bind packet socket: %w", err)
	}
	return fd, nil
}

// arpPacket asks who has target and where to tell.
func arpPacket(hardware net.HardwareAddr, source, target netip.Addr) []byte {
	packet := make([]byte, 0, arpLen)
	packet = binary.BigEndian.AppendUint16(packet, arpEther)
	packet = binary.BigEndian.AppendUint16(packet, unix.ETH_P_IP)
	packet = append(packet, 6, 4)
	packet = binary.BigEndian.AppendUint16(packet, arpRequest)
	packet = append(packet, hardware...)
	packet = append(packet, source.AsSlice()...)
	packet = append(packet, make([]byte, 6)...)
	return append(packet, target.AsSlice()...)
}

// isARPReply reports whether packet is gateway's reply to the interface with
// the address hardware.
func isARPReply(packet []byte, gateway netip.Addr, hardware net.HardwareAddr) bool {
	if len(packet) < arpLen {
		return false
	}
	sender := netip.AddrFrom4([4]byte(packet[14:18]))
	return binary.BigEndian.Uint16(packet) == arpEther &&
		binary.BigEndian.Uint16(packet[2:]) == unix.ETH_P_IP &&
		binary.BigEndian.Uint16(packet[6:]) == arpReply &&
		sender == gateway && bytes.Equal(packet[18:24], hardware)
}

// bigEndian16 is htons: what packet(7) wants its protocols in.
func bigEndian16(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
