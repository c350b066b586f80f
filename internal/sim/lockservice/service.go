package lockservice

import (
	"slices"
	"strconv"

	"github.com/zklvs/zklvs/election"
)

// Service is a lock service. It is not safe for concurrent use.
type Service struct {
	trees []tree // one for each zxid; never changed once it is here
	// counters are the sequence numbers of locks by group, which outlive the group.
	counters map[string]int64
}

// tree is every group at one zxid.
type tree []group

type group struct {
	name          string
	queue, record *node
	locks         []*node // shared between trees: cloned before a change
	voters        *node   // outlives the rest
	there         bool    // the group's own znode, without which no queue can be made
}

type node struct {
	data             []byte
	version          int32
	created, changed int64
	rec              *election.Record // of a record: what data says
	name             string           // of a lock
	lock             election.LockSeen
	session          uint64 // of a lock: its owner
}

// New returns a service without any group.
func New() *Service {
	return &Service{trees: append(make([]tree, 0, 128), nil), counters: map[string]int64{}}
}

// Zxid returns the number of the latest state; each commit makes the next one.
func (s *Service) Zxid() int64 { return int64(len(s.trees) - 1) }

func (s *Service) latest() tree { return s.trees[len(s.trees)-1] }

// group returns a group of the tree, nil if nothing was ever in it.
func (t tree) group(name string) *group {
	for i := range t {
		if t[i].name == name {
			return &t[i]
		}
	}
	return nil
}

func (g *group) lock(name string) *node {
	for _, n := range g.locks {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (g *group) node(k election.Key) *node {
	switch k.Kind {
	case election.NodeQueue:
		return g.queue
	case election.NodeRecord:
		return g.record
	case election.NodeVoters:
		return g.voters
	}
	return g.lock(k.Lock)
}

// put replaces, adds or (n == nil) removes a node.
func (g *group) put(k election.Key, n *node) {
	switch k.Kind {
	case election.NodeQueue:
		g.queue = n
	case election.NodeRecord:
		g.record = n
	case election.NodeVoters:
		g.voters = n
	case election.NodeLock:
		locks := make([]*node, 0, len(g.locks)+1)
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

// Apply creates a group as `zklvs apply` does: not at all where any of it exists,
// and its list of voters only where it never was.
func (s *Service) Apply(name string, r election.Record) {
	if g := s.latest().group(name); g == nil || g.voters == nil && !g.there {
		s.Commit(0, []election.Op{{Kind: election.OpCreate, Key: election.Key{Group: name, Kind: election.NodeVoters}, Data: election.NewVoters().Encode()}})
	}
	if g := s.latest().group(name); !g.there {
		s.edit(func(g *group) { g.there = g.there || g.name == name })
		s.Commit(0, []election.Op{
			{Kind: election.OpCreate, Key: election.Key{Group: name, Kind: election.NodeQueue}},
			{Kind: election.OpCreate, Key: election.Key{Group: name, Kind: election.NodeRecord}, Data: r.Encode()},
		})
	}
}

// Commit does a transaction of a session at one instant.
func (s *Service) Commit(session uint64, txn []election.Op) election.Reply {
	next, zxid := slices.Clone(s.latest()), s.Zxid()+1
	var reply election.Reply
	for i, op := range txn {
		g := next.group(op.Key.Group)
		if g == nil {
			next = append(next, group{name: op.Key.Group})
			g = &next[len(next)-1]
		}
		if code := s.do(g, zxid, session, op, &reply); code != election.CodeNone {
			return election.Reply{Outcome: election.OutcomeConflict, FailedOp: i, Code: code}
		}
	}
	s.trees = append(s.trees, next)
	return reply
}

func (s *Service) do(g *group, zxid int64, session uint64, op election.Op, reply *election.Reply) election.Code {
	if op.Kind == election.OpCreate || op.Kind == election.OpCreateLock {
		return s.create(g, zxid, session, op, reply)
	}
	n := g.node(op.Key)
	switch {
	case n == nil:
		return election.CodeNoNode
	case op.Version != election.AnyVersion && op.Version != n.version:
		return election.CodeBadVersion
	case op.Kind == election.OpDelete:
		g.put(op.Key, nil)
	case op.Kind == election.OpSet:
		written := *n
		written.data, written.changed = op.Data, zxid
		written.version++
		written.decode(op.Key)
		g.put(op.Key, &written)
		if op.Key.Kind == election.NodeRecord {
			reply.RecordVersion, reply.RecordZxid = written.version, zxid
		}
	}
	return election.CodeNone
}

func (s *Service) create(g *group, zxid int64, session uint64, op election.Op, reply *election.Reply) election.Code {
	if op.Key.Kind == election.NodeQueue && !g.there {
		return election.CodeNoNode
	}
	n := &node{data: op.Data, created: zxid, changed: zxid}
	if op.Kind == election.OpCreateLock {
		if g.queue == nil {
			return election.CodeNoNode
		}
		op.Key.Lock = numbered(op.Key.Lock, s.counters[g.name])
		s.counters[g.name]++
		n.name, n.session = op.Key.Lock, session
		d, _ := election.DecodeLockData(op.Data)
		n.lock = election.LockSeen{Name: n.name, Priority: d.Priority, MachineID: d.MachineID, Address: d.Address}
		reply.Created = op.Key.Lock
	}
	if g.node(op.Key) != nil {
		return election.CodeNodeExists
	}
	n.decode(op.Key)
	g.put(op.Key, n)
	return election.CodeNone
}

// numbered appends a sequence number as ZooKeeper does: %010d.
func numbered(prefix string, n int64) string {
	const zeros = "0000000000"
	digits := strconv.FormatInt(n, 10)
	return prefix + zeros[min(len(digits), len(zeros)):] + digits
}

func (n *node) decode(k election.Key) {
	if k.Kind == election.NodeRecord {
		r, _ := election.DecodeRecord(n.data) // the zero record where a test wrote nonsense
		n.rec = &r
	}
}

// Node is what a Remove is asked about.
type Node struct {
	election.Key
	Session uint64 // of a lock: its owner
}

// Expire ends a session: its locks go at one instant.
func (s *Service) Expire(session uint64) {
	s.Remove(func(n Node) bool { return session != 0 && n.Session == session })
}

// Remove deletes nodes by hand, all at one instant. With a queue go its locks.
func (s *Service) Remove(match func(Node) bool) {
	s.edit(func(g *group) {
		key := func(kind election.NodeKind) election.Key { return election.Key{Group: g.name, Kind: kind} }
		gone := func(n *node) bool {
			k := key(election.NodeLock)
			k.Lock = n.name
			return match(Node{k, n.session})
		}
		if slices.ContainsFunc(g.locks, gone) {
			g.locks = slices.DeleteFunc(slices.Clone(g.locks), gone)
		}
		if g.record != nil && match(Node{Key: key(election.NodeRecord)}) {
			g.record = nil
		}
		if g.voters != nil && match(Node{Key: key(election.NodeVoters)}) {
			g.voters = nil
		}
		if g.queue != nil && match(Node{Key: key(election.NodeQueue)}) {
			g.queue, g.locks = nil, nil
		}
	})
}

// RemoveGroup deletes a group by hand with everything in it; its list of voters
// stands elsewhere.
func (s *Service) RemoveGroup(name string) {
	s.edit(func(g *group) {
		if g.name == name {
			g.queue, g.record, g.locks, g.there = nil, nil, nil, false
		}
	})
}

// edit makes a new state in which groups are changed.
func (s *Service) edit(change func(g *group)) {
	next := slices.Clone(s.latest())
	for i := range next {
		change(&next[i])
	}
	s.trees = append(s.trees, next)
}

// Record returns a group's record as it is now.
func (s *Service) Record(name string) (election.Record, bool) {
	if g := s.latest().group(name); g != nil && g.record != nil {
		return *g.record.rec, true
	}
	return election.Record{}, false
}

// HasLock reports whether a lock was there at a zxid.
func (s *Service) HasLock(zxid int64, group, lock string) bool {
	g := s.trees[zxid].group(group)
	return g != nil && g.lock(lock) != nil
}

// Voters reports whether a group's list of voters is there now.
func (s *Service) Voters(group string) bool {
	g := s.latest().group(group)
	return g != nil && g.voters != nil
}
