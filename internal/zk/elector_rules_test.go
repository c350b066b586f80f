package zk

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/boottime"
)

// Wrong credentials: said, and nothing is held.
func playWrongCredentials(t *testing.T) {
	for _, world := range []bool{false, true} {
		c := elect(t, short(), Config{User: "web", Password: "secret", WorldRead: world}, map[bool]string{false: "closed", true: "open"}[world])
		group := c.groups[0]
		wrong := c.start(t, "wrong", password("guess"))
		eventually(t, patient, "a refusal", func() bool { return wrong.logs.FilterMessage("ZooKeeper refuses this director").Len() > 0 })
		right := c.start(t, "right")
		held := c.holds(t, right, group)
		right.stop()
		eventually(t, patient, "a receipt", func() bool { _, ok := c.receipt(group, held.Lock); return ok })
		n := wrong.logs.Len()
		eventually(t, patient, "another refusal", func() bool { return wrong.logs.Len() > n })
		if p := wrong.phase(group); p != "out" {
			t.Errorf("world may read: %v; phase %s", world, p)
		}
		if q := c.queue(group); len(q) != 0 {
			t.Errorf("world may read: %v; queue %v", world, q)
		}
		wrong.stop()
		deleteTree(t, c.s, c.tree.Root())
	}
}

func deleteTree(t testing.TB, s *Session, path string) {
	t.Helper()
	names, _, err := s.Children(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		deleteTree(t, s, path+"/"+n)
	}
	if err := s.Delete(context.Background(), path, AnyVersion); err != nil {
		t.Fatal(err)
	}
}

// Two groups are renewed in one transaction: when one record is spoiled, the
// other group goes on in its epoch.
func playSpoiled(t *testing.T) {
	timing := election.Timing{Lease: 5 * time.Second, Renew: 500 * time.Millisecond, Drift: 0.1}
	c := elect(t, timing, Config{}, "db", "web")
	a := c.start(t, "a")
	spoiled, kept := c.holds(t, a, "db"), c.holds(t, a, "web")
	good, _, err := c.s.Get(context.Background(), c.tree.Record("db"))
	if err != nil {
		t.Fatal(err)
	}
	var bad map[string]any
	if err := json.Unmarshal(good, &bad); err != nil {
		t.Fatal(err)
	}
	bad["format"], bad["epoch"] = election.RecordFormat+1, 1000
	data := must(json.Marshal(bad))(t)
	_ = must(c.s.Set(context.Background(), c.tree.Record("db"), data, AnyVersion))(t)
	eventually(t, patient, "the spoiled group is fenced", func() bool { return c.span(spoiled.Holding).fenced })
	fenced := c.span(spoiled.Holding).fence
	eventually(t, patient, "the other is renewed", func() bool { return c.span(kept.Holding).granted() > fenced })
	eventually(t, patient, "the director says why it does not take", func() bool {
		return strings.Contains(a.status("db").Why, "format 2 is not understood")
	})
	if s, ok := c.answering("db"); ok {
		t.Errorf("%s answers by a record not understood", s.who.node)
	}
	_ = must(c.s.Set(context.Background(), c.tree.Record("db"), good, AnyVersion))(t) // repaired by hand
	if next := c.follows(t, spoiled); next.Epoch != spoiled.Epoch+1 {
		t.Errorf("epoch %d after %d: taken from a record not understood", next.Epoch, spoiled.Epoch)
	}

	// Written again by hand, as it was: only the renewal can notice.
	again := c.holds(t, a, "db")
	data, _, err = c.s.Get(context.Background(), c.tree.Record("db"))
	if err != nil {
		t.Fatal(err)
	}
	_ = must(c.s.Set(context.Background(), c.tree.Record("db"), data, AnyVersion))(t)
	if next := c.follows(t, again); next.Epoch != again.Epoch+1 {
		t.Errorf("epoch %d after %d", next.Epoch, again.Epoch)
	}
	if s := c.span(again.Holding); !strings.Contains(s.reason, "the record was changed by another") {
		t.Errorf("fenced because %q", s.reason)
	}
	if s := c.span(kept.Holding); s.fence != 0 || s.until < boottime.Now() {
		t.Errorf("the other group was fenced: %+v", s)
	}
}

// A holder of lower priority hands over to the standby that is named.
func playPreempt(t *testing.T) {
	timing := election.Timing{Lease: 5 * time.Second, Renew: 500 * time.Millisecond, Drift: 0.1}
	c := elect(t, timing, Config{}, "web")
	low := c.start(t, "low", priority(100), preempting)
	held := c.holds(t, low, "web")
	other := c.start(t, "other", priority(50))
	c.waits(t, other, "web")
	high := c.start(t, "high", priority(150))
	next := c.holds(t, high, "web")
	at, ok := c.receipt("web", held.Lock)
	if !ok || next.Epoch != held.Epoch+1 || next.begun()-at > late {
		t.Errorf("receipt seen: %v; then epoch %d after %s", ok, next.Epoch, next.begun()-at)
	}
	for _, r := range c.history("web") {
		if r.Lock == held.Lock && r.State == election.StateReleased && r.ReleasedTo != "high" {
			t.Errorf("released to %q", r.ReleasedTo)
		}
	}
	c.tidy(t, "web", high, low, other)
}

// A director that dies and is started again on its host writes the receipt of
// its earlier life and need not wait.
func playRestart(t *testing.T) {
	timing := election.Timing{Lease: 6 * time.Second, Renew: 500 * time.Millisecond, Drift: 0.1} // W 7.45 s
	host := election.HostID{MachineID: "m", BootID: "b", NetnsCookie: 7}
	c := elect(t, timing, Config{}, "web")
	a := c.start(t, "a", onHost(host))
	held := c.holds(t, a, "web")
	stranger := c.start(t, "a", onHost(election.HostID{MachineID: "m", BootID: "b", NetnsCookie: 8})) // same name, other namespace
	c.waits(t, stranger, "web")
	each(a.links, (*proxy).freeze)
	a.die()
	died := boottime.Now()
	again := c.start(t, "a", onHost(host))
	next := c.follows(t, held)
	if _, ok := c.receipt("web", held.Lock); !ok || next.begun()-died > 5*time.Second {
		t.Errorf("receipt %v, taken %s after the death", ok, next.begun()-died)
	}
	if n := again.logs.FilterMessage("wrote the receipt of an earlier life of this host").Len(); n != 1 {
		t.Errorf("the new life wrote %d receipts", n)
	}
	if stranger.logs.FilterMessage("wrote the receipt of an earlier life of this host").Len() != 0 {
		t.Error("another host wrote the receipt")
	}
	if stranger.logs.FilterMessage("another machine holds under this director's node name").Len() == 0 {
		t.Error("two hosts of one name: not said")
	}
}

// The lease counts from before the request was sent, however late its reply.
func playLateReplies(t *testing.T) {
	timing := election.Timing{Lease: 3 * time.Second, Renew: 100 * time.Millisecond, Drift: 0.1}
	c := elect(t, timing, Config{}, "web")
	a := c.start(t, "a", func(a *asked) { a.config.ReplyTimeout = 2 * time.Second })
	held := c.holds(t, a, "web")
	for range 20 {
		each(a.links, (*proxy).freezeReplies)
		frozen := boottime.Now()
		eventually(t, patient, "a while", func() bool { return boottime.Now()-frozen > 700*time.Millisecond })
		committed, n := c.renewed(held.Lock), len(c.span(held.Holding).grants)
		each(a.links, (*proxy).thaw)
		eventually(t, patient, "the next grant", func() bool { return len(c.span(held.Holding).grants) > n })
		if int(committed.version) <= n { // each commit made a version and, while none was lost, a grant
			continue // the request that waited for its reply was no renewal
		}
		if g := c.span(held.Holding).grants[n]; g.deadline > committed.at+timing.Lease {
			t.Errorf("the deadline is %s after the renewal was seen: expected at most %s", g.deadline-committed.at, timing.Lease)
		}
		return
	}
	t.Error("no late reply to a renewal")
}

// An acquisition whose reply is lost is found in the record: the director
// renews first and answers then.
func playAcquiredUnheard(t *testing.T) {
	timing := election.Timing{Lease: 3 * time.Second, Renew: 500 * time.Millisecond, Drift: 0.1}
	c := elect(t, timing, Config{}, "one", "two", "three")
	a := c.start(t, "a", paused)
	for i, group := range c.groups {
		for _, g := range c.groups[i:] { // nothing is under way but slow polls
			eventually(t, patient, "the own lock is seen", func() bool {
				s := a.status(g)
				return slices.ContainsFunc(s.Queue, func(q election.QueueEntry) bool { return q.Lock == s.Lock })
			})
		}
		each(a.links, (*proxy).freezeReplies)
		a.groups[i].Paused = false
		a.elector.Configure(a.groups)
		var taken written
		eventually(t, patient, "the reply is given up", func() bool {
			h := c.history(group)
			taken = h[len(h)-1]
			return !a.session.State().Connected
		})
		if taken.State != election.StateHolding { // it was the reply to something else
			each(a.links, (*proxy).thaw)
			continue
		}
		c.adopts(t, a, group, taken)
		return
	}
	t.Error("no acquisition whose reply was lost")
}

func (c *electorate) adopts(t testing.TB, a *director, group string, taken written) {
	t.Helper()
	if s, ok := c.answering(group); ok {
		t.Errorf("answers without a reply: %+v", s)
	}
	each(a.links, (*proxy).thaw)
	s := c.holds(t, a, group)
	if s.Lock != taken.Lock || s.Epoch != taken.Epoch {
		t.Errorf("%+v, but the record said %+v", s.Holding, taken.Record)
	}
	// The acquisition and each renewal made a version of the lock; only the
	// renewals may have led to grants.
	eventually(t, patient, "two grants", func() bool { return len(c.span(s.Holding).grants) > 1 })
	n := len(c.span(s.Holding).grants)
	if err := c.s.Sync(context.Background(), c.tree.Root()); err != nil {
		t.Fatal(err)
	}
	lock, _, err := c.s.Exists(context.Background(), c.tree.Lock(group, s.Lock))
	if err != nil || int(lock.Version) <= n {
		t.Errorf("%d grants after %d commits (%v): it was not renewed first", n, lock.Version, err)
	}
}

// A group that leaves the documents and returns before it was released is
// queued for again.
func playRemovedAndBack(t *testing.T) {
	c := elect(t, short(), Config{}, "web")
	a := c.start(t, "a")
	held := c.holds(t, a, "web")
	verify := a.holdFences()
	a.elector.Configure(nil)
	eventually(t, patient, "the fence is ordered", func() bool { return c.span(held.Holding).fence != 0 })
	a.elector.Configure(a.groups)
	verify()
	if next := c.follows(t, held); next.Epoch != held.Epoch+1 {
		t.Errorf("epoch %d after %d", next.Epoch, held.Epoch)
	}
	a.elector.Configure(nil)
	eventually(t, patient, "the group is forgotten", func() bool { return len(a.elector.Status()) == 0 })
	if q := c.queue("web"); len(q) != 0 {
		t.Errorf("queue %v", q)
	}
}

func TestElectorUnderServerFaults(t *testing.T) {
	e := sharedEnsemble(t)
	leader := func(t testing.TB) int { return must(e.Leader(within(t, patient)))(t) }
	follower := func(t testing.TB) int { return must(e.Follower(within(t, patient)))(t) }
	for _, c := range []struct {
		name string
		on   func(testing.TB) int // the holder's server, which is harmed
		how  func(int) error
	}{
		{"leader killed", leader, e.Kill},
		{"follower killed", follower, e.Kill},
		{"leader frozen", leader, e.Freeze},
		{"follower frozen", follower, e.Freeze},
	} {
		t.Run(c.name, func(t *testing.T) {
			victim := c.on(t)
			cl := elect(t, short(), Config{}, "web")
			a, b, held := cl.pair(t, "web", in(sessionOn(t, e, victim)))
			heal(t, e, victim)
			if err := c.how(victim); err != nil {
				t.Fatal(err)
			}
			harmed := boottime.Now()
			var now span
			eventually(t, 2*patient, "somebody is granted the group long after the fault", func() (ok bool) {
				now, ok = cl.answering("web")
				return ok && now.granted() > harmed+cl.wait()+cl.timing.Lease
			})
			t.Logf("epoch %d of %s, after %d of %s", now.Epoch, now.who.node, held.Epoch, held.who.node)
			cl.tidy(t, "web", a, b)
		})
	}
}
