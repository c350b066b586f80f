package genl

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// datagramRoom is as much as the kernel puts into one datagram of a dump
	// (af_netlink.c, netlink_recvmsg).
	datagramRoom = 32 << 10
	// datagrams are received by one system call: the two of a short dump, its
	// entries and its end, and some more of a long one.
	datagrams = 4
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	n      uint32
}

// receiver receives several datagrams with one system call.
type receiver struct {
	fd      int
	bufs    [datagrams][datagramRoom]byte
	iovs    [datagrams]unix.Iovec
	headers [datagrams]mmsghdr
	next    int // the first that was not taken
	have    int
}

func newReceiver(fd int) *receiver {
	r := &receiver{fd: fd}
	for i := range r.bufs {
		r.iovs[i].Base = &r.bufs[i][0]
		r.iovs[i].SetLen(datagramRoom)
		r.headers[i].header.Iov = &r.iovs[i]
		r.headers[i].header.SetIovlen(1)
	}
	return r
}

// take copies one datagram, without waiting.
func (r *receiver) take(b []byte) (int, error) {
	if r.next == r.have {
		r.next, r.have = 0, 0
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.headers[0])), datagrams, unix.MSG_DONTWAIT, 0, 0)
		if errno != 0 {
			return 0, errno
		}
		r.have = int(n)
	}
	if r.have == 0 {
		return 0, errors.New("recvmmsg: nothing")
	}
	h := &r.headers[r.next]
	data := r.bufs[r.next][:min(h.n, datagramRoom)]
	r.next++
	if h.header.Flags&unix.MSG_TRUNC != 0 || len(data) > len(b) {
		return 0, fmt.Errorf("%w: a datagram of more than %d bytes", ErrMalformed, len(data))
	}
	return copy(b, data), nil
}
