package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/boottime"
)

// snap is how much of each packet a capture keeps: all headers, and what they say.
const snap = 192

// Capture keeps the last packets of a LAN in memory, seen at its switch.
type Capture struct {
	lan string
	fd  int

	mu      sync.Mutex
	packets []packet // a ring
	next    int
}

type packet struct {
	at   time.Duration // CLOCK_BOOTTIME after receiving
	size int           // as it was on the wire
	data []byte        // its beginning
}

// NewCapture prepares to keep the newest count packets of a LAN. Run listens.
func (l *Lab) NewCapture(lan string, count int) (*Capture, error) {
	c := &Capture{lan: lan, packets: make([]packet, count)}
	err := l.wires.Do(func() error {
		bridge, err := net.InterfaceByName(lan)
		if err == nil {
			c.fd, err = openPackets(bridge.Index, unix.ETH_P_ALL) // promiscuous: a bridge then hands up all it forwards
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture LAN %s: %w", lan, err)
	}
	return c, nil
}

// Run listens until ctx ends, and closes the socket: a capture runs once.
func (c *Capture) Run(ctx context.Context) error {
	defer unix.Close(c.fd)
	buffer := make([]byte, 64<<10)
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(c.fd, buffer, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
			continue
		case err != nil:
			return fmt.Errorf("capture LAN %s: %w", c.lan, err)
		}
		c.note(packet{at: boottime.Now(), size: n, data: bytes.Clone(buffer[:min(n, snap)])})
	}
	return nil
}

func (c *Capture) note(p packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets[c.next] = p
	c.next = (c.next + 1) % len(c.packets)
}

// The format of pcap files (draft-ietf-opsawg-pcap section 4): magic number of
// little-endian nanosecond stamps, version 2.4, link type Ethernet.
const (
	pcapMagic    = 0xa1b23c4d
	linkEthernet = 1
)

// Write writes what is kept and came at or after a time, as a file that
// tcpdump and Wireshark read. Its time stamps are CLOCK_BOOTTIME.
func (c *Capture) Write(w io.Writer, since time.Duration) error {
	head := binary.LittleEndian.AppendUint32(nil, pcapMagic)
	head = binary.LittleEndian.AppendUint16(head, 2)
	head = binary.LittleEndian.AppendUint16(head, 4)
	for _, field := range []uint32{0, 0, snap, linkEthernet} {
		head = binary.LittleEndian.AppendUint32(head, field)
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, p := range c.since(since) {
		var b []byte
		for _, field := range []uint32{uint32(p.at / time.Second), uint32(p.at % time.Second), uint32(len(p.data)), uint32(p.size)} {
			b = binary.LittleEndian.AppendUint32(b, field)
		}
		if _, err := w.Write(append(b, p.data...)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Capture) since(at time.Duration) []packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []packet
	for i := range c.packets {
		if p := c.packets[(c.next+i)%len(c.packets)]; p.size > 0 && p.at >= at {
			found = append(found, p)
		}
	}
	return found
}
