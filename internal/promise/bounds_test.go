package promise

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/zklvs/zklvs/election"
)

// The voter's table is bounded: a full one is forgotten with the life that it
// belongs to, so that nothing that was honored can be honored again.
func TestTableOfAskersIsBounded(t *testing.T) {
	d := newDirector(t, "node02")
	in := newInbox()
	first := d.voter.life
	honored := 0
	send := func(asker, number uint64, to life) {
		m := questionTo(d.cfg.Self, question(number), life{}, to)
		m.asker = life(append(appendUint64(nil, asker), "asker..."...))
		d.received(seal(t, m), path{}, in)
		for len(in.questions) > 0 {
			<-in.questions
			honored++
		}
	}
	for n := range uint64(maxAskers) {
		send(n, 7, first)
	}
	expect(t, "honored", maxAskers, honored)
	send(maxAskers+1, 7, lifeOf(9)) // for another life: no reason to forget
	send(5, 6, first)               // a replay, and
	send(5, 8, first)               // a new question of one that is known: neither
	expect(t, "life", true, d.voter.life == first)
	expect(t, "honored", maxAskers+1, honored)
	send(maxAskers, 7, first)
	expect(t, "life", false, d.voter.life == first)
	expect(t, "entries", 0, len(d.voter.highest))
	for n := range uint64(100) {
		send(n, 9, first)
	}
	expect(t, "honored", maxAskers+1, honored)
	send(maxAskers, 7, d.voter.life)
	expect(t, "honored", maxAskers+2, honored)
}

func TestOpenQuestionsAreBounded(t *testing.T) {
	k := newAsker()
	ask := func(now time.Duration, number uint64) {
		if _, ok := k.begin(now, election.AskVoter{To: voterNamed("node02"), Question: question(number)}, path{}.remote); !ok {
			t.Fatalf("question %d was refused", number)
		}
	}
	for n := range uint64(maxOpen + 100) {
		ask(0, n+1)
	}
	expect(t, "open", []int{maxOpen, maxOpen}, []int{len(k.open), len(k.order)})
	if k.open[100] != nil || k.open[101] == nil {
		t.Error("not the oldest were forgotten")
	}
	ask(3*time.Second, maxOpen+101) // all others are out of date
	expect(t, "open", []int{1, 1}, []int{len(k.open), len(k.order)})
}

// A lease beyond Lmax is asked for in vain; its question does not stay open for it.
func TestLongLeaseIsNotRemembered(t *testing.T) {
	k := newAsker()
	q := question(1)
	q.Lease = 1 << 62
	k.begin(1<<62, election.AskVoter{To: voterNamed("node02"), Question: q}, path{}.remote)
	expect(t, "until", 1<<62+election.MaxLease, k.open[1].until)
}

func TestKnownLivesAreBounded(t *testing.T) {
	k := newAsker()
	for n := range uint64(maxLives + 1) {
		v := voterNamed("node" + strings.Repeat("x", int(n%50)))
		v.MachineID = string(appendUint64(nil, n))
		k.begin(0, election.AskVoter{To: v, Question: question(n + 1)}, path{}.remote)
		m := &message{kind: kindLife, asker: k.life, voter: lifeOf(9), number: n + 1, who: identify(v)}
		if _, why, ok := k.learn(0, m); !ok {
			t.Fatal(why)
		}
	}
	expect(t, "lives", 1, len(k.lives))
}

// Whoever has not the key leaves no trace in memory.
func TestFlood(t *testing.T) {
	s := newScene(t)
	s.settle(t, 1)
	garbage := make([]byte, 600)
	for n := range 3000 {
		_, _ = rand.Read(garbage)
		garbage[0], garbage[1] = version, byte(n%4)
		s.wire.send(true, garbage[:n%len(garbage)])
		if n%100 == 0 { // the kernel's buffer is bounded too
			s.settle(t, uint64(2+n))
		}
	}
	s.settle(t, 4000)
	s.b.stop()
	expect(t, "remembered", 1, len(s.b.voter.highest))
	expect(t, "b told lives", uint64(1), s.b.Status().Voter.LifeTold)
}
