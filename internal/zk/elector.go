package zk

import (
	"context"
	"errors"
	"path"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/logfield"
)

const (
	// releaseGrace is how long an ordered release may take at shutdown before
	// the locks are left to the end of the session. Fencing has no such limit.
	releaseGrace = 5 * time.Second
	// maxNap bounds the timer's sleep: Go's timers stand still while the machine
	// is suspended, leases do not.
	maxNap = 250 * time.Millisecond
)

// Executor carries out what the election decides. Its methods are called from
// the elector's one goroutine and must return at once.
type Executor interface {
	Grant(election.Grant)
	Fence(election.Fence)
}

// ElectorConfig is what an Elector is made of. All fields are required.
type ElectorConfig struct {
	// Session is the election's own: nothing else may delay a renewal.
	Session  *Session
	Tree     Tree
	Machine  *election.Machine
	Executor Executor
	Now      func() time.Duration // CLOCK_BOOTTIME
	Logger   *zap.Logger
}

// Elector drives an election.Machine on a session: it turns the session's
// state, replies, watches and the passing of time into events, and carries out
// the machine's requests one at a time.
type Elector struct {
	ElectorConfig
	log        *zap.Logger
	calls      chan func(now time.Duration) []election.Action
	replies    chan election.Reply
	ended      chan struct{}
	last       State
	priorities map[string]int // of locks already read; a lock's priority never changes
}

// NewElector returns an elector that Run starts.
func NewElector(cfg ElectorConfig) *Elector {
	return &Elector{
		ElectorConfig: cfg,
		log:           cfg.Logger,
		calls:         make(chan func(time.Duration) []election.Action),
		replies:       make(chan election.Reply, 1),
		ended:         make(chan struct{}),
		priorities:    map[string]int{},
	}
}

// Run drives the election until ctx ends and everything is released in order:
// the session must live longer than Run. It returns only when nothing of this
// director answers any more.
func (e *Elector) Run(ctx context.Context) error {
	defer close(e.ended)
	sub := e.Session.Subscribe()
	defer sub.Close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	var giveUp <-chan time.Time
	patient := true
	e.changed(nil) // the session may have been connected before this subscription
	for {
		now := e.Now()
		if m := e.Machine; stop == nil && (m.Done() || !patient && !m.Answering()) {
			return ctx.Err()
		}
		timer.Reset(min(e.Machine.Wake(now)-now, maxNap))
		select {
		case <-stop:
			stop, giveUp = nil, time.After(releaseGrace)
			e.act(e.Machine.Stop(e.Now()))
		case <-giveUp:
			patient = false
		case <-timer.C:
			e.act(e.Machine.Tick(e.Now()))
		case call := <-e.calls:
			e.act(call(e.Now()))
		case r := <-e.replies:
			e.act(e.Machine.Replied(e.Now(), r))
		case <-sub.Changes():
			e.changed(sub.Fired())
		}
	}
}

// changed tells the machine what became of the session, and which groups may
// have changed.
func (e *Elector) changed(fired []string) {
	s := e.Session.State()
	was := e.last
	e.last = s
	if s.Rewound != was.Rewound {
		e.act(e.Machine.Distrust(e.Now(), "ZooKeeper went back in time (state lost, or restored from a backup): restart this director when ZooKeeper is sane"))
	}
	if was.ID != 0 && s.ID != was.ID {
		e.act(e.Machine.Expired(e.Now()))
	}
	switch {
	case s.Connected && (!was.Connected || s.Connection != was.Connection || s.ID != was.ID):
		e.act(e.Machine.Connected(e.Now(), uint64(s.ID), s.Timeout))
	case !s.Connected && was.Connected:
		e.act(e.Machine.Disconnected(e.Now()))
	}
	for _, p := range fired {
		if group, ok := e.Tree.groupOf(p); ok {
			e.act(e.Machine.Hint(e.Now(), group))
		}
	}
}

func (e *Elector) act(actions []election.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case election.Send:
			session := e.last.ID
			go func() { e.replies <- e.serve(session, a.Request) }() // one at a time: the machine sends no second before the reply
		case election.Grant:
			e.Executor.Grant(a)
		case election.Fence:
			e.Executor.Fence(a)
		case election.Note:
			e.note(a)
		}
	}
}

func (e *Elector) note(n election.Note) {
	log := e.log.Info
	if n.Trouble {
		log = e.log.Warn
	}
	log(n.Text, zap.String(logfield.Group, n.Group), zap.String(logfield.Reason, n.Reason))
}

// serve carries out one request, in the session for which the machine made it
// or not at all. No context ends it: the session's own bounds
// do, and a step that safety needs is not skipped because the daemon stops.
func (e *Elector) serve(session int64, r election.Request) election.Reply {
	ctx := context.Background()
	var reply election.Reply
	var err error
	if r.Txn != nil {
		reply, err = e.commit(ctx, session, r.Txn)
	} else {
		reply.Observation, err = e.observe(ctx, r.Observe, r.WithQueueVersion)
		if err == nil && e.Session.State().ID != session {
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

func (e *Elector) commit(ctx context.Context, session int64, txn []election.Op) (election.Reply, error) {
	ops := make([]Op, len(txn))
	for i, op := range txn {
		ops[i] = e.op(op)
	}
	results, err := e.Session.MultiIn(ctx, session, ops...)
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

func (e *Elector) op(o election.Op) Op {
	p := e.path(o.Key)
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

func (e *Elector) path(k election.Key) string {
	switch k.Kind {
	case election.NodeQueue:
		return e.Tree.Election(k.Group)
	case election.NodeRecord:
		return e.Tree.Record(k.Group)
	}
	return e.Tree.Lock(k.Group, k.Lock)
}

// observe reads a group in the order that election's contract asks for,
// leaving watches on the record, the queue and the holder's lock: a standby sees
// each renewal at once, so that its wait begins at the last one.
func (e *Elector) observe(ctx context.Context, group string, withQueueVersion bool) (election.Observation, error) {
	var o election.Observation
	if withQueueVersion {
		stat, _, err := e.Session.Exists(ctx, e.Tree.Election(group))
		if err != nil {
			return o, err
		}
		o.QueueVersion = stat.Version
	}
	data, stat, err := e.Session.GetW(ctx, e.Tree.Record(group))
	if err == nil {
		o.RecordExists, o.Record = true, data
		o.RecordVersion, o.RecordCreated, o.RecordChanged = stat.Version, stat.Czxid, stat.Mzxid
	} else if !errors.Is(err, ErrNoNode) {
		return o, err
	}
	names, _, err := e.Session.ChildrenW(ctx, e.Tree.Election(group))
	if err == nil {
		o.QueueExists = true
	} else if !errors.Is(err, ErrNoNode) {
		return o, err
	}
	if o.Locks, err = e.locks(ctx, group, names); err != nil {
		return o, err
	}
	if lock := election.NamedLock(o.Record); lock != "" {
		look := e.Session.ExistsW
		if l, err := election.ParseLockName(lock); err == nil && l.Session == uint64(e.Session.State().ID) {
			look = e.Session.Exists // our own renewals are no news
		}
		s, ok, err := look(ctx, e.Tree.Lock(group, lock))
		if err != nil {
			return o, err
		}
		o.NamedExists, o.NamedVersion = ok, s.Version
	}
	return o, nil
}

// maxLocks bounds how many priorities one observation reads. Directors have one
// lock each; more are somebody's mistake.
const maxLocks = 256

// locks reads the priority of each lock not yet known. A lock beyond the bound
// has none, and is still seen: a director that missed its own would queue anew
// for ever.
func (e *Elector) locks(ctx context.Context, group string, names []string) ([]election.LockSeen, error) {
	seen := make([]election.LockSeen, 0, len(names))
	reads := 0
	for _, name := range names {
		if _, err := election.ParseLockName(name); err != nil {
			continue
		}
		key := group + "/" + name
		priority, known := e.priorities[key]
		if !known {
			if reads++; reads > maxLocks {
				seen = append(seen, election.LockSeen{Name: name})
				continue
			}
			data, _, err := e.Session.Get(ctx, e.Tree.Lock(group, name))
			if errors.Is(err, ErrNoNode) {
				continue // gone since the list was read
			}
			if err != nil {
				return nil, err
			}
			d, err := election.DecodeLockData(data)
			if err != nil {
				e.log.Warn("a lock is not understood", zap.String(logfield.Lock, name), zap.Error(err))
			}
			priority = d.Priority
			e.remember(key, priority)
		}
		seen = append(seen, election.LockSeen{Name: name, Priority: priority})
	}
	if reads > maxLocks {
		e.log.Warn("too many locks in the queue: some are taken to have no priority", zap.String(logfield.Group, group), zap.Int("locks", len(seen)))
	}
	return seen, nil
}

// remember keeps a lock's priority. The memory is emptied when it has grown:
// locks come and go, and reading one again costs little.
func (e *Elector) remember(lock string, priority int) {
	const limit = 4096
	if len(e.priorities) >= limit {
		clear(e.priorities)
	}
	e.priorities[lock] = priority
}

// call runs do in the elector's goroutine, or not at all once Run has ended.
func (e *Elector) call(do func(now time.Duration) []election.Action) {
	done := make(chan struct{})
	select {
	case e.calls <- func(now time.Duration) []election.Action { defer close(done); return do(now) }:
		<-done
	case <-e.ended:
	}
}

// Configure replaces the set of groups, see election.Machine.
func (e *Elector) Configure(groups []election.GroupConfig) {
	e.call(func(now time.Duration) []election.Action { return e.Machine.Configure(now, groups) })
}

// SetTiming changes the timing of future acquisitions.
func (e *Elector) SetTiming(t election.Timing) (err error) {
	e.call(func(now time.Duration) []election.Action {
		var actions []election.Action
		actions, err = e.Machine.SetTiming(now, t)
		return actions
	})
	return err
}

// Fenced tells that the holding is verified not to be answered for any more.
func (e *Elector) Fenced(h election.Holding) {
	e.call(func(now time.Duration) []election.Action { return e.Machine.Fenced(now, h) })
}

// GiveUp ends a holding that cannot be carried out.
func (e *Elector) GiveUp(h election.Holding, reason string) {
	e.call(func(now time.Duration) []election.Action { return e.Machine.GiveUp(now, h, reason) })
}

// Status returns a snapshot of all groups.
func (e *Elector) Status() (s []election.GroupStatus) {
	e.call(func(now time.Duration) []election.Action {
		s = e.Machine.Status(now)
		return nil
	})
	return s
}
