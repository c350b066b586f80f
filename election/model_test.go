package election

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// model is a lock service that keeps the contract of the package doc: writes
// are linearizable, reads come from a replica that may lag.
type model struct {
	snapshots []map[Key]modelNode // one for each zxid
	counters  map[string]int64    // sequence numbers by group
}

type modelNode struct {
	data             string
	version          int32
	created, changed int64
	session          uint64 // owner of an ephemeral
}

func newModel() *model {
	return &model{snapshots: []map[Key]modelNode{{}}, counters: map[string]int64{}}
}

func (s *model) zxid() int64 { return int64(len(s.snapshots) - 1) }

func (s *model) latest() map[Key]modelNode { return s.snapshots[len(s.snapshots)-1] }

// apply creates a group as `zklvs apply` does.
func (s *model) apply(group string, r Record) {
	s.commit(0, []Op{
		{Kind: OpCreate, Key: Key{Group: group, Kind: NodeQueue}},
		{Kind: OpCreate, Key: Key{Group: group, Kind: NodeRecord}, Data: r.Encode()},
	})
}

// commit does a transaction at one instant.
func (s *model) commit(session uint64, txn []Op) Reply {
	next, zxid := maps.Clone(s.latest()), s.zxid()+1
	var reply Reply
	for i, op := range txn {
		if code := s.do(next, zxid, session, op, &reply); code != CodeNone {
			return Reply{Outcome: OutcomeConflict, FailedOp: i, Code: code}
		}
	}
	s.snapshots = append(s.snapshots, next)
	return reply
}

func (s *model) do(t map[Key]modelNode, zxid int64, session uint64, op Op, reply *Reply) Code {
	n, ok := t[op.Key]
	switch op.Kind {
	case OpCreate, OpCreateLock:
		return s.create(t, zxid, session, op, reply)
	case OpCheck, OpSet, OpDelete:
		if !ok {
			return CodeNoNode
		}
		if op.Version != AnyVersion && op.Version != n.version {
			return CodeBadVersion
		}
	}
	switch op.Kind {
	case OpSet:
		n.data, n.changed = string(op.Data), zxid
		n.version++
		t[op.Key] = n
		if op.Key.Kind == NodeRecord {
			reply.RecordVersion, reply.RecordZxid = n.version, zxid
		}
	case OpDelete:
		delete(t, op.Key)
	}
	return CodeNone
}

func (s *model) create(t map[Key]modelNode, zxid int64, session uint64, op Op, reply *Reply) Code {
	n := modelNode{data: string(op.Data), created: zxid, changed: zxid}
	if op.Kind == OpCreateLock {
		if _, ok := t[Key{Group: op.Key.Group, Kind: NodeQueue}]; !ok {
			return CodeNoNode
		}
		op.Key.Lock = fmt.Sprintf("%s%010d", op.Key.Lock, s.counters[op.Key.Group])
		s.counters[op.Key.Group]++
		n.session = session
		reply.Created = op.Key.Lock
	}
	if _, ok := t[op.Key]; ok {
		return CodeNodeExists
	}
	t[op.Key] = n
	return CodeNone
}

// expire ends a session: its ephemerals go at one instant.
func (s *model) expire(session uint64) {
	next := maps.Clone(s.latest())
	maps.DeleteFunc(next, func(_ Key, n modelNode) bool { return session != 0 && n.session == session })
	s.snapshots = append(s.snapshots, next)
}

// remove deletes nodes by hand.
func (s *model) remove(match func(Key) bool) {
	next := maps.Clone(s.latest())
	maps.DeleteFunc(next, func(k Key, _ modelNode) bool { return match(k) })
	s.snapshots = append(s.snapshots, next)
}

// observe reads a group, each read at a zxid between *seen and the latest.
func (s *model) observe(rng *rand.Rand, seen *int64, r Request) Observation {
	read := func() map[Key]modelNode {
		if rng != nil && rng.IntN(2) == 0 {
			*seen += rng.Int64N(s.zxid() - *seen + 1)
		} else {
			*seen = s.zxid()
		}
		return s.snapshots[*seen]
	}
	var o Observation
	queue := Key{Group: r.Observe, Kind: NodeQueue}
	if r.WithQueueVersion {
		o.QueueVersion = read()[queue].version
	}
	if n, ok := read()[Key{Group: r.Observe, Kind: NodeRecord}]; ok {
		o.RecordExists, o.Record = true, []byte(n.data)
		o.RecordVersion, o.RecordCreated, o.RecordChanged = n.version, n.created, n.changed
	}
	children := read()
	_, o.QueueExists = children[queue]
	for k, n := range children {
		if k.Group == r.Observe && k.Kind == NodeLock {
			d, _ := DecodeLockData([]byte(n.data))
			o.Locks = append(o.Locks, LockSeen{Name: k.Lock, Priority: d.Priority})
		}
	}
	slices.SortFunc(o.Locks, func(a, b LockSeen) int { return -slices.Compare([]byte(a.Name), []byte(b.Name)) })
	if lock := NamedLock(o.Record); lock != "" {
		n, ok := read()[Key{Group: r.Observe, Kind: NodeLock, Lock: lock}]
		o.NamedExists, o.NamedVersion = ok, n.version
	}
	return o
}

// record returns a group's record as it is now.
func (s *model) record(group string) (Record, bool) {
	n, ok := s.latest()[Key{Group: group, Kind: NodeRecord}]
	if !ok {
		return Record{}, false
	}
	r, err := DecodeRecord([]byte(n.data))
	if err != nil {
		panic(err)
	}
	return r, true
}
