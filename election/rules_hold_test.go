package election_test

import (
	"strings"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/sim/lockservice"
)

// holding begins a bench that holds web, with two other directors in the queue,
// and would go on without ZooKeeper.
func holding(b *bench) {
	b.apply(true)
	b.start()
	b.configure(func(g *election.GroupConfig) { g.Hold = true })
	b.queue("other", 100)
	b.queue("third", 100)
	b.hint()
	b.run(100 * time.Millisecond)
}

// away is a holder that lost ZooKeeper.
func away(b *bench) {
	holding(b)
	b.act(b.m.Disconnected(b.now))
	b.reads = true
}

// answer answers the newest question to a node.
func (b *bench) answer(node string, promised bool) {
	for i := len(b.asked) - 1; i >= 0; i-- {
		if a := b.asked[i]; a.To.Node == node {
			b.logf("%s promises: %v", node, promised)
			b.act(b.m.Answered(b.now, a.To, a.Question, election.Answer{Promised: promised, Reason: "it says"}))
			return
		}
	}
	b.t.Fatalf("%s was not asked", node)
}

// ask lets another director ask the machine.
func (b *bench) ask(lock string, change func(q *election.Question)) {
	q := election.Question{Group: "web", Lock: lock, Epoch: 4, Lease: 3 * time.Second, Number: 1}
	change(&q)
	a := b.m.Asked(b.now, q)
	b.logf("asked by %s for %v: %v %s", shortLock(q.Lock), q.Lease, a.Promised, a.Reason)
}

func asIs(*election.Question) {}

// list writes the list of voters.
func (b *bench) list(nodes ...string) {
	list := election.NewVoters()
	for _, n := range nodes {
		v := election.Voter{Node: n, MachineID: n}
		if n == b.cfg.Node {
			v.MachineID = b.cfg.Host.MachineID
		}
		list.Voters = append(list.Voters, v)
	}
	b.logf("voters: %s", strings.Join(nodes, ", "))
	b.must(election.Op{Kind: election.OpSet, Key: election.Key{Group: "web", Kind: election.NodeVoters}, Version: election.AnyVersion, Data: list.Encode()})
}

func (b *bench) dropVoters() {
	b.logf("by hand: delete the list of voters")
	b.must(election.Op{Kind: election.OpDelete, Key: election.Key{Group: "web", Kind: election.NodeVoters}, Version: election.AnyVersion})
}

// second makes the machine wait behind another holder.
func second(b *bench) (lock string) {
	b.apply(true)
	lock = b.queue("other", 100)
	b.other(lock)
	b.start()
	b.run(100 * time.Millisecond)
	return lock
}

func holdRules() []rule { return append(holderRules(), voterRules()...) }

func holderRules() []rule {
	return []rule{
		{"hold: all voters promise, D from before asking the oldest that counts", func(b *bench) {
			away(b)
			b.run(1600 * time.Millisecond)
			b.answer("other", true)
			b.run(200 * time.Millisecond)
			b.answer("third", true)
			b.run(time.Second)
		}},
		{"hold: one voter is silent, down at D-200 ms", func(b *bench) {
			away(b)
			b.run(1600 * time.Millisecond)
			b.answer("other", true)
			b.run(3 * time.Second)
		}},
		{"hold: one voter refuses, down at D-200 ms", func(b *bench) {
			away(b)
			b.run(1600 * time.Millisecond)
			b.answer("other", true)
			b.answer("third", false)
			b.run(3 * time.Second)
		}},
		{"hold: an answer after D-200 ms does not extend", func(b *bench) {
			away(b)
			b.run(1600 * time.Millisecond)
			b.answer("other", true)
			b.now += 1200 * time.Millisecond // frozen
			b.answer("third", true)
		}},
		{"hold: back with the same session, nothing is asked any more", func(b *bench) {
			away(b)
			b.run(1600 * time.Millisecond)
			b.answer("other", true)
			b.answer("third", true)
			b.connect()
			b.run(4 * time.Second)
		}},
		{"hold: back with another session, fenced", func(b *bench) {
			away(b)
			b.run(1600 * time.Millisecond)
			b.session = 2
			b.connect()
		}},
		{"hold: an answer to an earlier holding counts for nothing", func(b *bench) {
			away(b)
			b.run(1600 * time.Millisecond)
			old := b.asked[0]
			b.connect()
			b.act(b.m.GiveUp(b.now, b.holding(), "test"))
			b.run(5 * time.Second)
			b.act(b.m.Disconnected(b.now))
			b.logf("late answers")
			b.act(b.m.Answered(b.now, old.To, old.Question, election.Answer{Promised: true}))
			b.run(3 * time.Second)
		}},
		{"hold: a lone director fences", func(b *bench) {
			b.apply(true)
			b.start()
			b.configure(func(g *election.GroupConfig) { g.Hold = true })
			b.run(time.Second)
			b.act(b.m.Disconnected(b.now))
			b.run(4 * time.Second)
		}},
		{"hold: a list whose outcome is not known, whoever may be in it is asked", func(b *bench) {
			holding(b)
			b.fate(lockservice.List, "lost")
			lock := b.queue("fourth", 100)
			b.hint()
			b.drop(lock)
			b.hint()
			b.run(time.Second)
			b.act(b.m.Disconnected(b.now))
			b.run(1600 * time.Millisecond)
		}},
		{"hold: a list that may be empty, nothing is asked", func(b *bench) {
			holding(b)
			b.fate(lockservice.List, "lost")
			b.configure(func(g *election.GroupConfig) { g.Hold = false })
			b.hint()
			b.configure(func(g *election.GroupConfig) { g.Hold = true })
			b.hint()
			b.act(b.m.Disconnected(b.now))
			b.run(4 * time.Second)
		}},
		{"hold: no more, the list is emptied and nothing is asked", func(b *bench) {
			holding(b)
			b.configure(func(g *election.GroupConfig) { g.Hold = false })
			b.hint()
			b.act(b.m.Disconnected(b.now))
			b.run(4 * time.Second)
		}},
		{"hold: a voter that is gone for ten minutes is dropped", func(b *bench) {
			b.apply(true)
			b.start()
			b.configure(func(g *election.GroupConfig) { g.Hold = true })
			b.queue("other", 100)
			lock := b.queue("third", 100)
			b.hint()
			b.run(time.Second)
			b.drop(lock)
			b.run(10 * time.Minute)
			b.logf("not yet")
			b.run(5 * time.Second)
		}},
		{"hold: a list that was deleted is made anew", func(b *bench) {
			holding(b)
			b.dropVoters()
			b.run(5 * time.Second)
		}},
		{"hold: a list that is not understood is left as it is, and told once", func(b *bench) {
			holding(b)
			b.logf("by hand: a list of another format")
			b.must(election.Op{Kind: election.OpSet, Key: election.Key{Group: "web", Kind: election.NodeVoters}, Version: election.AnyVersion, Data: []byte(`{"format":2}`)})
			b.run(10 * time.Second)
		}},
		{"hold: a list that was written by hand is read again and written", func(b *bench) {
			holding(b)
			b.list("stranger")
			b.run(5 * time.Second)
		}},
	}
}

func voterRules() []rule {
	return []rule{
		{"voters: who is not in the list takes with a receipt only", func(b *bench) {
			lock := second(b)
			b.list("other", "third")
			b.run(time.Minute)
			b.drop(lock)
			b.run(time.Minute)
			b.logf("released")
			b.set(election.Record{Format: 1, State: election.StateReleased, Epoch: 4, Node: "other", Lock: lock})
			b.run(3 * time.Second)
		}},
		{"voters: nor a record that was missing", func(b *bench) {
			second(b)
			b.list("other", "third")
			b.run(3 * time.Second)
			b.dropRecord()
			b.run(time.Minute)
		}},
		{"voters: added, W begins anew with the holder's write", func(b *bench) {
			lock := second(b)
			b.list("other", "third")
			b.run(time.Minute)
			b.list("me", "other")
			b.logf("and its lock is written too")
			b.touch(lock)
			b.run(10 * time.Second)
		}},
		{"voters: the list changed meanwhile, the acquisition is refused", func(b *bench) {
			lock := second(b)
			b.drop(lock)
			b.run(3 * time.Second)
			b.stale = true
			b.list("other", "third")
			b.run(10 * time.Second)
		}},
		{"voters: a list that was read before the last renewal does not count", func(b *bench) {
			b.cfg.Timing = election.Timing{Lease: time.Second, Renew: 160 * time.Millisecond, Drift: 0.1}
			b.apply(true)
			lock := b.queue("other", 100)
			b.set(election.Record{Format: 1, State: election.StateHolding, Epoch: 4, Node: "other", Lock: lock, LeaseMS: 1000})
			b.start()
			b.run(20 * time.Millisecond)
			b.dropVoters()
			b.logf("the holder makes it anew: other, third; the version is as before")
			list := election.Voters{Format: election.VotersFormat, Voters: []election.Voter{{Node: "other", MachineID: "other"}, {Node: "third", MachineID: "third"}}}
			b.must(election.Op{Kind: election.OpCreate, Key: election.Key{Group: "web", Kind: election.NodeVoters}, Data: list.Encode()})
			b.touch(lock)
			b.run(10 * time.Second)
		}},
		{"voters: no list, nobody takes without a receipt", func(b *bench) {
			lock := second(b)
			b.dropVoters()
			b.drop(lock)
			b.run(time.Minute)
		}},
		{"promise: nothing is taken for W, a receipt or not", func(b *bench) {
			lock := second(b)
			b.run(3 * time.Second)
			b.ask(lock, asIs)
			b.logf("released")
			b.must(election.Op{Kind: election.OpDelete, Key: election.Key{Group: "web", Kind: election.NodeLock, Lock: lock}, Version: election.AnyVersion})
			b.set(election.Record{Format: 1, State: election.StateReleased, Epoch: 4, Node: "other", Lock: b.queue("other", 100)})
			b.set(election.Record{Format: 1, State: election.StateReleased, Epoch: 4})
			b.run(10 * time.Second)
		}},
		{"promise: a frozen lock is taken W after the last promise", func(b *bench) {
			lock := second(b)
			b.run(3 * time.Second)
			b.ask(lock, asIs)
			b.run(10 * time.Second)
		}},
		{"promise: kept over a new session", func(b *bench) {
			lock := second(b)
			b.run(3 * time.Second)
			b.ask(lock, asIs)
			b.act(b.m.Expired(b.now))
			b.session = 2
			b.connect()
			b.run(10 * time.Second)
		}},
		{"promise: refused", func(b *bench) {
			lock := second(b)
			b.ask(lock, func(q *election.Question) { q.Group = "db" })
			b.ask(lock, func(q *election.Question) { q.Epoch = 3 })
			b.ask(lock, func(q *election.Question) { q.Lease = 0 })
			b.ask(lock, func(q *election.Question) { q.Lease = 11 * time.Second })
			b.fate(lockservice.Take, "wait")
			b.run(4 * time.Second)
			b.ask(lock, asIs)
			b.serve("ok")
			b.ask(lock, func(q *election.Question) { q.Epoch = 9 })
			b.act(b.m.GiveUp(b.now, b.holding(), "test"))
			b.ask(b.granted["web"].Lock, func(q *election.Question) { q.Epoch = 5 })
		}},
	}
}
