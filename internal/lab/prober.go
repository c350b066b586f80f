package lab

import (
	"cmp"
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

// Prober asks the LAN who has an address, many times a second, and notes every
// answer: a witness of who answers for a VIP that trusts nobody's word.
//
// Each request is told from the others by the sender's hardware address in it,
// which the answer repeats, so a late answer is counted for the request that it
// answers.
type Prober struct {
	host     *Host
	vip      netip.Addr
	question question
	interval time.Duration
	fd       int
	card     *net.Interface

	mu            sync.Mutex
	sent          []time.Duration // by request number
	answers       []Answer
	announcements []Announcement
	macs          []string // that were seen
}

// question is how a protocol asks for an address: arpQuestion or nsQuestion.
type question interface {
	ethertype() uint16
	// frame is an Ethernet frame that asks. The card's address is that of the
	// frame, so that the switch learns nothing wrong.
	frame(card net.HardwareAddr, number uint32) []byte
	// fields are what distinguishes the frames that read may take; others are not heard.
	fields() []field
	// read reports whether an Ethernet frame claims the address.
	read(frame []byte) (claim, bool)
}

// claim is a packet that says which hardware address has the VIP.
type claim struct {
	mac    net.HardwareAddr
	asked  bool   // it answers a request
	number uint32 // of that request
}

// Answer is one reply. Its sender answered at some time from Asked to At.
type Answer struct {
	Request   uint32        // number of the request, from 0
	Asked, At time.Duration // CLOCK_BOOTTIME just before sending, after receiving
	MAC       string        // hardware address that it gives for the VIP
}

// Announcement is a packet that claims the VIP without being asked by us, such
// as gratuitous ARP or an unsolicited neighbor advertisement.
type Announcement struct {
	At  time.Duration // CLOCK_BOOTTIME after receiving
	MAC string
}

// NewARPProber prepares to ask for an IPv4 address by ARP from a network card of
// the host, once in an interval; 0 is 5 ms. Run asks.
func NewARPProber(h *Host, nic string, vip netip.Addr, interval time.Duration) (*Prober, error) {
	if !vip.Is4() {
		return nil, fmt.Errorf("probe %s from %s: not an IPv4 address", vip, h.name)
	}
	return newProber(h, nic, vip, arpQuestion{vip.As4()}, interval)
}

// NewNSProber is NewARPProber for an IPv6 address, asked for by neighbor
// solicitation.
func NewNSProber(h *Host, nic string, vip netip.Addr, interval time.Duration) (*Prober, error) {
	if !vip.Is6() || vip.Is4In6() {
		return nil, fmt.Errorf("probe %s from %s: not an IPv6 address", vip, h.name)
	}
	return newProber(h, nic, vip, nsQuestion{vip.As16()}, interval)
}

func newProber(h *Host, nic string, vip netip.Addr, q question, interval time.Duration) (*Prober, error) {
	if interval == 0 {
		interval = 5 * time.Millisecond
	}
	p := &Prober{host: h, vip: vip, question: q, interval: interval}
	err := h.Do(func() (err error) {
		p.card, err = net.InterfaceByName(nic)
		if err == nil {
			p.fd, err = openPackets(p.card.Index, q.ethertype())
		}
		if err == nil {
			if err = attachFilter(p.fd, q.fields()); err != nil {
				unix.Close(p.fd)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("probe %s from %s of %s: %w", vip, nic, h.name, err)
	}
	return p, nil
}

// openPackets opens a raw socket for one protocol that hears all (answers go to
// the made-up hardware addresses) and wakes up ten times a second, to be closed.
func openPackets(index int, ethertype uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(networkOrder(ethertype)))
	if err != nil {
		return 0, fmt.Errorf("open a packet socket: %w", err)
	}
	address := &unix.SockaddrLinklayer{Protocol: networkOrder(ethertype), Ifindex: index}
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
func (p *Prober) Run(ctx context.Context) error {
	defer unix.Close(p.fd)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.listen(ctx) })
	group.Go(func() error { return p.ask(ctx) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("probe %s from %s: %w", p.vip, p.host.name, err)
	}
	return nil
}

func (p *Prober) ask(ctx context.Context) error {
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

func (p *Prober) request() error {
	p.mu.Lock()
	number := uint32(len(p.sent))
	p.sent = append(p.sent, boottime.Now())
	p.mu.Unlock()
	_, err := unix.Write(p.fd, p.question.frame(p.card.HardwareAddr, number))
	// A card that is down or has no room loses the request, as a wire would.
	if err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) {
		return fmt.Errorf("send request %d: %w", number, err)
	}
	return nil
}

func (p *Prober) listen(ctx context.Context) error {
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

// note takes a frame that came at a time.
func (p *Prober) note(at time.Duration, frame []byte) {
	c, ok := p.question.read(frame)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	mac := p.name(c.mac)
	if c.asked && int(c.number) < len(p.sent) {
		p.answers = append(p.answers, Answer{Request: c.number, Asked: p.sent[c.number], At: at, MAC: mac})
		return
	}
	p.announcements = append(p.announcements, Announcement{At: at, MAC: mac})
}

// name is a hardware address as text, kept once: hours of answers come from a few.
func (p *Prober) name(mac net.HardwareAddr) string {
	text := mac.String()
	if i := slices.Index(p.macs, text); i >= 0 {
		return p.macs[i]
	}
	p.macs = append(p.macs, text)
	return text
}

// Answers returns the answers that came at or after a time, as they came.
func (p *Prober) Answers(since time.Duration) []Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	first, _ := slices.BinarySearchFunc(p.answers, since, func(a Answer, t time.Duration) int { return cmp.Compare(a.At, t) })
	return slices.Clone(p.answers[first:])
}

// Sent returns when the requests were sent that were sent at or after a time.
func (p *Prober) Sent(since time.Duration) []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	first, _ := slices.BinarySearch(p.sent, since)
	return slices.Clone(p.sent[first:])
}

// discard closes the socket of a prober that never ran.
func (p *Prober) discard() { unix.Close(p.fd) }

// Announcements returns the unasked claims that came at or after a time.
func (p *Prober) Announcements(since time.Duration) []Announcement {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.announcements), func(a Announcement) bool { return a.At < since })
}

// FirstClaim returns when a hardware address first claimed the VIP at or after a
// time, by an answer or an announcement; false if it did not.
func (p *Prober) FirstClaim(mac string, since time.Duration) (at time.Duration, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	see := func(who string, when time.Duration) {
		if who == mac && when >= since && (!found || when < at) {
			at, found = when, true
		}
	}
	for _, a := range p.answers {
		see(a.MAC, a.At)
	}
	for _, a := range p.announcements {
		see(a.MAC, a.At)
	}
	return at, found
}

// LastAnswered returns when the newest request that a hardware address answered
// was sent; false if it answered none.
func (p *Prober) LastAnswered(mac string) (asked time.Duration, found bool) {
	for _, a := range p.Answers(0) {
		if a.MAC == mac {
			asked, found = max(asked, a.Asked), true
		}
	}
	return asked, found
}

// MACs returns the distinct hardware addresses that answered requests sent from
// one time until before another, sorted. One answers in a healthy cluster.
func (p *Prober) MACs(from, until time.Duration) []string {
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
func (p *Prober) Conflicts() map[uint32][]string {
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
