package genl

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many bytes go into a datagram. Larger ones are hardly
	// faster, and their errors could outgrow the receive buffer.
	batchSize = 16 << 10
	// messageRoom is more than a message needs that holds some names, addresses
	// and numbers.
	messageRoom = 512
)

// Batch is messages that go to the kernel together. Its zero value is empty.
type Batch struct {
	enc    Encoder
	starts []int
}

// Add begins a message and returns the encoder for its attributes, which is
// valid until the next call of Add.
func (b *Batch) Add(f Family, cmd uint8) *Encoder {
	b.starts = append(b.starts, len(b.enc.b))
	b.enc.b = append(b.enc.b, make([]byte, headerLen)...)
	native.PutUint16(b.enc.b[len(b.enc.b)-headerLen+4:], f.ID)
	b.enc.b = append(b.enc.b, cmd, f.Version, 0, 0)
	return &b.enc
}

// Len is the number of messages.
func (b *Batch) Len() int { return len(b.starts) }

// Full tells whether the batch should be sent before another message is added.
func (b *Batch) Full() bool { return len(b.enc.b) > batchSize-messageRoom }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() { b.enc.b, b.starts = b.enc.b[:0], b.starts[:0] }

// finish completes the headers. The last message gets these flags, too.
func (b *Batch) finish(seq uint32, last uint16) {
	for i, at := range b.starts {
		end, flags := len(b.enc.b), unix.NLM_F_REQUEST|last
		if i+1 < len(b.starts) {
			end, flags = b.starts[i+1], unix.NLM_F_REQUEST
		}
		native.PutUint32(b.enc.b[at:], uint32(end-at))
		native.PutUint16(b.enc.b[at+6:], flags)
		native.PutUint32(b.enc.b[at+8:], seq+uint32(i))
	}
}

// Send sends a batch that is not empty, and calls failed for each message that
// the kernel refused, with its errno, in order. If it returns nil the others
// were carried out. If it returns an error nothing is known of them; that is
// ErrLost where some replies did not arrive.
func (c *Conn) Send(b *Batch, failed func(i int, err error)) error {
	first, err := c.send(b, unix.NLM_F_ACK)
	if err != nil {
		return err
	}
	lost, done := false, false
	wait := replyTimeout
	for !done {
		err := c.receive(wait, func(m message) error {
			i := m.seq - first
			if uint64(i) >= uint64(b.Len()) || m.typ != unix.NLMSG_ERROR {
				return nil // of an earlier exchange
			}
			if err := m.errno(); err != nil {
				failed(int(i), err)
			}
			done = done || int(i) == b.Len()-1
			return nil
		})
		switch {
		case err == nil:
		case errors.Is(err, unix.ENOBUFS):
			lost, wait = true, time.Duration(0) // the queue holds what arrived before
		case lost && errors.Is(err, os.ErrDeadlineExceeded):
			done = true
		default:
			c.dirty = true
			return err
		}
	}
	if lost {
		return fmt.Errorf("%w: %w", ErrLost, unix.ENOBUFS)
	}
	return nil
}
