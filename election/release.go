package election

import (
	"fmt"
	"time"
)

// wantReceipt writes the receipt of a fenced holding, or that of an earlier
// life of this host. Every receipt deletes the lock that the record names in
// its Txn: if the lock is gone there is no receipt.
func (g *group) wantReceipt(now time.Duration) bool {
	if g.lookAgain {
		return false
	}
	if g.phase == PhaseReleasing {
		return g.receipt(now)
	}
	if g.phase == PhaseOut || g.phase == PhaseWaiting {
		return g.earlierReceipt(now)
	}
	return false
}

// receiptTxn writes rec, a receipt, over the record of a version.
func receiptTxn(group string, version int32, rec Record) []Op {
	return []Op{
		{Kind: OpSet, Key: Key{Group: group, Kind: NodeRecord}, Version: version, Data: rec.Encode()},
		{Kind: OpDelete, Key: Key{Group: group, Kind: NodeLock, Lock: rec.Lock}, Version: AnyVersion},
	}
}

func (g *group) receipt(now time.Duration) bool {
	rec := g.newRecord(StateReleased, g.epoch, g.why)
	rec.Node, rec.Lock, rec.ReleasedTo = g.m.cfg.Node, g.lock.String(), g.releasedTo
	txn := receiptTxn(g.name, g.version, rec)
	g.m.send(now, Request{Txn: txn}, func(at time.Duration, r Reply) {
		switch {
		case r.Outcome == OutcomeOK:
			g.m.note(Note{Group: g.name, Text: "released", Reason: g.why})
			g.view.changed = max(g.view.changed, r.RecordZxid)
			g.leave()
			g.again(at) // the view still shows the holding
		case r.Outcome == OutcomeConflict && r.FailedOp == 1:
			g.noReceipt(at, "the lock was gone")
		default: // the record changed, or the outcome is unknown: what does it say now?
			g.retryLater(at, r)
		}
	})
	return true
}

// noReceipt ends a holding without one: whoever follows waits out the lease.
func (g *group) noReceipt(now time.Duration, because string) {
	g.m.note(Note{Group: g.name, Text: "fenced without a receipt", Reason: because, Trouble: true})
	g.stray(g.lock.Random)
	g.leave()
	g.again(now)
}

// resumeReceipt decides, after an observation, whether the receipt is still ours to write.
func (g *group) resumeReceipt(now time.Duration) {
	v, lock := &g.view, g.lock.String()
	switch {
	case v.exists && v.problem == "" && v.record.State == StateReleased && v.record.Lock == lock:
		g.m.note(Note{Group: g.name, Text: "released", Reason: g.why})
		g.leave()
	case !v.holds(g.lock):
		g.noReceipt(now, "the record no longer names our lock")
	case !v.named:
		g.noReceipt(now, "the lock was gone")
	default:
		g.version = v.version
	}
}

// earlier reports whether the record names an earlier life of this very host,
// of which nothing answers any more (see Machine).
func (g *group) earlier() bool {
	r, host := &g.view.record, g.m.cfg.Host
	return g.view.exists && g.view.problem == "" && r.State == StateHolding && g.view.named &&
		host.complete() && r.HostID == host && (g.phase == PhaseOut || r.Lock != g.lock.String())
}

func (g *group) earlierReceipt(now time.Duration) bool {
	if !g.earlier() {
		return false
	}
	r := g.view.record
	rec := g.newRecord(StateReleased, r.Epoch, "an earlier life of this host ended without a receipt")
	rec.Node, rec.Lock = r.Node, r.Lock
	txn := receiptTxn(g.name, g.view.version, rec)
	g.m.send(now, Request{Txn: txn}, func(at time.Duration, reply Reply) {
		if reply.Outcome == OutcomeOK {
			g.m.note(Note{Group: g.name, Text: "wrote the receipt of an earlier life of this host", Reason: "lock " + r.Lock})
		}
		g.again(at)
	})
	return true
}

// preemptee returns the waiter to hand over to by priority.
func (g *group) preemptee() (waiter, bool) {
	var best waiter
	found := false
	for _, w := range g.view.locks {
		if w.LockName == g.lock || w.Node == g.m.cfg.Node || w.priority <= g.cfg.Priority || g.handed[w.String()] {
			continue
		}
		if !found || w.priority > best.priority {
			best, found = w, true
		}
	}
	return best, found
}

// preemptAt returns when the group is to be handed over by priority.
func (g *group) preemptAt() time.Duration {
	if !g.cfg.Preempt || g.cfg.Paused || g.deadline == 0 || g.betterSince == 0 {
		return Never
	}
	return g.betterSince + g.cfg.PreemptDelay
}

// watchBetter follows whether a standby of higher priority is there.
func (g *group) watchBetter(now time.Duration) {
	w, found := g.preemptee()
	switch {
	case !found:
		g.betterSince, g.better = 0, LockName{}
	case w.LockName != g.better:
		g.betterSince, g.better = now, w.LockName
	}
}

func (g *group) preempt(now time.Duration) {
	g.handed[g.better.String()] = true
	g.releasedTo = g.better.Node
	g.fence(now, fmt.Sprintf("handed over to %s, whose priority is higher", g.better.Node))
}

// handover releases to a named standby on an operator's word.
func (g *group) handover(now time.Duration, to string) error {
	for _, w := range g.view.locks {
		if w.Node == to && w.LockName != g.lock {
			g.releasedTo = to
			g.fence(now, "switched over to "+to+" on request")
			return nil
		}
	}
	return fmt.Errorf("group %q cannot be handed over to %q: it is not waiting in the queue", g.name, to)
}
