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
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/boottime"
)

// ARPProber asks the LAN who has an address, many times a second, and notes
// every answer: a witness of who answers for a VIP that trusts nobody's word.
//
// Each request is told from the others by the sender's hardware address in it,
// which the answer repeats, so a late answer is counted for the request that it
// answers. The sender's protocol address is 0 (a probe, RFC 5227 section 2.1.1):
// no host learns anything from it.
type ARPProber struct {
	host     *Host
	vip      netip.Addr
	interval time.Duration
	fd       int
	card     *net.Interface

	mu            sync.Mutex
	sent          []time.Duration // by request number
	answers       []Answer
	announcements []Announcement
}

// Answer is one reply. Its sender answered at some time from Asked to At.
type Answer struct {
	Request   uint32        // number of the request, from 0
	Asked, At time.Duration // CLOCK_BOOTTIME just before sending, after receiving
	MAC       string        // hardware address that it gives for the VIP
}

// Announcement is a packet that claims the VIP without being asked by us, such
// as gratuitous ARP.
type Announcement struct {
	At  time.Duration // CLOCK_BOOTTIME after receiving
	MAC string
}

// NewARPProber prepares to ask for vip from a network card of the host, once in
// an interval; 0 is 5 ms. Run asks.
func NewARPProber(h *Host, nic string, vip netip.Addr, interval time.Duration) (*ARPProber, error) {
	if !vip.Is4() {
		return nil, fmt.Errorf("probe %s from %s: not an IPv4 address", vip, h.name)
	}
	if interval == 0 {
		interval = 5 * time.Millisecond
	}
	p := &ARPProber{host: h, vip: vip, interval: interval}
	err := h.Do(func() (err error) {
		p.card, err = net.InterfaceByName(nic)
		if err == nil {
			p.fd, err = openARP(p.card.Index)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("probe %s from %s of %s: %w", vip, nic, h.name, err)
	}
	return p, nil
}

// openARP opens a raw socket for ARP that hears all (answers go to the made-up
// hardware addresses) and wakes up ten times a second, to be closed.
func openARP(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(networkOrder(unix.ETH_P_ARP)))
	if err != nil {
		return 0, fmt.Errorf("open a packet socket: %w", err)
	}
	address := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ARP), Ifindex: index}
	all := &unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
	if err := errors.Join(
		unix.Bind(fd, address),
		unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, all),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
	); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("set up a packet socket: %w", err)
	}
	return fd, nil
}

// networkOrder gives a 16-bit number in network byte order, on any machine.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// Run asks and listens until ctx ends, and closes the prober's socket: a prober
// runs once. A failed send or receive ends it with an error.
func (p *ARPProber) Run(ctx context.Context) error {
	defer unix.Close(p.fd)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.listen(ctx) })
	group.Go(func() error { return p.ask(ctx) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("probe %s from %s: %w", p.vip, p.host.name, err)
	}
	return nil
}

func (p *ARPProber) ask(ctx context.Context) error {
	ticker := time.NewTicker(p.interval)
	defer ticker.Stop()
	for {
		if err := p.request(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (p *ARPProber) request() error {
	p.mu.Lock()
	number := uint32(len(p.sent))
	p.sent = append(p.sent, boottime.Now())
	p.mu.Unlock()
	_, err := unix.Write(p.fd, p.frame(number))
	// A card that is down or has no room loses the request, as a wire would.
	if err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) {
		return fmt.Errorf("send request %d: %w", number, err)
	}
	return nil
}

// The first two bytes of the made-up sender addresses: locally administered.
var senderPrefix = []byte{0x02, 0x5a}

// frame is an Ethernet frame with an ARP request (RFC 826).
func (p *ARPProber) frame(number uint32) []byte {
	vip := p.vip.As4()
	b := make([]byte, 0, 42)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	b = append(b, p.card.HardwareAddr...) // the true one: the switch learns from it
	b = append(b, 0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, arpRequest)
	b = append(b, senderPrefix...)
	b = binary.BigEndian.AppendUint32(b, number)
	b = append(b, 0, 0, 0, 0)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, vip[:]...)
}

// Operations of ARP (RFC 826), the low byte.
const (
	arpRequest = 1
	arpReply   = 2
)

func (p *ARPProber) listen(ctx context.Context) error {
	buffer := make([]byte, 256)
	for ctx.Err() == nil {
		n, from, err := unix.Recvfrom(p.fd, buffer, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
			continue
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if ok && link.Pkttype != unix.PACKET_OUTGOING {
			p.note(boottime.Now(), buffer[:n])
		}
	}
	return nil
}

// note takes an ARP frame that came at a time.
func (p *ARPProber) note(at time.Duration, frame []byte) {
	vip := p.vip.As4()
	if len(frame) < 42 || !bytes.Equal(frame[28:32], vip[:]) {
		return // not a claim of the VIP: its sender is another
	}
	mac := net.HardwareAddr(frame[22:28]).String()
	number := binary.BigEndian.Uint32(frame[34:38])
	p.mu.Lock()
	defer p.mu.Unlock()
	if frame[21] == arpReply && bytes.Equal(frame[32:34], senderPrefix) && int(number) < len(p.sent) {
		p.answers = append(p.answers, Answer{Request: number, Asked: p.sent[number], At: at, MAC: mac})
		return
	}
	p.announcements = append(p.announcements, Announcement{At: at, MAC: mac})
}

// Answers returns the answers that came at or after a time, as they came.
func (p *ARPProber) Answers(since time.Duration) []Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.answers), func(a Answer) bool { return a.At < since })
}

// Announcements returns the unasked claims that came at or after a time.
func (p *ARPProber) Announcements(since time.Duration) []Announcement {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.announcements), func(a Announcement) bool { return a.At < since })
}

// MACs returns the distinct hardware addresses that answered requests sent from
// one time until before another, sorted. One answers in a healthy cluster.
func (p *ARPProber) MACs(from, until time.Duration) []string {
	var macs []string
	for _, a := range p.Answers(from) {
		if from <= a.Asked && a.Asked < until {
			macs = append(macs, a.MAC)
		}
	}
	slices.Sort(macs)
	return slices.Compact(macs)
}

// Conflicts returns the requests that were answered by more than one hardware
// address: two hosts held the VIP at once.
func (p *ARPProber) Conflicts() map[uint32][]string {
	found := map[uint32][]string{}
	for _, a := range p.Answers(0) {
		if !slices.Contains(found[a.Request], a.MAC) {
			found[a.Request] = append(found[a.Request], a.MAC)
		}
	}
	for request, macs := range found {
		if len(macs) < 2 {
			delete(found, request)
		}
	}
	return found
}
