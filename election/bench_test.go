package election_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/sim/lockservice"
)

// bench is one machine, of director "me", against the model. Requests are
// served at once unless a fate says otherwise, and what happens is written into
// a transcript. Reads and renewals that went well are left out of it.
type bench struct {
	t     *testing.T
	m     *election.Machine
	store *lockservice.Service
	now   time.Duration
	log   strings.Builder

	cfg     election.Config
	groups  []election.GroupConfig
	session uint64
	timeout time.Duration
	random  uint64
	seen    int64
	reads   bool // show reads
	stale   bool // reads show what was seen last
	slow    bool // fences are not verified until verify is called

	request *election.Request // under way
	waiting bool              // until serve is called
	fates   map[lockservice.Kind][]string
	asked   []election.AskVoter
	late    []func() // transactions that may yet commit
	fencing []election.Holding
	granted map[string]election.Holding // last, by group
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, store: lockservice.New(), timeout: 6 * time.Second, session: 1, fates: map[lockservice.Kind][]string{}, granted: map[string]election.Holding{}, now: time.Minute}
	b.cfg = election.Config{Node: "me", Host: election.HostID{"machine", "boot", 7}, Address: "me:7363", Timing: election.Timing{Lease: 3 * time.Second, Renew: 500 * time.Millisecond, Drift: 0.1},
		Random: func() uint64 { b.random++; return b.random }, Wall: func() time.Time { return time.Unix(0, 0) }}
	b.groups = []election.GroupConfig{{Name: "web", Priority: 100}}
	return b
}

// start makes the machine and connects it.
func (b *bench) start() {
	m, err := election.New(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.m = m
	b.act(m.Configure(b.now, b.groups))
	b.connect()
}

func (b *bench) connect() { b.act(b.m.Connected(b.now, b.session, b.timeout)) }

// configure changes the first group.
func (b *bench) configure(change func(g *election.GroupConfig)) {
	change(&b.groups[0])
	b.act(b.m.Configure(b.now, b.groups))
}

func (b *bench) logf(format string, a ...any) {
	fmt.Fprintf(&b.log, "%7.3f ", (b.now - time.Minute).Seconds())
	fmt.Fprintf(&b.log, format+"\n", a...)
}

// run lets time pass; the machine is woken when it asks for it.
func (b *bench) run(d time.Duration) {
	b.t.Helper()
	for end := b.now + d; ; {
		wake := b.m.Wake(b.now)
		if wake <= b.now {
			b.t.Fatalf("Wake is %v in the past", b.now-wake)
		}
		if wake > end {
			b.now = end
			return
		}
		b.now = wake
		b.act(b.m.Tick(b.now))
	}
}

func (b *bench) hint() { b.act(b.m.Hint(b.now, "web")) }

// fate decides about the next requests of a kind: "lost" does not run and has
// no reply, "ran" runs and has no reply, "late" has no reply and runs when
// runLate is called, "refused" is refused, "wait" is served when serve is called.
func (b *bench) fate(kind lockservice.Kind, fates ...string) {
	b.fates[kind] = append(b.fates[kind], fates...)
}

func (b *bench) act(actions []election.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case election.Grant:
			b.granted[a.Holding.Group] = a.Holding
			if a.First || b.reads {
				b.logf("grant %s e%d until %.3f", a.Holding.Group, a.Holding.Epoch, (a.Deadline - time.Minute).Seconds())
			}
		case election.Fence:
			b.logf("FENCE %s: %s", a.Holding.Group, a.Reason)
			b.fencing = append(b.fencing, a.Holding)
		case election.AskVoter:
			b.logf("ask %s, who answers at %s: %s e%d for %v", a.To.Node, a.To.Address, a.Question.Group, a.Question.Epoch, a.Question.Lease)
			b.asked = append(b.asked, a)
		case election.Note:
			b.logf("note %s: %s (%s)", a.Group, a.Text, a.Reason)
		case election.Send:
			if b.request != nil {
				b.t.Fatal("two requests under way")
			}
			b.request = &a.Request
		}
	}
	b.settle()
}

// settle serves what is under way and verifies fences, unless told otherwise.
func (b *bench) settle() {
	if len(b.fencing) > 0 && !b.slow {
		b.verify()
		return
	}
	if b.request == nil || b.waiting {
		return
	}
	kind, fate := lockservice.KindOf(b.request.Txn), "ok"
	if f := b.fates[kind]; len(f) > 0 {
		fate, b.fates[kind] = f[0], f[1:]
	}
	if b.waiting = fate == "wait"; b.waiting {
		b.logf("%s is under way", describe(b.request.Txn))
		return
	}
	b.serve(fate)
}

// verify reports the oldest fence as done.
func (b *bench) verify() {
	h := b.fencing[0]
	b.fencing = b.fencing[1:]
	b.logf("fenced %s", h.Group)
	b.act(b.m.Fenced(b.now, h))
}

// serve answers the request under way.
func (b *bench) serve(fate string) {
	r, session := b.request, b.session
	b.request, b.waiting = nil, false
	var reply election.Reply
	switch {
	case fate == "refused":
		reply = election.Reply{Outcome: election.OutcomeRefused, Detail: "NoAuth"}
	case fate == "late":
		b.late = append(b.late, func() { b.logf("late: %s", b.outcome(b.store.Commit(session, r.Txn))) })
		reply = election.Reply{Outcome: election.OutcomeUnknown}
	case fate == "lost":
		reply = election.Reply{Outcome: election.OutcomeUnknown}
	case len(r.Txn) == 0 && b.stale:
		reply = election.Reply{Observation: b.store.Observe(*r, func() int64 { return b.seen })}
	case len(r.Txn) == 0:
		reply = election.Reply{Observation: b.fresh(*r)}
	default:
		reply = b.store.Commit(session, r.Txn)
		b.stale = b.stale && reply.Outcome != election.OutcomeConflict // our server has caught up
	}
	said := b.outcome(reply)
	if fate == "ran" {
		reply, said = election.Reply{Outcome: election.OutcomeUnknown}, said+", but the reply is lost"
	}
	b.show(r, said, reply.Outcome != election.OutcomeOK)
	reply.ID = r.ID
	b.act(b.m.Replied(b.now, reply))
}

func (b *bench) show(r *election.Request, said string, failed bool) {
	switch kind := lockservice.KindOf(r.Txn); {
	case r.WithQueueVersion:
		b.logf("read the queue's version, then %s: %s", r.Observe, said)
	case kind == lockservice.Read && (b.reads || failed):
		b.logf("read %s: %s", r.Observe, said)
	case kind != lockservice.Read && (kind != lockservice.Renew || b.reads || failed):
		b.logf("%s: %s", describe(r.Txn), said)
	}
}

func (b *bench) runLate() {
	for _, run := range b.late {
		run()
	}
	b.late = nil
}

func (b *bench) outcome(r election.Reply) string {
	switch r.Outcome {
	case election.OutcomeConflict:
		return fmt.Sprintf("conflict at operation %d, %s", r.FailedOp, r.Code)
	case election.OutcomeRefused:
		return "refused"
	case election.OutcomeUnknown:
		return "lost"
	}
	return "ok"
}

// describe writes a transaction as DESIGN does.
func describe(txn []election.Op) string {
	if len(txn) == 0 {
		return "read"
	}
	var parts []string
	for _, op := range txn {
		what := shortKey(op.Key)
		if op.Version != election.AnyVersion && op.Kind != election.OpCreate && op.Kind != election.OpCreateLock {
			what += fmt.Sprintf(" v%d", op.Version)
		}
		if op.Key.Kind == election.NodeRecord && op.Data != nil {
			r, _ := election.DecodeRecord(op.Data)
			what += fmt.Sprintf(", %s e%d", r.State, r.Epoch)
			if r.ReleasedTo != "" {
				what += " to " + r.ReleasedTo
			}
		}
		parts = append(parts, [...]string{"check", "set", "create", "queue", "delete"}[op.Kind]+"("+what+")")
	}
	return strings.Join(parts, " ")
}

func shortKey(k election.Key) string {
	switch k.Kind {
	case election.NodeQueue:
		return k.Group + " queue"
	case election.NodeRecord:
		return k.Group + " record"
	case election.NodeVoters:
		return k.Group + " voters"
	}
	return k.Group + " " + shortLock(k.Lock)
}

func shortLock(name string) string {
	if l, err := election.ParseLockName(name); err == nil {
		return fmt.Sprintf("%s#%d", l.Node, l.Sequence)
	}
	return name[:strings.Index(name, "-0")]
}

// queue puts another director's lock into the queue and returns its name.
func (b *bench) queue(node string, priority int) string {
	b.random++
	name := election.LockName{Node: node, Session: 99, Random: b.random}
	op := election.Op{Kind: election.OpCreateLock, Key: election.Key{Group: "web", Kind: election.NodeLock, Lock: strings.TrimSuffix(name.String(), "0000000000")},
		Data: election.LockData{Node: node, Priority: priority, MachineID: node, Address: node + ":7363"}.Encode()}
	return b.must(op).Created
}

// other lets another director hold web with a lock of three renewals.
func (b *bench) other(lock string) {
	b.set(election.Record{Format: 1, State: election.StateHolding, Epoch: 4, Node: "other", Lock: lock, LeaseMS: 3000, HostID: election.HostID{"other", "boot", 7}})
	for range 3 {
		b.touch(lock)
	}
}

// touch renews another director's lock.
func (b *bench) touch(lock string) {
	b.must(election.Op{Kind: election.OpSet, Key: election.Key{Group: "web", Kind: election.NodeLock, Lock: lock}, Version: election.AnyVersion, Data: []byte("{}")})
}

func (b *bench) set(r election.Record) { b.setRaw(string(r.Encode())) }

func (b *bench) setRaw(data string) {
	b.must(election.Op{Kind: election.OpSet, Key: election.Key{Group: "web", Kind: election.NodeRecord}, Version: election.AnyVersion, Data: []byte(data)})
}

func (b *bench) drop(lock string) {
	b.logf("by hand: delete %s", shortLock(lock))
	b.must(election.Op{Kind: election.OpDelete, Key: election.Key{Group: "web", Kind: election.NodeLock, Lock: lock}, Version: election.AnyVersion})
}

func (b *bench) dropRecord() {
	b.logf("by hand: delete the record")
	b.must(election.Op{Kind: election.OpDelete, Key: election.Key{Group: "web", Kind: election.NodeRecord}, Version: election.AnyVersion})
}

func (b *bench) must(txn ...election.Op) election.Reply {
	b.t.Helper()
	r := b.store.Commit(0, txn)
	if r.Outcome != election.OutcomeOK {
		b.t.Fatalf("%s: %s", describe(txn), b.outcome(r))
	}
	return r
}

// apply creates the group.
func (b *bench) apply(wholeCluster bool) {
	b.store.Apply("web", election.NewRecord(wholeCluster, time.Unix(0, 0)))
}

// own returns the machine's lock in web.
func (b *bench) own() string { return b.m.Status(b.now)[0].Lock }

// holding is the one that was granted last in the first group.
func (b *bench) holding() election.Holding { return b.granted[b.groups[0].Name] }

// fresh reads the latest state.
func (b *bench) fresh(r election.Request) election.Observation {
	b.seen = b.store.Zxid()
	return b.store.Observe(r, b.store.Zxid)
}
