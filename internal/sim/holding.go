package sim

import (
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/sim/lockservice"
)

// ask carries a question to another director, and its answer back: datagrams
// that may be late, lost, twice, and in any order. What an earlier life of the
// asker asked is not answered to a later one, see internal/promise; that a later
// life of a voter gets an old question is worse than what can happen.
func (d *director) ask(a election.AskVoter) {
	s, h := d.s, d.h
	to := s.hostNamed(a.To.Node)
	if to == nil {
		s.failf(NoPanic, "%s asks %s, which is nobody", h.name, a.To.Node)
		return
	}
	h.sent++
	dice := s.dice(streamMessage+byte(h.i), h.sent)
	copies := 1
	if dice.rare(5) {
		copies = 2
	}
	life := d.life
	for range copies {
		there, back := dice.way(), dice.way()
		if dice.rare(10) { // the answer comes just in time, and is the last
			there, back = time.Millisecond, h.timing.Lease/2-250*time.Millisecond
			s.after(there+time.Millisecond, func() { to.muteFor(back + 4*time.Second) })
		}
		if h.mute || dice.mishap(5) {
			continue
		}
		s.push(event{at: s.now + there, life: anyLife, of: &to.director.process, task: call(func() {
			if to.mute {
				return
			}
			answer := to.director.asked(a)
			s.push(event{at: s.now + back, life: life, of: &d.process, task: call(func() {
				if !h.mute {
					d.event(func(now time.Duration) []election.Action { return d.m.Answered(now, a.To, a.Question, answer) })
				}
			})})
		})})
	}
}

// way draws how long a datagram takes.
func (d *dice) way() time.Duration {
	if d.rare(8) {
		return d.upTo(6 * time.Second)
	}
	if d.rare(15) {
		return d.upTo(1500 * time.Millisecond)
	}
	return d.upTo(5 * time.Millisecond)
}

func (d *director) asked(a election.AskVoter) election.Answer {
	answer := d.m.Asked(d.h.clock(), a.Question)
	if d.s.tracing {
		d.s.logf("%s asks %s about %s: %+v", short(a.Question.Lock), d.h.name, a.Question.Group, answer)
	}
	return answer
}

func (s *schedule) hostNamed(name string) *host {
	for _, h := range s.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// away are the faults that make directors hold without the service.
func away() []fault {
	return []fault{
		{"the service is away", faultDown, false},
		{"cut off", faultCut, false},
		{"its server is cut off from the quorum", func(d *dice, h *host, _ string) {
			h.director.zk.partition(d.upTo(15 * time.Second))
		}, false},
		{"the director is killed", func(_ *dice, h *host, _ string) { h.killDirector() }, false},
		{"the record is deleted by hand", faultRecord, false},
		{"what was lost comes true", func(d *dice, h *host, _ string) { h.s.stir(d, 2*time.Second) }, false},
	}
}

// faultDown stops the whole service; sessions outlive it.
func faultDown(d *dice, h *host, _ string) {
	s := h.s
	s.down = max(s.down, s.now+d.upTo(12*time.Second))
	s.after(s.down-s.now, func() {
		for _, h := range s.hosts {
			h.director.zk.touched, h.guard.zk.touched = s.now, s.now
		}
	})
}

func faultMute(d *dice, h *host, _ string) {
	h.muteFor(d.upTo(4 * time.Second))
}

func (h *host) muteFor(d time.Duration) {
	h.mute = true
	h.s.after(d, func() { h.mute = false })
}

// faultOutsider lets a director come while those that hold are cut off from the
// service, and the record go: it was never asked for a promise.
func faultOutsider(d *dice, h *host, group string) {
	s := h.s
	for _, x := range s.hosts {
		if x.open[s.index(group)].until > s.now {
			x.cut = true
			s.after(16*time.Second+d.upTo(10*time.Second), func() { x.cut = false })
		}
	}
	last := s.hosts[len(s.hosts)-1]
	s.after(d.upTo(2*time.Second), last.start)
	if d.intN(2) == 0 {
		gone := *d
		s.after(2*time.Second+d.upTo(2*time.Second), func() { s.deleteRecord(&gone, group) })
	}
}

func faultVoters(_ *dice, h *host, group string) {
	if h.s.calm {
		return
	}
	h.s.logf("list of voters of %s deleted by hand", group)
	h.s.store.Remove(func(n lockservice.Node) bool { return n.Group == group && n.Kind == election.NodeVoters })
}

// mendVoters plays an operator who finds a list of voters deleted: every director
// is stopped, and then the list is made anew, see docs/SAFETY.md.
func (s *schedule) mendVoters() {
	for i, g := range s.groups {
		if s.store.Voters(g.Name) {
			continue
		}
		s.logf("the list of voters of %s is made anew", g.Name)
		for _, h := range s.hosts {
			h.killGuard()
			h.killDirector()
			h.shut(i, h.open[i].lock)
		}
		s.store.Commit(0, []election.Op{{Kind: election.OpCreate, Key: election.Key{Group: g.Name, Kind: election.NodeVoters}, Data: election.NewVoters().Encode()}})
	}
}
