package promise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// path is the way that a datagram came or goes: the other's address and port,
// and the own address, which is not valid where the kernel is to choose. An
// answer goes the way that its question came, hence from the address that was
// asked: a host may have several, and the way back may prefer another one.
type path struct {
	remote netip.AddrPort
	local  netip.Addr
}

// socket is an open UDP socket that tells to which own address a datagram came.
type socket struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	v6   bool // of the IPv6 family; it may serve IPv4 too
}

// network returns the network that a host of Config.Listen stands for: both
// families only where no host is given.
func network(host string) (string, error) {
	if host == "" {
		return "udp", nil
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return "", errors.New("expected an IP address, or none for all")
	case ip.Is4():
		return "udp4", nil
	}
	return "udp6", nil
}

func openSocket(ctx context.Context, listen string) (*socket, error) {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, err
	}
	family, err := network(host)
	if err != nil {
		return nil, err
	}
	sock := &socket{}
	config := net.ListenConfig{Control: sock.wantPacketInfo}
	conn, err := config.ListenPacket(ctx, family, listen)
	if err != nil {
		return nil, err
	}
	sock.conn = conn.(*net.UDPConn) //nolint:errcheck // ListenPacket returns it for every udp network
	if sock.raw, err = sock.conn.SyscallConn(); err != nil {
		conn.Close()
		return nil, err
	}
	return sock, nil
}

// explain adds the remedy to an error of opening the socket.
func explain(listen string, err error) error {
	remedy := "set promise.listen in the local file to an address and port of this host"
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		remedy = "another program has this port: stop it (`ss -ulpn` names it), or set another port in promise.listen on this host"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		remedy = "no interface has this address: set promise.listen to one of this host"
	case errors.Is(err, unix.EACCES):
		remedy = "set a port of 1024 or above in promise.listen"
	}
	return fmt.Errorf("listen for questions on UDP %s: %w: %s", listen, err, remedy)
}

// wantPacketInfo asks for ip(7) IP_PKTINFO, or ipv6(7) IPV6_RECVPKTINFO, which
// on a socket of both families tells of IPv4 too, as mapped addresses.
func (s *socket) wantPacketInfo(family, _ string, raw syscall.RawConn) error {
	s.v6 = family == "udp6"
	var failed error
	err := raw.Control(func(fd uintptr) {
		if s.v6 {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	})
	return errors.Join(err, failed)
}

func (s *socket) address() string { return s.conn.LocalAddr().String() }

func (s *socket) close() { s.conn.Close() }

// receive waits for a datagram; one that is longer than b fills it.
func (s *socket) receive(b, control []byte) (int, path, error) {
	n, got, _, remote, err := s.conn.ReadMsgUDPAddrPort(b, control)
	if err != nil {
		return 0, path{}, err
	}
	return n, path{remote: remote, local: localAddress(control[:got])}, nil
}

// localAddress reads struct in_pktinfo (ipi_spec_dst) or in6_pktinfo (ipi6_addr).
func localAddress(control []byte) netip.Addr {
	for len(control) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[4:8]))
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(data[:16]))
		}
		control = rest
	}
	return netip.Addr{}
}

// send sends at once or fails: it never waits for room in the socket's buffer.
func (s *socket) send(b []byte, p path) error {
	to, err := s.sockaddr(p.remote)
	if err != nil {
		return err
	}
	var failed error
	err = s.raw.Write(func(fd uintptr) bool {
		_, failed = unix.SendmsgN(int(fd), b, s.source(p.local), to, unix.MSG_DONTWAIT)
		return true // done, whatever came out of it
	})
	return errors.Join(err, failed)
}

// source returns the control message that sets the source address, nil for none.
func (s *socket) source(local netip.Addr) []byte {
	switch {
	case !local.IsValid():
		return nil
	case s.v6:
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: local.As16()})
	}
	return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: local.As4()})
}

func (s *socket) sockaddr(a netip.AddrPort) (unix.Sockaddr, error) {
	ip := a.Addr().Unmap()
	if !s.v6 {
		if !ip.Is4() {
			return nil, fmt.Errorf("send to %s from an IPv4 socket: %w", a, unix.EAFNOSUPPORT)
		}
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}, nil
	}
	to := &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
	var err error
	if to.ZoneId, err = zoneIndex(ip.Zone()); err != nil {
		return nil, fmt.Errorf("send to %s: %w", a, err)
	}
	return to, nil
}

// zoneIndex returns the index of an interface, given as a name or as a number
// (RFC 4007 section 11.2); 0 for none.
func zoneIndex(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if index, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(index), nil
	}
	card, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, err
	}
	return uint32(card.Index), nil
}
