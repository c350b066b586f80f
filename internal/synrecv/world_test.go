package synrecv

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zklvs/zklvs/ipvs"
)

// world is a director's table with traffic, as the kernel would show it.
type world struct {
	t        testing.TB
	random   *rand.Rand
	detector *Detector
	services []ipvs.ServiceStats
	traffic  map[target][]traffic
	conns    []connection
	limit    int // of entries in a sample
	now      time.Duration
	broken   error // of the sample
	sampled  int   // how often
}

// traffic is a stream of connections to a destination.
type traffic struct {
	every   time.Duration // from one connection to the next
	clients int           // distinct addresses
	kind    kind
}

// kind is what becomes of connections.
type kind int

const (
	works     kind = iota // a short request
	impatient             // no answer; the client gives up after two SYNs
	patient               // no answer; the client repeats its SYN for a minute
	flooded               // one SYN each, which a NAT real server answers
)

type connection struct {
	target
	kind
	client  netip.AddrPort
	packets []time.Duration // when they came in
	out     int
}

var repeats = map[kind][]time.Duration{
	works:     {0, 50e6, 60e6, 100e6, 150e6, 200e6},
	impatient: {0, 1e9},
	patient:   {0, 1e9, 3e9, 7e9, 15e9, 31e9, 63e9},
	flooded:   {0},
}

func newWorld(t *testing.T) *world { return seededWorld(t, 1) }

func seededWorld(t testing.TB, seed uint64) *world {
	return &world{t: t, random: rand.New(rand.NewPCG(seed, 2)), detector: New(), traffic: map[target][]traffic{}, limit: 1050, now: time.Hour}
}

// service adds one with destinations 10.0.0.11, .12 and so on.
func (w *world) service(port uint16, forward ipvs.Forward, destinations int) ipvs.Key {
	key := ipvs.Key{Protocol: ipvs.TCP, Address: netip.MustParseAddr("192.0.2.100"), Port: port}
	w.add(key, forward, destinations)
	return key
}

func (w *world) add(key ipvs.Key, forward ipvs.Forward, destinations int) {
	s := ipvs.ServiceStats{Key: key}
	for i := range destinations {
		s.Destinations = append(s.Destinations, ipvs.DestinationStats{AddrPort: server(i, key.Port), Forward: forward, Weight: 1})
	}
	w.services = append(w.services, s)
}

func server(i int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 200), byte(11 + i%200)}), port)
}

func (w *world) drives(key ipvs.Key, i int, flows ...traffic) {
	w.traffic[target{key, server(i, key.Port)}] = flows
}

// step lets a window pass and observes; it returns what was said, one line each:
// "begins 10.0.0.11:80", "goes on all".
func (w *world) step() string {
	w.t.Helper()
	w.now += Interval
	for _, t := range slices.SortedFunc(maps.Keys(w.traffic), func(a, b target) int {
		return cmp.Or(a.service.Compare(b.service), a.server.Compare(b.server))
	}) {
		for _, f := range w.traffic[t] {
			for at := w.now - Interval; at < w.now; at += f.every {
				w.begin(t, f, at+time.Duration(w.random.Int64N(int64(f.every))))
			}
		}
	}
	findings, err := w.detector.Observe(w.now, w.count(), w.sample)
	if err != nil && w.broken == nil {
		w.t.Fatal(err)
	}
	var lines []string
	for _, f := range findings {
		name := "all"
		if f.RealServer.IsValid() {
			name = f.RealServer.Addr().String()
		}
		lines = append(lines, fmt.Sprintf("%s %s", f.Phase, name))
	}
	return strings.Join(lines, ", ")
}

// steps returns what each of n windows said, equal ones in a row once.
func (w *world) steps(n int) []string {
	w.t.Helper()
	var out []string
	for range n {
		out = append(out, w.step())
	}
	return slices.Compact(out)
}

func (w *world) begin(t target, f traffic, at time.Duration) {
	address := netip.AddrFrom4([4]byte{198, 51, byte(w.random.IntN(f.clients) / 250), byte(1 + w.random.IntN(f.clients)%250)})
	c := connection{target: t, kind: f.kind, client: netip.AddrPortFrom(address, uint16(1024+w.random.IntN(60000)))}
	for _, after := range repeats[f.kind] {
		c.packets = append(c.packets, at+after)
	}
	switch f.kind {
	case works:
		c.out = 4
	case flooded:
		c.out = 1
	}
	w.conns = append(w.conns, c)
}

// last is when a connection's newest packet came; ok is false before the first.
func (c connection) last(now time.Duration) (at time.Duration, count int) {
	for _, p := range c.packets {
		if p <= now {
			at, count = p, count+1
		}
	}
	return at, count
}

// count makes the counters: they only grow, connections that expire stay in them.
func (w *world) count() []ipvs.ServiceStats {
	type sums struct{ conns, in, out, active, inactive int }
	all := map[target]*sums{}
	for _, c := range w.conns {
		n := all[c.target]
		if n == nil {
			n = &sums{}
			all[c.target] = n
		}
		at, packets := c.last(w.now)
		if packets == 0 {
			continue
		}
		n.conns, n.in, n.out = n.conns+1, n.in+packets, n.out+c.out
		switch age := w.now - at; {
		case c.kind != works && age < timeout:
			n.active++
		case c.kind == works && age < 2*time.Minute:
			n.inactive++
		}
	}
	out := slices.Clone(w.services)
	for i := range out {
		out[i].Destinations = slices.Clone(out[i].Destinations)
		for j := range out[i].Destinations {
			d := &out[i].Destinations[j]
			n := all[target{out[i].Key, d.AddrPort}]
			if n == nil {
				continue
			}
			d.Connections, d.InPackets, d.ActiveConn, d.InactConn = uint64(n.conns), uint64(n.in), n.active, n.inactive
			if d.Forward == ipvs.NAT {
				d.OutPackets = uint64(n.out)
			}
		}
	}
	return out
}

// sample is the kernel's list in the order of its hash, cut.
func (w *world) sample() ([]ipvs.Conn, error) {
	w.sampled++
	if w.broken != nil {
		return nil, w.broken
	}
	var out []ipvs.Conn
	for _, c := range w.conns {
		at, packets := c.last(w.now)
		virtual := netip.AddrPortFrom(c.service.Address, c.service.Port)
		if c.service.Mark != 0 || c.service.Port == 0 {
			virtual = netip.AddrPortFrom(netip.MustParseAddr("192.0.2.100"), 8080)
		}
		entry := ipvs.Conn{Protocol: ipvs.TCP, Client: c.client, Virtual: virtual, Destination: c.server, State: state}
		if c.server.Port() == 0 {
			entry.Destination = netip.AddrPortFrom(c.server.Addr(), 8080)
		}
		age := (w.now - at).Truncate(time.Second)
		if c.kind == works {
			entry.State, entry.Expires = "TIME_WAIT", 2*time.Minute-age
		} else {
			entry.Expires = timeout - age
		}
		if packets > 0 && entry.Expires > 0 {
			out = append(out, entry)
		}
	}
	slices.SortFunc(out, func(a, b ipvs.Conn) int { return cmp.Compare(hash(a.Client), hash(b.Client)) })
	return out[:min(len(out), w.limit)], nil
}

// hash spreads as the kernel's does, the same in each run.
func hash(a netip.AddrPort) uint64 {
	b := a.Addr().As4()
	return rand.NewPCG(uint64(binary.BigEndian.Uint32(b[:])), uint64(a.Port())).Uint64()
}
