package promise

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/zklvs/zklvs/election"
)

// relay stands between an asker and a voter: it records all that goes through
// it, can lose or keep back, and can send anything to either from the address
// that they know.
type relay struct {
	conn  *net.UDPConn
	asker netip.AddrPort

	mu    sync.Mutex
	voter netip.AddrPort
	pass  func(packet) bool // nil lets everything through
	seen  []packet
}

type packet struct {
	toVoter bool
	kind    kind
	bytes   []byte
}

func newRelay(t testing.TB, asker, voter *director) *relay {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{conn: conn, asker: asker.at(), voter: voter.at()}
	var group sync.WaitGroup
	group.Go(r.run)
	t.Cleanup(func() {
		conn.Close()
		group.Wait()
	})
	return r
}

func (r *relay) run() {
	b := make([]byte, 2048)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		p := packet{toVoter: from == r.asker, kind: kind(b[1]), bytes: bytes.Clone(b[:n])}
		r.mu.Lock()
		r.seen = append(r.seen, p)
		pass := r.pass == nil || r.pass(p)
		r.mu.Unlock()
		if pass {
			r.send(p.toVoter, p.bytes)
		}
	}
}

// send sends bytes to one of the two.
func (r *relay) send(toVoter bool, b []byte) {
	r.mu.Lock()
	to := r.asker
	if toVoter {
		to = r.voter
	}
	r.mu.Unlock()
	_, _ = r.conn.WriteToUDPAddrPort(b, to)
}

func (r *relay) filter(pass func(packet) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pass = pass
}

// lead sends to another voter from now on.
func (r *relay) lead(to *director) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.voter = to.at()
}

// of returns what was recorded of a kind.
func (r *relay) of(k kind) []packet {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []packet
	for _, p := range r.seen {
		if p.kind == k {
			list = append(list, p)
		}
	}
	return list
}

// last waits for the newest datagram of a kind about a question.
func (r *relay) last(t testing.TB, k kind, number uint64) packet {
	t.Helper()
	var found packet
	waitUntil(t, "a datagram on the wire", func() bool {
		for _, p := range r.of(k) {
			if parse(t, p.bytes).number == number {
				found = p
			}
		}
		return found.bytes != nil
	})
	return found
}

// address is the voter as the asker is to know it.
func (r *relay) address(v *director) election.Voter {
	return reachedAt(v, netip.MustParseAddrPort(r.conn.LocalAddr().String()))
}

// parse reads a genuine datagram.
func parse(t testing.TB, b []byte) *message {
	t.Helper()
	m, err := decode(b[:len(b)-macSize])
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// forge makes a datagram with a key of the attacker's choice: the cluster's own
// where a test is about a check that comes after the HMAC.
func forge(t testing.TB, key []byte, cluster string, m *message) []byte {
	t.Helper()
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return newSealer(key, cluster).seal(b)
}

func seal(t testing.TB, m *message) []byte {
	t.Helper()
	return forge(t, testKey, "web", m)
}
