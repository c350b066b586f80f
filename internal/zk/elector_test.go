package zk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/zklvs/zklvs/election"
)

func TestOutcome(t *testing.T) {
	failed := func(index int, class error) error {
		return fmt.Errorf("renew: %w", &Error{Op: "set", Path: "/x", Index: index, Class: class})
	}
	for _, c := range []struct {
		name string
		err  error
		want election.Reply
	}{
		{"lock gone", failed(1, ErrNoNode), election.Reply{Outcome: election.OutcomeConflict, FailedOp: 1, Code: election.CodeNoNode}},
		{"record changed", failed(0, ErrBadVersion), election.Reply{Outcome: election.OutcomeConflict, Code: election.CodeBadVersion}},
		{"record there again", failed(2, ErrNodeExists), election.Reply{Outcome: election.OutcomeConflict, FailedOp: 2, Code: election.CodeNodeExists}},
		{"no operation to blame", failed(-1, ErrNoNode), election.Reply{Outcome: election.OutcomeUnknown}},
		{"reply lost", failed(-1, ErrUnknown), election.Reply{Outcome: election.OutcomeUnknown}},
		{"not connected", failed(-1, ErrDisconnected), election.Reply{Outcome: election.OutcomeUnknown}},
		{"expired", failed(-1, ErrExpired), election.Reply{Outcome: election.OutcomeUnknown}},
		{"aborted", failed(3, ErrAborted), election.Reply{Outcome: election.OutcomeUnknown}},
		{"credentials", failed(0, ErrAuth), election.Reply{Outcome: election.OutcomeRefused}},
		{"credentials, reading", failed(-1, ErrAuth), election.Reply{Outcome: election.OutcomeRefused}},
		{"children below a lock", failed(1, ErrNotEmpty), election.Reply{Outcome: election.OutcomeRefused}},
		{"refused", failed(-1, ErrOther), election.Reply{Outcome: election.OutcomeRefused}},
		{"no error of ours", io.ErrUnexpectedEOF, election.Reply{Outcome: election.OutcomeUnknown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got election.Reply
			outcome(&got, c.err)
			c.want.Detail = c.err.Error()
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestElectorOperations(t *testing.T) {
	e := NewElector(ElectorConfig{Tree: must(NewTree("c"))(t)})
	lock := election.Key{Group: "web", Kind: election.NodeLock, Lock: "a-1"}
	record := election.Key{Group: "web", Kind: election.NodeRecord}
	queue := election.Key{Group: "web", Kind: election.NodeQueue}
	data := []byte("x")
	for _, c := range []struct {
		op   election.Op
		want Op
	}{
		{election.Op{Kind: election.OpCheck, Key: record, Version: 7}, OpCheck("/zklvs/c/groups/web/leader", 7)},
		{election.Op{Kind: election.OpSet, Key: lock, Version: election.AnyVersion, Data: data}, OpSet("/zklvs/c/groups/web/election/a-1", data, AnyVersion)},
		{election.Op{Kind: election.OpSet, Key: record, Version: 0, Data: data}, OpSet("/zklvs/c/groups/web/leader", data, 0)},
		{election.Op{Kind: election.OpCreate, Key: queue}, OpCreate("/zklvs/c/groups/web/election", nil, Persistent)},
		{election.Op{Kind: election.OpCreateLock, Key: lock, Data: data}, OpCreate("/zklvs/c/groups/web/election/a-1", data, EphemeralSequential)},
		{election.Op{Kind: election.OpDelete, Key: lock, Version: 3}, OpDelete("/zklvs/c/groups/web/election/a-1", 3)},
	} {
		if diff := cmp.Diff(c.want, e.requests.op(c.op), cmp.AllowUnexported(Op{})); diff != "" {
			t.Errorf("%s: %s", c.want, diff)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an operation of no kind was accepted")
		}
	}()
	e.requests.op(election.Op{Kind: 99})
}

func TestLocksAreForgotten(t *testing.T) {
	e := NewElector(ElectorConfig{})
	for i := range 10_000 {
		e.requests.remember(fmt.Sprint(i), election.LockSeen{Priority: i})
		if len(e.requests.locks) > 4096 {
			t.Fatalf("%d locks kept", len(e.requests.locks))
		}
	}
	if e.requests.locks["9999"].Priority != 9999 {
		t.Error("the newest is not kept")
	}
}

// lockName is that of a lock which no director made.
func lockName(node string, seq int64) string {
	return election.LockName{Node: node, Session: 1, Random: uint64(seq), Sequence: seq}.String()
}

func recordNaming(lock string) []byte {
	r := election.NewRecord(false, time.Unix(0, 0))
	r.State, r.Epoch, r.Node, r.Lock = election.StateHolding, 3, "a", lock
	return r.Encode()
}

// queueOf makes a group by hand: locks of the given data, nil for an empty
// znode; then the record, if any.
func queueOf(t testing.TB, s *Session, tree Tree, group string, locks map[string][]byte, record []byte) {
	t.Helper()
	for _, p := range []string{Base, tree.Root(), tree.Groups()} {
		if _, err := s.Create(context.Background(), p, nil, Persistent); err != nil && !errors.Is(err, ErrNodeExists) {
			t.Fatal(err)
		}
	}
	ops := []Op{OpCreate(tree.Group(group), nil, Persistent), OpCreate(tree.Election(group), nil, Persistent)}
	for name, data := range locks {
		ops = append(ops, OpCreate(tree.Lock(group, name), data, Persistent))
	}
	if record != nil {
		ops = append(ops, OpCreate(tree.Record(group), record, Persistent))
	}
	_ = must(s.Multi(context.Background(), ops...))(t)
}

func TestObserve(t *testing.T) {
	s, _, tree := cluster(t)
	first, second := lockName("a", 1), lockName("b", 2)
	data := election.LockData{Node: "a", Priority: 150}.Encode()
	held, forged := recordNaming(first), []byte(`{"format":2,"state":"holding","lock":"`+first+`"}`)
	many, mixed := map[string][]byte{}, map[string][]byte{first: data}
	for i := range int64(maxLocks + 50) {
		many[lockName("a", i)] = data
		mixed[fmt.Sprintf("x%d", i)] = nil
	}
	for _, c := range []struct {
		name   string
		locks  map[string][]byte
		record []byte
		want   election.Observation
		says   string
	}{
		{"empty", nil, nil, election.Observation{QueueExists: true}, ""},
		{"holder and waiter", map[string][]byte{first: data, second: data}, held, election.Observation{QueueExists: true, RecordExists: true, Record: held,
			NamedExists: true, Locks: []election.LockSeen{{Name: first, Priority: 150}, {Name: second, Priority: 150}}}, ""},
		{"the holder's lock is gone", map[string][]byte{second: data}, held, election.Observation{QueueExists: true, RecordExists: true, Record: held,
			Locks: []election.LockSeen{{Name: second, Priority: 150}}}, ""},
		{"a record not understood", map[string][]byte{first: data}, forged, election.Observation{QueueExists: true, RecordExists: true, Record: forged,
			Locks: []election.LockSeen{{Name: first, Priority: 150}}}, ""},
		{"strange children", map[string][]byte{"x": nil, first: []byte("junk"), "a-1-2-3": data, second: nil}, nil,
			election.Observation{QueueExists: true, Locks: []election.LockSeen{{Name: first}, {Name: second}}}, "a lock is not understood"},
	} {
		t.Run(c.name, func(t *testing.T) {
			group := strings.ReplaceAll(c.name, " ", "-")
			queueOf(t, s, tree, group, c.locks, c.record)
			got, logs := observeOnce(t, s, tree, group)
			if diff := cmp.Diff(c.want, withoutZxids(t, got), cmp.Transformer("sorted", sortedLocks)); diff != "" {
				t.Error(diff)
			}
			if n := logs.FilterMessage(c.says).Len(); c.says != "" && n == 0 || c.says == "" && logs.Len() != 0 {
				t.Errorf("logged %v, expected %q", logs.All(), c.says)
			}
		})
	}
	t.Run("nothing there", func(t *testing.T) {
		got, _ := observeOnce(t, s, tree, "none")
		if diff := cmp.Diff(election.Observation{}, got, cmp.Transformer("sorted", sortedLocks)); diff != "" {
			t.Error(diff)
		}
	})
	// Whatever else lies in the queue, every lock is seen: a director that
	// missed its own would queue again and again.
	t.Run("too many", func(t *testing.T) {
		queueOf(t, s, tree, "many", many, nil)
		queueOf(t, s, tree, "mixed", mixed, nil)
		if got, _ := observeOnce(t, s, tree, "many"); len(got.Locks) != len(many) {
			t.Errorf("%d of %d locks seen", len(got.Locks), len(many))
		}
		if got, _ := observeOnce(t, s, tree, "mixed"); len(got.Locks) != 1 || got.Locks[0].Name != first {
			t.Errorf("among strange children: %v", got.Locks)
		}
	})
}

func observeOnce(t testing.TB, s *Session, tree Tree, group string) (election.Observation, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	e := NewElector(ElectorConfig{Session: s, Tree: tree, Logger: zap.New(core)})
	return must(e.requests.observe(context.Background(), election.Request{Observe: group, WithVoters: true}))(t), logs
}

// withoutZxids checks and removes what differs from run to run.
func withoutZxids(t testing.TB, o election.Observation) election.Observation {
	t.Helper()
	if o.RecordExists != (o.RecordCreated > 0) || o.RecordExists != (o.RecordChanged > 0) {
		t.Errorf("zxids %d and %d of a record that exists=%v", o.RecordCreated, o.RecordChanged, o.RecordExists)
	}
	o.RecordCreated, o.RecordChanged = 0, 0
	return o
}

func sortedLocks(locks []election.LockSeen) map[string]int {
	m := map[string]int{}
	for _, l := range locks {
		m[l.Name] = l.Priority
	}
	return m
}

// The order of the reads is part of election's contract: the lock that the
// record names is read after the record, the queue's version before it.
func TestObserveOrder(t *testing.T) {
	s, _, tree := cluster(t)
	held, waiting := lockName("a", 1), lockName("b", 2)
	queueOf(t, s, tree, "g", map[string][]byte{held: nil, waiting: nil}, recordNaming(held))
	for range 2 { // versions: of the queue 1, of the lock 2
		_ = must(s.Set(context.Background(), tree.Lock("g", held), nil, AnyVersion))(t)
	}
	_ = must(s.Set(context.Background(), tree.Election("g"), nil, AnyVersion))(t)
	wire := newTap(t, sharedEnsemble(t).Servers()[0])
	tapped := run(t, Config{Servers: []string{wire.address}})
	connected(t, tapped)
	if err := tapped.Sync(context.Background(), tree.Root()); err != nil {
		t.Fatal(err)
	}
	e := NewElector(ElectorConfig{Session: tapped, Tree: tree, Logger: zap.NewNop()})
	e.requests.remember("g/"+held, election.LockSeen{Name: held, Priority: 1})
	got := must(e.requests.observe(context.Background(), election.Request{Observe: "g", WithQueueVersion: true}))(t)
	if got.QueueVersion != 1 || !got.NamedExists || got.NamedVersion != 2 {
		t.Errorf("%+v: expected version 1 of the queue and 2 of the lock", got)
	}
	want := []string{
		"exists " + tree.Election("g"),
		"get " + tree.Record("g") + " watched",
		"children " + tree.Election("g") + " watched",
		"get " + tree.Lock("g", waiting), // its priority, once
		"exists " + tree.Lock("g", held) + " watched",
	}
	if diff := cmp.Diff(want, wire.reads()); diff != "" {
		t.Error(diff)
	}
	_ = must(e.requests.observe(context.Background(), election.Request{Observe: "g", WithVoters: true}))(t)
	want = append(want, want[1], want[2], want[4], "get "+tree.Voters("g"))
	if diff := cmp.Diff(want, wire.reads()); diff != "" {
		t.Errorf("the second time: %s", diff)
	}
}

// tap is a relay to one server that notes the reads which pass.
type tap struct {
	address string

	mu  sync.Mutex
	log []string
}

func newTap(t testing.TB, server string) *tap {
	t.Helper()
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	w := &tap{address: listener.Addr().String()}
	var all sync.WaitGroup
	t.Cleanup(func() { listener.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.relay(c, server) })
		}
	})
	return w
}

func (w *tap) relay(c net.Conn, server string) {
	defer c.Close()
	up, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer up.Close()
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(c, up); c.Close() })
	defer back.Wait()
	defer up.Close()
	for {
		p := make([]byte, 4)
		if _, err := io.ReadFull(c, p); err != nil {
			return
		}
		p = append(p, make([]byte, binary.BigEndian.Uint32(p))...)
		if _, err := io.ReadFull(c, p[4:]); err != nil {
			return
		}
		w.note(p)
		if _, err := up.Write(p); err != nil {
			return
		}
	}
}

func (w *tap) note(p []byte) {
	op := int32(binary.BigEndian.Uint32(p[8:]))
	path, ok := readPath(op, p)
	if !ok {
		return
	}
	line := map[int32]string{opExists: "exists", opGetData: "get", opGetChildren2: "children"}[op] + " " + path
	if p[len(p)-1] == 1 {
		line += " watched"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, line)
}

func (w *tap) reads() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.log...)
}
