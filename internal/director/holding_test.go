package director

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/ipvs"
)

const rulesStand = "rules TCP 192.0.2.100:80 -> 192.0.2.11:80=1 192.0.2.12:80=2"

// The order is the product: rules, address; address gone, election, rules gone.
func TestTakeOverAndFenceAreInOrder(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.elector.onFenced = func(election.Holding) { b.wantBound() }
		b.journal.take()
		b.grant(hold("web", 1), 3*time.Second)
		b.wantBound("192.0.2.100")
		b.fence(hold("web", 1))
		want := []string{rulesStand, "bind 192.0.2.100", "remove 192.0.2.100", "fenced web-lock1", "rules none"}
		if diff := cmp.Diff(want, b.journal.take()); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

func TestRenewalKeepsTheAddressAndTheRules(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		for range 20 {
			b.grant(hold("web", 1), 3*time.Second)
			b.wantBound("192.0.2.100")
			b.pass(500 * time.Millisecond)
		}
		rules := slices.DeleteFunc(b.journal.take(), func(l string) bool { return l != rulesStand })
		if len(rules) != 1 {
			t.Errorf("rules were set %d times, want once", len(rules))
		}
		if n := b.logged("answering"); n != 1 {
			t.Errorf("%d log lines say that it answers, want 1", n)
		}
		b.pass(4 * time.Second) // no renewal comes any more
		b.wantBound()
	})
}

func TestNothingIsBoundAfterTheLease(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.grant(hold("web", 1), 150*time.Millisecond) // below the margin
		b.wantBound()
		b.grant(hold("web", 1), 3*time.Second) // the renewal arrives after all
		b.wantBound("192.0.2.100")
	})
}

// A take-over that takes long binds until the newest deadline, not the one that
// it started with.
func TestGrantsDuringASlowRuleInstall(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.table.before = func(desired []ipvs.Service) error {
			if len(desired) > 0 {
				time.Sleep(5 * time.Second)
			}
			return nil
		}
		b.order(hold("web", 1), 3*time.Second)
		for range 9 {
			b.pass(500 * time.Millisecond)
			b.order(hold("web", 1), 3*time.Second)
		}
		b.wantBound()
		b.pass(600 * time.Millisecond)
		b.wantBound("192.0.2.100")
		if held := b.fencer.Bound(); len(held) != 1 || held[0].Deadline != b.now()+2400*time.Millisecond {
			t.Errorf("bound %+v at %v, want a deadline 2.4 s ahead", held, b.now())
		}
		if len(b.fencer.binds) != 1 {
			t.Errorf("%d binds, until %v; want one, until the newest deadline", len(b.fencer.binds), b.fencer.binds)
		}
	})
}

// A fence that arrives while the rules are being installed: the address is never
// bound, not even for a moment.
func TestAFenceDuringALongTakeOverWins(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.table.before = func(desired []ipvs.Service) error {
			if len(desired) > 0 {
				time.Sleep(time.Second)
			}
			return nil
		}
		b.journal.take()
		b.order(hold("web", 1), 3*time.Second)
		b.pass(500 * time.Millisecond)
		b.d.Fence(election.Fence{Holding: hold("web", 1), Reason: "own lock is gone"})
		b.pass(time.Second)
		b.wantBound()
		want := []string{rulesStand, "fenced web-lock1", "rules none"}
		if diff := cmp.Diff(want, b.journal.take()); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

// A late grant for a fenced lock, and one for the next holding.
func TestAFencedLockIsNeverResumed(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.grant(hold("web", 1), 3*time.Second)
		b.fence(hold("web", 1))
		b.d.Grant(election.Grant{Holding: hold("web", 1), Deadline: b.now() + 3*time.Second})
		synctest.Wait()
		b.wantBound()
		b.grant(hold("web", 2), 3*time.Second)
		b.wantBound("192.0.2.100")
		if got := b.table.services(); got != strings.TrimPrefix(rulesStand, "rules") {
			t.Errorf("rules of the second holding: %s", got)
		}
	})
}

func TestFenceIsRetriedUntilVerified(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.elector.onFenced = func(election.Holding) { b.wantBound() }
		b.grant(hold("web", 1), time.Minute)
		b.fencer.mu.Lock()
		b.fencer.failures = 20
		b.fencer.mu.Unlock()
		b.fence(hold("web", 1))
		b.pass(19 * fenceRetry)
		if len(b.elector.holdings()) != 1 {
			t.Error("the election heard of a fence that failed")
		}
		b.pass(fenceRetry)
		if held := b.elector.holdings(); len(held) != 0 {
			t.Errorf("still held: %v", held)
		}
		if n := b.logged("not verified gone"); n != 20 {
			t.Errorf("%d log lines about it, want 20", n)
		}
	})
}

func TestVIPsChangeWhileHolding(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.grant(hold("web", 1), 3*time.Second)
		b.journal.take()
		b.apply(with(webDocs(), "spec/groups/web", "vips: [192.0.2.100, 192.0.2.101]\nlabel: eth0:2\n"))
		b.wantBound("192.0.2.100", "192.0.2.101")
		without := map[string]string{"spec/groups/web": "vips: [192.0.2.101]\n"}
		b.apply(without)
		b.wantBound("192.0.2.101")
		for _, l := range b.journal.take() {
			if strings.HasPrefix(l, "fenced") || strings.HasPrefix(l, "give up") {
				t.Errorf("unexpected: %s", l)
			}
		}
		b.grant(hold("web", 1), 3*time.Second)
		b.wantBound("192.0.2.101")
	})
}

// Groups do not wait for each other: one is fenced while another's rules are
// being installed. (No bubble: the pass that the fence asks for waits for a lock.)
func TestASlowGroupHoldsUpNoFence(t *testing.T) {
	b := newBench(t, with(webDocs(), "spec/groups/plain", "vips: [192.0.2.200]\n"))
	begun, goOn, fenced := make(chan struct{}), make(chan struct{}), make(chan struct{}, 2)
	b.table.before = func(desired []ipvs.Service) error {
		if len(desired) > 0 {
			b.table.before = nil
			close(begun)
			<-goOn
		}
		return nil
	}
	b.elector.onFenced = func(h election.Holding) {
		if h.Group == "plain" {
			fenced <- struct{}{} // a second time at the end, if it is quick
		}
	}
	b.begin()
	<-b.elector.ready
	bound := make(chan struct{}, 2)
	b.fencer.onBind = func(fence.Holding) { bound <- struct{}{} }
	b.order(hold("plain", 1), 20*time.Second)
	<-bound
	b.order(hold("web", 1), 20*time.Second)
	<-begun
	b.d.Fence(election.Fence{Holding: hold("plain", 1)})
	<-fenced
	close(goOn)
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}

// Rules that cannot be installed do not keep the address away: some service is
// better than none, and the error is logged.
func TestIncompleteRulesAreLogged(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.table.before = func(desired []ipvs.Service) error {
			if len(desired) > 0 {
				return errors.New("add destination: refused")
			}
			return nil
		}
		b.grant(hold("web", 1), 3*time.Second)
		b.wantBound("192.0.2.100")
		if b.logged("IPVS rules are not complete") == 0 {
			t.Error("nothing was logged")
		}
	})
}

// The guard fenced by itself although the lease lives: nobody would answer for as
// long as the director goes on renewing.
func TestAHoldingThatTheGuardFencedIsGivenUp(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.grant(hold("web", 1), 3*time.Second)
		b.wantBound("192.0.2.100")
		if err := b.fencer.Host.Fence(fence.Holding(hold("web", 1)), "the director fell silent"); err != nil {
			t.Fatal(err)
		}
		b.journal.take()
		b.grant(hold("web", 1), 3*time.Second)
		if got := b.journal.take(); len(got) == 0 || !strings.HasPrefix(got[0], "give up web-lock1: fenced: ") {
			t.Errorf("what happened: %q", got)
		}
	})
}

func TestALostGuardEndsWhatIsHeld(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.grant(hold("web", 1), 3*time.Second)
		b.wantBound("192.0.2.100")
		b.journal.take()
		b.d.Lost("the guard process died")
		synctest.Wait()
		if got := b.journal.take(); len(got) == 0 || got[0] != "give up web-lock1: the guard process died" {
			t.Errorf("what happened: %q", got)
		}
	})
}

func TestAnAddressThatCannotBeBound(t *testing.T) {
	docs := with(webDocs(), "spec/groups/web", webGroup+"fitness: {backoff: 10s}\n")
	play(t, docs, nil, func(b *bench) {
		if why := b.elector.ineligible(t, "web"); why != "" {
			t.Fatalf("unfit at first: %s", why)
		}
		b.journal.take()
		b.fencer.failBind(errors.New("bind group web: no buffer space"))
		b.grant(hold("web", 1), 3*time.Second)
		want := []string{rulesStand, "give up web-lock1: the addresses cannot be bound: bind group web: no buffer space",
			"fenced web-lock1", "rules none"}
		if diff := cmp.Diff(want, b.journal.take()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		b.fencer.failBind(nil)
		b.pass(9 * time.Second)
		if why := b.elector.ineligible(t, "web"); why != "bind group web: no buffer space" {
			t.Errorf("within the back-off: unfit because %q", why)
		}
		if got := b.d.Status().Unfit["web"]; got != "bind group web: no buffer space" {
			t.Errorf("status says %q", got)
		}
		b.pass(3 * time.Second)
		if why := b.elector.ineligible(t, "web"); why != "" {
			t.Errorf("after the back-off: still unfit: %s", why)
		}
		b.grant(hold("web", 2), 3*time.Second)
		b.wantBound("192.0.2.100")
	})
}

// The host's own address is not taken for a VIP.
func TestAVIPThatIsThisHostsOwnAddress(t *testing.T) {
	play(t, webDocs(), func(b *bench) { b.own("192.0.2.100/24") }, func(b *bench) {
		b.grant(hold("web", 1), 3*time.Second)
		b.wantBound("192.0.2.100")
		if b.logged("giving the group up") != 1 || b.logged("does not hold is bound here") == 0 {
			t.Error("it was not said")
		}
		if got := b.bound(); len(got) != 1 {
			t.Errorf("bound: %v", got)
		}
	})
}
