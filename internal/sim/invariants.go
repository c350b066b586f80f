package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/zklvs/zklvs/election"
)

// Invariant is what must hold in every schedule.
type Invariant string

// The invariants.
const (
	// OneAnswers: at every instant of true time at most one host answers for a group.
	OneAnswers Invariant = "one answers"
	// FenceIsFinal: nothing answers under a lock that was verified fenced, or released.
	FenceIsFinal Invariant = "a fence is final"
	// ReceiptMeansGone: when a receipt is written, nobody answers under the lock
	// that it names, and that transaction deletes it.
	ReceiptMeansGone Invariant = "a receipt means gone"
	// EpochsGrow: each acquisition raises the epoch by one, nothing else changes it.
	EpochsGrow Invariant = "epochs grow by one"
	// StepsDown: no event leaves a director holding whose lease is over, or
	// whose renewal was refused.
	StepsDown Invariant = "a holder steps down"
	// Liveness: without faults every group is held within a bound.
	Liveness Invariant = "somebody holds"
	// NoPanic: nothing panics, no request is sent while another is under way, and
	// the guard is not told of a lock before the one that answers is fenced.
	NoPanic Invariant = "no contradiction"
)

func (s *schedule) failf(broken Invariant, format string, a ...any) {
	if s.broken == "" {
		s.broken, s.fail = broken, fmt.Sprintf(format, a...)
		s.logf("%s", s.fail)
	}
}

// recordSeen is what the last write of a record left.
type recordSeen struct {
	epoch uint64
	lock  string // that it names
	known bool   // the record is there
	// forgot tells that it was deleted once: directors may remember a higher
	// epoch than that of the record that replaced it.
	forgot bool
}

// opening is a group's gate on one host, with the address bound: whoever has
// one open answers.
type opening struct {
	lock  string
	until time.Duration // true time; the kernel ends it then
	fence int           // counts fences, each of which ends what is being bound
}

// answer opens a group's gate on a host, or moves its deadline.
func (h *host) answer(group int, lock string, until time.Duration) {
	s, o := h.s, &h.open[group]
	if until <= s.now {
		return // the kernel checks the clock
	}
	if s.tracing && (o.lock != lock || o.until <= s.now) {
		s.logf("%s answers for %s under %s until %.3f", h.name, s.groups[group].Name, short(lock), until.Seconds())
	}
	for _, other := range s.hosts {
		if other != h && other.open[group].until > s.now {
			s.failf(OneAnswers, "%s answers for %s, and so does %s until %.3f", h.name, s.groups[group].Name, other.name, other.open[group].until.Seconds())
		}
	}
	if slices.Contains(h.fenced, lock) || slices.Contains(s.receipts, lock) {
		s.failf(FenceIsFinal, "%s answers for %s under %s, which was fenced", h.name, s.groups[group].Name, short(lock))
	}
	o.lock, o.until = lock, until
}

// shut ends what answers under a lock, and what is being bound.
func (h *host) shut(group int, lock string) {
	o := &h.open[group]
	o.fence++
	if o.lock == lock {
		o.until = min(o.until, h.s.now)
	}
}

// committed checks a transaction that wrote a record.
func (s *schedule) committed(by string, txn []election.Op) {
	for _, op := range txn {
		if op.Key.Kind != election.NodeRecord || op.Kind == election.OpCheck {
			continue
		}
		if r, ok := s.store.Record(op.Key.Group); ok {
			group := s.index(op.Key.Group)
			s.checkEpoch(group, r)
			if r.State == election.StateReleased && op.Kind == election.OpSet {
				s.checkReceipt(by, group, r)
			}
			s.records[group].lock = r.Lock
		}
	}
}

func (s *schedule) checkEpoch(group int, r election.Record) {
	was := &s.records[group]
	want := was.epoch
	if r.State == election.StateHolding {
		want++
	}
	if was.known && r.Epoch != want && (r.Epoch < want || !was.forgot) {
		s.failf(EpochsGrow, "%s: from epoch %d to %s, epoch %d", s.groups[group].Name, was.epoch, r.State, r.Epoch)
	}
	was.epoch, was.known = r.Epoch, true
}

func (s *schedule) checkReceipt(by string, group int, r election.Record) {
	for _, h := range s.hosts {
		if o := h.open[group]; o.lock == r.Lock && o.until > s.now {
			s.failf(ReceiptMeansGone, "%s wrote the receipt of %s for %s while %s answers", by, short(r.Lock), s.groups[group].Name, h.name)
		}
	}
	zxid := s.store.Zxid()
	if !s.store.HasLock(zxid-1, s.groups[group].Name, r.Lock) {
		s.failf(ReceiptMeansGone, "%s wrote a receipt for %s although its lock %s was gone", by, s.groups[group].Name, short(r.Lock))
	}
	if s.store.HasLock(zxid, s.groups[group].Name, r.Lock) {
		s.failf(ReceiptMeansGone, "%s wrote a receipt for %s and left its lock %s", by, s.groups[group].Name, short(r.Lock))
	}
	if was := s.records[group].lock; was != r.Lock {
		s.failf(ReceiptMeansGone, "%s wrote a receipt for %s and lock %s over a record that named %s", by, s.groups[group].Name, short(r.Lock), short(was))
	}
	s.receipts = append(s.receipts, r.Lock)
}

// forget tells that the record of a group is deleted by hand.
func (s *schedule) forget(group string) {
	s.records[s.index(group)] = recordSeen{forgot: true}
}

// checkEnd: every group that a director was told of is still there.
func (s *schedule) checkEnd() {
	for _, h := range s.hosts {
		d := &h.director
		if !d.alive || d.stopping || d.paused >= s.now {
			continue
		}
		status := d.m.Status(h.clock())
		for _, g := range s.groups {
			if !slices.ContainsFunc(status, func(x election.GroupStatus) bool { return x.Group == g.Name }) {
				s.failf(Liveness, "%s forgot group %s", h.name, g.Name)
			}
		}
	}
}

// short names a lock by its node and sequence.
func short(lock string) string {
	if l, err := election.ParseLockName(lock); err == nil {
		return fmt.Sprintf("%s#%d", l.Node, l.Sequence)
	}
	return lock
}
