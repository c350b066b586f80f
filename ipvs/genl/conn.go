package genl

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// replyTimeout is how long the kernel may be silent. It answers within the
	// system call that asks; this is for a kernel that does not answer at all.
	replyTimeout = 10 * time.Second
	// maxDumps is how often a dump is begun before its interruption is an error.
	maxDumps = 5
)

// Errors to decide on with errors.Is.
var (
	// ErrLost says that replies were lost, so that of the messages without an
	// error nobody knows whether they were carried out.
	ErrLost = errors.New("replies of the kernel were lost")
	// ErrInterrupted says that a dump was never whole, because what it dumps
	// changed each time.
	ErrInterrupted = errors.New("the dump was interrupted by changes, again and again")
)

// Family is a generic netlink family as it is registered now. Its number may
// be another one after its module was unloaded and loaded again.
type Family struct {
	ID      uint16
	Version uint8
}

// Conn is a connection to the kernel, for one goroutine at a time.
type Conn struct {
	sock  Socket
	seq   uint32
	buf   []byte
	batch Batch // for single requests
	dirty bool  // replies to an earlier request may be waiting
}

// Dial opens a connection in the calling thread's network namespace.
func Dial() (*Conn, error) {
	s, err := openSocket()
	if err != nil {
		return nil, err
	}
	return NewConn(s), nil
}

// NewConn is a connection on a socket, which it owns.
func NewConn(s Socket) *Conn { return &Conn{sock: s, buf: make([]byte, datagramRoom)} }

// Close closes the socket.
func (c *Conn) Close() error { return c.sock.Close() }

// Get sends one request and calls reply for each answer to it. The Decoder's
// bytes are valid in that call only. A refusal is the kernel's errno.
func (c *Conn) Get(f Family, cmd uint8, request func(*Encoder), reply func(*Decoder)) error {
	var refused error
	err := c.exchange(f, cmd, unix.NLM_F_ACK, request, func(m message) (bool, error) {
		switch m.typ {
		case unix.NLMSG_ERROR:
			refused = m.errno()
			return true, nil
		case f.ID:
			return false, m.decode(reply)
		}
		return false, nil
	})
	return errors.Join(err, refused)
}

// Dump sends one request for a dump and calls reply for each entry, begin
// before the first one. If the dump has to be read again begin is called again.
func (c *Conn) Dump(f Family, cmd uint8, request func(*Encoder), begin func(), reply func(*Decoder)) error {
	for try := 1; ; try++ {
		begin()
		err := c.dump(f, cmd, request, reply)
		again := errors.Is(err, ErrInterrupted) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOBUFS)
		if err == nil || !again || try == maxDumps {
			return err
		}
		c.dirty = true // the rest of a dump under way is why the kernel is busy
	}
}

func (c *Conn) dump(f Family, cmd uint8, request func(*Encoder), reply func(*Decoder)) error {
	var failed error
	interrupted := false
	err := c.exchange(f, cmd, unix.NLM_F_DUMP, request, func(m message) (bool, error) {
		interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
		switch m.typ {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			failed = m.errno()
			return true, nil
		case f.ID:
			return false, m.decode(reply)
		}
		return false, nil
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if interrupted {
		return ErrInterrupted
	}
	return nil
}

// exchange sends one request and gives every answer to it to handle, until that
// says that it was the last.
func (c *Conn) exchange(f Family, cmd uint8, flags uint16, request func(*Encoder), handle func(message) (bool, error)) error {
	c.batch.Reset()
	request(c.batch.Add(f, cmd))
	first, err := c.send(&c.batch, flags)
	if err != nil {
		return err
	}
	for done := false; !done; {
		err := c.receive(replyTimeout, func(m message) error {
			if m.seq != first || done {
				return nil
			}
			var err error
			done, err = handle(m)
			return err
		})
		if err != nil {
			c.dirty = true
			return err
		}
	}
	return nil
}

// send numbers the messages of a batch and sends them. These flags are of the
// last one.
func (c *Conn) send(b *Batch, last uint16) (first uint32, err error) {
	if err := c.drain(); err != nil {
		return 0, err
	}
	first = c.seq + 1
	c.seq += uint32(b.Len())
	b.finish(first, last)
	if err := c.sock.Send(b.enc.b); err != nil {
		return 0, fmt.Errorf("send to the kernel: %w", err)
	}
	return first, nil
}

// drain throws away what is left of an exchange that was given up. Reading
// also drives a dump that is under way to its end.
func (c *Conn) drain() error {
	for c.dirty {
		_, err := c.sock.Receive(c.buf, 0)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.dirty = false
		case err == nil, errors.Is(err, unix.ENOBUFS), errors.Is(err, ErrMalformed):
		default:
			return fmt.Errorf("read what the kernel sent before: %w", err)
		}
	}
	return nil
}

// receive reads one datagram and gives its messages to handle, up to its first
// error.
func (c *Conn) receive(wait time.Duration, handle func(message) error) error {
	n, err := c.sock.Receive(c.buf, wait)
	if err != nil {
		return fmt.Errorf("receive from the kernel: %w", err)
	}
	for b := c.buf[:n]; len(b) > 0; {
		m, rest, err := parse(b)
		if err != nil {
			return err
		}
		if err := handle(m); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// message is a netlink message without its header.
type message struct {
	typ   uint16
	flags uint16
	seq   uint32
	body  []byte
}

// parse takes the first message off b, which is not empty.
func parse(b []byte) (m message, rest []byte, err error) {
	if len(b) < headerLen {
		return m, nil, fmt.Errorf("%w: %d bytes are no header", ErrMalformed, len(b))
	}
	n := native.Uint32(b)
	if n < headerLen || uint64(n) > uint64(len(b)) {
		return m, nil, fmt.Errorf("%w: a message of %d bytes where %d are left", ErrMalformed, n, len(b))
	}
	m = message{typ: native.Uint16(b[4:]), flags: native.Uint16(b[6:]), seq: native.Uint32(b[8:]), body: b[headerLen:n]}
	return m, b[min(align4(int(n)), len(b)):], nil
}

// errno is what a message of type NLMSG_ERROR or NLMSG_DONE carries, nil for
// an acknowledgement.
func (m message) errno() error {
	if len(m.body) < 4 {
		if m.typ == unix.NLMSG_DONE {
			return nil // it may be empty
		}
		return fmt.Errorf("%w: an error without a number", ErrMalformed)
	}
	n := int32(native.Uint32(m.body))
	if n == 0 {
		return nil
	}
	return syscall.Errno(-int64(n))
}

// decode gives the attributes of the message to reply.
func (m message) decode(reply func(*Decoder)) error {
	if len(m.body) < genlHeaderLen {
		return fmt.Errorf("%w: %d bytes are no generic netlink header", ErrMalformed, len(m.body))
	}
	d := NewDecoder(m.body[genlHeaderLen:])
	reply(&d)
	return d.Err()
}
