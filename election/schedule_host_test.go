package election

import (
	"fmt"
	"time"
)

// host is a director of a schedule: its machine, its link to the lock service
// and the executor that answers.
type host struct {
	s      *schedule
	name   string
	rate   float64 // of its clock against true time
	offset time.Duration
	timing Timing
	life   int
	groups []GroupConfig // when it is calm
	// configured is what the machine was told last.
	configured []GroupConfig
	timer      int // the one timer that counts
	m          *Machine
	session    uint64
	touched    time.Duration // true time of the last commit or read by the session
	seen       int64
	sending    bool

	cut         bool
	paused      time.Duration // until, true time
	lossy       time.Duration // until, true time: most requests are lost
	slow        time.Duration // until, true time: requests take long
	partitioned time.Duration // until, true time: its server reads old state and commits nothing

	answers   map[string]time.Duration // by group: until when this host answers, true time
	answering map[string]bool          // locks that were granted
	fenced    map[string]bool          // locks that were fenced
	dead      bool
}

func newHost(s *schedule, i int) *host {
	h := &host{s: s, name: fmt.Sprintf("node%d", i), rate: 1 + (s.rng.Float64()-0.5)*0.09, offset: s.upTo(time.Hour), dead: true,
		answers: map[string]time.Duration{}, answering: map[string]bool{}, fenced: map[string]bool{}}
	h.timing = Timing{Lease: simLease, Renew: DefaultRenew(simLease), Drift: 0.1, Lateness: s.upTo(1500 * time.Millisecond)}
	h.groups = append(h.groups, s.groups...)
	h.groups[1].Priority += i * 10
	return h
}

func (h *host) clock() time.Duration {
	return h.offset + time.Duration(float64(h.s.now)*h.rate)
}

// trueTime converts a time of the host's clock.
func (h *host) trueTime(local time.Duration) time.Duration {
	return time.Duration(float64(local-h.offset) / h.rate)
}

// event lets the machine see an event, later if the process is paused.
func (h *host) event(do func(now time.Duration) []Action) {
	if wait := h.paused - h.s.now; wait > 0 {
		h.s.after(wait, h.live(func() { h.event(do) }))
		return
	}
	life, now := h.life, h.clock()
	h.act(do(now))
	if !h.dead && life == h.life {
		h.checkSteppedDown(now)
		h.checkGroups()
		h.arm()
	}
}

// checkSteppedDown: no event leaves a holding whose time is over.
func (h *host) checkSteppedDown(now time.Duration) {
	for _, g := range h.m.groups {
		if g.phase == PhaseHolding && g.deadline != 0 && now >= g.deadline-StepDown {
			h.s.failf("%s goes on holding %s %v before the end of its lease", h.name, g.name, g.deadline-now)
		}
	}
}

// checkFenced: a renewal that was refused ends that holding, and only that one.
func (h *host) checkFenced(kind txnKind, txn []Op, r Reply) {
	if kind != kindRenew || r.Outcome != OutcomeConflict {
		return
	}
	lock := txn[r.FailedOp/opsPerRenewal*opsPerRenewal+1].Key
	if g := h.m.byName[lock.Group]; g != nil && g.phase == PhaseHolding && g.lock.String() == lock.Lock {
		h.s.failf("%s goes on holding %s although a renewal was refused", h.name, lock.Group)
	}
}

// configure tells the machine its groups, and remembers them.
func (h *host) configure(groups []GroupConfig) {
	h.event(func(now time.Duration) []Action {
		h.configured = groups
		return h.m.Configure(now, groups)
	})
}

// checkGroups: what was configured last is there.
func (h *host) checkGroups() {
	for _, c := range h.configured {
		if g := h.m.byName[c.Name]; g == nil || g.removed {
			h.s.failf("%s forgot group %s", h.name, c.Name)
		}
	}
}

// live wraps do so that it is dropped when the process has died meanwhile.
func (h *host) live(do func()) func() {
	life := h.life
	return func() {
		if life == h.life && !h.dead {
			do()
		}
	}
}

func (h *host) arm() {
	now := h.clock()
	wake := h.m.Wake(now)
	if wake <= now {
		h.s.failf("%s wants to be woken in the past", h.name)
	}
	if wake == Never {
		return
	}
	h.timer++
	timer := h.timer
	h.s.after(max(time.Millisecond, h.trueTime(wake)-h.s.now), h.live(func() {
		if timer == h.timer {
			h.event(h.m.Tick)
		}
	}))
}

func (h *host) act(actions []Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case Send:
			if h.sending {
				h.s.failf("%s sent a request while another is under way", h.name)
			}
			h.sending = true
			h.send(a.Request)
		case Grant:
			h.grant(a)
		case Fence:
			h.fence(a)
		case Note:
			h.s.logf("%s %s: %s (%s)", h.name, a.Group, a.Text, a.Reason)
		}
	}
}

func (h *host) grant(a Grant) {
	s, group := h.s, a.Holding.Group
	if h.fenced[a.Holding.Lock] {
		s.failf("%s was granted %s after its lock was fenced", h.name, group)
	}
	h.answering[a.Holding.Lock] = true
	until := h.trueTime(a.Deadline + h.timing.Lateness)
	if until <= s.now {
		return // the executor checks the clock
	}
	for _, o := range s.hosts {
		if o != h && o.answers[group] > s.now {
			s.failf("%s answers for %s, and so does %s until %.3f", h.name, group, o.name, o.answers[group].Seconds())
		}
	}
	if a.First {
		s.logf("%s answers for %s, epoch %d", h.name, group, a.Holding.Epoch)
	}
	h.answers[group] = until
}

// fence stops answering after a while, at the latest at the deadline. That it
// is verified may take longer.
func (h *host) fence(a Fence) {
	h.s.logf("%s fences %s: %s", h.name, a.Holding.Group, a.Reason)
	delay := h.s.upTo(100 * time.Millisecond)
	if h.s.chance(5) {
		delay = h.s.upTo(4 * time.Second)
	}
	h.s.after(delay, h.live(func() {
		h.answers[a.Holding.Group] = min(h.answers[a.Holding.Group], h.s.now)
		h.fenced[a.Holding.Lock] = true
		h.event(func(now time.Duration) []Action { return h.m.Fenced(now, a.Holding) })
	}))
}

// start begins a life: nothing of the earlier one answers or runs any more.
func (h *host) start() {
	h.life++
	h.dead, h.paused, h.session, h.sending = false, 0, 0, false
	clear(h.answers)
	clear(h.answering)
	clear(h.fenced)
	m, err := New(Config{Node: h.name, Host: HostID{MachineID: h.name, BootID: "boot", NetnsCookie: 1}, Timing: h.timing,
		Random: h.s.rng.Uint64, Wall: func() time.Time { return time.Unix(0, int64(h.s.now)) }})
	if err != nil {
		panic(err)
	}
	h.m = m
	h.newSession()
	h.configured = nil
	h.configure(h.groups)
	h.event(h.connected)
}

func (h *host) restart() {
	if h.dead {
		h.start()
	}
}

func (h *host) connected(now time.Duration) []Action {
	return h.m.Connected(now, h.session, simTimeout)
}

// newSession ends the old session, as early or late as the service likes.
func (h *host) newSession() {
	old := h.session
	h.s.seq++
	h.session, h.touched = uint64(h.s.seq), h.s.now
	h.seen = h.s.rng.Int64N(h.seen + 1) // another server, which may lag more
	if old != 0 {
		h.s.store.expire(old)
	}
}
