package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/lab"
)

// pinger is a client of the VIP that wants an answer to each request: ICMP echo
// (RFC 792), sent along the client's own ARP cache as any request would be. It sees
// what a user of the VIP sees, while lab.Witness sees who answers.
type pinger struct {
	vip      netip.Addr
	interval time.Duration
	fd       int
	id       uint16

	mu   sync.Mutex
	sent []time.Duration // by sequence number, from 0
	got  []time.Duration // likewise; 0: no answer yet
}

// newPinger opens the socket in the client's namespace. Run asks.
func newPinger(client *lab.Host, vip netip.Addr, interval time.Duration) (*pinger, error) {
	p := &pinger{vip: vip, interval: interval, id: uint16(boottime.Now() >> 10)}
	err := client.Do(func() (err error) {
		p.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ping %s from %s: %w", vip, client.Name(), err)
	}
	return p, nil
}

// Run asks and listens until ctx ends, and closes the socket. It is one loop on one
// thread, six system calls a request: where a call costs 75 us, as in user-mode Linux,
// a watcher must not be what is measured.
func (p *pinger) Run(ctx context.Context) error {
	defer unix.Close(p.fd)
	to := &unix.SockaddrInet4{Addr: p.vip.As4()}
	ready, buffer := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, make([]byte, 1500)
	for due := boottime.Now(); ctx.Err() == nil; {
		now := boottime.Now()
		if now >= due {
			// A client that knows no way to the VIP goes unanswered, which is noted; so is
			// the late error of an earlier request.
			_ = unix.Sendto(p.fd, p.next(now), 0, to)
			due = max(due+p.interval, now)
		}
		wait := unix.NsecToTimespec(max(0, due-now).Nanoseconds())
		n, err := unix.Ppoll(ready, &wait, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("ping %s: wait: %w", p.vip, err)
		}
		if n > 0 {
			n, _, err := unix.Recvfrom(p.fd, buffer, unix.MSG_DONTWAIT)
			if err == nil { // else an ICMP error about a request
				p.note(boottime.Now(), buffer[:n])
			}
		}
	}
	return nil
}

// next is the next request, noted as sent.
func (p *pinger) next(now time.Duration) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	request := echo(p.id, uint16(len(p.sent)))
	p.sent, p.got = append(p.sent, now), append(p.got, 0)
	return request
}

// note takes an IPv4 packet that came at a time.
func (p *pinger) note(at time.Duration, packet []byte) {
	if len(packet) < 20 || len(packet) < int(packet[0]&15)*4+8 {
		return
	}
	message := packet[int(packet[0]&15)*4:]
	if message[0] != 0 || message[1] != 0 || binary.BigEndian.Uint16(message[4:]) != p.id { // 0: echo reply
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The number has 16 bits; the newest request that has them is meant.
	number := len(p.sent) - 1 - int(uint16(len(p.sent)-1)-binary.BigEndian.Uint16(message[6:]))
	if number >= 0 && p.got[number] == 0 {
		p.got[number] = at
	}
}

// gap returns the longest time without an answer, from the sending of an answered
// request until the arrival of the answer to the next one, among requests sent at or
// after since and the last before it. One that lasts at the end, now, is a lower bound.
func (p *pinger) gap(since, now time.Duration) Value {
	p.mu.Lock()
	defer p.mu.Unlock()
	var longest, last time.Duration
	for i, sent := range p.sent {
		switch {
		case p.got[i] == 0:
		case sent < since:
			last = sent
		default:
			longest, last = max(longest, p.got[i]-last), sent
		}
	}
	if now-last > longest {
		return Value{V: (now - last).Seconds(), AtLeast: true}
	}
	return Value{V: longest.Seconds()}
}

// echo is an ICMP echo request with its checksum (RFC 1071).
func echo(id, number uint16) []byte {
	message := []byte{8, 0, 0, 0}
	message = binary.BigEndian.AppendUint16(message, id)
	message = binary.BigEndian.AppendUint16(message, number)
	var sum uint32
	for i := 0; i < len(message); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(message[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(message[2:], ^uint16(sum))
	return message
}
