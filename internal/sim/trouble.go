package sim

import (
	"slices"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/sim/lockservice"
)

// ripple lets a commit be noticed by watches, or be followed by trouble.
func (q *request) ripple() {
	s, group := q.s, q.request.Txn[0].Key.Group
	if q.kind == lockservice.Replace && q.rare(80) {
		s.stir(&q.dice, 500*time.Millisecond)
	}
	s.hint(&q.dice, group, q.c.h)
	if q.kind == lockservice.Take && q.rare(20) {
		d := q.dice
		s.after(d.upTo(2*time.Second), func() { s.deleteRecord(&d, group) })
	}
}

// hint lets some directors look at once, as watches do; they may be lost.
func (s *schedule) hint(d *dice, group string, but *host) {
	for _, h := range s.hosts {
		if h != but && h.director.alive && d.intN(3) == 0 {
			h.director.after(d.upTo(10*time.Millisecond), func() {
				now := h.clock()
				h.director.done(now, h.director.m.Hint(now, group))
			})
		}
	}
}

// tempt makes trouble at the moment at which it may hurt most: when it is open
// whether a lock holds, or will.
func (q *request) tempt() {
	f := q.fate
	if q.kind == lockservice.Renew && f.back > 300*time.Millisecond && q.rare(50) {
		q.c.partition(3*time.Second + q.upTo(4*time.Second)) // the last renewal that is heard of, and late
	}
	open := f.lost || f.limbo || f.delay > time.Second || f.back > time.Second
	if !rare(q.kind) || !open {
		return
	}
	s, group := q.s, q.request.Txn[0].Key.Group
	if q.kind == lockservice.List && q.rare(60) { // and the holder is left with what it believes
		d := q.dice
		s.after(f.patience, func() { faultCut(&d, q.c.h, group) })
		s.after(f.patience+d.upTo(4*time.Second), func() { s.stir(&d, time.Second) })
	}
	if s.tracing {
		s.logf("%s of %s for %s goes astray (%+v)", q.kind, q.c.name, group, f)
	}
	switch {
	case q.rare(25):
		q.c.partition(q.upTo(8 * time.Second))
	case q.rare(40):
		d := q.dice
		s.after(d.upTo(4*time.Second), func() { s.deleteRecord(&d, group) })
	}
}

// deleteRecord plays an operator who deletes a record.
func (s *schedule) deleteRecord(d *dice, group string) {
	if s.calm {
		return
	}
	s.logf("record of %s deleted by hand", group)
	s.forget(group)
	s.store.Remove(func(n lockservice.Node) bool { return n.Group == group && n.Kind == election.NodeRecord })
	s.hint(d, group, nil)
	if d.rare(40) {
		s.rerun(d)
	}
	s.blind(d, group)
}

// blind lets holders of a group learn late of what happens.
func (s *schedule) blind(d *dice, group string) {
	for _, h := range s.hosts {
		if h.open[s.index(group)].until > s.now && d.rare(50) {
			h.director.zk.partition(d.upTo(5 * time.Second))
		}
	}
}

// stir lets some of the transactions run whose outcome nobody knows.
func (s *schedule) stir(d *dice, within time.Duration) {
	waiting := s.limbo
	s.limbo = nil
	for _, q := range waiting {
		if d.intN(2) == 0 {
			s.limbo = append(s.limbo, q)
			continue
		}
		s.runLater(d.upTo(within), q)
	}
}

// rerun lets what was astray run in the order that does most harm where a
// record is gone: it is created anew, and taken at once.
func (s *schedule) rerun(d *dice) {
	if !slices.ContainsFunc(s.limbo, func(q *request) bool { return q.kind == lockservice.Replace }) {
		return // they may hurt more after a replacement
	}
	for _, q := range s.limbo {
		delay := 20*time.Millisecond + d.upTo(100*time.Millisecond)
		if q.kind == lockservice.Replace {
			delay = d.upTo(20 * time.Millisecond)
		}
		s.runLater(delay, q)
	}
	s.limbo = nil
}
