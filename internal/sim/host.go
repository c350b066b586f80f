package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/zklvs/zklvs/election"
)

// killMargin is how long before a deadline a process that stands still is
// killed by its timer, where it has one (fence/deadman).
const killMargin = 50 * time.Millisecond

// longestPause is the most for which a process stands still at a time.
const longestPause = 6 * time.Second

// host is a director and its guard on one machine with one clock, and the
// kernel's gate, which outlives both.
type host struct {
	s      *schedule
	i      int
	name   string
	rate   float64 // of its clock against true time
	offset time.Duration
	timing election.Timing
	groups []election.GroupConfig // when it is calm

	director director
	guard    guardian
	acts     int           // dice thrown for what this host does
	linked   time.Duration // when the last message to the guard arrives, true time
	starting bool

	open   [maxGroups]opening
	fenced []string // locks that were verified fenced here

	cut   bool
	mute  bool          // no message to or from another director arrives
	sent  int           // dice thrown for such messages
	lossy time.Duration // until then most requests are lost, true time
	slow  time.Duration // until then requests take long, true time
}

func newHost(s *schedule, i int, timing election.Timing) *host {
	h := &host{s: s, i: i, name: fmt.Sprintf("node%d", i), rate: 1, timing: timing}
	d := h.dice()
	h.offset = d.upTo(time.Hour)
	if d.mishap(80) {
		h.rate = 1 + (d.share()-0.5)*0.09
	}
	h.timing.Lateness = 50 * time.Millisecond // with the kernel's gate
	if d.mishap(30) {
		h.timing.Lateness = d.upTo(1500 * time.Millisecond)
	}
	h.groups = slices.Clone(s.groups)
	h.groups[len(h.groups)-1].Priority += i * 10
	if s.hold && d.mishap(10) {
		for i := range h.groups {
			h.groups[i].Hold = false
		}
	}
	h.director = director{process: process{s: s}, h: h}
	h.guard = guardian{process: process{s: s}, h: h}
	h.director.zk = client{h: h, p: &h.director.process, stream: streamDirector + byte(i), owner: &h.director, name: h.name}
	h.guard.zk = client{h: h, p: &h.guard.process, stream: streamGuard + byte(i), owner: &h.guard, name: h.name + "'s guard"}
	return h
}

// dice returns the dice of the next thing that this host does.
func (h *host) dice() *dice {
	h.acts++
	d := h.s.dice(streamAct+byte(h.i), h.acts)
	return &d
}

func (h *host) clock() time.Duration {
	return h.offset + time.Duration(float64(h.s.now)*h.rate)
}

// trueTime converts a time of the host's clock.
func (h *host) trueTime(local time.Duration) time.Duration {
	return time.Duration(float64(local-h.offset) / h.rate)
}

// wall is the time that is written for people.
func (h *host) wall() time.Time { return time.Unix(0, int64(h.s.now)) }

// start begins a life, once no process of the earlier one is left: they share a
// socket that only one life can own. It removes what they left.
func (h *host) start() {
	if h.director.alive || h.guard.alive {
		h.starting = true
		h.s.after(100*time.Millisecond, h.start)
		return
	}
	h.starting = false
	for i := range h.s.groups {
		h.sweep(i)
	}
	h.s.logf("%s starts", h.name)
	h.guard.start()
	h.director.start()
}

// restart lets a service manager start the director again.
func (h *host) restart(within time.Duration) {
	if !h.starting {
		h.starting = true
		h.s.after(h.dice().upTo(within), h.start)
	}
}

// sweep removes a group's address whatever it was bound for.
func (h *host) sweep(group int) {
	lock := h.open[group].lock
	h.shut(group, lock)
	h.verified(lock)
}

// verified notes that nothing answers under a lock any more.
func (h *host) verified(lock string) {
	if lock != "" {
		h.fenced = append(h.fenced, lock)
	}
}

// fenceTime draws how long it takes until nothing answers, and until that is verified.
func (d *dice) fenceTime() (gone, verified time.Duration) {
	gone, verified = d.upTo(20*time.Millisecond), d.upTo(10*time.Millisecond)
	if d.rare(8) {
		gone = d.upTo(3 * time.Second)
	}
	if d.rare(8) {
		verified = d.upTo(2 * time.Second)
	}
	return gone, verified
}

// tell sends a message to the guard; messages arrive in order. One that hangs in
// the director may go to a guard that was started meanwhile.
func (h *host) tell(do func()) {
	s, d, life := h.s, h.dice(), h.guard.life
	at := s.now + d.upTo(time.Millisecond)
	if d.rare(4) {
		at, life = s.now+d.upTo(3*time.Second), anyLife
	}
	h.linked = max(at, h.linked+time.Microsecond)
	s.push(event{at: h.linked, life: life, of: &h.guard.process, task: call(do)})
}

// pause lets a process stand still. Where it has a timer that kills it before a
// lease ends, that happens.
func (h *host) pause(p *process, d *dice, kill func()) {
	if !p.alive {
		return
	}
	s := h.s
	p.paused = max(p.paused, s.now+d.upTo(longestPause)) // what waits for its end stays in order
	if d.intN(2) == 0 {
		return
	}
	for i := range s.groups {
		end := h.open[i].until
		if end <= s.now {
			continue
		}
		at, life := end-h.timing.Lateness-killMargin, p.life
		s.after(max(0, at-s.now), func() {
			if p.life == life && p.paused > s.now {
				s.logf("%s: a timer kills what stands still", h.name)
				kill()
			}
		})
	}
}

// killDirector ends the director. Its session lives on for a while.
func (h *host) killDirector() {
	d := &h.director
	if !d.alive {
		return
	}
	h.s.logf("%s: the director is dead", h.name)
	d.died()
	d.zk.abandon()
	if h.guard.alive {
		h.guard.after(h.dice().upTo(10*time.Millisecond), func() { h.guard.gone("the director died") })
	}
	h.restart(3 * time.Second)
}

// killGuard ends the guard. The director learns of it by its pidfd.
func (h *host) killGuard() {
	g, d := &h.guard, &h.director
	if !g.alive {
		return
	}
	h.s.logf("%s: the guard is dead", h.name)
	g.died()
	g.zk.abandon()
	if d.alive {
		d.after(h.dice().upTo(10*time.Millisecond), d.guardLost)
	}
}
