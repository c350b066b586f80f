package election_test

import (
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/sim/lockservice"
)

// held begins a bench that holds web.
func held(b *bench) {
	b.apply(true)
	b.start()
}

func renewalRules() []rule {
	return []rule{
		{"renewal: one transaction for all groups, D from before sending", func(b *bench) {
			b.store.Apply("db", election.NewRecord(true, time.Unix(0, 0)))
			b.groups = append(b.groups, election.GroupConfig{Name: "db", Priority: 100})
			held(b)
			b.reads = true
			b.fate(lockservice.Renew, "wait")
			b.run(510 * time.Millisecond)
			b.run(290 * time.Millisecond)
			b.logf("the reply is here")
			b.serve("ok")
		}},
		{"renewal: an unknown outcome never extends, down at D-200 ms", func(b *bench) {
			held(b)
			b.run(1200 * time.Millisecond)
			b.fate(lockservice.Renew, "wait", "wait", "wait", "wait")
			b.run(400 * time.Millisecond)
			for range 3 {
				b.serve("ran")
				b.run(900 * time.Millisecond)
			}
		}},
		{"renewal: down at D-200 ms while disconnected", func(b *bench) {
			held(b)
			b.run(1200 * time.Millisecond)
			b.act(b.m.Disconnected(b.now))
			b.run(5 * time.Second)
			b.logf("the connection is back")
			b.connect()
			b.run(time.Second)
		}},
		{"renewal: a reply after D-200 ms does not extend", func(b *bench) {
			held(b)
			b.fate(lockservice.Renew, "wait")
			b.run(510 * time.Millisecond)
			b.now += 3 * time.Second // frozen
			b.serve("ok")
			b.run(time.Second)
		}},
		{"renewal: a conflict fences the group to blame, the rest at once again", func(b *bench) {
			b.store.Apply("db", election.NewRecord(true, time.Unix(0, 0)))
			b.groups = append(b.groups, election.GroupConfig{Name: "db", Priority: 100})
			held(b)
			b.dropRecord()
			b.reads = true
			b.fate(lockservice.Renew, "ok", "wait")
			b.run(510 * time.Millisecond)
		}},
		{"renewal: own lock gone, fence and no receipt", func(b *bench) {
			held(b)
			b.drop(b.own())
			b.run(time.Second)
		}},
		{"renewal: the record names another, fence and no receipt", func(b *bench) {
			held(b)
			b.other(b.queue("other", 100))
			b.run(time.Second)
		}},
		{"renewal: refused by the service is no proof of loss", func(b *bench) {
			held(b)
			b.fate(lockservice.Renew, "refused")
			b.run(time.Second)
		}},
		{"holding: an observation that names another fences", func(b *bench) {
			held(b)
			b.other(b.queue("other", 100))
			b.hint()
		}},
		{"lease: fixed for an epoch", func(b *bench) {
			held(b)
			t := b.cfg.Timing
			t.Lease, t.Renew = time.Second, election.DefaultRenew(time.Second)
			a, err := b.m.SetTiming(b.now, t)
			if err != nil {
				b.t.Fatal(err)
			}
			b.act(a)
			b.reads = true
			b.run(700 * time.Millisecond)
			b.reads = false
			b.act(b.m.GiveUp(b.now, b.holding(), "so that the next epoch begins"))
			b.run(time.Second)
		}},
	}
}

func releaseRules() []rule {
	return []rule{
		{"release: fence, verified, receipt that deletes the lock, out, queue anew", func(b *bench) {
			held(b)
			b.slow = true
			b.act(b.m.GiveUp(b.now, b.holding(), "the address cannot be bound"))
			b.run(2 * time.Second)
			b.logf("answering: %v", b.m.Answering())
			b.verify()
			b.logf("answering: %v", b.m.Answering())
			b.slow = false
			b.run(time.Second)
		}},
		{"release: an echo of an earlier holding is nothing", func(b *bench) {
			held(b)
			old := b.holding()
			b.act(b.m.GiveUp(b.now, old, "first"))
			b.run(100 * time.Millisecond)
			b.slow = true
			b.act(b.m.GiveUp(b.now, b.holding(), "second"))
			b.logf("the first is verified again")
			b.act(b.m.Fenced(b.now, old))
			b.act(b.m.GiveUp(b.now, old, "nor is this heard"))
			b.run(time.Second)
		}},
		{"release: the lock is gone, no receipt", func(b *bench) {
			held(b)
			b.drop(b.own())
			b.act(b.m.GiveUp(b.now, b.holding(), "test"))
			b.run(time.Second)
		}},
		{"release: the record was rewritten and names our lock, the receipt is tried again", func(b *bench) {
			held(b)
			b.slow = true
			b.act(b.m.GiveUp(b.now, b.holding(), "test"))
			r, _ := b.store.Record("web")
			r.Since = "rewritten"
			b.set(r)
			b.slow = false
			b.verify()
		}},
		{"release: lost reply of a receipt that was written", func(b *bench) {
			held(b)
			b.fate(lockservice.Receipt, "ran")
			b.act(b.m.GiveUp(b.now, b.holding(), "test"))
		}},
		{"release: lost receipt, written again while the record names our lock", func(b *bench) {
			held(b)
			b.fate(lockservice.Receipt, "late", "ok")
			b.act(b.m.GiveUp(b.now, b.holding(), "test"))
			b.runLate()
		}},
		{"release: lost receipt, another took meanwhile", func(b *bench) {
			held(b)
			b.fate(lockservice.Receipt, "wait")
			b.act(b.m.GiveUp(b.now, b.holding(), "test"))
			b.other(b.queue("other", 100))
			b.serve("ok")
			b.run(time.Second)
		}},
		{"release: lost receipt, the lock went meanwhile", func(b *bench) {
			held(b)
			b.fate(lockservice.Receipt, "wait")
			b.act(b.m.GiveUp(b.now, b.holding(), "test"))
			b.drop(b.own())
			b.serve("lost")
			b.run(time.Second)
		}},
		{"release: the session expires under the holder", func(b *bench) {
			held(b)
			b.store.Expire(1)
			b.session = 2
			b.act(b.m.Expired(b.now))
			b.connect()
			b.run(5 * time.Second)
		}},
		{"earlier life: the same host, receipt for the dead", func(b *bench) { earlierLife(b, election.HostID{"machine", "boot", 7}) }},
		{"earlier life: another boot, no receipt", func(b *bench) { earlierLife(b, election.HostID{"machine", "before", 7}) }},
		{"earlier life: another machine of this name, no receipt", func(b *bench) { earlierLife(b, election.HostID{"twin", "boot", 7}) }},
		{"earlier life: another network namespace, no receipt", func(b *bench) { earlierLife(b, election.HostID{"machine", "boot", 8}) }},
		{"earlier life: no cookie, no receipt", func(b *bench) {
			b.cfg.Host.NetnsCookie = 0
			earlierLife(b, b.cfg.Host)
		}},
		{"earlier life: its lock is gone, no receipt", func(b *bench) {
			b.apply(true)
			lock := b.queue("me", 100)
			b.set(election.Record{Format: 1, State: election.StateHolding, Epoch: 4, Node: "me", Lock: lock, LeaseMS: 3000, HostID: b.cfg.Host})
			b.drop(lock)
			b.start()
			b.run(5 * time.Second)
		}},
		{"stop: everything released in order", func(b *bench) {
			held(b)
			b.slow = true
			b.act(b.m.Stop(b.now))
			b.run(time.Second)
			b.logf("answering: %v, done: %v", b.m.Answering(), b.m.Done())
			b.fate(lockservice.Receipt, "wait")
			b.verify()
			b.logf("answering: %v, done: %v", b.m.Answering(), b.m.Done())
			b.serve("ok")
			b.logf("answering: %v, done: %v", b.m.Answering(), b.m.Done())
			b.run(time.Minute)
		}},
		{"stop: a waiter leaves the queue", func(b *bench) {
			b.apply(true)
			b.other(b.queue("other", 100))
			b.start()
			b.act(b.m.Stop(b.now))
			b.logf("answering: %v, done: %v", b.m.Answering(), b.m.Done())
		}},
	}
}

// earlierLife: the record names a director of our node name on that host.
func earlierLife(b *bench, host election.HostID) {
	b.apply(true)
	b.set(election.Record{Format: 1, State: election.StateHolding, Epoch: 4, Node: "me", Lock: b.queue("me", 100), LeaseMS: 3000, HostID: host})
	b.start()
	b.run(6 * time.Second)
}
