package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/boottime"
)

// NeighborWatch notes what a host's kernel believes about its neighbors: which
// hardware address it sends packets for an address to.
type NeighborWatch struct {
	host *Host
	fd   int

	mu    sync.Mutex
	notes []Neighbor
}

// Neighbor is a change of that belief.
type Neighbor struct {
	At      time.Duration // CLOCK_BOOTTIME, after receiving
	Address netip.Addr
	MAC     string // "" while it is not known
}

// NewNeighborWatch subscribes to the notices of a host's kernel. Run listens.
func NewNeighborWatch(h *Host) (*NeighborWatch, error) {
	w := &NeighborWatch{host: h}
	err := h.Do(func() (err error) {
		w.fd, err = openNotices(unix.RTNLGRP_NEIGH)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch the neighbors of %s: %w", h.name, err)
	}
	return w, nil
}

// Run listens until ctx ends and closes the socket: a watch runs once. Notices
// that were lost are not noticed: what is believed last is told again.
func (w *NeighborWatch) Run(ctx context.Context) error {
	defer unix.Close(w.fd)
	buffer := make([]byte, 64<<10)
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(w.fd, buffer, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOBUFS) {
			continue
		}
		at := boottime.Now()
		if err == nil {
			err = w.take(at, buffer[:n])
		}
		if err != nil {
			return fmt.Errorf("watch the neighbors of %s: %w", w.host.name, err)
		}
	}
	return nil
}

// sizeofNdmsg is that of struct ndmsg (rtnetlink(7)).
const sizeofNdmsg = 12

func (w *NeighborWatch) take(at time.Duration, data []byte) error {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWNEIGH && m.Header.Type != unix.RTM_DELNEIGH || len(m.Data) < sizeofNdmsg {
			continue
		}
		n := Neighbor{At: at}
		for rest := m.Data[sizeofNdmsg:]; len(rest) >= unix.SizeofRtAttr; {
			length := int(binary.NativeEndian.Uint16(rest))
			if length < unix.SizeofRtAttr || length > len(rest) {
				return errors.New("a notice of the kernel is cut short")
			}
			value := rest[unix.SizeofRtAttr:length]
			switch binary.NativeEndian.Uint16(rest[2:]) {
			case unix.NDA_DST:
				n.Address, _ = netip.AddrFromSlice(bytes.Clone(value))
			case unix.NDA_LLADDR:
				n.MAC = net.HardwareAddr(value).String()
			}
			rest = rest[min(len(rest), (length+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
		}
		if m.Header.Type == unix.RTM_DELNEIGH {
			n.MAC = ""
		}
		w.note(n)
	}
	return nil
}

// note takes a notice; one that says what was said before is none.
func (w *NeighborWatch) note(n Neighbor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, before := range slices.Backward(w.notes) {
		if before.Address == n.Address {
			if before.MAC == n.MAC {
				return
			}
			break
		}
	}
	w.notes = append(w.notes, n)
}

// Changes returns the changes of what is believed about an address, since a time.
func (w *NeighborWatch) Changes(address netip.Addr, since time.Duration) []Neighbor {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.notes), func(n Neighbor) bool { return n.Address != address || n.At < since })
}
