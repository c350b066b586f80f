package zk

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/boottime"
)

// patient bounds what has to happen some time: the machine of the tests may be
// slow. Safety has no such slack, see witness.
const patient = 60 * time.Second

// late is what a loaded machine may add to a fail-over that should come at once.
const late = 3 * time.Second

// holds waits until this director answers for the group.
func (c *electorate) holds(t testing.TB, d *director, group string) span {
	t.Helper()
	var s span
	eventually(t, patient+c.wait(), d.node+" answers for "+group, func() (ok bool) {
		s, ok = c.answering(group)
		return ok && s.who == d.executor
	})
	return s
}

// follows waits until somebody answers in a later epoch.
func (c *electorate) follows(t testing.TB, held span) span {
	t.Helper()
	var s span
	eventually(t, patient+c.wait(), "the next epoch", func() (ok bool) {
		s, ok = c.answering(held.Group)
		return ok && s.Epoch > held.Epoch
	})
	return s
}

// waits waits until this director is in the queue.
func (c *electorate) waits(t testing.TB, d *director, group string) {
	t.Helper()
	eventually(t, patient, d.node+" waits for "+group, func() bool { return d.phase(group) == "standby" })
}

func (d *director) phase(group string) string { return d.status(group).Phase }

func (d *director) status(group string) election.GroupStatus {
	all := d.elector.Status()
	if i := slices.IndexFunc(all, func(s election.GroupStatus) bool { return s.Group == group }); i >= 0 {
		return all[i]
	}
	return election.GroupStatus{}
}

// pair starts a holder and a director that waits.
func (c *electorate) pair(t testing.TB, group string, how ...as) (a, b *director, held span) {
	t.Helper()
	a = c.start(t, "a", how...)
	c.holds(t, a, group)
	b = c.start(t, "b")
	c.waits(t, b, group)
	held = c.holds(t, a, group)
	return a, b, held
}

// queue lists the locks of a group, as the leader has them.
func (c *electorate) queue(group string) []string {
	if err := c.s.Sync(context.Background(), c.tree.Root()); err != nil {
		return []string{err.Error()}
	}
	names, _, err := c.s.Children(context.Background(), c.tree.Election(group))
	if err != nil {
		return []string{err.Error()}
	}
	return names
}

// tidy waits until the queue has one lock of each of these directors and no
// other: nothing is left of what was fenced or lost.
func (c *electorate) tidy(t testing.TB, group string, directors ...*director) {
	t.Helper()
	eventually(t, 2*patient, "a tidy queue", func() bool {
		names := c.queue(group)
		for _, d := range directors {
			if i := slices.Index(names, d.status(group).Lock); i >= 0 {
				names = slices.Delete(names, i, i+1)
			} else {
				return false
			}
		}
		return len(names) == 0
	})
}

// receipt returns when the receipt for a lock was first seen.
func (c *electorate) receipt(group, lock string) (time.Duration, bool) {
	for _, r := range c.history(group) {
		if r.State == election.StateReleased && r.Lock == lock {
			return r.at, true
		}
	}
	return 0, false
}

// inTime checks that a holder which was not told of its loss stepped down.
func (c *electorate) inTime(t testing.TB, h election.Holding) {
	t.Helper()
	eventually(t, patient, "a fence", func() bool { return c.span(h).fence != 0 })
	if s := c.span(h); s.fence >= s.deadline {
		t.Errorf("stepped down at %s, %s before its deadline; expected %s", s.fence, s.deadline-s.fence, election.StepDown)
	}
}

func TestElector(t *testing.T) {
	open := run(t, Config{Servers: sharedEnsemble(t).Servers()})
	connected(t, open)
	if _, err := open.Create(context.Background(), Base, nil, Persistent); err != nil && !errors.Is(err, ErrNodeExists) {
		t.Fatal(err) // by nobody's credentials: clusters of several share it
	}
	for _, c := range []struct {
		name string
		play func(*testing.T)
	}{
		{"record deleted", playRecordDeleted},
		{"session expired", playSessionExpired},
		{"session expired, nobody else", playSessionExpiredAlone},
		{"session ends", playSessionEnds},
		{"stop hands over", playStop},
		{"cut off and back", playCutOff},
		{"holder dies", playHolderDies},
		{"lock deleted", playLockDeleted},
		{"wrong credentials", playWrongCredentials},
		{"one of two records spoiled", playSpoiled},
		{"preempt", playPreempt},
		{"restart on the same host", playRestart},
		{"late replies", playLateReplies},
		{"acquired without a reply", playAcquiredUnheard},
		{"group removed and back", playRemovedAndBack},
		{"session expired in the queue", playExpiredWaiting},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.play(t)
		})
	}
}

// A stopping holder fences, then writes the receipt, and the next one takes at once.
func playStop(t *testing.T) {
	timing := election.Timing{Lease: 5 * time.Second, Renew: 500 * time.Millisecond, Drift: 0.1} // W 6.25 s: nobody takes by waiting
	c := elect(t, timing, Config{}, "web")
	a := c.start(t, "a")
	first := c.holds(t, a, "web")
	if first.Epoch != 1 {
		t.Errorf("%+v: expected the first epoch", first.Holding)
	}
	b := c.start(t, "b")
	c.waits(t, b, "web")
	verify := a.holdFences()
	stopped := make(chan struct{})
	go func() { a.stop(); close(stopped) }()
	eventually(t, patient, "the fence is ordered", func() bool { return c.span(first.Holding).fence != 0 })
	since := boottime.Now()
	eventually(t, patient, "half a second", func() bool { return boottime.Now()-since > 500*time.Millisecond })
	if h := c.history("web"); h[len(h)-1].State != election.StateHolding {
		t.Errorf("%+v written before the fence was verified", h[len(h)-1].Record)
	}
	verify()
	next := c.holds(t, b, "web")
	<-stopped
	at, ok := c.receipt("web", first.Lock)
	if !ok || next.Epoch != 2 || next.begun()-at > late {
		t.Errorf("receipt seen: %v; then epoch %d", ok, next.Epoch)
	}
	t.Logf("answers %s after the receipt was seen", (next.begun() - at).Round(time.Millisecond))
	c.tidy(t, "web", b)
}

// A holder that is cut off steps down by itself; the other takes after W; the
// first comes back as a standby.
func playCutOff(t *testing.T) {
	c := elect(t, short(), Config{}, "web")
	a, b, held := c.pair(t, "web")
	each(a.links, (*proxy).freeze)
	next := c.holds(t, b, "web")
	c.inTime(t, held.Holding)
	each(a.links, (*proxy).thaw)
	c.tidy(t, "web", a, b)
	if _, ok := c.receipt("web", held.Lock); ok {
		t.Errorf("a receipt for %s, whose group was taken", held.Lock)
	}
	t.Logf("taken %s after the last renewal was seen", (next.begun() - c.renewed(held.Lock).at).Round(time.Millisecond))
}

// Nothing of the holder's process acts any more; its lock outlives W.
func playHolderDies(t *testing.T) {
	c := elect(t, short(), Config{}, "web")
	a, b, held := c.pair(t, "web")
	each(a.links, (*proxy).freeze)
	next := c.holds(t, b, "web")
	if slices.Contains(c.queue("web"), held.Lock) {
		t.Error("the lock of the old holder stayed: it could renew")
	}
	renewed := c.renewed(held.Lock).at
	if took := next.begun() - renewed; took > c.wait()+time.Second+late {
		t.Errorf("taken %s after the last renewal: expected within %s", took, c.wait()+time.Second)
	}
	t.Logf("taken %s after the last renewal was seen, W is %s", (next.begun() - renewed).Round(time.Millisecond), c.wait())
	reason := c.history("web")
	if got := reason[len(reason)-1]; got.Epoch == held.Epoch+1 && got.Reason != "a did not renew its lease" {
		t.Errorf("reason %q", got.Reason)
	}
}

// expire cuts a director off until its session is gone.
func (c *electorate) expire(t testing.TB, d *director) {
	t.Helper()
	path := c.tree.Director(d.node)
	eventually(t, patient, "an ephemeral of the session", func() bool {
		if _, err := d.session.Create(context.Background(), path, nil, Ephemeral); err != nil && !errors.Is(err, ErrNodeExists) {
			return false
		}
		_, ok, err := c.s.Exists(context.Background(), path) // the operator's server may lag
		return err == nil && ok
	})
	each(d.links, (*proxy).freeze)
	eventually(t, 2*patient, "the session's end", func() bool {
		_, ok, err := c.s.Exists(context.Background(), path)
		return err == nil && !ok
	})
}

func playSessionExpired(t *testing.T) {
	c := elect(t, short(), Config{}, "web")
	a, b, held := c.pair(t, "web")
	c.expire(t, a)
	c.inTime(t, held.Holding)
	c.holds(t, b, "web")
	each(a.links, (*proxy).thaw)
	c.tidy(t, "web", a, b)
	if lock := must(election.ParseLockName(a.status("web").Lock))(t); lock.Session != uint64(a.session.State().ID) {
		t.Errorf("lock %s in session %x", lock, a.session.State().ID)
	}
}

// Without a standby, the group is taken again by the same director, which
// treats its own lost lease like anybody's.
func playSessionExpiredAlone(t *testing.T) {
	c := elect(t, short(), Config{}, "web")
	a := c.start(t, "a")
	held := c.holds(t, a, "web")
	verify := a.holdFences()
	c.expire(t, a)
	c.inTime(t, held.Holding)
	each(a.links, (*proxy).thaw)
	eventually(t, patient, "a new session", func() bool { s := a.session.State(); return s.Connected && s.Generation > 1 })
	if p := a.phase("web"); p != "fencing" {
		t.Errorf("phase %s before the fence is verified", p)
	}
	verify()
	if next := c.follows(t, held); next.Epoch != held.Epoch+1 {
		t.Errorf("epoch %d after %d", next.Epoch, held.Epoch)
	}
	if _, ok := c.receipt("web", held.Lock); ok {
		t.Error("a receipt although the lock was gone")
	}
	c.tidy(t, "web", a)
}

// What the session learns of its end, the machine learns at once: it does not
// hold on until the deadline.
func playSessionEnds(t *testing.T) {
	timing := election.Timing{Lease: 6 * time.Second, Renew: 500 * time.Millisecond, Drift: 0.1}
	c := elect(t, timing, Config{}, "web")
	a := c.start(t, "a")
	held := c.holds(t, a, "web")
	set := func(id int64, connected bool) {
		a.session.mu.Lock()
		defer a.session.mu.Unlock()
		a.session.state.ID, a.session.state.Connected = id, connected
		for sub := range a.session.subs {
			sub.signal()
		}
	}
	id := a.session.State().ID
	set(0, false) // as after go-zk's event of the expiry
	eventually(t, patient, "a fence", func() bool { return c.span(held.Holding).fence != 0 })
	if s := c.span(held.Holding); s.reason != "the ZooKeeper session expired" {
		t.Errorf("fenced because %q", s.reason)
	}
	set(id, true)
	c.follows(t, held)
}

// A waiter whose session expires queues anew in the next one.
func playExpiredWaiting(t *testing.T) {
	c := elect(t, short(), Config{}, "web")
	a, b, _ := c.pair(t, "web")
	lock := b.status("web").Lock
	c.expire(t, b)
	each(b.links, (*proxy).thaw)
	c.tidy(t, "web", a, b)
	if now := b.status("web").Lock; now == lock {
		t.Errorf("still %s", now)
	}
	a.stop()
	c.holds(t, b, "web")
}

// A lock deleted by hand: fence, no receipt, and all wait out the lease.
func playLockDeleted(t *testing.T) {
	c := elect(t, short(), Config{}, "web")
	a, b, held := c.pair(t, "web")
	if err := c.s.Delete(context.Background(), c.tree.Lock("web", held.Lock), AnyVersion); err != nil {
		t.Fatal(err)
	}
	c.follows(t, held)
	if _, ok := c.receipt("web", held.Lock); ok {
		t.Error("a receipt although the lock was gone")
	}
	if s := c.span(held.Holding); s.fence == 0 {
		t.Error("not fenced")
	}
	c.tidy(t, "web", a, b)
}

// A record deleted by hand: fence, and nobody takes before the longest lease
// has run out.
func playRecordDeleted(t *testing.T) {
	c := elect(t, short(), Config{}, "web")
	a, b, held := c.pair(t, "web")
	deleted := boottime.Now()
	if err := c.s.Delete(context.Background(), c.tree.Record("web"), AnyVersion); err != nil {
		t.Fatal(err)
	}
	w := c.timing.Wait(election.MaxLease)
	var next span
	eventually(t, w+patient, "the next epoch", func() (ok bool) {
		next, ok = c.answering("web")
		return ok && next.Holding != held.Holding
	})
	if next.begun()-deleted < w || next.Epoch != held.Epoch+1 {
		t.Errorf("epoch %d after %d, %s after the record was deleted: expected at least %s", next.Epoch, held.Epoch, next.begun()-deleted, w)
	}
	if s := c.span(held.Holding); s.fence == 0 {
		t.Error("not fenced")
	}
	c.tidy(t, "web", a, b)
}
