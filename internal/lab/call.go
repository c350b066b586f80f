package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Reply is what a NameServer said.
type Reply struct {
	Server string // the host's name
	// At is where the server was asked: its own address with NAT, else the VIP. With
	// SCTP, whose associations have several addresses, it may be another one.
	At netip.AddrPort
}

// CallOptions say whom a client calls.
type CallOptions struct {
	Network string // tcp, udp or sctp
	To      netip.AddrPort
	From    netip.AddrPort // the client's address and port; default: the kernel's choice
	// Timeout is how long connecting and each answer may take; default 2 s.
	Timeout time.Duration
}

// Call is one flow of a client to a NameServer: a connection, or with UDP a socket
// with one port of its own. It is for one goroutine.
type Call struct {
	options CallOptions
	fd      int
}

// sockets are the kernel's type and protocol for a network.
var sockets = map[string]struct{ kind, protocol int }{
	"tcp": {unix.SOCK_STREAM, unix.IPPROTO_TCP}, "udp": {unix.SOCK_DGRAM, unix.IPPROTO_UDP}, "sctp": {unix.SOCK_STREAM, unix.IPPROTO_SCTP},
}

// Call connects from inside the host. The error wraps ECONNREFUSED where the call
// was refused, and EINPROGRESS or EAGAIN where nobody answered.
func (h *Host) Call(o CallOptions) (*Call, error) {
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	c := &Call{options: o, fd: -1}
	if err := h.Do(c.connect); err != nil {
		c.Close()
		return nil, fmt.Errorf("call %s/%s from %s: %w", o.To, o.Network, h.name, err)
	}
	return c, nil
}

func (c *Call) connect() (err error) {
	kind, ok := sockets[c.options.Network]
	if !ok {
		return fmt.Errorf("network %q: expected tcp, udp or sctp", c.options.Network)
	}
	family := unix.AF_INET
	if c.options.To.Addr().Is6() {
		family = unix.AF_INET6
	}
	if c.fd, err = unix.Socket(family, kind.kind|unix.SOCK_CLOEXEC, kind.protocol); err != nil {
		return err
	}
	limit := unix.NsecToTimeval(c.options.Timeout.Nanoseconds())
	for _, option := range []int{unix.SO_SNDTIMEO, unix.SO_RCVTIMEO} { // the former is connect's, too
		if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, option, &limit); err != nil {
			return err
		}
	}
	if from := c.options.From; from.Addr().IsValid() {
		if err := unix.Bind(c.fd, sockaddr(from)); err != nil {
			return fmt.Errorf("bind %s: %w", from, err)
		}
	}
	return unix.Connect(c.fd, sockaddr(c.options.To))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// Ask asks who is there, once more on the same flow.
func (c *Call) Ask() (Reply, error) { return c.Say("who?\n") }

// Say is Ask with a text of the caller's, which ends with a newline.
func (c *Call) Say(text string) (Reply, error) {
	if _, err := uninterrupted(func() (int, error) { return unix.Write(c.fd, []byte(text)) }); err != nil {
		return Reply{}, fmt.Errorf("ask %s/%s: %w", c.options.To, c.options.Network, err)
	}
	line := make([]byte, 256)
	n, err := uninterrupted(func() (int, error) { return unix.Read(c.fd, line) })
	if err != nil {
		return Reply{}, fmt.Errorf("hear %s/%s: %w", c.options.To, c.options.Network, err)
	}
	return parseReply(string(line[:n]))
}

// uninterrupted calls again after a signal of Go's runtime: the kernel does not by
// itself where a socket has a timeout (signal(7)).
func uninterrupted(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// Close ends the flow.
func (c *Call) Close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
	}
	c.fd = -1
}
