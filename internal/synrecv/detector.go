package synrecv

import (
	"errors"
	"math"
	"net/netip"
	"time"

	"github.com/zklvs/zklvs/ipvs"
)

// Interval is the usual time between two calls of Observe. It must not be
// shorter: the kernel's counters are up to 2 s old. It may be longer.
const Interval = 5 * time.Second

const (
	minStuck = 3           // sampled entries, from which on a window can be bad
	toBegin  = 2           // bad windows in a row
	toEnd    = 3           // good windows in a row
	quiet    = time.Minute // without new connections: what hung has expired

	// Two thresholds together, since each alone is met by the repeated SYNs of a
	// few vanished clients: entries in SYN_RECV with a packet in this window, as a
	// share of this window's connections; all in SYN_RECV, as a share of those of
	// the last minute or so.
	youngShare   = 0.5
	waitingShare = 0.4
	// toStay makes both thresholds lower for what hangs already.
	toStay = 0.5
	// fewPackets of a connection, on the average of a window, stand in for the
	// second threshold: what worked a moment ago has not.
	fewPackets = 3
)

// target names a destination.
type target struct {
	service ipvs.Key
	server  netip.AddrPort
}

// destination is what is known of one. There may be 20,000.
type destination struct {
	connections, in, out uint64        // counters as last seen
	newest               time.Duration // when new connections were seen last
	round                uint32
	recent               float64 // new connections, fading with a minute
	bad, good            uint8   // windows in a row, unclear ones not counted
	last                 verdict
	stuck                bool
	evidence             *Evidence // of the last bad window
}

// Detector compares the counters of all destinations from call to call.
type Detector struct {
	last  time.Duration // of the call before
	round uint32
	seen  map[target]*destination
	found map[target]*Finding // going on; without a real server: all of a service
}

// New returns a detector that has seen nothing.
func New() *Detector {
	return &Detector{seen: map[target]*destination{}, found: map[target]*Finding{}}
}

// suspect is a destination whose window has to be judged by the sample.
type suspect struct {
	*destination
	tally    *tally
	forward  ipvs.Forward
	entries  int // that the kernel counts
	evidence Evidence
}

// Observe takes the table's counters at a time, and a way to read some of its
// connections, which is called at most once and only when it can matter. It
// returns the findings that begin, go on or end, by service and real server. If
// the sample cannot be read all stays as it is, and the error is returned.
func (d *Detector) Observe(now time.Duration, stats []ipvs.ServiceStats, sample func() ([]ipvs.Conn, error)) ([]Finding, error) {
	window := now - d.last
	d.last, d.round = now, d.round+1
	x := newIndex()
	var suspects []*suspect
	for _, s := range stats {
		if s.Mark == 0 && s.Protocol != ipvs.TCP {
			continue
		}
		for _, ds := range s.Destinations {
			if one := d.compare(now, window, target{s.Key, ds.AddrPort}, ds); one != nil {
				one.tally = x.add(target{s.Key, ds.AddrPort})
				suspects = append(suspects, one)
			}
		}
	}
	err := judge(suspects, x, window, sample)
	d.forget()
	return d.report(now, stats), err
}

// compare notes a destination's counters. It returns a suspect if there were new
// connections and enough of what the kernel calls active, SYN_RECV among them.
func (d *Detector) compare(now, window time.Duration, t target, s ipvs.DestinationStats) *suspect {
	known := d.seen[t]
	if known == nil {
		known = &destination{newest: now}
		d.seen[t] = known
		known.note(s, d.round)
		return nil
	}
	before := *known
	known.note(s, d.round)
	if s.Connections < before.connections || s.InPackets < before.in || s.OutPackets < before.out {
		return nil // counted from zero: added anew
	}
	e := Evidence{Window: window, Connections: s.Connections - before.connections, InPackets: s.InPackets - before.in, OutPackets: s.OutPackets - before.out, RealServers: 1}
	known.recent = known.recent*math.Exp(-window.Minutes()) + float64(e.Connections)
	if e.Connections == 0 {
		if now-known.newest >= quiet {
			known.stuck, known.bad, known.good, known.evidence = false, 0, 0, nil
		}
		return nil
	}
	known.newest = now
	if s.ActiveConn < minStuck {
		known.window(good, nil)
		return nil
	}
	return &suspect{destination: known, forward: s.Forward, entries: s.ActiveConn + s.InactConn, evidence: e}
}

func (d *destination) note(s ipvs.DestinationStats, round uint32) {
	d.connections, d.in, d.out, d.round = s.Connections, s.InPackets, s.OutPackets, round
}

// window files one that had new connections.
func (d *destination) window(v verdict, e *Evidence) {
	d.last = v
	switch v {
	case good:
		d.bad = 0
		if d.good = min(d.good+1, toEnd); d.good == toEnd {
			d.stuck, d.evidence = false, nil
		}
	case bad:
		d.good, d.evidence = 0, e
		if d.bad = min(d.bad+1, toBegin); d.bad == toBegin {
			d.stuck = true
		}
	}
}

// judge looks at the sample for all suspects.
func judge(suspects []*suspect, x *index, window time.Duration, sample func() ([]ipvs.Conn, error)) error {
	if len(suspects) == 0 {
		return nil
	}
	conns, err := sample()
	if err != nil {
		return err
	}
	if len(conns) == 0 {
		return errors.New("the kernel counts connections, and its list of them is empty")
	}
	x.count(conns, window)
	for _, s := range suspects {
		s.evidence.Stuck, s.evidence.Sampled, s.evidence.Clients = s.tally.stuck, s.tally.entries, len(s.tally.clients)
		s.window(s.judge(), &s.evidence)
	}
	return nil
}

// verdict is what a window says of a destination.
type verdict uint8

const (
	unclear verdict = iota // too few of its connections are in the sample
	good
	bad
)

// judge is the rule, see the package's doc. Where the sample stands for more
// entries, chance has its share in the figures: a window is bad if they are too high
// without what chance may have added, good if they are not with what it may have
// taken.
func (s *suspect) judge() verdict {
	e := s.evidence
	switch {
	case s.tally.stuck < minStuck:
		return good
	case s.forward == ipvs.NAT && e.OutPackets == 0:
		return bad
	}
	ease := 1.
	if s.stuck {
		ease = toStay
	}
	young, waiting := ease*youngShare*float64(e.Connections), ease*waitingShare*s.recent
	scale := max(1, float64(s.entries)/float64(s.tally.entries))
	chance := func(n int) float64 {
		if scale == 1 {
			return 0
		}
		return math.Sqrt(float64(n + 1))
	}
	least := func(n int) float64 { return scale * (float64(n) - chance(n)) }
	most := func(n int) float64 { return scale * (float64(n) + 2*chance(n)) }
	sudden := e.InPackets < fewPackets*e.Connections
	switch {
	case least(s.tally.young) >= young && (sudden || least(s.tally.waiting) >= waiting):
		return bad
	case most(s.tally.young) < young || !sudden && most(s.tally.waiting) < waiting:
		return good
	case scale == 1, s.stuck && e.betterThan(*s.destination.evidence):
		return good
	}
	return unclear
}

// betterThan tells whether the counters alone show that connections get through
// again: answers where there were none, or twice the packets a connection, which are
// then as many as a connection needs.
func (e Evidence) betterThan(before Evidence) bool {
	if before.OutPackets == 0 && e.OutPackets >= 2*e.Connections {
		return true
	}
	const needs = 4 // SYN, ACK, request, FIN
	return e.InPackets >= needs*e.Connections && e.InPackets*before.Connections >= 2*before.InPackets*e.Connections
}

// forget drops destinations that have left the table.
func (d *Detector) forget() {
	for t, known := range d.seen {
		if known.round != d.round {
			delete(d.seen, t)
		}
	}
}
