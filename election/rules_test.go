package election_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/sim/lockservice"
)

var update = flag.Bool("update", false, "write the transcripts in testdata anew")

// rule is one rule of docs/SAFETY.md, played on a bench. The transcript of what
// the machine does stands in testdata/<name>.txt.
type rule struct {
	name string
	play func(b *bench)
}

func TestRules(t *testing.T) {
	rules := append(append(append(acquireRules(), renewalRules()...), releaseRules()...), append(queueRules(), holdRules()...)...)
	seen := map[string]bool{}
	for _, r := range rules {
		file := filepath.Join("testdata", strings.NewReplacer(" ", "-", ":", "", ",", "").Replace(r.name)+".txt")
		seen[file] = true
		t.Run(r.name, func(t *testing.T) {
			b := newBench(t)
			r.play(b)
			golden(t, file, b.log.String())
		})
	}
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !seen[f] {
			t.Errorf("%s belongs to no rule", f)
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("transcript %s (-want +got; -update writes it anew):\n%s", file, diff)
	}
}

func acquireRules() []rule {
	return []rule{
		{"acquire a: released, at once", func(b *bench) {
			b.apply(true)
			b.start()
			b.run(time.Second)
		}},
		{"acquire a: released to me, at once whatever the rank", func(b *bench) {
			b.apply(true)
			b.queue("first", 100)
			b.queue("second", 100)
			b.set(election.Record{Format: 1, State: election.StateReleased, ReleasedTo: "me"})
			b.start()
			b.run(time.Second)
		}},
		{"acquire a: released to another, its second and then by rank", func(b *bench) {
			b.apply(true)
			b.queue("first", 100)
			b.set(election.Record{Format: 1, State: election.StateReleased, ReleasedTo: "first"})
			b.start()
			b.run(5 * time.Second)
		}},
		{"acquire a: released but the lock still stands, never", func(b *bench) {
			b.apply(true)
			b.set(election.Record{Format: 1, State: election.StateReleased, Lock: b.queue("other", 100)})
			b.start()
			b.run(time.Minute)
		}},
		{"acquire: each rank waits a second more", func(b *bench) {
			b.apply(true)
			b.queue("first", 100)
			b.queue("second", 100)
			b.start()
			b.run(5 * time.Second)
		}},
		{"acquire b: a frozen lock is waited for and removed in the same transaction", func(b *bench) {
			b.apply(true)
			b.other(b.queue("other", 100))
			b.start()
			b.run(5 * time.Second)
		}},
		{"acquire b: a new version restarts the wait", func(b *bench) {
			b.apply(true)
			lock := b.queue("other", 100)
			b.other(lock)
			b.start()
			b.run(3 * time.Second)
			b.logf("the holder renews")
			b.touch(lock)
			b.hint()
			b.run(5 * time.Second)
		}},
		{"acquire b: a renewal that was not seen defeats the removal", func(b *bench) {
			b.apply(true)
			lock := b.queue("other", 100)
			b.other(lock)
			b.start()
			b.run(3 * time.Second)
			b.logf("the holder renews, our server does not tell")
			b.stale = true
			b.touch(lock)
			b.run(6 * time.Second)
		}},
		{"acquire b: W follows the lease in the record", func(b *bench) {
			b.apply(true)
			lock := b.queue("other", 100)
			b.set(election.Record{Format: 1, State: election.StateHolding, Epoch: 4, Node: "other", Lock: lock, LeaseMS: 9000})
			b.start()
			b.run(15 * time.Second)
		}},
		{"acquire c: lock gone, W from the reply that showed it", func(b *bench) {
			b.apply(true)
			lock := b.queue("other", 100)
			b.other(lock)
			b.start()
			b.run(2100 * time.Millisecond)
			b.drop(lock)
			b.run(10 * time.Second)
		}},
		{"acquire c: the clock is read after the reply", func(b *bench) {
			b.apply(true)
			lock := b.queue("other", 100)
			b.other(lock)
			b.start()
			b.run(2100 * time.Millisecond)
			b.drop(lock)
			b.fate(lockservice.Read, "wait")
			b.hint()
			b.run(700 * time.Millisecond)
			b.logf("the reply is here")
			b.serve("ok")
			b.run(5 * time.Second)
		}},
		{"acquire c: unknown counts from the first sight of its czxid", func(b *bench) {
			b.apply(false)
			b.start()
			b.run(12 * time.Second)
			b.dropRecord()
			b.must(election.Op{Kind: election.OpCreate, Key: election.Key{Group: "web", Kind: election.NodeRecord}, Data: election.NewRecord(false, time.Unix(0, 0)).Encode()})
			b.logf("there is another unknown record")
			b.hint()
			b.run(14 * time.Second)
		}},
		{"acquire d: the reply was lost, renew first and answer then", func(b *bench) {
			b.apply(true)
			b.fate(lockservice.Take, "ran")
			b.fate(lockservice.Renew, "wait")
			b.start()
			b.run(300 * time.Millisecond)
			b.logf("the reply is here")
			b.reads = true
			b.serve("ok")
		}},
		{"acquire d: a lost reply and a lost renewal, nothing is answered", func(b *bench) {
			b.apply(true)
			b.fate(lockservice.Take, "ran")
			b.fate(lockservice.Renew, "lost", "lost", "wait")
			b.start()
			b.run(2 * time.Second)
		}},
		{"acquire d: not after the lock was fenced", func(b *bench) {
			b.apply(true)
			b.start()
			b.fate(lockservice.Receipt, "lost", "lost", "wait")
			b.act(b.m.GiveUp(b.now, b.holding(), "the address cannot be bound"))
			b.run(3 * time.Second)
		}},
		{"acquire d: a late acquisition of a lock that was given up is receipted, not adopted", func(b *bench) {
			b.apply(true)
			b.fate(lockservice.Take, "late", "wait")
			b.fate(lockservice.Queue, "ok", "lost")
			b.start()
			b.configure(func(g *election.GroupConfig) { g.Ineligible = "not fit" })
			b.serve("lost")
			b.runLate()
			b.run(3 * time.Second)
			b.configure(func(g *election.GroupConfig) { g.Ineligible = "" })
			b.run(3 * time.Second)
		}},
		{"acquire: a conflict is looked into before the next try", func(b *bench) {
			b.apply(true)
			b.fate(lockservice.Take, "wait")
			b.start()
			b.other(b.queue("other", 100))
			b.serve("ok")
			b.run(time.Second)
		}},
		{"missing: replaced as unknown, other locks deleted, the longest lease waited", func(b *bench) {
			b.apply(true)
			b.other(b.queue("other", 100))
			b.start()
			b.queue("late", 100)
			b.reads = true
			b.dropRecord()
			b.hint()
			b.reads = false
			b.run(15 * time.Second)
		}},
		{"missing: a waiter further back leaves it to the one in front", func(b *bench) {
			b.apply(true)
			b.queue("first", 100)
			b.other(b.queue("other", 100))
			b.start()
			b.dropRecord()
			b.hint()
			b.run(5 * time.Second)
		}},
		{"missing: somebody else replaced it meanwhile", func(b *bench) {
			b.apply(true)
			b.start()
			b.dropRecord()
			b.fate(lockservice.Replace, "wait")
			b.hint()
			b.must(election.Op{Kind: election.OpSet, Key: election.Key{Group: "web", Kind: election.NodeQueue}, Version: election.AnyVersion},
				election.Op{Kind: election.OpCreate, Key: election.Key{Group: "web", Kind: election.NodeRecord}, Data: election.NewRecord(false, time.Unix(0, 0)).Encode()})
			b.dropRecord()
			b.serve("ok")
			b.run(time.Second)
		}},
		{"missing: a late replacement is stopped by the queue's version", func(b *bench) {
			b.apply(true)
			b.queue("front", 100)
			b.start()
			b.dropRecord()
			b.fate(lockservice.Replace, "late")
			b.run(3 * time.Second)
			slow := b.queue("slow", 100) // not among the locks that the late one deletes
			b.run(13 * time.Second)
			b.dropRecord()
			b.runLate()
			b.logf("an acquisition by %s, sent before ours was seen, while we answer", shortLock(slow))
			record := election.Record{Format: 1, State: election.StateHolding, Epoch: 1, Node: "slow", Lock: slow, LeaseMS: 3000}
			txn := []election.Op{{Kind: election.OpCheck, Key: election.Key{Group: "web", Kind: election.NodeLock, Lock: slow}, Version: election.AnyVersion},
				{Kind: election.OpSet, Key: election.Key{Group: "web", Kind: election.NodeRecord}, Data: record.Encode()}}
			b.logf("%s: %s", describe(txn), b.outcome(b.store.Commit(0, txn)))
			b.run(time.Second)
		}},
		{"missing: not with a lock whose acquisition may yet commit", func(b *bench) {
			b.apply(true)
			b.fate(lockservice.Take, "late", "wait")
			b.start()
			b.dropRecord()
			b.serve("late")
			b.run(3 * time.Second)
			b.runLate()
			b.run(time.Second)
		}},
		{"not understood: format", func(b *bench) { notUnderstood(b, `{"format":2,"state":"released"}`) }},
		{"not understood: field", func(b *bench) { notUnderstood(b, `{"format":1,"state":"released","quorum":2}`) }},
		{"not understood: state", func(b *bench) { notUnderstood(b, `{"format":1,"state":"vacant"}`) }},
		{"not understood: nothing", func(b *bench) { notUnderstood(b, ``) }},
		{"an older observation is ignored", func(b *bench) {
			b.apply(true)
			lock := b.queue("other", 100)
			b.seen = b.store.Zxid() // as applied: released
			b.other(lock)
			old := b.seen
			b.start()
			b.stale, b.seen = true, old
			b.drop(lock)
			b.run(10 * time.Second)
		}},
	}
}

// notUnderstood: such a record is never taken, and told once.
func notUnderstood(b *bench, record string) {
	b.apply(true)
	b.setRaw(record)
	b.start()
	b.run(time.Minute)
	b.logf("status: %s", b.m.Status(b.now)[0].Why)
}
