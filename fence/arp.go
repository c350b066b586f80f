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

// ARP announces by gratuitous ARP in the network namespace in which it was
// made. The packets pass the queueing discipline (no PACKET_QDISC_BYPASS), so
// that a gate on the interface can stop them.
type ARP struct {
	mu sync.Mutex
	fd int // -1 once closed
}

// NewARP opens the packet socket. It needs CAP_NET_RAW. Close releases it.
func NewARP() (*ARP, error) {
	// Protocol 0: this socket only sends (packet(7)).
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket for gratuitous ARP: %w (needs root or CAP_NET_RAW)", err)
	}
	return &ARP{fd: fd}, nil
}

// Close closes the socket.
func (a *ARP) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd < 0 {
		return nil
	}
	fd := a.fd
	a.fd = -1
	return unix.Close(fd)
}

// Announce implements Announcer.
func (a *ARP) Announce(link Link, address netip.Addr) error {
	frame, ok := gratuitous(link.MAC, address)
	if !ok {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	to := &unix.SockaddrLinklayer{Ifindex: link.Index, Protocol: htons(unix.ETH_P_ARP)}
	if err := unix.Sendto(a.fd, frame, 0, to); err != nil {
		return fmt.Errorf("announce %v on %s: %w", address, link.Name, err)
	}
	return nil
}

// gratuitous builds an Ethernet frame with an ARP announcement (RFC 5227
// section 2.3; RFC 826 for the layout): a broadcast request in which both
// protocol addresses are the announced one. The request form is used because
// Linux neighbors take it at once, while they ignore a reply to an entry
// that is under a second old.
func gratuitous(mac []byte, address netip.Addr) ([]byte, bool) {
	if len(mac) != 6 || !address.Is4() {
		return nil, false
	}
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
	return f, true
}

// htons puts a protocol number into network byte order, as sockaddr_ll wants it.
func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
