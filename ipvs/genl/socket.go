package genl

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Socket is a netlink socket whose peer is the kernel.
type Socket interface {
	// Send sends one datagram, which may hold several messages.
	Send(b []byte) error
	// Receive receives one datagram into b and returns its length. It waits at
	// most this long for one; then the error is os.ErrDeadlineExceeded.
	// unix.ENOBUFS says that datagrams were lost.
	Receive(b []byte, wait time.Duration) (int, error)
	Close() error
}

// receiveBuffer is the memory that replies may take in the kernel while nobody
// reads them. An error takes 768 bytes of it, whatever its length.
const receiveBuffer = 1 << 20

// kernelSocket is a Socket on the netlink library's.
type kernelSocket struct {
	s  *nl.NetlinkSocket
	fd int
	in *receiver
}

// openSocket opens a socket in the calling thread's network namespace. It is
// connected to the kernel, so that no other process can send to it
// (af_netlink.c, netlink_getsockbyportid).
func openSocket() (*kernelSocket, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open a generic netlink socket: %w", err)
	}
	k := &kernelSocket{s: s, fd: s.GetFd(), in: newReceiver(s.GetFd())}
	if err := k.setUp(); err != nil {
		s.Close()
		return nil, fmt.Errorf("open a generic netlink socket: %w", err)
	}
	return k, nil
}

func (k *kernelSocket) setUp() error {
	if err := unix.Connect(k.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("connect", err)
	}
	// An error without the message that caused it: we know that.
	if err := unix.SetsockoptInt(k.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		return os.NewSyscallError("setsockopt NETLINK_CAP_ACK", err)
	}
	if err := k.s.SetReceiveBufferSize(receiveBuffer, true); err != nil {
		// Without CAP_NET_ADMIN the system's limit holds; then nothing can be
		// changed either.
		return os.NewSyscallError("setsockopt SO_RCVBUF", k.s.SetReceiveBufferSize(receiveBuffer, false))
	}
	return nil
}

// Send is that of Socket.
func (k *kernelSocket) Send(b []byte) error {
	for {
		_, err := unix.Write(k.fd, b)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Receive is that of Socket.
func (k *kernelSocket) Receive(b []byte, wait time.Duration) (int, error) {
	for end := time.Now().Add(wait); ; {
		n, err := k.in.take(b)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EAGAIN):
			return 0, err
		default:
			left := time.Until(end)
			if wait == 0 || left <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			// An interrupted or early poll comes here again.
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		}
	}
}

// Close is that of Socket.
func (k *kernelSocket) Close() error {
	k.s.Close()
	return nil
}
