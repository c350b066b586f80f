package zk

import (
	"context"
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
	Queued(election.Queued)
}

// ElectorConfig is what an Elector is made of. All fields are required.
type ElectorConfig struct {
	// Session is the election's own: nothing else may delay a renewal.
	Session  *Session
	Tree     Tree
	Machine  *election.Machine
	Executor Executor
	// Ask sends a question to a voter, at once or not at all; it must not block.
	Ask    func(election.AskVoter)
	Now    func() time.Duration // CLOCK_BOOTTIME
	Logger *zap.Logger
}

// Elector drives an election.Machine on a session: it turns the session's
// state, replies, watches and the passing of time into events, and carries out
// the machine's requests one at a time.
type Elector struct {
	ElectorConfig
	log      *zap.Logger
	calls    chan func(now time.Duration) []election.Action
	replies  chan election.Reply
	ended    chan struct{}
	last     State
	requests *requests
}

// NewElector returns an elector that Run starts.
func NewElector(cfg ElectorConfig) *Elector {
	return &Elector{
		ElectorConfig: cfg,
		log:           cfg.Logger,
		requests:      newRequests(cfg.Session, cfg.Tree, cfg.Logger),
		calls:         make(chan func(time.Duration) []election.Action),
		replies:       make(chan election.Reply, 1),
		ended:         make(chan struct{}),
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
			go func() { e.replies <- e.requests.serve(session, a.Request) }() // one at a time: the machine sends no second before the reply
		case election.Grant:
			e.Executor.Grant(a)
		case election.Fence:
			e.Executor.Fence(a)
		case election.Queued:
			e.Executor.Queued(a)
		case election.AskVoter:
			e.Ask(a)
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

// Asked answers another director's question, see election.Machine. After Run has
// ended nothing is promised.
func (e *Elector) Asked(q election.Question) (a election.Answer) {
	a.Reason = "this director is shutting down"
	e.call(func(now time.Duration) []election.Action {
		a = e.Machine.Asked(now, q)
		return nil
	})
	return a
}

// Answered hands in the answer to a question that Ask was given.
func (e *Elector) Answered(from election.Voter, q election.Question, a election.Answer) {
	e.call(func(now time.Duration) []election.Action { return e.Machine.Answered(now, from, q, a) })
}

// Status returns a snapshot of all groups.
func (e *Elector) Status() (s []election.GroupStatus) {
	e.call(func(now time.Duration) []election.Action {
		s = e.Machine.Status(now)
		return nil
	})
	return s
}
