package election

import (
	"fmt"
	"time"
)

// Phase is where a director stands with one group.
type Phase uint8

// The phases, in the order in which a holding runs through them.
const (
	PhaseOut       Phase = iota // no lock in the queue
	PhaseWaiting                // own lock in the queue
	PhaseHolding                // the record names our lock
	PhaseFencing                // the executor was told to stop answering
	PhaseReleasing              // verified fenced; the receipt is to be written
)

// String returns the word used in status and logs.
func (p Phase) String() string {
	return [...]string{"out", "standby", "holder", "fencing", "releasing"}[p]
}

const (
	// idleObserve is the polling interval where nothing depends on speed.
	idleObserve = 2 * time.Second
	// opsPerRenewal is the number of operations of one group in a renewal.
	opsPerRenewal = 2
	// maxStrays bounds how many lost creates are remembered.
	maxStrays = 64
)

// group is the machine of one group. Methods named after events are its
// transitions; want… methods send a request if there is one to send.
type group struct {
	m    *Machine
	name string
	cfg  GroupConfig

	phase   Phase
	removed bool

	lock     LockName // own lock; valid in all phases but out
	priority int      // as written in the own lock
	renewals uint64
	taking   bool          // an acquisition is under way
	tried    bool          // an acquisition with the own lock was sent and may yet commit
	promised time.Duration // until when not to acquire

	// A holding.
	epoch      uint64
	lease      time.Duration // L of this epoch
	deadline   time.Duration // D; 0 while nothing was granted
	version    int32         // of the record
	nextRenew  time.Duration
	releasedTo string
	why        string        // reason of the fence, goes into the receipt
	recorded   time.Duration // lease in the record: L and the fence lateness
	hold       hold
	missed     map[string]time.Duration // voters without a lock, and since when

	view        view
	nextObserve time.Duration
	listRead    bool          // the list was read in this holding, after the last attempt to write it
	votersDue   bool          // something was seen since the list was compared with what it should be
	nextVoters  time.Duration // when to read the list of voters too
	votersRetry time.Duration // when an observation may be made for its sake, at the earliest
	lookAgain   bool          // the outcome of the last Txn is unknown: observe before anything else

	backoffUntil time.Duration
	strays       []uint64        // random numbers of own locks not in use
	stepped      map[string]bool // locks behind which we stepped back
	handed       map[string]bool // locks to which we handed over
	better       LockName        // the standby of higher priority, and since when it is there
	betterSince  time.Duration
	maxEpoch     uint64
	absent       bool   // the group's znode does not exist
	told         string // last trouble told, so that it is told once
}

func newGroup(m *Machine, name string, now time.Duration) *group {
	return &group{m: m, name: name, nextObserve: now, nextVoters: now, stepped: map[string]bool{}, handed: map[string]bool{}}
}

func (g *group) holding() Holding {
	return Holding{Group: g.name, Lock: g.lock.String(), Epoch: g.epoch}
}

// ineligible returns why this director must not queue, "" if it may.
func (g *group) ineligible() string {
	if reason := g.mustLetGo(); reason != "" {
		return reason
	}
	return g.m.refusal
}

// mustLetGo returns why this director must not even keep what it holds. A
// session that is refused is not among the reasons: it may have become too short
// by a longer lease in the documents, and the running epoch has its own.
func (g *group) mustLetGo() string {
	switch {
	case g.m.stopping:
		return "the director is shutting down"
	case g.m.distrust != "":
		return g.m.distrust
	}
	return g.cfg.Ineligible
}

func (g *group) configure(now time.Duration, c GroupConfig) {
	was := g.cfg
	g.cfg = c
	if was.Ineligible != c.Ineligible || was.Hold != c.Hold {
		g.nextObserve = now
	}
	if g.phase == PhaseHolding {
		g.watchBetter(now) // who is better depends on our own priority
	}
}

// expire lets time and eligibility act: the director steps down before the
// deadline whatever the service says.
func (g *group) expire(now time.Duration) {
	if g.phase != PhaseHolding {
		return
	}
	if reason := g.mustLetGo(); reason != "" {
		g.fence(now, reason)
		return
	}
	if g.deadline != 0 && now >= g.deadline-StepDown {
		g.fence(now, fmt.Sprintf("the lease of %v was not renewed in time", g.lease))
		return
	}
	if now >= g.preemptAt() {
		g.preempt(now)
		return
	}
	g.ask(now)
}

// sessionLost forgets a waiting lock and fences a held one.
func (g *group) sessionLost(now time.Duration, reason string) {
	switch g.phase {
	case PhaseWaiting:
		g.stray(g.lock.Random)
		g.leave()
	case PhaseHolding:
		g.fence(now, reason)
	}
	g.nextObserve = now
}

// fence ends a holding. It is final for the lock.
func (g *group) fence(now time.Duration, reason string) {
	if g.phase != PhaseHolding {
		panic(fmt.Sprintf("election: fence of group %s in phase %s", g.name, g.phase))
	}
	g.phase, g.why = PhaseFencing, reason
	if reason := g.ineligible(); reason != "" {
		g.backoffUntil = now + g.cfg.Backoff
	}
	g.m.out = append(g.m.out, Fence{g.holding(), reason})
}

// fenced opens the way for the receipt.
func (g *group) fenced(now time.Duration, h Holding) {
	if g.phase != PhaseFencing || g.holding() != h {
		return // an earlier holding's echo
	}
	g.phase = PhaseReleasing
	g.nextObserve = now
}

// leave drops the own lock from the machine's memory; the znode is gone or
// remembered as a stray.
func (g *group) leave() {
	g.phase = PhaseOut
	g.lock, g.epoch, g.deadline, g.renewals, g.releasedTo = LockName{}, 0, 0, 0, ""
	g.lookAgain, g.tried = false, false
}

func (g *group) stray(random uint64) {
	g.strays = append(g.strays, random)
	if len(g.strays) > maxStrays {
		g.strays = g.strays[1:]
	}
}

func (g *group) key(kind NodeKind, lock string) Key {
	return Key{Group: g.name, Kind: kind, Lock: lock}
}

func (g *group) ownKey() Key { return g.key(NodeLock, g.lock.String()) }

func (g *group) lockData() []byte {
	return g.m.lockData(g.priority, g.renewals)
}

// renewal returns this group's operations in a renewal: opsPerRenewal of them.
func (g *group) renewal() []Op {
	g.renewals++
	return []Op{
		{Kind: OpCheck, Key: g.key(NodeRecord, ""), Version: g.version},
		{Kind: OpSet, Key: g.ownKey(), Version: AnyVersion, Data: g.lockData()},
	}
}

func (g *group) renewalRefusal(r Reply) string {
	what := "the record"
	if r.FailedOp%opsPerRenewal == 1 {
		what = "our lock"
	}
	if r.Code == CodeNoNode {
		return what + " is gone"
	}
	return what + " was changed by another (" + r.Code.String() + ")"
}

// extend moves D after a committed write that was sent at sent, or after every
// voter has promised on a question that was sent then or later.
func (g *group) extend(now, sent time.Duration) {
	deadline := sent + g.lease
	if g.deadline != 0 && deadline <= g.deadline {
		return
	}
	if now >= deadline-StepDown {
		if g.deadline == 0 { // never answered: a fresh renewal may still begin the holding
			g.nextRenew = now
		}
		return
	}
	first := g.deadline == 0
	g.deadline, g.hold.going = deadline, false
	g.m.out = append(g.m.out, Grant{Holding: g.holding(), Deadline: deadline, Version: g.version, First: first})
}

// moments returns the times at which time has to act on this group.
func (g *group) moments() []time.Duration {
	at := []time.Duration{g.nextObserve, g.votersAt()}
	switch g.phase {
	case PhaseHolding:
		at = append(at, g.nextRenew, g.preemptAt(), g.deadline-StepDown, g.askAt())
	case PhaseWaiting:
		at = append(at, g.takeAt())
	case PhaseOut:
		at = append(at, g.backoffUntil)
	}
	return at
}

// tell reports trouble once, not at every poll.
func (g *group) tell(text, reason string) {
	if g.told == text+reason {
		return
	}
	g.told = text + reason
	if text != "" {
		g.m.note(Note{Group: g.name, Text: text, Reason: reason, Trouble: true})
	}
}
