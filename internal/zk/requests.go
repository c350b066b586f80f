package zk

import (
	"context"
	"errors"
	"path"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/logfield"
)

// requests carries out what election asks of the lock service. It is not safe
// for concurrent use.
type requests struct {
	session *Session
	tree    Tree
	log     *zap.Logger
	locks   map[string]election.LockSeen // already read, by group/name; what counts in a lock never changes
}

func newRequests(s *Session, t Tree, log *zap.Logger) *requests {
	return &requests{session: s, tree: t, log: log, locks: map[string]election.LockSeen{}}
}

// serve carries out one request, in the session for which the machine made it
// or not at all. No context ends it: the session's own bounds
// do, and a step that safety needs is not skipped because the daemon stops.
func (q *requests) serve(session int64, r election.Request) election.Reply {
	ctx := context.Background()
	var reply election.Reply
	var err error
	if r.Txn != nil {
		reply, err = q.commit(ctx, session, r.Txn)
	} else {
		reply.Observation, err = q.observe(ctx, r)
		if err == nil && q.session.State().ID != session {
			err = ErrExpired // its reads may stem from two sessions, and the later ones from a lagging server
		}
	}
	if err != nil {
		outcome(&reply, err)
	}
	reply.ID = r.ID
	return reply
}

// outcome classifies an error. What was surely not committed is a conflict
// only where an operation was to blame.
func outcome(reply *election.Reply, err error) {
	reply.Detail = err.Error()
	var failed *Error
	if errors.As(err, &failed) && failed.Index >= 0 {
		if code := conflictCode(failed.Class); code != election.CodeNone {
			reply.Outcome, reply.FailedOp, reply.Code = election.OutcomeConflict, failed.Index, code
			return
		}
	}
	reply.Outcome = election.OutcomeUnknown
	if errors.Is(err, ErrAuth) || errors.Is(err, ErrOther) || errors.Is(err, ErrNotEmpty) {
		reply.Outcome = election.OutcomeRefused
	}
}

func conflictCode(class error) election.Code {
	switch {
	case errors.Is(class, ErrNoNode):
		return election.CodeNoNode
	case errors.Is(class, ErrBadVersion):
		return election.CodeBadVersion
	case errors.Is(class, ErrNodeExists):
		return election.CodeNodeExists
	}
	return election.CodeNone
}

func (q *requests) commit(ctx context.Context, session int64, txn []election.Op) (election.Reply, error) {
	ops := make([]Op, len(txn))
	for i, op := range txn {
		ops[i] = q.op(op)
	}
	results, err := q.session.MultiIn(ctx, session, ops...)
	var reply election.Reply
	if err != nil {
		return reply, err
	}
	for i, op := range txn {
		switch {
		case op.Kind == election.OpCreateLock:
			reply.Created = path.Base(results[i].Path)
		case op.Kind == election.OpSet && op.Key.Kind == election.NodeRecord:
			reply.RecordVersion, reply.RecordZxid = results[i].Stat.Version, results[i].Stat.Mzxid
		}
	}
	return reply, nil
}

func (q *requests) op(o election.Op) Op {
	p := q.path(o.Key)
	switch o.Kind {
	case election.OpCheck:
		return OpCheck(p, o.Version)
	case election.OpSet:
		return OpSet(p, o.Data, o.Version)
	case election.OpCreate:
		return OpCreate(p, o.Data, Persistent)
	case election.OpCreateLock:
		return OpCreate(p, o.Data, EphemeralSequential)
	case election.OpDelete:
		return OpDelete(p, o.Version)
	}
	panic("zk: election operation of no kind")
}

func (q *requests) path(k election.Key) string {
	switch k.Kind {
	case election.NodeQueue:
		return q.tree.Election(k.Group)
	case election.NodeRecord:
		return q.tree.Record(k.Group)
	case election.NodeVoters:
		return q.tree.Voters(k.Group)
	}
	return q.tree.Lock(k.Group, k.Lock)
}

// observe reads a group in the order that election's contract asks for,
// leaving watches on the record, the queue and the holder's lock: a standby sees
// each renewal at once, so that its wait begins at the last one.
func (q *requests) observe(ctx context.Context, r election.Request) (election.Observation, error) {
	var o election.Observation
	group := r.Observe
	if r.WithQueueVersion {
		stat, _, err := q.session.Exists(ctx, q.tree.Election(group))
		if err != nil {
			return o, err
		}
		o.QueueVersion = stat.Version
	}
	data, stat, err := q.session.GetW(ctx, q.tree.Record(group))
	if err == nil {
		o.RecordExists, o.Record = true, data
		o.RecordVersion, o.RecordCreated, o.RecordChanged = stat.Version, stat.Czxid, stat.Mzxid
	} else if !errors.Is(err, ErrNoNode) {
		return o, err
	}
	names, _, err := q.session.ChildrenW(ctx, q.tree.Election(group))
	if err == nil {
		o.QueueExists = true
	} else if !errors.Is(err, ErrNoNode) {
		return o, err
	}
	if o.Locks, err = q.readLocks(ctx, group, names); err != nil {
		return o, err
	}
	if lock := election.NamedLock(o.Record); lock != "" {
		look := q.session.ExistsW
		if l, err := election.ParseLockName(lock); err == nil && l.Session == uint64(q.session.State().ID) {
			look = q.session.Exists // our own renewals are no news
		}
		s, ok, err := look(ctx, q.tree.Lock(group, lock))
		if err != nil {
			return o, err
		}
		o.NamedExists, o.NamedVersion = ok, s.Version
	}
	if r.WithVoters {
		err = q.voters(ctx, group, &o)
	}
	return o, err
}

// voters reads a group's list of voters.
func (q *requests) voters(ctx context.Context, group string, o *election.Observation) error {
	data, stat, err := q.session.Get(ctx, q.tree.Voters(group))
	if errors.Is(err, ErrNoNode) {
		return nil
	}
	o.VotersExist, o.Voters, o.VotersVersion = err == nil, data, stat.Version
	return err
}

// maxLocks bounds how many locks one observation reads. Directors have one
// lock each; more are somebody's mistake.
const maxLocks = 256

// readLocks reads each lock not yet known. A lock beyond the bound has no priority
// and asks for nothing, and is still seen: a director that missed its own would queue anew
// for ever.
func (q *requests) readLocks(ctx context.Context, group string, names []string) ([]election.LockSeen, error) {
	seen := make([]election.LockSeen, 0, len(names))
	reads := 0
	for _, name := range names {
		if _, err := election.ParseLockName(name); err != nil {
			continue
		}
		key := group + "/" + name
		lock, known := q.locks[key]
		if !known {
			if reads++; reads > maxLocks {
				seen = append(seen, election.LockSeen{Name: name})
				continue
			}
			data, _, err := q.session.Get(ctx, q.tree.Lock(group, name))
			if errors.Is(err, ErrNoNode) {
				continue // gone since the list was read
			}
			if err != nil {
				return nil, err
			}
			d, err := election.DecodeLockData(data)
			if err != nil {
				q.log.Warn("a lock is not understood", zap.String(logfield.Lock, name), zap.Error(err))
			}
			lock = election.LockSeen{Name: name, Priority: d.Priority, MachineID: d.MachineID, Address: d.Address}
			q.remember(key, lock)
		}
		seen = append(seen, lock)
	}
	if reads > maxLocks {
		q.log.Warn("too many locks in the queue: some are taken to have no priority", zap.String(logfield.Group, group), zap.Int("locks", len(seen)))
	}
	return seen, nil
}

// remember keeps what a lock says. The memory is emptied when it has grown:
// locks come and go, and reading one again costs little.
func (q *requests) remember(key string, lock election.LockSeen) {
	const limit = 4096
	if len(q.locks) >= limit {
		clear(q.locks)
	}
	q.locks[key] = lock
}
