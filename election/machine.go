package election

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config is what a machine is made with.
type Config struct {
	Node   string
	Host   HostID
	Timing Timing
	// Address is where this director answers questions of other holders, host:port
	// (UDP); empty if nowhere: nobody can hold without ZooKeeper then.
	Address string
	// ForgetVoter is how long a holder must not have seen a voter's lock before it
	// drops the voter; 0 is ten minutes. Nothing rests on it but how long a director
	// that is gone for good keeps the others from holding without ZooKeeper.
	ForgetVoter time.Duration
	// Random returns a fresh 64-bit number for each lock; cryptographic in
	// production, seeded in the simulation.
	Random func() uint64
	// Wall returns the wall-clock time that is written into records for people.
	Wall func() time.Time
}

// GroupConfig is what a director knows about one group.
type GroupConfig struct {
	Name     string
	Priority int
	// Preempt and PreemptDelay: hand over to a ready standby of higher priority.
	Preempt      bool
	PreemptDelay time.Duration
	// Ineligible is why this director must not hold or queue (not fit,
	// standby); empty when it may.
	Ineligible string
	// Backoff is how long to stay out of the queue after having been ineligible.
	Backoff time.Duration
	// Hold keeps the group without ZooKeeper while every voter promises.
	Hold bool
	// Paused stops acquiring and preempting, never renewing or fencing.
	Paused bool
}

// Machine is the election of all groups of one director. Its methods are the
// events; each takes the time (CLOCK_BOOTTIME) and returns what is to be done.
// It is not safe for concurrent use.
//
// A machine may only be started on a host on which no process of an earlier
// life is left and whose earlier addresses have been verified gone: it writes
// receipts for earlier lives on that ground.
type Machine struct {
	cfg    Config
	groups []*group // sorted by name
	byName map[string]*group

	connected bool
	session   uint64
	timeout   time.Duration // of the session, as granted
	told      string        // last trouble with the session
	refusal   string        // why the session must not be used, "" if it may
	distrust  string        // why ZooKeeper must not be trusted any more in this life
	stopping  bool

	pending *pending
	lastID  uint64
	// questions counts those that were sent to voters.
	questions uint64
	turn      int // round-robin over groups, so that none starves

	out []Action
}

// pending is the one request under way.
type pending struct {
	id   uint64
	sent time.Duration
	// done is called with the reply.
	done func(now time.Duration, r Reply)
}

// New returns a machine that knows no groups and has no session.
func New(cfg Config) (*Machine, error) {
	if _, err := ParseLockName((LockName{Node: cfg.Node}).String()); err != nil {
		return nil, fmt.Errorf("node name %q: expected lower-case letters, digits, dots and dashes", cfg.Node)
	}
	if cfg.Random == nil || cfg.Wall == nil {
		return nil, errors.New("election: Random and Wall are required")
	}
	if err := cfg.Timing.Validate(); err != nil {
		return nil, err
	}
	if cfg.ForgetVoter == 0 {
		cfg.ForgetVoter = 10 * time.Minute
	}
	return &Machine{cfg: cfg, byName: map[string]*group{}}, nil
}

// Configure replaces the set of groups. A group that is gone is released first
// and forgotten then.
func (m *Machine) Configure(now time.Duration, groups []GroupConfig) []Action {
	seen := map[string]bool{}
	for _, c := range groups {
		seen[c.Name] = true
		g := m.byName[c.Name]
		if g == nil {
			g = newGroup(m, c.Name, now)
			m.byName[c.Name] = g
			m.groups = append(m.groups, g)
		}
		g.removed = false // it may be back before it was released
		g.configure(now, c)
	}
	for _, g := range m.groups {
		if !seen[g.name] {
			g.removed = true
			g.configure(now, GroupConfig{Name: g.name, Ineligible: "the group was removed from the documents"})
		}
	}
	slices.SortFunc(m.groups, func(a, b *group) int { return strings.Compare(a.name, b.name) })
	return m.advance(now)
}

// SetTiming changes the timing for future acquisitions; a running epoch keeps
// the lease that it began with.
func (m *Machine) SetTiming(now time.Duration, t Timing) ([]Action, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	m.cfg.Timing = t
	m.checkSession()
	return m.advance(now), nil
}

// Connected tells that the session with this id can be used, with the session
// timeout that the service granted. An id that differs from the last one means
// that the earlier session, and every lock in it, is lost.
func (m *Machine) Connected(now time.Duration, session uint64, timeout time.Duration) []Action {
	if session != m.session {
		m.lose(now, "a new ZooKeeper session took the place of the one that held the lock")
		m.session = session
	}
	m.connected = true
	m.timeout = timeout
	m.checkSession()
	return m.advance(now)
}

// checkSession holds the granted timeout against the timing.
func (m *Machine) checkSession() {
	m.refusal = ""
	if m.timeout == 0 {
		return
	}
	if err := m.cfg.Timing.CheckSession(m.timeout); err != nil {
		m.refusal = err.Error()
		m.tell("refusing the session", m.refusal)
		return
	}
	if warning := m.cfg.Timing.WarnSession(m.timeout); warning != "" {
		m.tell("the session is short", warning)
	}
}

// tell reports trouble with the session once, not at every reconnect.
func (m *Machine) tell(text, reason string) {
	if m.told != reason {
		m.note(Note{Text: text, Reason: reason, Trouble: true})
	}
	m.told = reason
}

// Distrust tells that ZooKeeper lost or rewound its state. What this machine
// knows may be undone there: it gives up everything and stays out for the rest
// of its life, so that an operator looks first.
func (m *Machine) Distrust(now time.Duration, reason string) []Action {
	if m.distrust == "" {
		m.note(Note{Text: "no longer trusting ZooKeeper", Reason: reason, Trouble: true})
	}
	m.distrust = reason
	return m.advance(now)
}

// Disconnected tells that requests cannot be sent for now. Leases run on.
func (m *Machine) Disconnected(now time.Duration) []Action {
	m.connected = false
	return m.advance(now)
}

// Expired tells that the session is gone for good.
func (m *Machine) Expired(now time.Duration) []Action {
	m.connected = false
	m.lose(now, "the ZooKeeper session expired")
	m.session = 0
	return m.advance(now)
}

func (m *Machine) lose(now time.Duration, reason string) {
	for _, g := range m.groups {
		g.sessionLost(now, reason)
	}
}

// Replied hands in the reply to the request under way.
func (m *Machine) Replied(now time.Duration, r Reply) []Action {
	p := m.pending
	if p == nil || p.id != r.ID {
		panic(fmt.Sprintf("election: reply to request %d which is not under way", r.ID))
	}
	m.pending = nil
	if r.Outcome == OutcomeRefused {
		m.note(Note{Text: "ZooKeeper refuses this director", Reason: r.Detail, Trouble: true})
	}
	p.done(now, r)
	return m.advance(now)
}

// Hint tells that something about the group may have changed. Hints may be
// lost: the machine polls as well.
func (m *Machine) Hint(now time.Duration, name string) []Action {
	if g := m.byName[name]; g != nil {
		g.nextObserve = now
	}
	return m.advance(now)
}

// Fenced tells that this director verifiably no longer answers for the holding.
func (m *Machine) Fenced(now time.Duration, h Holding) []Action {
	if g := m.byName[h.Group]; g != nil {
		g.fenced(now, h)
	}
	return m.advance(now)
}

// GiveUp releases a holding that the executor cannot carry out (an address that
// cannot be bound, say), and stays out of the queue for the back-off.
func (m *Machine) GiveUp(now time.Duration, h Holding, reason string) []Action {
	if g := m.byName[h.Group]; g != nil && g.phase == PhaseHolding && g.holding() == h {
		g.fence(now, reason)
		g.backoffUntil = now + g.cfg.Backoff
	}
	return m.advance(now)
}

// Handover asks the holder to release the group to a standby that is in the
// queue.
func (m *Machine) Handover(now time.Duration, name, to string) ([]Action, error) {
	g := m.byName[name]
	if g == nil || g.phase != PhaseHolding {
		return nil, fmt.Errorf("group %q is not held here: ask its holder", name)
	}
	if err := g.handover(now, to); err != nil {
		return nil, err
	}
	return m.advance(now), nil
}

// Stop releases everything in order. Done tells when that is complete.
func (m *Machine) Stop(now time.Duration) []Action {
	m.stopping = true
	return m.advance(now)
}

// Done reports whether, after Stop, every group is fenced, receipted and out of
// its queue.
func (m *Machine) Done() bool {
	return m.stopping && m.pending == nil &&
		!slices.ContainsFunc(m.groups, func(g *group) bool { return g.phase != PhaseOut })
}

// Answering reports whether any group is not verified fenced: then the process
// must not end.
func (m *Machine) Answering() bool {
	return slices.ContainsFunc(m.groups, func(g *group) bool {
		return g.phase == PhaseHolding || g.phase == PhaseFencing
	})
}

// Tick tells that time has passed.
func (m *Machine) Tick(now time.Duration) []Action { return m.advance(now) }

// Never is a time that does not come.
const Never = time.Duration(1<<63 - 1)

// Wake returns when Tick must be called next, at the latest. A moment that has
// passed is not returned: what it allowed was either done or waits for an event.
func (m *Machine) Wake(now time.Duration) time.Duration {
	wake := Never
	for _, g := range m.groups {
		for _, at := range g.moments() {
			if at > now {
				wake = min(wake, at)
			}
		}
	}
	return wake
}

// advance lets time act on every group, starts the most urgent request if none
// is under way, and returns the actions that have gathered.
func (m *Machine) advance(now time.Duration) []Action {
	for _, g := range m.groups {
		g.expire(now)
	}
	m.forgetRemoved()
	if m.connected && m.pending == nil {
		m.next(now)
	}
	out := m.out
	m.out = nil
	return out
}

func (m *Machine) forgetRemoved() {
	if m.pending != nil {
		return // it may be about to queue a lock for one of them
	}
	m.groups = slices.DeleteFunc(m.groups, func(g *group) bool {
		gone := g.removed && g.phase == PhaseOut
		if gone {
			delete(m.byName, g.name)
		}
		return gone
	})
}

// next sends the most urgent request: leases first, then receipts, then what
// brings a group forward, then looking around.
func (m *Machine) next(now time.Duration) {
	if m.renew(now) {
		return
	}
	n := len(m.groups)
	for _, want := range []func(*group, time.Duration) bool{
		(*group).wantReceipt, (*group).wantAcquire, (*group).wantQueue, (*group).wantVoters, (*group).wantObserve,
	} {
		for i := range n {
			if g := m.groups[(m.turn+i)%n]; want(g, now) {
				m.turn = (m.turn + i + 1) % n
				return
			}
		}
	}
}

// send starts a request.
func (m *Machine) send(now time.Duration, r Request, done func(now time.Duration, r Reply)) {
	m.lastID++
	r.ID = m.lastID
	m.pending = &pending{id: r.ID, sent: now, done: done}
	m.out = append(m.out, Send{r})
}

// renew sends one Txn over all held groups if any of them is due.
func (m *Machine) renew(now time.Duration) bool {
	var held []*group
	due := false
	for _, g := range m.groups {
		if g.phase == PhaseHolding {
			held = append(held, g)
			due = due || now >= g.nextRenew
		}
	}
	if !due {
		return false
	}
	var txn []Op
	for _, g := range held {
		g.nextRenew = now + m.cfg.Timing.Renew
		txn = append(txn, g.renewal()...)
	}
	holdings := make([]Holding, len(held))
	for i, g := range held {
		holdings[i] = g.holding()
	}
	m.send(now, Request{Txn: txn}, func(at time.Duration, r Reply) { m.renewed(at, now, held, holdings, r) })
	return true
}

// renewed handles the reply to a renewal that was sent at sent. Only a commit
// extends leases, and it counts from before sending.
func (m *Machine) renewed(now, sent time.Duration, held []*group, holdings []Holding, r Reply) {
	for i, g := range held {
		if g.phase != PhaseHolding || g.holding() != holdings[i] {
			continue
		}
		switch {
		case r.Outcome == OutcomeOK:
			g.extend(now, sent)
		case r.Outcome == OutcomeConflict && r.FailedOp/opsPerRenewal == i:
			g.fence(now, fmt.Sprintf("the renewal was refused: %s", g.renewalRefusal(r)))
		case r.Outcome == OutcomeUnknown: // never proof of anything: try again at once
			g.nextRenew = now
		case r.Outcome == OutcomeConflict: // another group's fault
			g.nextRenew = now
		}
	}
}

func (m *Machine) note(n Note) { m.out = append(m.out, n) }
