package election

import (
	"fmt"
	"time"
)

// Asked answers the question of a director that holds a group and cannot reach
// ZooKeeper. A promise is what the sight of a renewal is for a waiter: the
// asker's lease ran when it sent the question, which was before now. So this
// director acquires the group no earlier than W(lease) from now.
//
// A promise lives in this machine only. A later life needs not know of it: it
// waits W from its own first sight of the record.
func (m *Machine) Asked(now time.Duration, q Question) Answer {
	g := m.byName[q.Group]
	if g == nil {
		return Answer{Reason: "this director does not know the group"}
	}
	if reason := g.cannotPromise(q); reason != "" {
		return Answer{Reason: reason}
	}
	g.promised = max(g.promised, now+g.m.cfg.Timing.Wait(q.Lease))
	return Answer{Promised: true}
}

// cannotPromise returns why a promise would not be kept, "" if it would.
func (g *group) cannotPromise(q Question) string {
	r := &g.view.record
	switch {
	case q.Lease <= 0 || q.Lease > MaxLease:
		return fmt.Sprintf("the lease of %v is out of range: at most %v", q.Lease, MaxLease)
	case g.phase != PhaseOut && g.phase != PhaseWaiting:
		return "this director holds the group itself, or just did"
	case g.taking:
		return "an acquisition by this director is under way"
	case g.maxEpoch > q.Epoch:
		return fmt.Sprintf("epoch %d was seen, the question is of epoch %d", g.maxEpoch, q.Epoch)
	case r.State == StateReleased && r.Lock == q.Lock:
		return "the asker's lock was released"
	}
	return ""
}
