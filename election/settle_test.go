package election

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	deadLock  = "node1-00000000000000a1-00000000000000b1-0000000007"
	otherLock = "node2-00000000000000a2-00000000000000b2-0000000008"
)

// The steps of a settlement: what it asks, and the reply that it is given.
type exchange struct {
	asks  string // receipt@version, look or delete
	reply Reply
}

func TestSettle(t *testing.T) {
	holding := func(lock string) Record {
		return Record{Format: RecordFormat, State: StateHolding, Epoch: 5, Node: "node1", Lock: lock, LeaseMS: 3050}
	}
	saw := func(r Record, named bool, locks ...string) Reply {
		o := Observation{QueueExists: true, RecordExists: true, Record: r.Encode(), RecordVersion: 9, NamedExists: named}
		for _, l := range locks {
			o.Locks = append(o.Locks, LockSeen{Name: l})
		}
		return Reply{Observation: o}
	}
	released := holding(deadLock)
	released.State = StateReleased
	refused := Reply{Outcome: OutcomeConflict, FailedOp: 0, Code: CodeBadVersion}
	gone := Reply{Outcome: OutcomeConflict, FailedOp: 1, Code: CodeNoNode}
	noNode := Reply{Outcome: OutcomeConflict, Code: CodeNoNode}
	lost := Reply{Outcome: OutcomeUnknown}

	for _, c := range []struct {
		name    string
		granted bool
		steps   []exchange
		want    string
	}{
		{"held: the receipt at once", true, []exchange{{"receipt@4", Reply{}}}, "wrote the receipt"},
		{"held, and the lock is gone", true, []exchange{{"receipt@4", gone}}, "the lock was gone: no receipt"},
		{"held, the record was rewritten meanwhile", true,
			[]exchange{{"receipt@4", refused}, {"look", saw(holding(deadLock), true, deadLock)}, {"receipt@9", Reply{}}}, "wrote the receipt"},
		{"held, the reply is lost and the receipt was written", true,
			[]exchange{{"receipt@4", lost}, {"look", lost}, {"look", saw(released, false)}}, "the receipt was there"},
		{"held, another holds by now", true,
			[]exchange{{"receipt@4", refused}, {"look", saw(holding(otherLock), true, otherLock)}}, "the lock was gone"},
		{"held, the lock vanished before the second look", true,
			[]exchange{{"receipt@4", lost}, {"look", saw(holding(deadLock), false)}}, "the lock was gone: no receipt"},
		{"waiting", false,
			[]exchange{{"look", saw(holding(otherLock), true, otherLock, deadLock)}, {"delete", Reply{}}}, "deleted the waiting lock"},
		{"waiting, and gone when it is deleted", false,
			[]exchange{{"look", saw(holding(otherLock), true, deadLock)}, {"delete", noNode}}, "the lock was gone"},
		{"waiting, the reply to the deletion is lost", false,
			[]exchange{{"look", saw(holding(otherLock), true, deadLock)}, {"delete", lost}, {"look", saw(holding(otherLock), true, otherLock)}}, "the lock was gone"},
		{"acquired and never granted", false,
			[]exchange{{"look", saw(holding(deadLock), true, deadLock)}, {"receipt@9", Reply{}}}, "wrote the receipt"},
		{"the record is missing", false,
			[]exchange{{"look", Reply{Observation: Observation{QueueExists: true, Locks: []LockSeen{{Name: deadLock}}}}}, {"delete", Reply{}}}, "deleted the waiting lock"},
		{"the record is of another version", false,
			[]exchange{{"look", saw(Record{Format: 2, State: StateHolding}, false, deadLock)}}, "the record is not understood: left as it is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewSettle(Settlement{Group: "web", Lock: deadLock, Granted: c.granted, Epoch: 5, Version: 4, Reason: "test"}, "node1",
				func() time.Time { return time.Unix(0, 0) })
			for i, x := range c.steps {
				r, more := s.Next()
				if !more {
					t.Fatalf("settled after %d steps: %s", i, s.Outcome())
				}
				if diff := cmp.Diff(asked(x.asks), r); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, diff)
				}
				s.Replied(x.reply)
			}
			if _, more := s.Next(); more || s.Outcome() != c.want {
				t.Errorf("ended %q (more %v), want %q", s.Outcome(), more, c.want)
			}
		})
	}
}

func asked(what string) Request {
	lock := Key{Group: "web", Kind: NodeLock, Lock: deadLock}
	receipt := func(version int32) Request {
		rec := Record{Format: RecordFormat, State: StateReleased, Epoch: 5, Node: "node1", Lock: deadLock,
			LeaseMS: MaxLease.Milliseconds(), Since: "1970-01-01T00:00:00Z", Reason: "test"}
		return Request{Txn: []Op{
			{Kind: OpSet, Key: Key{Group: "web", Kind: NodeRecord}, Version: version, Data: rec.Encode()},
			{Kind: OpDelete, Key: lock, Version: AnyVersion},
		}}
	}
	switch what {
	case "look":
		return Request{Observe: "web"}
	case "delete":
		return Request{Txn: []Op{{Kind: OpDelete, Key: lock, Version: AnyVersion}}}
	case "receipt@4":
		return receipt(4)
	}
	return receipt(9)
}
