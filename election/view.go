package election

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// view is what the last observation of a group told.
type view struct {
	seen    bool   // there was one
	queue   bool   // the queue exists
	exists  bool   // the record exists
	raw     []byte // of the record, as read
	record  Record
	holder  LockName // the lock that the record names, zero if none
	problem string   // why the record is not understood
	version int32
	created int64 // czxid
	changed int64 // mzxid, the newest seen

	queueVersion  int32
	queueAnswered bool // queueVersion was read before the record

	named        bool // the lock that the record names exists
	namedVersion int32

	locks []waiter // parsed, by sequence

	// votersRead tells that the list of voters was read after the situation was
	// first seen. An older one does not count: every write of the list is a renewal,
	// which would have changed the situation.
	votersRead    bool
	votersExist   bool // it is there
	voters        Voters
	votersProblem string // why it is not understood
	votersVersion int32

	// situation is what has to stay as it is for a take-over; since is the
	// time after the reply that first showed it.
	situation situation
	since     time.Duration
}

// waiter is a lock in the queue.
type waiter struct {
	LockName
	priority  int
	machineID string
	address   string
}

func (w waiter) voter() Voter {
	return Voter{Node: w.Node, MachineID: w.machineID, Address: w.address}
}

// situation is comparable: while it stays equal, the wait goes on.
type situation struct {
	kind    situationKind
	lock    string // the lock named in the record
	version int32  // of that lock, or of the record
	created int64  // czxid of the record
}

// needsVote reports whether only a voter may acquire, there being no receipt.
func (s situation) needsVote() bool {
	return s.kind == situationFrozen || s.kind == situationGone || s.kind == situationUnknown
}

type situationKind uint8

const (
	situationNone     situationKind = iota
	situationReleased               // receipt, and the lock is gone
	situationFrozen                 // holding, and the lock keeps its version
	situationGone                   // holding, and the lock is gone without a receipt
	situationUnknown                // the record names nobody
	situationMissing                // no record
)

// look takes in an observation. It reports false for one that is older than
// what was seen before: after ZooKeeper was restored from a backup, or from a
// lagging server in a new session. Such an observation proves nothing.
func (v *view) look(now time.Duration, o Observation, withQueueVersion bool) bool {
	if o.RecordExists && o.RecordChanged < v.changed {
		return false
	}
	v.seen, v.queue, v.exists = true, o.QueueExists, o.RecordExists
	v.queueVersion, v.queueAnswered = o.QueueVersion, withQueueVersion
	if !o.RecordExists {
		v.raw, v.record, v.holder, v.problem = nil, Record{}, LockName{}, ""
	} else {
		v.decode(o.Record)
		v.version, v.created, v.changed = o.RecordVersion, o.RecordCreated, o.RecordChanged
	}
	v.named, v.namedVersion = o.NamedExists, o.NamedVersion
	v.locks = parseWaiters(o.Locks)
	if s := v.situationNow(); s != v.situation {
		v.situation, v.since, v.votersRead = s, now, false
	}
	return true
}

// lookVoters takes in the list of voters, which an observation reads last.
func (v *view) lookVoters(o Observation) {
	v.votersRead = true
	v.votersExist, v.voters, v.votersProblem, v.votersVersion = o.VotersExist, Voters{}, "", o.VotersVersion
	if !o.VotersExist {
		return
	}
	list, err := DecodeVoters(o.Voters)
	if err != nil {
		v.votersProblem = err.Error()
		return
	}
	v.voters = list
}

// mayTake reports whether a director may acquire without a receipt.
func (v *view) mayTake(one Voter) bool {
	return v.votersRead && v.votersExist && v.votersProblem == "" && v.voters.mayTake(one)
}

// decode reads the record unless it is the one that was read before.
func (v *view) decode(data []byte) {
	if v.raw != nil && bytes.Equal(data, v.raw) {
		return
	}
	v.raw, v.holder, v.problem = append([]byte{}, data...), LockName{}, ""
	record, err := DecodeRecord(data)
	if err != nil {
		record, v.problem = Record{}, err.Error() // nothing in it counts, not even the epoch
	}
	v.record = record
	if record.Lock != "" {
		v.holder, _ = ParseLockName(record.Lock) // a record that decodes names a lock
	}
}

func parseWaiters(seen []LockSeen) []waiter {
	var ws []waiter
	for _, l := range seen {
		if n, err := ParseLockName(l.Name); err == nil {
			ws = append(ws, waiter{n, l.Priority, l.MachineID, l.Address})
		}
	}
	slices.SortFunc(ws, func(a, b waiter) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return ws
}

// situationNow classifies the view by the acquire rules of docs/SAFETY.md.
func (v *view) situationNow() situation {
	s := situation{lock: v.record.Lock, created: v.created}
	switch {
	case !v.exists:
		return situation{kind: situationMissing}
	case v.problem != "":
		return situation{}
	case v.record.State == StateUnknown:
		return situation{kind: situationUnknown, created: v.created}
	case v.record.State == StateReleased && !v.named:
		s.kind, s.version = situationReleased, v.version
	case v.record.State == StateReleased:
		return situation{} // a receipt whose lock still stands is nobody's
	case v.named:
		s.kind, s.version = situationFrozen, v.namedVersion
	default:
		s.kind = situationGone
	}
	return s
}

// queued reports whether the lock is in the queue.
func (v *view) queued(name LockName) bool {
	return slices.ContainsFunc(v.locks, func(w waiter) bool { return w.LockName == name })
}

// rank returns how many waiters are ahead of the lock; the holder is none.
func (v *view) rank(own LockName) int {
	n := 0
	for _, w := range v.locks {
		if w.Sequence < own.Sequence && !v.holds(w.LockName) {
			n++
		}
	}
	return n
}

// holds reports whether the record says that this lock holds.
func (v *view) holds(l LockName) bool {
	return v.exists && v.record.State == StateHolding && v.holder == l
}
