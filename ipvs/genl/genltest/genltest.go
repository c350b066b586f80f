// Package genltest plays the kernel for tests of generic netlink: a func
// answers each message, and the rest (headers, acknowledgements, the end of a
// dump) is as the kernel does it (af_netlink.c, genetlink.c).
package genltest

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/ipvs/genl"
)

var native = binary.NativeEndian

// Request is a message as the kernel sees it.
type Request struct {
	Family, Flags uint16
	Seq           uint32
	Cmd, Version  uint8
	// Attributes are the bytes after the headers.
	Attributes []byte
}

// Reply is the attributes of one answer.
type Reply []byte

// Func plays the kernel: it returns the answers to a request, or an errno. Any
// other error is that of the system call that sends.
type Func func(Request) ([]Reply, error)

// Socket is a genl.Socket behind which f is the kernel.
type Socket struct {
	f     Func
	queue [][]byte
	// Datagrams is what was sent, one entry for each system call.
	Datagrams [][]byte
	// Errors are what the next calls of Receive return, before anything else.
	Errors []error
	// Flags are set on the answers of dumps, NLM_F_DUMP_INTR say.
	Flags uint16
}

// New makes a socket.
func New(f Func) *Socket { return &Socket{f: f} }

// Dial is a connection to f.
func Dial(f Func) *genl.Conn { return genl.NewConn(New(f)) }

// Send lets the kernel work on every message of a datagram.
func (s *Socket) Send(b []byte) error {
	s.Datagrams = append(s.Datagrams, append([]byte(nil), b...))
	for len(b) >= 20 {
		n := native.Uint32(b)
		r := Request{Family: native.Uint16(b[4:]), Flags: native.Uint16(b[6:]), Seq: native.Uint32(b[8:]),
			Cmd: b[16], Version: b[17], Attributes: b[20:n]}
		if err := s.serve(r); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (s *Socket) serve(r Request) error {
	replies, err := s.f(r)
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return err
	}
	flags := uint16(0)
	if r.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP {
		flags = unix.NLM_F_MULTI | s.Flags
	}
	for _, a := range replies {
		body := append([]byte{r.Cmd, r.Version, 0, 0}, a...)
		s.push(Message(r.Family, flags, r.Seq, body))
	}
	code := native.AppendUint32(nil, uint32(-int32(errno)))
	switch {
	case err == nil && flags != 0:
		s.push(Message(unix.NLMSG_DONE, flags, r.Seq, code))
	case err != nil, r.Flags&unix.NLM_F_ACK != 0:
		s.push(Message(unix.NLMSG_ERROR, unix.NLM_F_CAPPED, r.Seq, append(code, make([]byte, 16)...)))
	}
	return nil
}

func (s *Socket) push(b []byte) { s.queue = append(s.queue, b) }

// Push queues a datagram that nobody asked for.
func (s *Socket) Push(b []byte) { s.push(b) }

// Receive gives the next datagram.
func (s *Socket) Receive(b []byte, _ time.Duration) (int, error) {
	if len(s.Errors) > 0 {
		err := s.Errors[0]
		s.Errors = s.Errors[1:]
		return 0, err
	}
	if len(s.queue) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(b, s.queue[0])
	s.queue = s.queue[1:]
	return n, nil
}

// Close does nothing.
func (s *Socket) Close() error { return nil }

// Message is a netlink message with its header, padded.
func Message(typ, flags uint16, seq uint32, body []byte) []byte {
	b := native.AppendUint32(nil, uint32(16+len(body)))
	b = native.AppendUint16(b, typ)
	b = native.AppendUint16(b, flags)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0)
	b = append(b, body...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
