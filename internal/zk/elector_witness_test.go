package zk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/boottime"
)

// witness sees what every executor of one cluster does, on the one clock of
// this host, and what is written to the records. It notes each breach of:
//
//   - at most one director has a grant for a group that is neither over nor
//     fenced,
//   - nothing is granted for a lock that was fenced,
//   - no receipt for a lock appears before its holder has said fenced,
//   - an acquisition raises the epoch by one, and nothing else changes it.
type witness struct {
	t testing.TB

	mu      sync.Mutex
	spans   []*span
	records map[string][]written
	locks   map[string]sighting
}

// span is one holding as its executor sees it: it answers until `until`.
type span struct {
	election.Holding
	who      *executor
	grants   []grant
	deadline time.Duration // of the newest grant
	until    time.Duration // the deadline, or the moment of the fence
	fence    time.Duration // when Fence was called, 0 if it was not
	reason   string        // of the fence
	fenced   bool          // verified
}

// grant is one that an executor was given in time.
type grant struct{ at, deadline time.Duration }

// begun is when the holding first answered.
func (s span) begun() time.Duration { return s.grants[0].at }

// granted is when the newest grant came.
func (s span) granted() time.Duration { return s.grants[len(s.grants)-1].at }

// written is a record's content and when it was first seen.
type written struct {
	election.Record
	stat Stat
	at   time.Duration
}

// sighting is when a lock was first seen in its newest version.
type sighting struct {
	version int32
	at      time.Duration
}

func (w *witness) breach(format string, args ...any) {
	w.t.Errorf("BREACH at %s: %s", boottime.Now(), fmt.Sprintf(format, args...))
}

func (w *witness) find(h election.Holding) *span {
	for _, s := range w.spans {
		if s.Holding == h {
			return s
		}
	}
	return nil
}

func (w *witness) granted(x *executor, g election.Grant) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := boottime.Now()
	s := w.find(g.Holding)
	if (s == nil) != g.First {
		w.breach("%s: grant %+v, first=%v", x.node, g.Holding, g.First)
	}
	if s == nil {
		s = &span{Holding: g.Holding, who: x}
		w.spans = append(w.spans, s)
	}
	if s.fence != 0 {
		w.breach("%s: granted %+v after its fence", x.node, g.Holding)
	}
	if x.dead || g.Deadline <= now {
		return
	}
	for _, o := range w.spans {
		if o != s && o.Group == s.Group && o.until > now {
			w.breach("%s answers for %s in epoch %d, and so does %s in epoch %d for another %s",
				x.node, s.Group, s.Epoch, o.who.node, o.Epoch, o.until-now)
		}
	}
	s.grants = append(s.grants, grant{now, g.Deadline})
	s.deadline, s.until = g.Deadline, g.Deadline
}

// fence notes the order to fence.
func (w *witness) fence(x *executor, h election.Holding, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.find(h)
	if s == nil { // acquired and lost before the first grant
		s = &span{Holding: h, who: x}
		w.spans = append(w.spans, s)
	}
	if s.fence != 0 {
		w.breach("%s: fence of %+v ordered twice", x.node, h)
	}
	s.fence, s.reason = boottime.Now(), reason
}

// fenced notes that the executor verifiably stopped. It comes before the
// machine is told.
func (w *witness) fenced(h election.Holding) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.find(h)
	s.fenced, s.until = true, min(s.until, boottime.Now())
}

// answering returns the holding that answers for a group.
func (w *witness) answering(group string) (span, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := boottime.Now()
	for _, s := range w.spans {
		if s.Group == group && s.until > now {
			return *s, true
		}
	}
	return span{}, false
}

// span returns what is known about a holding.
func (w *witness) span(h election.Holding) span {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.find(h)
}

// history returns what was seen of a record.
func (w *witness) history(group string) []written {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]written(nil), w.records[group]...)
}

// renewed returns the newest version of a lock that was seen, and when.
func (w *witness) renewed(lock string) sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.locks[lock]
}

// follow reads a group until ctx ends: at each watch, and every 50 ms.
func (w *witness) follow(ctx context.Context, s *Session, tree Tree, group string) {
	sub := s.Subscribe()
	defer sub.Close()
	for ctx.Err() == nil {
		w.read(ctx, s, tree, group)
		select {
		case <-sub.Changes():
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (w *witness) read(ctx context.Context, s *Session, tree Tree, group string) {
	data, stat, err := s.GetW(ctx, tree.Record(group))
	if err != nil {
		return
	}
	now := boottime.Now()
	r, err := election.DecodeRecord(data)
	if err != nil {
		return // spoiled by the test
	}
	w.wrote(group, written{r, stat, now})
	if r.Lock == "" {
		return
	}
	if stat, ok, err := s.ExistsW(ctx, tree.Lock(group, r.Lock)); err == nil && ok {
		w.sighted(group, r.Lock, stat, boottime.Now())
	}
}

func (w *witness) wrote(group string, now written) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.records[group]
	if len(old) > 0 {
		last := old[len(old)-1]
		if now.stat.Mzxid <= last.stat.Mzxid {
			return
		}
		w.checkEpoch(last, now)
	}
	w.records[group] = append(old, now)
	if now.State != election.StateReleased || now.Lock == "" {
		return
	}
	for _, s := range w.spans {
		if s.Group == group && s.Lock == now.Lock && !s.fenced {
			w.breach("%s: a receipt for %s, which has not said fenced", group, now.Lock)
		}
	}
}

// checkEpoch compares two records, between which some may have been missed.
func (w *witness) checkEpoch(last, now written) {
	steps := uint64(1)
	if last.stat.Czxid == now.stat.Czxid {
		steps = uint64(now.stat.Version - last.stat.Version)
	} else {
		steps += uint64(now.stat.Version)
	}
	grown := now.Epoch - last.Epoch // wraps if it shrank
	acquired := steps == 1 && now.State == election.StateHolding && now.Lock != last.Lock
	if grown > steps || acquired != (grown == 1) && steps == 1 {
		w.breach("epoch %d (%s) became %d (%s) in %d steps", last.Epoch, last.State, now.Epoch, now.State, steps)
	}
}

// sighted notes a lock's version: the renewal that made it was committed, and
// so also sent, before now.
func (w *witness) sighted(_, lock string, stat Stat, now time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old, ok := w.locks[lock]; ok && old.version >= stat.Version {
		return
	}
	w.locks[lock] = sighting{stat.Version, now}
}

// executor plays the part of the fence: it answers until the deadline, or
// until it has fenced, which a test can delay.
type executor struct {
	w       *witness
	node    string
	elector *Elector
	acks    chan struct{} // closed while fences are verified at once
	all     sync.WaitGroup
	dead    bool // its process is gone; guarded by w.mu
}

func (x *executor) Grant(g election.Grant) { x.w.granted(x, g) }

func (x *executor) Queued(election.Queued) {}

func (x *executor) Fence(f election.Fence) {
	x.w.fence(x, f.Holding, f.Reason)
	x.w.mu.Lock()
	acks := x.acks
	x.w.mu.Unlock()
	x.all.Go(func() {
		<-acks
		x.w.fenced(f.Holding)
		x.elector.Fenced(f.Holding)
	})
}

// holdFences makes later fences wait for the function that it returns.
func (x *executor) holdFences() (verify func()) {
	x.w.mu.Lock()
	defer x.w.mu.Unlock()
	acks := make(chan struct{})
	x.acks = acks
	once := sync.OnceFunc(func() { close(acks) })
	x.w.t.Cleanup(once)
	return once
}

// die ends what the executor does, as the end of its network namespace would:
// nothing of it answers any more.
func (x *executor) die() {
	x.w.mu.Lock()
	defer x.w.mu.Unlock()
	x.dead = true
	for _, s := range x.w.spans {
		if s.who == x {
			s.fenced, s.until = true, min(s.until, boottime.Now())
		}
	}
}

// electorate is a cluster of the test's own with a witness.
type electorate struct {
	*witness
	s      *Session // the operator's
	st     *Store
	tree   Tree
	config Config
	timing election.Timing
	groups []string
}

// short is the shortest lease that can be configured.
func short() election.Timing {
	return election.Timing{Lease: time.Second, Renew: election.DefaultRenew(time.Second), Drift: 0.1}
}

// wait is W of a timing.
func (c *electorate) wait() time.Duration { return c.timing.Wait(c.timing.Lease) }

// elect makes a cluster with these groups as `zklvs apply` does. Its records
// are `released`: nobody ever held.
func elect(t testing.TB, timing election.Timing, config Config, groups ...string) *electorate {
	t.Helper()
	w := &witness{t: t, records: map[string][]written{}, locks: map[string]sighting{}}
	config.Servers = sharedEnsemble(t).Servers()
	config.Logger = zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	operator := config
	operator.ReplyTimeout, operator.SessionTimeout = 5*time.Second, 10*time.Second
	s := run(t, operator)
	connected(t, s)
	tree := must(NewTree(strings.NewReplacer("/", "-", ",", "").Replace(t.Name())))(t)
	c := &electorate{witness: w, s: s, st: NewStore(s, tree), tree: tree, config: config, timing: timing, groups: groups}
	var changes []Change
	for _, g := range groups {
		changes = append(changes, put(groupDocs+g, g))
	}
	_ = must(c.st.Apply(context.Background(), must(c.st.ReadSpec(context.Background()))(t), changes, func(_ string, released bool) ([]byte, error) {
		return election.NewRecord(released, time.Now()).Encode(), nil
	}))(t)
	for _, g := range groups {
		background(t, func(ctx context.Context) error { c.follow(ctx, s, tree, g); return nil })
	}
	return c
}

// director is one elector with its session, on links that can be cut.
type director struct {
	*executor
	session *Session
	links   []*proxy
	groups  []election.GroupConfig
	logs    *observer.ObservedLogs
	stop    func() // in order; it returns when Run has
}

// as changes what a director is started with.
type as func(*asked)

type asked struct {
	session *Session
	config  Config
	host    election.HostID
	group   election.GroupConfig
}

func priority(n int) as           { return func(a *asked) { a.group.Priority = n } }
func preempting(a *asked)         { a.group.Preempt = true }
func paused(a *asked)             { a.group.Paused = true }
func password(p string) as        { return func(a *asked) { a.config.Password = p } }
func onHost(h election.HostID) as { return func(a *asked) { a.host = h } }
func in(s *Session) as            { return func(a *asked) { a.session = s } }

// start starts a director. Each is on a host of its own unless asked otherwise.
func (c *electorate) start(t testing.TB, node string, how ...as) *director {
	t.Helper()
	a := asked{config: c.config, group: election.GroupConfig{Priority: 100},
		host: election.HostID{MachineID: node, BootID: "boot", NetnsCookie: rand.Uint64() | 1}}
	a.config.SessionTimeout = max(4*time.Second, 2*c.timing.Lease)
	for _, change := range how {
		change(&a)
	}
	d := &director{session: a.session}
	if d.session == nil {
		d.links, a.config.Servers = proxies(t, c.config.Servers)
		d.session = run(t, a.config)
	}
	core, logs := observer.New(zap.InfoLevel)
	d.logs = logs
	log := zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel)).Named(node).WithOptions(zap.WrapCore(func(own zapcore.Core) zapcore.Core { return zapcore.NewTee(own, core) }))
	machine := must(election.New(election.Config{Node: node, Host: a.host, Timing: c.timing, Random: rand.Uint64, Wall: time.Now}))(t)
	d.executor = &executor{w: c.witness, node: node, acks: closedChan()}
	d.elector = NewElector(ElectorConfig{Session: d.session, Tree: c.tree, Machine: machine, Executor: d.executor, Now: boottime.Now, Logger: log})
	d.run(t)
	for _, g := range c.groups {
		a.group.Name = g
		d.groups = append(d.groups, a.group)
	}
	d.elector.Configure(d.groups)
	return d
}

// run drives the elector until stop, or the end of the test.
func (d *director) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.elector.Run(ctx) }()
	d.stop = func() { cancel(); <-done; d.all.Wait() }
	t.Cleanup(func() {
		cancel()
		each(d.links, (*proxy).thaw)
		d.stop()
	})
}
