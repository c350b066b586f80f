package election_test

import (
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/sim/lockservice"
)

// standby begins a bench that waits behind a holder, which renews every second.
func standby(b *bench) (lock string) {
	b.apply(true)
	lock = b.queue("other", 100)
	b.other(lock)
	b.start()
	return lock
}

// runBehind lets time pass while the holder renews.
func (b *bench) runBehind(lock string, d time.Duration) {
	for ; d > 0; d -= time.Second {
		b.touch(lock)
		b.run(time.Second)
	}
}

func queueRules() []rule {
	return []rule{
		{"queue: step back once behind each better waiter", func(b *bench) {
			lock := standby(b)
			b.queue("better", 150)
			b.queue("equal", 100)
			b.runBehind(lock, 5*time.Second)
			b.logf("another one comes, and the first comes anew")
			b.queue("best", 200)
			b.queue("better", 150)
			b.runBehind(lock, 5*time.Second)
		}},
		{"queue: a better waiter in front is no reason", func(b *bench) {
			b.apply(true)
			lock := b.queue("other", 100)
			b.queue("better", 150)
			b.other(lock)
			b.start()
			b.runBehind(lock, 5*time.Second)
		}},
		{"queue: not back while paused", func(b *bench) {
			lock := standby(b)
			b.configure(func(g *election.GroupConfig) { g.Paused = true })
			b.queue("better", 150)
			b.runBehind(lock, 3*time.Second)
		}},
		{"queue: a changed own priority is queued anew", func(b *bench) {
			lock := standby(b)
			b.configure(func(g *election.GroupConfig) { g.Priority = 120 })
			b.runBehind(lock, 3*time.Second)
		}},
		{"queue: lost reply of stepping back, strays deleted", func(b *bench) {
			lock := standby(b)
			b.queue("better", 150)
			b.fate(lockservice.Queue, "ran", "ran", "ok")
			b.runBehind(lock, 4*time.Second)
		}},
		{"queue: lost create, its lock is deleted", func(b *bench) {
			b.apply(true)
			lock := b.queue("other", 100)
			b.other(lock)
			b.fate(lockservice.Queue, "ran", "late", "ok")
			b.start()
			b.runLate()
			b.runBehind(lock, 5*time.Second)
		}},
		{"queue: refused", func(b *bench) {
			b.apply(true)
			b.fate(lockservice.Queue, "refused", "refused")
			b.start()
			b.run(5 * time.Second)
		}},
		{"queue: the waiting lock was deleted by hand", func(b *bench) {
			lock := standby(b)
			b.drop(b.own())
			b.runBehind(lock, 3*time.Second)
		}},
		{"queue: deleted by hand, restored", func(b *bench) {
			b.apply(true)
			b.must(election.Op{Kind: election.OpDelete, Key: election.Key{Group: "web", Kind: election.NodeQueue}, Version: election.AnyVersion})
			b.start()
			b.run(time.Second)
		}},
		{"queue: a group that is not there", func(b *bench) {
			b.start()
			b.run(10 * time.Second)
			b.logf("somebody applies it")
			b.apply(false)
			b.run(15 * time.Second)
		}},
		{"queue: nodes that are no locks are nobody", func(b *bench) {
			b.apply(true)
			b.must(election.Op{Kind: election.OpCreateLock, Key: election.Key{Group: "web", Kind: election.NodeLock, Lock: "by-hand-"}})
			b.start()
			b.run(time.Second)
		}},
		{"ineligible: a holder releases, stays out for the back-off, and comes back", func(b *bench) {
			b.groups[0].Backoff = 2 * time.Second
			held(b)
			b.run(700 * time.Millisecond)
			b.configure(func(g *election.GroupConfig) { g.Ineligible = "eth0 has no carrier" })
			b.run(time.Second)
			b.logf("status: %s", b.m.Status(b.now)[0].Why)
			b.configure(func(g *election.GroupConfig) { g.Ineligible = "" })
			b.logf("status: %s", b.m.Status(b.now)[0].Why)
			b.run(3 * time.Second)
		}},
		{"ineligible: a waiter leaves the queue, with the back-off", func(b *bench) {
			b.groups[0].Backoff = 2 * time.Second
			lock := standby(b)
			b.configure(func(g *election.GroupConfig) { g.Ineligible = "eth0 has no carrier" })
			b.configure(func(g *election.GroupConfig) { g.Ineligible = "" })
			b.runBehind(lock, 4*time.Second)
		}},
		{"ineligible: what cannot be carried out is given up, with the back-off", func(b *bench) {
			b.groups[0].Backoff = 2 * time.Second
			held(b)
			b.act(b.m.GiveUp(b.now, b.holding(), "the address cannot be bound"))
			b.run(3 * time.Second)
		}},
		{"ineligible: never queues", func(b *bench) {
			b.groups[0].Ineligible = "standby"
			b.apply(true)
			b.start()
			b.run(time.Minute)
		}},
		{"paused: does not acquire, and does after", func(b *bench) {
			b.groups[0].Paused = true
			b.apply(true)
			b.start()
			b.run(5 * time.Second)
			b.logf("status: %s", b.m.Status(b.now)[0].Why)
			b.configure(func(g *election.GroupConfig) { g.Paused = false })
		}},
		{"paused: a holder renews and fences all the same", func(b *bench) {
			held(b)
			b.configure(func(g *election.GroupConfig) { g.Paused = true })
			b.reads = true
			b.run(600 * time.Millisecond)
			b.reads = false
			b.fate(lockservice.Renew, "lost", "lost", "wait")
			b.run(5 * time.Second)
		}},
		{"preempt: after the delay, once per lock", func(b *bench) {
			b.groups[0].Preempt, b.groups[0].PreemptDelay = true, 5*time.Second
			held(b)
			b.run(time.Second)
			b.logf("a better standby queues, and never takes")
			b.queue("better", 150)
			b.run(20 * time.Second)
		}},
		{"preempt: not where it is off, paused, or the standby no better", func(b *bench) {
			b.groups[0].PreemptDelay = time.Second
			held(b)
			b.queue("better", 150)
			b.run(5 * time.Second)
			b.configure(func(g *election.GroupConfig) { g.Preempt, g.Paused = true, true })
			b.run(5 * time.Second)
			b.configure(func(g *election.GroupConfig) { g.Paused, g.Priority = false, 150 })
			b.run(5 * time.Second)
		}},
		{"preempt: a standby that leaves restarts the delay", func(b *bench) {
			b.groups[0].Preempt, b.groups[0].PreemptDelay = true, 5*time.Second
			held(b)
			lock := b.queue("better", 150)
			b.run(4 * time.Second)
			b.drop(lock)
			b.hint()
			b.queue("better", 150)
			b.run(8 * time.Second)
		}},
		{"handover: to a standby in the queue", func(b *bench) {
			held(b)
			b.queue("other", 100)
			b.run(3 * time.Second)
			a, err := b.m.Handover(b.now, "web", "other")
			b.logf("handover: %v", err)
			b.act(a)
			b.run(3 * time.Second)
		}},
		{"handover: refused", func(b *bench) {
			held(b)
			for _, to := range []string{"nobody", "me"} {
				_, err := b.m.Handover(b.now, "web", to)
				b.logf("handover: %v", err)
			}
			_, err := b.m.Handover(b.now, "db", "other")
			b.logf("handover: %v", err)
			b.run(time.Second)
		}},
		{"configure: a group that is removed is released and forgotten", func(b *bench) {
			held(b)
			b.slow = true
			b.act(b.m.Configure(b.now, nil))
			b.logf("groups: %d", len(b.m.Status(b.now)))
			b.verify()
			b.logf("groups: %d", len(b.m.Status(b.now)))
			b.run(time.Minute)
		}},
		{"configure: a group that returns before it was released", func(b *bench) {
			held(b)
			b.slow = true
			b.act(b.m.Configure(b.now, nil))
			b.act(b.m.Configure(b.now, b.groups))
			b.slow = false
			b.verify()
			b.run(time.Second)
		}},
		{"distrust: everything is given up for this life", func(b *bench) {
			held(b)
			b.act(b.m.Distrust(b.now, "the zxid went back"))
			b.act(b.m.Distrust(b.now, "the zxid went back"))
			b.run(time.Minute)
			b.logf("status: %s", b.m.Status(b.now)[0].Why)
		}},
		{"session: too short for the lease", func(b *bench) {
			b.timeout = 4 * time.Second
			b.apply(true)
			b.start()
			b.connect()
			b.run(5 * time.Second)
			b.timeout = 10 * time.Second
			b.connect()
		}},
		{"session: short, said once", func(b *bench) {
			b.timeout = 4700 * time.Millisecond
			b.apply(true)
			b.start()
			b.connect()
		}},
		{"session: another one loses a waiting lock", func(b *bench) {
			lock := standby(b)
			b.store.Expire(1)
			b.session = 2
			b.connect()
			b.runBehind(lock, 2*time.Second)
		}},
	}
}
