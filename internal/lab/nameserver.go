package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// NameServer is a service on a host that tells which host answered: to each line
// that comes over TCP or SCTP, and to each datagram of UDP, it answers with the
// host's name and the address at which it was asked. A connection stays until the
// client closes it. A Call asks it.
type NameServer struct {
	host      *Host
	listeners []net.Listener
	packets   []*net.UDPConn

	mu    sync.Mutex
	conns map[net.Conn]bool // nil once Run ends
}

// NewNameServer opens the ports of a host for TCP, UDP and SCTP, at all of its
// addresses of either family, those that it will have included. Run serves.
func NewNameServer(h *Host, ports ...uint16) (*NameServer, error) {
	s := &NameServer{host: h, conns: map[net.Conn]bool{}}
	err := h.Do(func() error {
		for _, port := range ports {
			if err := s.open(port); err != nil {
				return fmt.Errorf("port %d: %w", port, err)
			}
		}
		return nil
	})
	if err != nil {
		s.close()
		return nil, fmt.Errorf("serve the name of %s: %w", h.name, err)
	}
	return s, nil
}

func (s *NameServer) open(port uint16) error {
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{Port: int(port)})
	if err != nil {
		return err
	}
	s.listeners = append(s.listeners, tcp)
	udp, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(port)})
	if err != nil {
		return err
	}
	s.packets = append(s.packets, udp)
	if err := askForDestination(udp); err != nil {
		return fmt.Errorf("udp: %w", err)
	}
	sctp, err := listenSCTP(port)
	if err != nil {
		return fmt.Errorf("sctp: %w", err)
	}
	s.listeners = append(s.listeners, sctp)
	return nil
}

// askForDestination makes the kernel tell with each datagram at which address it
// came (IPV6_PKTINFO of ipv6(7), for IPv4 too): a VIP must answer as itself.
func askForDestination(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}); controlErr != nil {
		return controlErr
	}
	return err
}

// listenSCTP opens a one-to-one socket (RFC 6458 section 4). To package net it
// looks like one of TCP: the system calls are the same.
func listenSCTP(port uint16) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_SCTP)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "sctp")
	defer file.Close() // FileListener duplicates
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet6{Port: int(port)}), unix.Listen(fd, 64)); err != nil {
		return nil, err
	}
	return net.FileListener(file)
}

// Run serves until ctx ends, then closes every socket: a server runs once.
func (s *NameServer) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, s.close)()
	for _, l := range s.listeners {
		group.Go(func() error { return s.accept(group, l) })
	}
	for _, c := range s.packets {
		group.Go(func() error { return s.datagrams(c) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("serve the name of %s: %w", s.host.name, err)
	}
	return nil
}

func (s *NameServer) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		l.Close()
	}
	for _, c := range s.packets {
		c.Close()
	}
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

func (s *NameServer) accept(group *errgroup.Group, l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err == nil && s.keep(conn) {
			group.Go(func() error {
				s.serve(conn)
				return nil
			})
			continue
		}
		if s.closed() {
			return nil
		}
		return err
	}
}

func (s *NameServer) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns == nil
}

// keep notes a connection for close; false if that was already.
func (s *NameServer) keep(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		conn.Close()
		return false
	}
	s.conns[conn] = true
	return true
}

// serve answers lines until the client goes. What goes wrong is the client's to
// see.
func (s *NameServer) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	}()
	at, _ := conn.LocalAddr().(*net.TCPAddr)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if _, err := io.WriteString(conn, s.answer(at.AddrPort())); err != nil {
			return
		}
	}
}

func (s *NameServer) answer(at netip.AddrPort) string {
	return fmt.Sprintf("%s %s\n", s.host.name, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
}

func (s *NameServer) datagrams(c *net.UDPConn) error {
	port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	data, control := make([]byte, 2048), make([]byte, 256)
	for {
		_, n, _, from, err := c.ReadMsgUDPAddrPort(data, control)
		if s.closed() {
			return nil
		}
		if err != nil {
			return err
		}
		at, source, err := destination(control[:n])
		if err != nil {
			return err
		}
		// a client without a route back is no fault of the server
		_, _, _ = c.WriteMsgUDPAddrPort([]byte(s.answer(netip.AddrPortFrom(at, port))), source, from)
	}
}

// destination reads where a datagram came, and makes of it the control message
// that sends the answer from there, by whatever interface: struct in6_pktinfo of
// linux/ipv6.h, an address and an interface's index.
func destination(control []byte) (at netip.Addr, source []byte, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return at, nil, err
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo {
			info := unix.Inet6Pktinfo{Addr: [16]byte(m.Data)}
			return netip.AddrFrom16(info.Addr), unix.PktInfo6(&info), nil
		}
	}
	return at, nil, errors.New("a datagram came without its destination")
}

// parseReply reads what answer wrote.
func parseReply(line string) (Reply, error) {
	name, at, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	address, err := netip.ParseAddrPort(at)
	if err != nil {
		return Reply{}, fmt.Errorf("the answer %q is none of a NameServer: %w", line, err)
	}
	return Reply{Server: name, At: address}, nil
}
