package election

import (
	"fmt"
	"time"
)

// GroupStatus is what one director knows about a group, for people.
type GroupStatus struct {
	Group      string       `json:"group"`
	Phase      string       `json:"phase"` // out, standby, holder, fencing, releasing
	Holder     string       `json:"holder,omitempty"`
	State      State        `json:"state,omitempty"`
	Epoch      uint64       `json:"epoch"`
	Since      string       `json:"since,omitempty"`
	Reason     string       `json:"reason,omitempty"` // of the record's last change
	Lock       string       `json:"lock,omitempty"`   // own lock
	LeaseLeft  string       `json:"lease_left,omitempty"`
	Queue      []QueueEntry `json:"queue,omitempty"` // waiters in order, the holder not among them
	Why        string       `json:"why"`             // why this director does, or does not, hold
	Ineligible string       `json:"ineligible,omitempty"`
	Answering  bool         `json:"answering"`
	RecordSeen bool         `json:"record_seen"`
	// Voters may acquire without a receipt; none: everyone.
	Voters []Voter `json:"voters,omitempty"`
	// OnZooKeeperLoss says what becomes of the group here when ZooKeeper is away:
	// "hold", or "fence" and why.
	OnZooKeeperLoss string `json:"on_zookeeper_loss"`
	// PromisedFor is for how long this director has promised not to acquire.
	PromisedFor string `json:"promised_for,omitempty"`
}

// QueueEntry is one waiter.
type QueueEntry struct {
	Node     string `json:"node"`
	Priority int    `json:"priority"`
	Lock     string `json:"lock"`
}

// Status returns a snapshot of every group, sorted by name.
func (m *Machine) Status(now time.Duration) []GroupStatus {
	out := make([]GroupStatus, 0, len(m.groups))
	for _, g := range m.groups {
		out = append(out, g.status(now))
	}
	return out
}

func (g *group) status(now time.Duration) GroupStatus {
	v := &g.view
	s := GroupStatus{Group: g.name, Phase: g.phase.String(), State: v.record.State, Epoch: v.record.Epoch,
		Since: v.record.Since, Reason: v.record.Reason, RecordSeen: v.seen && v.exists, Why: g.explain(now), Ineligible: g.ineligible()}
	if v.record.State == StateHolding {
		s.Holder = v.record.Node
	}
	if g.phase != PhaseOut {
		s.Lock = g.lock.String()
	}
	if g.phase == PhaseHolding && g.deadline > now {
		s.Answering, s.LeaseLeft = true, (g.deadline - now).Round(time.Millisecond).String()
	}
	s.Voters, s.OnZooKeeperLoss = v.voters.Voters, g.onLoss()
	if now < g.promised {
		s.PromisedFor = (g.promised - now).Round(time.Millisecond).String()
	}
	for _, w := range v.locks {
		if !v.holds(w.LockName) && (g.phase != PhaseHolding || w.LockName != g.lock) {
			s.Queue = append(s.Queue, QueueEntry{Node: w.Node, Priority: w.priority, Lock: w.String()})
		}
	}
	return s
}

// onLoss says what happens to the group when ZooKeeper cannot be reached.
func (g *group) onLoss() string {
	switch {
	case !g.cfg.Hold:
		return "fence"
	case g.view.votersProblem != "":
		return "fence: " + g.view.votersProblem
	case len(g.view.voters.Voters) == 0:
		return "fence: no other director could promise not to acquire"
	case g.phase != PhaseHolding:
		return "hold"
	case !g.hold.possible():
		return "fence: the list of voters is not written yet"
	}
	if refusals := g.hold.refusals(); refusals != "" {
		return "hold: " + refusals
	}
	if g.hold.going {
		return fmt.Sprintf("hold: without ZooKeeper now, %d voters promise", len(g.hold.voters)-1)
	}
	return "hold"
}

// explain says in one sentence why this director stands where it stands.
func (g *group) explain(now time.Duration) string {
	switch g.phase {
	case PhaseHolding:
		if g.deadline == 0 {
			return "the record names our lock; the first renewal is under way"
		}
		return "our lock and the record are ours and the lease is being renewed"
	case PhaseFencing:
		return "stopping to answer: " + g.why
	case PhaseReleasing:
		return "fenced, writing the receipt: " + g.why
	}
	if reason := g.ineligible(); reason != "" {
		return "not in the queue: " + reason
	}
	switch {
	case !g.m.connected:
		return "no connection to ZooKeeper"
	case !g.view.seen:
		return "the group has not been read from ZooKeeper yet"
	case g.view.problem != "":
		return g.view.problem
	case g.phase == PhaseOut && now < g.backoffUntil:
		return fmt.Sprintf("back-off: queueing again in %v", (g.backoffUntil - now).Round(time.Millisecond))
	case g.phase == PhaseOut:
		return "about to queue"
	case g.cfg.Paused:
		return "paused: acquiring is stopped by an operator"
	}
	return g.explainWait(now)
}

func (g *group) explainWait(now time.Duration) string {
	v := &g.view
	switch {
	case now < g.promised:
		return fmt.Sprintf("promised to a holder that cannot reach ZooKeeper not to acquire for %v", (g.promised - now).Round(time.Millisecond))
	case v.situation.needsVote() && v.votersProblem != "":
		return v.votersProblem
	case v.situation.needsVote() && !v.votersExist:
		return "the list of voters was deleted: nobody can tell whether " + v.record.Node + " still answers; it mends the list if it does, else see docs/SAFETY.md"
	case v.situation.needsVote() && !v.mayTake(g.m.self()):
		return "not among the voters yet: the holder adds this director when it sees its lock"
	}
	left := max(0, g.takeAt()-now).Round(time.Millisecond)
	rank := v.rank(g.lock)
	switch v.situation.kind {
	case situationFrozen:
		return fmt.Sprintf("%s holds; place %d in the queue; would take in %v if it stopped renewing now", v.record.Node, rank+1, left)
	case situationGone:
		return fmt.Sprintf("the lock of %s is gone without a receipt; waiting %v for its lease", v.record.Node, left)
	case situationUnknown:
		return fmt.Sprintf("the earlier holder is not known; waiting %v for the longest lease", left)
	case situationReleased:
		return fmt.Sprintf("released; place %d in the queue, taking in %v", rank+1, left)
	case situationMissing:
		return "the record is missing; replacing it"
	}
	return "the record names a lock that should not be there; waiting"
}
