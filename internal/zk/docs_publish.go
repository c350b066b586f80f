package zk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

const (
	publishBatch = 64               // znodes in one Multi
	publishRetry = time.Second      // where something is in the way
	publishPoll  = 30 * time.Second // what is published is looked at
)

// Publisher keeps ephemeral znodes: they say what their director says now, and
// vanish with it. Updates are coalesced: a znode that changes ten times while
// ZooKeeper is slow is written once.
//
// It makes one missing parent (health/<node>), never the cluster's root: that
// is apply's. A znode of another session is not touched: after a restart it is
// replaced when the old session has expired; two directors with one name are
// told by Foreign.
type Publisher struct {
	s   *Session
	log *zap.Logger

	mu      sync.Mutex
	want    map[string][]byte
	kick    chan struct{}
	foreign map[string]int64

	// Run's own.
	have       map[string]held
	generation uint64
	sessions   map[int64]bool // this publisher's, past and present
}

// held is what is believed to stand in ZooKeeper. No entry means nothing.
type held struct {
	doubt bool // to be looked at
	data  []byte
}

// NewPublisher publishes over a session once it runs.
func NewPublisher(s *Session, log *zap.Logger) *Publisher {
	return &Publisher{
		s: s, log: log, want: make(map[string][]byte), kick: make(chan struct{}, 1),
		foreign: make(map[string]int64), have: make(map[string]held), sessions: make(map[int64]bool),
	}
}

// Publish makes the znode say data, soon and until it is withdrawn.
func (p *Publisher) Publish(path string, data []byte) {
	p.mu.Lock()
	p.want[path] = slices.Clone(data)
	p.mu.Unlock()
	p.wake()
}

// Withdraw removes the znode.
func (p *Publisher) Withdraw(path string) {
	p.mu.Lock()
	delete(p.want, path)
	delete(p.foreign, path)
	p.mu.Unlock()
	p.wake()
}

func (p *Publisher) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Foreign lists the paths that another session occupies, with that session's
// id, 0 if the znode is not ephemeral.
func (p *Publisher) Foreign() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.foreign)
}

// Run publishes until ctx ends and returns its error. The znodes go with the
// session.
func (p *Publisher) Run(ctx context.Context) error {
	sub := p.s.Subscribe()
	defer sub.Close()
	poll := time.NewTicker(publishPoll)
	defer poll.Stop()
	for {
		var retry <-chan time.Time
		if done := p.reconcile(ctx); !done {
			retry = time.After(publishRetry)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
			p.doubtAll()
		case <-sub.Changes():
			sub.Fired()
		case <-p.kick:
		case <-retry:
		}
	}
}

func (p *Publisher) doubtAll() {
	for path, h := range p.have {
		h.doubt = true
		p.have[path] = h
	}
}

// reconcile writes batches until ZooKeeper says what is wanted; false asks for
// another try later.
func (p *Publisher) reconcile(ctx context.Context) (done bool) {
	for ctx.Err() == nil {
		st := p.s.State()
		if !st.Connected {
			return true // the next change of state wakes Run
		}
		if st.Generation != p.generation {
			p.generation = st.Generation
			clear(p.have)
		}
		p.sessions[st.ID] = true
		todo, blocked, err := p.plan(ctx, st.ID)
		if err == nil && len(todo) == 0 {
			return !blocked
		}
		if err == nil {
			err = p.commit(ctx, todo)
		}
		if err != nil {
			p.log.Debug("publishing failed, to be repeated", zap.Error(err))
			return false
		}
	}
	return true
}

// task is one znode's change and what stands there after it.
type task struct {
	path string
	ops  []Op
	then *held // nil: nothing
}

// plan collects the next batch, looking first at whatever is in doubt.
func (p *Publisher) plan(ctx context.Context, session int64) (todo []task, blocked bool, err error) {
	want := p.wanted()
	for path, data := range want {
		if len(todo) == publishBatch {
			return todo, blocked, nil
		}
		h, ok := p.have[path]
		if ok && !h.doubt && bytes.Equal(h.data, data) {
			continue
		}
		t := task{path: path, ops: []Op{write(path, data, ok)}, then: &held{data: data}}
		if h.doubt {
			ops, err := p.look(ctx, path, data, session)
			if err != nil {
				return nil, false, err
			}
			if t.ops = ops; ops == nil {
				blocked = true
				continue
			}
		}
		todo = append(todo, t)
	}
	for path, h := range p.have {
		if _, wanted := want[path]; wanted || len(todo) == publishBatch {
			continue
		}
		if h.doubt { // it may not be there, or not be ours
			stat, ok, err := p.s.Exists(ctx, path)
			if err != nil {
				return nil, false, err
			}
			if !ok || !p.sessions[stat.Owner] {
				delete(p.have, path)
				continue
			}
		}
		todo = append(todo, task{path: path, ops: []Op{OpDelete(path, AnyVersion)}})
	}
	return todo, blocked, nil
}

func (p *Publisher) wanted() map[string][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.want)
}

func write(path string, data []byte, there bool) Op {
	if there {
		return OpSet(path, data, AnyVersion)
	}
	return OpCreate(path, data, Ephemeral)
}

// look finds out what it takes to publish on a path of which nothing is sure;
// no operations: another session occupies it.
func (p *Publisher) look(ctx context.Context, path string, data []byte, session int64) ([]Op, error) {
	stat, ok, err := p.s.Exists(ctx, path)
	if err != nil {
		return nil, err
	}
	switch {
	case !ok:
		p.occupied(path, 0, false)
		return []Op{OpCreate(path, data, Ephemeral)}, nil
	case stat.Owner == session:
		p.occupied(path, 0, false)
		return []Op{OpSet(path, data, stat.Version)}, nil
	case stat.Owner != 0 && p.sessions[stat.Owner]:
		p.occupied(path, 0, false)
		return []Op{OpDelete(path, stat.Version), OpCreate(path, data, Ephemeral)}, nil
	}
	p.occupied(path, stat.Owner, true)
	return nil, nil
}

func (p *Publisher) occupied(path string, owner int64, yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !yes {
		delete(p.foreign, path)
		return
	}
	if _, known := p.foreign[path]; !known {
		p.log.Info("a znode of another session is in the way: after a restart it goes when that session expires; if it stays, another host has this node's name",
			zap.String(logfield.Path, path), zap.Int64(logfield.Session, owner))
	}
	p.foreign[path] = owner
}

// commit writes a batch. An error is one that another try may mend; whatever
// stands in the way of one znode only leaves that one in doubt.
func (p *Publisher) commit(ctx context.Context, todo []task) error {
	var ops []Op
	for _, t := range todo {
		ops = append(ops, t.ops...)
	}
	_, err := p.s.Multi(ctx, ops...)
	var failed *Error
	switch {
	case err == nil:
		for _, t := range todo {
			p.settle(t)
		}
		return nil
	case errors.Is(err, ErrUnknown):
		for _, t := range todo {
			p.doubt(t.path)
		}
		return err
	case !errors.As(err, &failed) || failed.Index < 0:
		return err
	case failed.Op == "create" && errors.Is(err, ErrNoNode):
		return p.makeParent(ctx, path.Dir(failed.Path))
	case errors.Is(err, ErrNodeExists), errors.Is(err, ErrNoNode), errors.Is(err, ErrBadVersion):
		p.doubt(failed.Path)
		return nil
	}
	return err
}

// makeParent makes one missing parent. Where its own parent is missing too
// the cluster was never applied, and nothing is published.
func (p *Publisher) makeParent(ctx context.Context, parent string) error {
	if strings.Count(parent, "/") < 3 { // /zklvs/<cluster>, or above
		return fmt.Errorf("%s is missing: apply the cluster's documents first", parent)
	}
	_, err := p.s.Create(ctx, parent, nil, Persistent)
	if errors.Is(err, ErrNodeExists) {
		return nil
	}
	return err
}

func (p *Publisher) settle(t task) {
	if t.then == nil {
		delete(p.have, t.path)
		return
	}
	p.have[t.path] = *t.then
}

func (p *Publisher) doubt(path string) {
	h := p.have[path]
	h.doubt = true
	p.have[path] = h
}
