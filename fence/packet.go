package fence

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// Announcer tells the network that this host answers for an address.
type Announcer interface {
	// Announce sends one announcement. An interface without Ethernet addresses
	// has nothing to announce; that is no error.
	Announce(Link, netip.Addr) error
}

// PacketAnnouncer announces IPv4 addresses by gratuitous ARP and IPv6 addresses
// by unsolicited neighbor advertisements, in the network namespace in which it
// was made. The packets pass the queueing discipline (no PACKET_QDISC_BYPASS),
// so that a gate on the interface can stop them.
type PacketAnnouncer struct {
	mu sync.Mutex
	fd int // -1 once closed
}

// NewPacketAnnouncer opens the packet socket. It needs CAP_NET_RAW. Close
// releases it.
func NewPacketAnnouncer() (*PacketAnnouncer, error) {
	// Protocol 0: this socket only sends (packet(7)).
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket for gratuitous ARP and neighbor advertisements: %w (needs root or CAP_NET_RAW)", err)
	}
	return &PacketAnnouncer{fd: fd}, nil
}

// Close closes the socket.
func (p *PacketAnnouncer) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd < 0 {
		return nil
	}
	fd := p.fd
	p.fd = -1
	return unix.Close(fd)
}

// Announce implements Announcer.
func (p *PacketAnnouncer) Announce(link Link, address netip.Addr) error {
	frame, ok := announcement(link.MAC, address)
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	to := &unix.SockaddrLinklayer{Ifindex: link.Index, Protocol: htons(binary.BigEndian.Uint16(frame[12:]))}
	if err := unix.Sendto(p.fd, frame, 0, to); err != nil {
		return fmt.Errorf("announce %v on %s: %w", address, link.Name, err)
	}
	return nil
}

// announcement builds the Ethernet frame that announces an address.
func announcement(mac []byte, address netip.Addr) ([]byte, bool) {
	switch {
	case len(mac) != 6:
		return nil, false
	case address.Is4():
		return gratuitous(mac, address), true
	case address.Is6():
		return unsolicited(mac, address), true
	}
	return nil, false
}

// htons puts a protocol number into network byte order, as sockaddr_ll wants it.
func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
