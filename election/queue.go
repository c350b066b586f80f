package election

import (
	"fmt"
	"slices"
	"time"
)

// wantQueue brings the own lock to where it belongs: into the queue, out of it,
// or behind a waiter of higher priority; and removes strays.
func (g *group) wantQueue(now time.Duration) bool {
	if g.lookAgain || !g.view.seen {
		return false
	}
	if g.dropStray(now) {
		return true
	}
	switch g.phase {
	case PhaseOut:
		return g.enter(now)
	case PhaseWaiting:
		if g.ineligible() != "" {
			return g.withdraw(now)
		}
		return g.stepBack(now)
	}
	return false
}

// newLock returns the operation that queues a fresh lock.
func (g *group) newLock() (Op, LockName) {
	n := LockName{Node: g.m.cfg.Node, Session: g.m.session, Random: g.m.cfg.Random()}
	return Op{Kind: OpCreateLock, Key: g.key(NodeLock, n.prefix()), Data: g.m.lockData(g.cfg.Priority, 0)}, n
}

func (g *group) enter(now time.Duration) bool {
	if g.ineligible() != "" || now < g.backoffUntil || g.removed {
		return false
	}
	if !g.view.queue {
		return g.restoreQueue(now)
	}
	op, name := g.newLock()
	priority := g.cfg.Priority
	g.m.send(now, Request{Txn: []Op{op}}, func(at time.Duration, r Reply) {
		if r.Outcome != OutcomeOK {
			g.stray(name.Random)
			g.retryLater(at, r)
			return
		}
		g.queued(at, r, name, priority)
	})
	return true
}

// queued begins to wait with a lock that was just created.
func (g *group) queued(now time.Duration, r Reply, want LockName, priority int) {
	got, err := ParseLockName(r.Created)
	want.Sequence = got.Sequence
	if err != nil || got != want || want.Session != g.m.session {
		g.stray(want.Random)
		g.again(now)
		return
	}
	g.phase, g.lock, g.priority, g.renewals, g.tried = PhaseWaiting, got, priority, 0, false
	g.m.out = append(g.m.out, Queued{Group: g.name, Lock: got.String()})
	g.again(now)
}

// retryLater observes again: at once after a conflict, which more knowledge
// resolves, later when ZooKeeper refuses us.
func (g *group) retryLater(now time.Duration, r Reply) {
	g.again(now)
	if r.Outcome == OutcomeRefused {
		g.nextObserve = now + idleObserve
	}
}

// restoreQueue creates the parent of the locks where somebody deleted it. It holds
// no state that safety rests on: where the record is gone too it is a missing one.
func (g *group) restoreQueue(now time.Duration) bool {
	g.m.send(now, Request{Txn: []Op{{Kind: OpCreate, Key: g.key(NodeQueue, "")}}}, func(at time.Duration, r Reply) {
		g.retryLater(at, r)
		if r.Outcome == OutcomeConflict && r.Code == CodeNoNode { // nor does its parent
			g.absent, g.nextObserve = true, at+idleObserve
			g.tell(g.troubleSeen())
		}
	})
	return true
}

// withdraw leaves the queue.
func (g *group) withdraw(now time.Duration) bool {
	lock := g.lock
	g.m.send(now, Request{Txn: []Op{{Kind: OpDelete, Key: g.ownKey(), Version: AnyVersion}}},
		func(at time.Duration, r Reply) {
			if g.phase != PhaseWaiting || g.lock != lock {
				return
			}
			if r.Outcome == OutcomeUnknown || r.Outcome == OutcomeRefused {
				g.stray(lock.Random)
			}
			g.leave()
			g.backoffUntil = at + g.cfg.Backoff
			g.nextObserve = at
		})
	return true
}

// stepBack queues anew behind waiters of higher priority, at most once for each
// of them, so that one that is dead blocks nobody. A changed own priority is
// written the same way, since it is immutable in a lock.
func (g *group) stepBack(now time.Duration) bool {
	better := g.betterBehind()
	if g.cfg.Paused || (len(better) == 0 && g.priority == g.cfg.Priority) {
		return false
	}
	for _, w := range better {
		g.stepped[w.String()] = true
	}
	return g.requeue(now)
}

// requeue replaces the own lock by a fresh one at the queue's end.
func (g *group) requeue(now time.Duration) bool {
	op, name := g.newLock()
	old, priority := g.lock, g.cfg.Priority
	txn := []Op{op, {Kind: OpDelete, Key: g.ownKey(), Version: AnyVersion}}
	g.m.send(now, Request{Txn: txn}, func(at time.Duration, r Reply) {
		if g.phase != PhaseWaiting || g.lock != old {
			g.stray(name.Random)
			return
		}
		if r.Outcome == OutcomeOK {
			g.queued(at, r, name, priority)
			return
		}
		g.stray(name.Random)
		g.stray(old.Random)
		g.leave()
		g.retryLater(at, r)
	})
	return true
}

func (g *group) betterBehind() []waiter {
	var ws []waiter
	for _, w := range g.view.locks {
		if w.Sequence > g.lock.Sequence && w.priority > g.cfg.Priority && !g.stepped[w.String()] && w.Node != g.m.cfg.Node {
			ws = append(ws, w)
		}
	}
	return ws
}

// dropStray deletes one own lock that is not in use.
func (g *group) dropStray(now time.Duration) bool {
	for _, w := range g.view.locks {
		if w.Node != g.m.cfg.Node || w.LockName == g.lock || !slices.Contains(g.strays, w.Random) || g.view.holds(w.LockName) {
			continue
		}
		g.m.send(now, Request{Txn: []Op{{Kind: OpDelete, Key: g.key(NodeLock, w.String()), Version: AnyVersion}}},
			func(at time.Duration, r Reply) { g.retryLater(at, r) })
		return true
	}
	return false
}

// wantObserve reads the group when it is time to.
func (g *group) wantObserve(now time.Duration) bool {
	if now < min(g.nextObserve, g.votersAt()) {
		return false
	}
	return g.observe(now, false)
}

func (g *group) observe(now time.Duration, withQueueVersion bool) bool {
	g.nextObserve = now + g.interval()
	request := Request{Observe: g.name, WithQueueVersion: withQueueVersion, WithVoters: now >= min(g.nextVoters, g.votersAt())}
	g.m.send(now, request, func(at time.Duration, r Reply) {
		g.votersRetry = at + g.interval()
		if r.Outcome != OutcomeOK {
			g.nextObserve, g.nextVoters = at+g.interval(), at
			return
		}
		g.observed(at, r.Observation, request)
	})
	return true
}

// votersAt returns when a waiter reads the list of voters in order to acquire:
// when the holder has been silent for longer than it should be.
func (g *group) votersAt() time.Duration {
	if g.phase != PhaseWaiting || g.view.votersRead || !g.view.situation.needsVote() {
		return Never
	}
	return max(g.view.since+2*g.m.cfg.Timing.Renew, g.votersRetry)
}

// interval is how often to look without a hint: a standby follows the holder's
// renewals, which watches should tell it of.
func (g *group) interval() time.Duration {
	if g.phase == PhaseWaiting {
		return 2 * g.m.cfg.Timing.Renew
	}
	return idleObserve
}

// observed takes in what was read.
func (g *group) observed(now time.Duration, o Observation, request Request) {
	if !g.view.look(now, o, request.WithQueueVersion) {
		g.tell("ignoring a record older than one already seen",
			"ZooKeeper went back in time (restored from a backup?): restart this director when it is sane")
		return
	}
	if request.WithVoters {
		g.view.lookVoters(o)
		g.nextVoters, g.listRead = now+idleObserve, true
	}
	g.votersDue, g.lookAgain = true, false
	g.maxEpoch = max(g.maxEpoch, g.view.record.Epoch)
	g.forgetGoneLocks()
	g.tell(g.troubleSeen())
	switch g.phase {
	case PhaseWaiting:
		g.observedWaiting(now)
	case PhaseHolding:
		if !g.view.holds(g.lock) {
			g.fence(now, "the record no longer names our lock")
			return
		}
		g.watchBetter(now)
	case PhaseReleasing:
		g.resumeReceipt(now)
	}
}

func (g *group) troubleSeen() (text, reason string) {
	r := &g.view.record
	g.absent = g.absent && !g.view.queue && !g.view.exists
	switch {
	case g.absent:
		return "the group is not in ZooKeeper", "its znode does not exist; run `zklvs apply` with the group's document"
	case g.phase == PhaseHolding && g.view.votersProblem != "":
		return "the list of voters is left as it is", g.view.votersProblem
	case g.view.problem != "":
		return "not acquiring: the record is not understood", g.view.problem
	case g.phase != PhaseHolding && r.State == StateHolding && r.Node == g.m.cfg.Node && r.elsewhere(g.m.cfg.Host):
		return "another machine holds under this director's node name", fmt.Sprintf("machine-id %s; give each director its own `node`", r.MachineID)
	}
	return "", ""
}

// observedWaiting notices that the own lock is gone, or that an acquisition
// whose reply was lost has come true: then renew first and answer after.
func (g *group) observedWaiting(now time.Duration) {
	if !g.view.queued(g.lock) {
		g.m.note(Note{Group: g.name, Text: "our waiting lock is gone", Reason: "queueing anew", Trouble: true})
		g.leave()
		return
	}
	if g.view.holds(g.lock) && now >= g.promised {
		lease := g.view.record.Lease() - g.m.cfg.Timing.Lateness
		if lease < MinLease {
			return // not written by us with these settings: let it run out
		}
		g.begin(now, g.view.record.Epoch, lease, g.view.version)
		g.nextRenew = now
	}
}

func (g *group) forgetGoneLocks() {
	for _, seen := range []map[string]bool{g.stepped, g.handed} {
		for name := range seen {
			if n, err := ParseLockName(name); err == nil {
				if !g.view.queued(n) {
					delete(seen, name)
				}
			}
		}
	}
}
