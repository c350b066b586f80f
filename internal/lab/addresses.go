package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/boottime"
)

// AddressWatch notes when the kernel of a host binds and removes an address, on
// any interface, by the kernel's own notices (rtnetlink(7)). A bound address
// need not answer: a gate may be shut before it. Who answers is a Prober's word.
type AddressWatch struct {
	host    *Host
	address netip.Addr
	fd      int

	mu    sync.Mutex
	bound map[uint32]int // by interface: the index of its open span
	spans []AddressSpan
}

// AddressSpan is a time during which an address was bound, from notice to notice
// (CLOCK_BOOTTIME, after receiving).
type AddressSpan struct {
	Host        string
	From, Until time.Duration // Until is 0 while it lasts
}

func (s AddressSpan) String() string {
	if s.Until == 0 {
		return fmt.Sprintf("%s from %v", s.Host, s.From)
	}
	return fmt.Sprintf("%s from %v until %v", s.Host, s.From, s.Until)
}

// NewAddressWatch subscribes to the notices of a host's kernel. What is bound by
// then counts from then. Run listens.
func NewAddressWatch(h *Host, address netip.Addr) (*AddressWatch, error) {
	w := &AddressWatch{host: h, address: address, bound: map[uint32]int{}}
	err := h.Do(func() (err error) {
		w.fd, err = openNotices(unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
		return err
	})
	if err == nil {
		err = w.begin()
	}
	if err != nil {
		return nil, fmt.Errorf("watch %s on %s: %w", address, h.name, err)
	}
	return w, nil
}

// begin notes what is bound already.
func (w *AddressWatch) begin() error {
	table, err := w.host.netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		unix.Close(w.fd)
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range table {
		if a.IP.Equal(w.address.AsSlice()) {
			w.note(boottime.Now(), uint32(a.LinkIndex), true)
		}
	}
	return nil
}

// openNotices opens a socket for groups of a kernel's notices (RTNLGRP_... of
// linux/rtnetlink.h) that wakes up ten times a second, to be closed.
func openNotices(kinds ...int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("open a netlink socket: %w", err)
	}
	var groups uint32
	for _, k := range kinds {
		groups |= 1 << (k - 1)
	}
	if err := errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
	); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("subscribe to notices of the kernel: %w", err)
	}
	return fd, nil
}

// Run listens until ctx ends and closes the socket: a watch runs once. A notice
// that was lost ends it with an error.
func (w *AddressWatch) Run(ctx context.Context) error {
	defer unix.Close(w.fd)
	buffer := make([]byte, 64<<10)
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(w.fd, buffer, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		at := boottime.Now()
		if err == nil {
			err = w.take(at, buffer[:n])
		}
		if err != nil {
			return fmt.Errorf("watch %s on %s: %w", w.address, w.host.name, err)
		}
	}
	return nil
}

func (w *AddressWatch) take(at time.Duration, data []byte) error {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWADDR && m.Header.Type != unix.RTM_DELADDR || len(m.Data) < unix.SizeofIfAddrmsg {
			continue
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return err
		}
		if noticed(attributes) == w.address {
			// struct ifaddrmsg of linux/if_addr.h: the index is its last field
			w.note(at, binary.NativeEndian.Uint32(m.Data[4:]), m.Header.Type == unix.RTM_NEWADDR)
		}
	}
	return nil
}

// noticed returns the address that a notice is about: IFA_LOCAL where there is
// one (IPv4), else IFA_ADDRESS.
func noticed(attributes []syscall.NetlinkRouteAttr) (address netip.Addr) {
	for _, kind := range []uint16{unix.IFA_ADDRESS, unix.IFA_LOCAL} {
		for _, a := range attributes {
			if a.Attr.Type == kind {
				address, _ = netip.AddrFromSlice(bytes.Clone(a.Value))
			}
		}
	}
	return address
}

// note takes a notice; one that renews an address says the same as before.
func (w *AddressWatch) note(at time.Duration, index uint32, bound bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, open := w.bound[index]
	switch {
	case bound && !open:
		w.bound[index] = len(w.spans)
		w.spans = append(w.spans, AddressSpan{Host: w.host.name, From: at})
	case !bound && open:
		w.spans[i].Until = at
		delete(w.bound, index)
	}
}

// Spans returns when the address was bound, in the order of its binding.
func (w *AddressWatch) Spans() []AddressSpan {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.spans)
}

// Overlaps returns the pairs of spans in which two hosts had an address bound at
// one time, as text. With a gate that is no fault: see AddressWatch.
func Overlaps(watches ...*AddressWatch) string {
	var all []AddressSpan
	for _, w := range watches {
		all = append(all, w.Spans()...)
	}
	var b strings.Builder
	for i, a := range all {
		for _, c := range all[i+1:] {
			if a.Host != c.Host && (a.Until == 0 || c.From < a.Until) && (c.Until == 0 || a.From < c.Until) {
				fmt.Fprintf(&b, "bound on two hosts: %v, and %v\n", a, c)
			}
		}
	}
	return b.String()
}
