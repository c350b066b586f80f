package guard

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
)

const (
	me    = 7
	lease = 3 * time.Second
)

func hold(lock string) election.Holding {
	return election.Holding{Group: "web", Lock: lock, Epoch: 4}
}

func grant(lock string, until time.Duration) election.Grant {
	return election.Grant{Holding: hold(lock), Deadline: until, Version: 9}
}

// answeringCore answers under lock a until 3 s.
func answeringCore(t *testing.T) *Core {
	t.Helper()
	c := NewCore(me)
	if err := errors.Join(c.Queued(election.Queued{Group: "web", Lock: "a"}), c.Grant(0, me, grant("a", lease))); err != nil {
		t.Fatal(err)
	}
	return c
}

func receiptOf(lock, reason string) Settle {
	return Settle{election.Settlement{Group: "web", Lock: lock, Granted: true, Epoch: 4, Version: 9, Reason: reason}}
}

func wantActions(t *testing.T, got []Action, want ...Action) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("actions (-want +got):\n%s", diff)
	}
}

func TestGrantIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(c *Core)
		to   uint64
		g    election.Grant
		want error
	}{
		{"for another guard", nil, me + 1, grant("a", 2*lease), ErrOtherGuard},
		{"after its fence was ordered", func(c *Core) { c.Order(hold("a")) }, me, grant("a", lease), fence.ErrFenced},
		{"fenced before it was ever granted", func(c *Core) { c.Order(hold("b")); c.Order(hold("a")); c.Fenced(hold("a")) }, me, grant("b", lease), fence.ErrFenced},
		{"under another lock while the first answers", nil, me, grant("b", lease), fence.ErrHeld},
		{"under another lock while the first is being fenced", func(c *Core) { c.Order(hold("a")) }, me, grant("b", lease), fence.ErrHeld},
		{"too late", nil, me, grant("a", SilenceMargin), fence.ErrLeaseOver},
		{"too far", nil, me, grant("a", election.MaxLease+1), ErrFar},
		{"by a director that is gone", func(c *Core) { c.Gone("killed") }, me, grant("a", lease), ErrGone},
	} {
		t.Run(c.name, func(t *testing.T) {
			core := answeringCore(t)
			if c.do != nil {
				c.do(core)
			}
			if err := core.Grant(0, c.to, c.g); !errors.Is(err, c.want) {
				t.Errorf("Grant: %v, want %v", err, c.want)
			}
		})
	}
}

func TestSilentDirectorIsFencedAndSettled(t *testing.T) {
	c := answeringCore(t)
	if err := c.Grant(time.Second, me, grant("a", lease+time.Second)); err != nil {
		t.Fatal(err)
	}
	at := lease + time.Second - SilenceMargin
	if c.Wake() != at {
		t.Fatalf("Wake %v, want %v", c.Wake(), at)
	}
	wantActions(t, c.Tick(at-1))
	wantActions(t, c.Tick(at), Fence{hold("a"), "the director fell silent"})
	wantActions(t, c.Tick(at+1))
	if err := c.Grant(at+1, me, grant("a", at+lease)); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("a renewal after the fence: %v", err)
	}
	wantActions(t, c.Fenced(hold("a")), receiptOf("a", "the guard fenced for a director that fell silent"))
	wantActions(t, c.Fenced(hold("a")))
}

// A receipt that the director owes is the director's, as long as it lives.
func TestOrderedFenceIsSettledByTheDirector(t *testing.T) {
	c := answeringCore(t)
	c.Order(hold("a"))
	wantActions(t, c.Fenced(hold("a")))
	wantActions(t, c.Gone("killed"), receiptOf("a", "the guard fenced: killed"))
	if c.Done() {
		t.Error("done before it is settled")
	}
	c.Settled("web", "a")
	if !c.Done() {
		t.Error("not done after it is settled")
	}
}

func TestGoneFencesBeforeItSettles(t *testing.T) {
	c := answeringCore(t)
	if err := c.Queued(election.Queued{Group: "db", Lock: "w"}); err != nil {
		t.Fatal(err)
	}
	wantActions(t, c.Gone("killed"),
		Settle{election.Settlement{Group: "db", Lock: "w", Reason: "the guard fenced: killed"}},
		Fence{hold("a"), "killed"})
	wantActions(t, c.Gone("killed again"))
	wantActions(t, c.Fenced(hold("a")), receiptOf("a", "the guard fenced: killed"))
}

func TestGoneWhileTheOrderedFenceIsUnderWay(t *testing.T) {
	c := answeringCore(t)
	c.Order(hold("a"))
	wantActions(t, c.Gone("killed"), Fence{hold("a"), "killed"})
	wantActions(t, c.Fenced(hold("a")), receiptOf("a", "the guard fenced: killed"))
}

func TestAliveUntilTheDeadlineOfWhatIsNotGone(t *testing.T) {
	c := answeringCore(t)
	if !c.Alive(lease - 1) {
		t.Error("not alive within the lease")
	}
	c.Order(hold("a"))
	if c.Alive(lease) {
		t.Error("alive after the deadline with an address that is not verified gone")
	}
	c.Fenced(hold("a"))
	if !c.Alive(lease) {
		t.Error("not alive although nothing is bound")
	}
}

func TestQueuedAnewAfterTheFence(t *testing.T) {
	c := answeringCore(t)
	if err := c.Queued(election.Queued{Group: "web", Lock: "b"}); !errors.Is(err, fence.ErrHeld) {
		t.Errorf("queued while answering: %v", err)
	}
	c.Order(hold("a"))
	c.Fenced(hold("a"))
	if err := c.Queued(election.Queued{Group: "web", Lock: "b"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Grant(0, me, grant("a", lease)); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("the old lock: %v", err)
	}
	if err := c.Grant(0, me, grant("b", lease)); err != nil {
		t.Errorf("the new lock: %v", err)
	}
}
