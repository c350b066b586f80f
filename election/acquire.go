package election

import (
	"fmt"
	"time"
)

// takeAt returns when the group may be taken, Never if not as things stand. Under
// a promise nothing is taken.
func (g *group) takeAt() time.Duration {
	at := g.freeAt()
	if at == Never {
		return Never
	}
	return max(at, g.promised)
}

// freeAt returns when the record's situation lets this director take.
func (g *group) freeAt() time.Duration {
	if g.phase != PhaseWaiting || g.cfg.Paused || !g.view.seen || g.ineligible() != "" {
		return Never
	}
	v := &g.view
	rank := time.Duration(v.rank(g.lock)) * rankStep
	t := g.m.cfg.Timing
	if v.situation.needsVote() && !v.mayTake(g.m.self()) {
		return Never
	}
	switch v.situation.kind {
	case situationReleased:
		switch v.record.ReleasedTo {
		case "":
			return v.since + rank
		case g.m.cfg.Node:
			return v.since
		}
		return v.since + chosenHeadStart + rank
	case situationFrozen, situationGone:
		if v.holds(g.lock) {
			return Never // ours: adopted, not taken
		}
		return v.since + t.Wait(v.record.Lease()) + rank
	case situationUnknown:
		return v.since + t.Wait(max(v.record.Lease(), MaxLease)) + rank
	case situationMissing:
		return v.since + rank
	}
	return Never
}

// wantAcquire takes the group when its time has come, or first replaces a
// missing record.
func (g *group) wantAcquire(now time.Duration) bool {
	if g.lookAgain || now < g.takeAt() {
		return false
	}
	if g.view.situation.kind == situationMissing {
		return g.replaceMissing(now)
	}
	v := &g.view
	epoch := max(v.record.Epoch, g.maxEpoch) + 1
	rec := g.newRecord(StateHolding, epoch, g.takeReason())
	rec.Node, rec.Lock = g.m.cfg.Node, g.lock.String()
	rec.HostID = g.m.cfg.Host
	lease := g.m.cfg.Timing.Lease
	rec.LeaseMS = g.m.cfg.Timing.recorded().Milliseconds()
	g.renewals++
	txn := []Op{{Kind: OpCheck, Key: g.ownKey(), Version: AnyVersion}}
	if v.situation.kind == situationFrozen {
		// Linearizable: if the version still matches, no renewal was committed
		// after the one that this director first saw W ago.
		txn = append(txn, Op{Kind: OpDelete, Key: g.key(NodeLock, v.record.Lock), Version: v.situation.version})
	}
	txn = append(txn,
		Op{Kind: OpSet, Key: g.key(NodeRecord, ""), Version: v.version, Data: rec.Encode()},
		Op{Kind: OpSet, Key: g.ownKey(), Version: AnyVersion, Data: g.lockData()})
	if v.situation.needsVote() {
		txn = append(txn, Op{Kind: OpCheck, Key: g.key(NodeVoters, ""), Version: v.votersVersion})
	}
	lock := g.lock
	g.taking = true
	g.m.send(now, Request{Txn: txn}, func(at time.Duration, r Reply) {
		g.taking = false
		if g.phase != PhaseWaiting || g.lock != lock {
			return // the lock was lost meanwhile; the record will tell
		}
		if r.Outcome != OutcomeOK {
			g.tried = g.tried || r.Outcome == OutcomeUnknown
			g.retryLater(at, r)
			if r.Outcome == OutcomeConflict { // our server may lag behind the change that caused it
				g.nextObserve, g.nextVoters = at+conflictPause, at
			}
			return
		}
		g.view.changed = max(g.view.changed, r.RecordZxid)
		g.begin(at, epoch, lease, r.RecordVersion)
		g.m.note(Note{Group: g.name, Text: "acquired", Reason: rec.Reason})
		g.extend(at, now)
	})
	return true
}

// begin enters the holding that the record grants us; nothing is answered until
// a committed write extends the lease.
func (g *group) begin(now time.Duration, epoch uint64, lease time.Duration, version int32) {
	g.phase, g.epoch, g.lease, g.version = PhaseHolding, epoch, lease, version
	g.maxEpoch = max(g.maxEpoch, epoch)
	g.deadline, g.nextRenew, g.why = 0, now+g.m.cfg.Timing.Renew, ""
	g.better, g.betterSince = LockName{}, 0
	g.recorded = lease + g.m.cfg.Timing.Lateness
	g.hold, g.listRead, g.missed = hold{}, false, map[string]time.Duration{}
	g.nextObserve, g.nextVoters = now, now
}

func (g *group) newRecord(state State, epoch uint64, reason string) Record {
	return Record{Format: RecordFormat, State: state, Epoch: epoch, LeaseMS: MaxLease.Milliseconds(),
		Since: since(g.m.cfg.Wall()), Reason: reason}
}

func (g *group) takeReason() string {
	switch v := &g.view; v.situation.kind {
	case situationReleased:
		return "released: " + v.record.Reason
	case situationFrozen:
		return fmt.Sprintf("%s did not renew its lease", v.record.Node)
	case situationGone:
		return fmt.Sprintf("the lock of %s is gone without a receipt and its lease has run out", v.record.Node)
	}
	return "the earlier holder is not known and the longest lease has run out"
}

// replaceMissing puts an unknown record in the place of one that was deleted.
// It removes every other lock, so that a holder of the lost record cannot renew,
// and first the own one if an acquisition sent with it may yet commit: versions
// begin anew with the record, and it could match the new one.
func (g *group) replaceMissing(now time.Duration) bool {
	if g.tried {
		return g.requeue(now)
	}
	v := &g.view
	if !v.queueAnswered { // the queue's version must be read before the record
		return g.observe(now, true)
	}
	rec := g.newRecord(StateUnknown, g.maxEpoch, "the record was missing")
	txn := []Op{
		{Kind: OpCheck, Key: g.ownKey(), Version: AnyVersion},
		{Kind: OpSet, Key: g.key(NodeQueue, ""), Version: v.queueVersion},
		{Kind: OpCreate, Key: g.key(NodeRecord, ""), Data: rec.Encode()},
	}
	for _, w := range v.locks {
		if w.LockName != g.lock {
			txn = append(txn, Op{Kind: OpDelete, Key: g.key(NodeLock, w.String()), Version: AnyVersion})
		}
	}
	g.m.send(now, Request{Txn: txn}, func(at time.Duration, r Reply) {
		if r.Outcome == OutcomeOK {
			g.m.note(Note{Group: g.name, Text: "replaced the missing record", Trouble: true,
				Reason: "somebody deleted it; the group waits for the longest lease"})
		}
		g.again(at)
	})
	return true
}

// again makes the next request of this group an observation.
func (g *group) again(now time.Duration) {
	g.lookAgain = true
	g.nextObserve = now
}
