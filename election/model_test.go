package election

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// model is a lock service that keeps the contract of the package doc: writes
// are linearizable, reads come from a replica that may lag. Trees share what
// did not change, and what a write says is decoded once, when it is written.
type model struct {
	trees    []tree           // one for each zxid
	counters map[string]int64 // sequence numbers by group
}

// tree is every group at one zxid. It is never changed once it is in model.trees.
type tree []modelGroup

type modelGroup struct {
	name          string
	queue, record *modelNode
	locks         []*modelNode // shared between trees: cloned before a change
}

type modelNode struct {
	data             []byte
	version          int32
	created, changed int64

	rec      Record // of a record: what data says
	name     string // of a lock
	priority int    // of a lock
	session  uint64 // of a lock: its owner
}

func newModel() *model {
	return &model{trees: []tree{nil}, counters: map[string]int64{}}
}

func (s *model) zxid() int64 { return int64(len(s.trees) - 1) }

func (s *model) latest() tree { return s.trees[len(s.trees)-1] }

// group returns a group of the tree, nil if nothing was ever in it.
func (t tree) group(name string) *modelGroup {
	for i := range t {
		if t[i].name == name {
			return &t[i]
		}
	}
	return nil
}

func (g *modelGroup) lock(name string) *modelNode {
	for _, n := range g.locks {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (g *modelGroup) node(k Key) *modelNode {
	switch k.Kind {
	case NodeQueue:
		return g.queue
	case NodeRecord:
		return g.record
	}
	return g.lock(k.Lock)
}

// put replaces, adds or (n == nil) removes a node.
func (g *modelGroup) put(k Key, n *modelNode) {
	switch k.Kind {
	case NodeQueue:
		g.queue = n
	case NodeRecord:
		g.record = n
	case NodeLock:
		locks := make([]*modelNode, 0, len(g.locks)+1)
		for _, old := range g.locks {
			if old.name != k.Lock {
				locks = append(locks, old)
			}
		}
		if n != nil {
			locks = append(locks, n)
		}
		g.locks = locks
	}
}

// apply creates a group as `zklvs apply` does: not at all where it exists.
func (s *model) apply(group string, r Record) {
	s.commit(0, []Op{
		{Kind: OpCreate, Key: Key{Group: group, Kind: NodeQueue}},
		{Kind: OpCreate, Key: Key{Group: group, Kind: NodeRecord}, Data: r.Encode()},
	})
}

// commit does a transaction at one instant.
func (s *model) commit(session uint64, txn []Op) Reply {
	next, zxid := slices.Clone(s.latest()), s.zxid()+1
	var reply Reply
	for i, op := range txn {
		g := next.group(op.Key.Group)
		if g == nil {
			next = append(next, modelGroup{name: op.Key.Group})
			g = &next[len(next)-1]
		}
		if code := s.do(g, zxid, session, op, &reply); code != CodeNone {
			return Reply{Outcome: OutcomeConflict, FailedOp: i, Code: code}
		}
	}
	s.trees = append(s.trees, next)
	return reply
}

func (s *model) do(g *modelGroup, zxid int64, session uint64, op Op, reply *Reply) Code {
	if op.Kind == OpCreate || op.Kind == OpCreateLock {
		return s.create(g, zxid, session, op, reply)
	}
	n := g.node(op.Key)
	switch {
	case n == nil:
		return CodeNoNode
	case op.Version != AnyVersion && op.Version != n.version:
		return CodeBadVersion
	case op.Kind == OpDelete:
		g.put(op.Key, nil)
	case op.Kind == OpSet:
		written := *n
		written.data, written.changed = op.Data, zxid
		written.version++
		written.decode(op.Key)
		g.put(op.Key, &written)
		if op.Key.Kind == NodeRecord {
			reply.RecordVersion, reply.RecordZxid = written.version, zxid
		}
	}
	return CodeNone
}

func (s *model) create(g *modelGroup, zxid int64, session uint64, op Op, reply *Reply) Code {
	n := &modelNode{data: op.Data, created: zxid, changed: zxid}
	if op.Kind == OpCreateLock {
		if g.queue == nil {
			return CodeNoNode
		}
		op.Key.Lock = fmt.Sprintf("%s%010d", op.Key.Lock, s.counters[g.name])
		s.counters[g.name]++
		n.name, n.session = op.Key.Lock, session
		d, _ := DecodeLockData(op.Data)
		n.priority = d.Priority
		reply.Created = op.Key.Lock
	}
	if g.node(op.Key) != nil {
		return CodeNodeExists
	}
	n.decode(op.Key)
	g.put(op.Key, n)
	return CodeNone
}

func (n *modelNode) decode(k Key) {
	if k.Kind == NodeRecord {
		n.rec, _ = DecodeRecord(n.data) // the zero record where a test wrote nonsense
	}
}

// expire ends a session: its ephemerals go at one instant.
func (s *model) expire(session uint64) {
	s.remove(func(_ Key, n *modelNode) bool { return session != 0 && n.session == session })
}

// remove deletes nodes by hand, all at one instant.
func (s *model) remove(match func(Key, *modelNode) bool) {
	next := slices.Clone(s.latest())
	for i := range next {
		g := &next[i]
		g.locks = slices.DeleteFunc(slices.Clone(g.locks), func(n *modelNode) bool {
			return match(Key{Group: g.name, Kind: NodeLock, Lock: n.name}, n)
		})
		if g.record != nil && match(Key{Group: g.name, Kind: NodeRecord}, g.record) {
			g.record = nil
		}
		if g.queue != nil && match(Key{Group: g.name, Kind: NodeQueue}, g.queue) {
			g.queue, g.locks = nil, nil
		}
	}
	s.trees = append(s.trees, next)
}

// observe reads a group, each read at a zxid between *seen and the latest.
// Without a source of chance every read is fresh.
func (s *model) observe(rng *rand.Rand, seen *int64, r Request) Observation {
	read := func() *modelGroup {
		if rng != nil && rng.IntN(2) == 0 {
			*seen += rng.Int64N(s.zxid() - *seen + 1)
		} else {
			*seen = s.zxid()
		}
		return s.at(*seen, r.Observe)
	}
	return observeWith(read, r)
}

// frozen reads a group as a server does that hears of nothing new.
func (s *model) frozen(seen int64, r Request) Observation {
	return observeWith(func() *modelGroup { return s.at(seen, r.Observe) }, r)
}

func (s *model) at(zxid int64, group string) *modelGroup {
	if g := s.trees[zxid].group(group); g != nil {
		return g
	}
	return &modelGroup{name: group}
}

// observeWith reads in the order of the contract.
func observeWith(read func() *modelGroup, r Request) Observation {
	var o Observation
	if r.WithQueueVersion {
		if q := read().queue; q != nil {
			o.QueueVersion = q.version
		}
	}
	lock := ""
	if n := read().record; n != nil {
		o.RecordExists, o.Record, lock = true, n.data, n.rec.Lock
		o.RecordVersion, o.RecordCreated, o.RecordChanged = n.version, n.created, n.changed
	}
	children := read()
	o.QueueExists = children.queue != nil
	for _, n := range children.locks {
		o.Locks = append(o.Locks, LockSeen{Name: n.name, Priority: n.priority})
	}
	if lock != "" {
		if n := read().lock(lock); n != nil {
			o.NamedExists, o.NamedVersion = true, n.version
		}
	}
	return o
}

// record returns a group's record as it is now.
func (s *model) record(group string) (Record, bool) {
	if n := s.at(s.zxid(), group).record; n != nil {
		return n.rec, true
	}
	return Record{}, false
}
