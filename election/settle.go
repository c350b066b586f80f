package election

import "time"

// Settlement is one lock of a director that is dead or was silent, to be settled
// by whoever fenced for it.
type Settlement struct {
	Group string
	Lock  string
	// Granted tells that the director held under this lock. Epoch and Version,
	// of the record, are then those of its last grant; they are not used otherwise.
	Granted bool
	Epoch   uint64
	Version int32
	Reason  string // goes into the receipt, for people
}

// Settle settles one lock: it writes the receipt if the record names the lock,
// and else deletes the lock, so that nobody waits for a dead director. It makes
// one request at a time (Next) and takes its reply (Replied).
//
// It must not begin before nothing answers under the lock any more, verified:
// it writes receipts on that ground.
type Settle struct {
	Settlement
	node string
	wall func() time.Time
	step settleStep
	done string // how it ended
}

type settleStep uint8

const (
	settleLook    settleStep = iota // what does the record say?
	settleReceipt                   // it names the lock: write the receipt
	settleDelete                    // it does not: delete the lock
	settleDone
)

// NewSettle begins to settle a lock of the named node. Where the version of the
// record is known the receipt is tried at once.
func NewSettle(s Settlement, node string, wall func() time.Time) *Settle {
	n := &Settle{Settlement: s, node: node, wall: wall}
	if s.Granted {
		n.step = settleReceipt
	}
	return n
}

// Next returns the request to be sent now; false when the lock is settled.
func (s *Settle) Next() (Request, bool) {
	switch s.step {
	case settleLook:
		return Request{Observe: s.Group}, true
	case settleReceipt:
		return Request{Txn: receiptTxn(s.Group, s.Version, s.receipt())}, true
	case settleDelete:
		return Request{Txn: []Op{{Kind: OpDelete, Key: Key{Group: s.Group, Kind: NodeLock, Lock: s.Lock}, Version: AnyVersion}}}, true
	}
	return Request{}, false
}

// Outcome says how it ended, for people; "" while it has not.
func (s *Settle) Outcome() string { return s.done }

func (s *Settle) receipt() Record {
	return Record{Format: RecordFormat, State: StateReleased, Epoch: s.Epoch, LeaseMS: MaxLease.Milliseconds(),
		Since: since(s.wall()), Reason: s.Reason, Node: s.node, Lock: s.Lock}
}

// Replied takes the reply to the request that Next returned. After one that
// tells nothing the same question is asked again: the caller waits a little.
func (s *Settle) Replied(r Reply) {
	switch s.step {
	case settleLook:
		if r.Outcome == OutcomeOK {
			s.looked(r.Observation)
		}
	case settleReceipt:
		switch {
		case r.Outcome == OutcomeOK:
			s.end("wrote the receipt")
		case r.Outcome == OutcomeConflict && r.FailedOp == 1:
			s.end("the lock was gone: no receipt")
		default: // the record changed, or the outcome is not known
			s.step = settleLook
		}
	case settleDelete:
		switch r.Outcome {
		case OutcomeOK:
			s.end("deleted the waiting lock")
		case OutcomeConflict:
			s.end("the lock was gone")
		default:
			s.step = settleLook
		}
	}
}

func (s *Settle) end(how string) { s.step, s.done = settleDone, how }

// looked decides by what the record says now. What was read may be old: the
// receipt is written by compare-and-set, and a lock that is deleted too early
// only makes others wait.
func (s *Settle) looked(o Observation) {
	var rec Record
	if o.RecordExists {
		var err error
		if rec, err = DecodeRecord(o.Record); err != nil {
			s.end("the record is not understood: left as it is")
			return
		}
	}
	ours := rec.Lock == s.Lock
	switch {
	case ours && rec.State == StateReleased:
		s.end("the receipt was there")
	case ours && rec.State == StateHolding && !o.NamedExists:
		s.end("the lock was gone: no receipt")
	case ours && rec.State == StateHolding:
		s.Epoch, s.Version, s.step = rec.Epoch, o.RecordVersion, settleReceipt
	case queued(o.Locks, s.Lock):
		s.step = settleDelete
	default:
		s.end("the lock was gone")
	}
}

func queued(locks []LockSeen, name string) bool {
	for _, l := range locks {
		if l.Name == name {
			return true
		}
	}
	return false
}
