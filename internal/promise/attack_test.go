package promise

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/leaktest"
)

// scene is an asker and a voter with an attacker between them.
type scene struct {
	a, b *director
	wire *relay
	to   election.Voter // b, as a reaches it
}

func newScene(t *testing.T) *scene {
	t.Helper()
	leaktest.Check(t)
	a, b := start(t, "node01"), start(t, "node02")
	wire := newRelay(t, a, b)
	return &scene{a, b, wire, wire.address(b)}
}

// lose makes the wire lose everything of a kind from now on.
func (s *scene) lose(k kind) { s.wire.filter(func(p packet) bool { return p.kind != k }) }

func (s *scene) loseNothing() { s.wire.filter(nil) }

// settle asks a question through the wire and waits for the answer: whatever was
// sent to either before has been looked at by then.
func (s *scene) settle(t *testing.T, number uint64) {
	t.Helper()
	s.loseNothing()
	s.a.ask(t, s.to, number)
}

// genuine is a question as the asker would send it to the voter that runs.
func (s *scene) genuine(number uint64) *message {
	return questionTo(s.b.cfg.Self, question(number), s.a.asker.life, s.b.voter.life)
}

// answerOf is an answer as the voter would send it.
func (s *scene) answerOf(number uint64) *message {
	return &message{
		kind: kindAnswer, asker: s.a.asker.life, voter: s.b.voter.life, number: number,
		who: identify(s.b.cfg.Self), promised: true,
	}
}

func TestForgedQuestion(t *testing.T) {
	s := newScene(t)
	s.settle(t, 1)
	good := seal(t, s.genuine(2))
	changed := bytes.Clone(good)
	changed[33+1] ^= 0x40 // the number
	another := bytes.Clone(good)
	another[0] = version + 1
	long := newSealer(testKey, "web").seal(append(good[:len(good)-macSize:len(good)-macSize], make([]byte, maxDatagram-len(good)+1)...))
	left := newSealer(testKey, "web").seal(append(good[:len(good)-macSize:len(good)-macSize], 0))
	for _, tt := range []struct {
		name string
		b    []byte
		why  drop
	}{
		{"another key", forge(t, bytes.Repeat([]byte{8}, KeySize), "web", s.genuine(2)), dropForged},
		{"another cluster", forge(t, testKey, "web2", s.genuine(2)), dropForged},
		{"no HMAC", append(good[:len(good)-macSize:len(good)-macSize], make([]byte, macSize)...), dropForged},
		{"changed", changed, dropForged},
		{"another version", another, dropVersion},
		{"too short", good[:minDatagram-1], dropLength},
		{"too long", long, dropLength},
		{"far too long", append(long, make([]byte, 1000)...), dropLength},
		{"empty", nil, dropLength},
		{"left over", left, dropMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := s.b.dropped(tt.why)
			s.wire.send(true, tt.b)
			waitUntil(t, "it is dropped", func() bool { return s.b.dropped(tt.why) == before+1 })
		})
	}
	s.wire.send(true, good) // so it was not that
	waitUntil(t, "the good one is honored", func() bool { return slices.Equal(s.b.numbers(), []uint64{1, 2}) })
}

// An answer cannot be made without the key, nor a refusal be turned.
func TestForgedAnswer(t *testing.T) {
	s := newScene(t)
	s.settle(t, 1)
	s.lose(kindAnswer)
	s.b.says(election.Answer{Reason: "no"})
	s.a.Ask(election.AskVoter{To: s.to, Question: question(2)})
	refusal := s.wire.last(t, kindAnswer, 2).bytes
	turned := bytes.Clone(refusal)
	m := parse(t, refusal)
	m.promised, m.reason = true, ""
	body, _ := m.encode()
	s.wire.send(false, append(body, refusal[len(refusal)-macSize:]...))
	s.wire.send(false, forge(t, bytes.Repeat([]byte{8}, KeySize), "web", s.answerOf(2)))
	turned[1] = byte(kindLife)
	s.wire.send(false, turned)
	waitUntil(t, "all are dropped", func() bool { return s.a.dropped(dropForged) == 3 })
	s.wire.send(false, refusal)
	waitUntil(t, "the refusal", func() bool { return len(s.a.wasTold()) == 2 })
	expect(t, "answer", election.Answer{Reason: "no"}, s.a.wasTold()[1].Answer)
}

func TestQuestionReplayed(t *testing.T) {
	s := newScene(t)
	s.settle(t, 1)
	s.settle(t, 2)
	for range 3 {
		s.wire.send(true, s.wire.last(t, kindQuestion, 2).bytes)
		s.wire.send(true, s.wire.last(t, kindQuestion, 1).bytes)
	}
	s.settle(t, 3)
	expect(t, "b was asked", []uint64{1, 2, 3}, s.b.numbers())
	expect(t, "dropped", uint64(6), s.b.dropped(dropReplayed)+s.b.Status().Voter.LifeTold-1)
}

// A question that was kept back is honored as long as no later one was; its
// answer is told as if it had come in time.
func TestQuestionKeptBack(t *testing.T) {
	s := newScene(t)
	s.settle(t, 1)
	s.lose(kindQuestion)
	for n := range uint64(3) {
		s.a.Ask(election.AskVoter{To: s.to, Question: question(2 + n)})
	}
	s.wire.send(true, s.wire.last(t, kindQuestion, 3).bytes)
	s.wire.send(true, s.wire.last(t, kindQuestion, 2).bytes)
	s.wire.send(true, s.wire.last(t, kindQuestion, 4).bytes)
	s.settle(t, 5)
	expect(t, "b was asked", []uint64{1, 3, 4, 5}, s.b.numbers())
	expect(t, "a was told", []uint64{1, 3, 4, 5}, s.a.answers())
	expect(t, "dropped", uint64(1), s.b.dropped(dropReplayed))
}

// Numbers are counted for each group and each asker: datagrams may overtake each
// other between groups.
func TestNumbersAreOfAGroupAndAnAsker(t *testing.T) {
	s := newScene(t)
	s.settle(t, 5)
	other := s.genuine(4)
	other.group = "db"
	s.wire.send(true, seal(t, other))
	waitUntil(t, "the other group's question", func() bool { return len(s.b.wasAsked()) == 2 })
	c := start(t, "node03")
	c.ask(t, s.b.asVoter(), 3)
	expect(t, "b was asked", []uint64{5, 4, 3}, s.b.numbers())
}

// To a restarted voter nothing can be replayed, answered or not.
func TestQuestionReplayedToRestartedVoter(t *testing.T) {
	s := newScene(t)
	s.settle(t, 1)
	s.lose(kindQuestion)
	s.a.Ask(election.AskVoter{To: s.to, Question: question(2)})
	s.wire.last(t, kindQuestion, 2)
	s.b.stop()
	again := start(t, "node02")
	s.wire.lead(again)
	s.loseNothing()
	for _, p := range s.wire.of(kindQuestion) {
		s.wire.send(true, p.bytes)
	}
	waitUntil(t, "three are answered with the life", func() bool { return again.Status().Voter.LifeTold == 3 })
	// Question 2 is still open, and the asker lets it be asked of the new life.
	waitUntil(t, "the answer to question 2", func() bool { return slices.Contains(s.a.answers(), 2) })
	s.settle(t, 3)
	expect(t, "asked anew", []uint64{2, 3}, again.numbers())
	expect(t, "told", []uint64{1, 2, 3}, s.a.answers())
}

// A director that asks is not its own voter, whoever brings its words back.
func TestQuestionReflected(t *testing.T) {
	s := newScene(t)
	s.settle(t, 1)
	for _, p := range s.wire.of(kindQuestion) {
		s.wire.send(false, p.bytes)
	}
	waitUntil(t, "own questions are dropped", func() bool { return s.a.dropped(dropOwn) == 2 })

	mirror := newRelay(t, s.a, s.a)
	s.a.Ask(election.AskVoter{To: mirror.address(s.a), Question: question(2)}) // by its own name too
	mirror.send(true, mirror.last(t, kindQuestion, 2).bytes)
	waitUntil(t, "own question is dropped", func() bool { return s.a.dropped(dropOwn) >= 3 })
	s.settle(t, 3)
	expect(t, "a was asked", []uint64(nil), s.a.numbers())
	expect(t, "a told no life", uint64(0), s.a.Status().Voter.LifeTold)
}

// A voter's answer and life mean nothing to itself.
func TestAnswerReflected(t *testing.T) {
	s := newScene(t)
	s.settle(t, 1)
	s.wire.send(true, s.wire.last(t, kindAnswer, 1).bytes)
	s.wire.send(true, s.wire.last(t, kindLife, 1).bytes)
	waitUntil(t, "both are dropped", func() bool { return s.b.dropped(dropUnasked) == 2 })
	expect(t, "b was told", []told(nil), s.b.wasTold())
}

func TestQuestionForAnotherVoter(t *testing.T) {
	for name, self := range map[string]func(*Config){
		"another node":    func(c *Config) { c.Self.Node = "node03" },
		"another machine": func(c *Config) { c.Self.MachineID = "another" },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.settle(t, 1)
			c := start(t, "node02", self)
			s.wire.lead(c)
			s.a.Ask(election.AskVoter{To: s.to, Question: question(2)})
			m := s.genuine(3) // even with the right life
			m.voter = c.voter.life
			s.wire.send(true, seal(t, m))
			waitUntil(t, "both are dropped", func() bool { return c.dropped(dropOtherVoter) == 2 })
			expect(t, "c was asked", []uint64(nil), c.numbers())
			expect(t, "c told no life", uint64(0), c.Status().Voter.LifeTold)
		})
	}
}

func TestAnswerOfAnotherVoter(t *testing.T) {
	for name, who := range map[string]identity{
		"another node":    {"node03", voterNamed("node02").MachineID},
		"another machine": {"node02", "another"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.settle(t, 1)
			s.lose(kindQuestion)
			s.a.Ask(election.AskVoter{To: s.to, Question: question(2)})
			s.wire.last(t, kindQuestion, 2)
			m := s.answerOf(2)
			m.who = who
			s.wire.send(false, seal(t, m))
			l := &message{kind: kindLife, asker: m.asker, voter: lifeOf(9), number: 2, who: who, wrong: m.voter}
			s.wire.send(false, seal(t, l))
			waitUntil(t, "both are dropped", func() bool { return s.a.dropped(dropOtherAnswers) == 2 })
			s.settle(t, 3)
			expect(t, "told", []uint64{1, 3}, s.a.answers())
			expect(t, "sent again", uint64(1), s.a.Status().Asker.SentAgain)
		})
	}
}

// A promise to one asker is none to another, though the number be the same.
func TestAnswerToAnotherAsker(t *testing.T) {
	s := newScene(t)
	s.settle(t, 1)
	c := start(t, "node03")
	c.ask(t, s.b.asVoter(), 1)
	s.settle(t, 2) // b promises to a
	wire := newRelay(t, c, s.b)
	wire.filter(func(p packet) bool { return p.toVoter })
	s.b.says(election.Answer{Reason: "no"})
	c.Ask(election.AskVoter{To: wire.address(s.b), Question: question(2)})
	wire.last(t, kindAnswer, 2)
	wire.send(false, s.wire.last(t, kindAnswer, 2).bytes)
	waitUntil(t, "it is dropped", func() bool { return c.dropped(dropUnasked) == 1 })
	expect(t, "c was told", []uint64{1}, c.answers())
}

func TestAnswerOfAnotherLife(t *testing.T) {
	s := newScene(t)
	s.settle(t, 1)
	s.lose(kindQuestion)
	s.a.Ask(election.AskVoter{To: s.to, Question: question(2)})
	s.wire.last(t, kindQuestion, 2)
	m := s.answerOf(2)
	m.voter = lifeOf(9)
	s.wire.send(false, seal(t, m))
	waitUntil(t, "it is dropped", func() bool { return s.a.dropped(dropOtherLife) == 1 })
	s.settle(t, 3)
	expect(t, "told", []uint64{1, 3}, s.a.answers())
}

func TestAnswerReplayed(t *testing.T) {
	s := newScene(t)
	s.settle(t, 1)
	s.settle(t, 2)
	for range 2 {
		s.wire.send(false, s.wire.last(t, kindAnswer, 1).bytes)
		s.wire.send(false, s.wire.last(t, kindAnswer, 2).bytes)
	}
	s.lose(kindQuestion) // while another question is open
	s.a.Ask(election.AskVoter{To: s.to, Question: question(3)})
	s.wire.last(t, kindQuestion, 3)
	s.wire.send(false, s.wire.last(t, kindAnswer, 2).bytes)
	s.settle(t, 4)
	expect(t, "told", []uint64{1, 2, 4}, s.a.answers())
	expect(t, "dropped", uint64(5), s.a.dropped(dropUnasked))
}

// After the lease an answer is of no use, and so is sending the question again.
func TestTooLate(t *testing.T) {
	for _, tt := range []struct {
		name string
		kept kind
		late time.Duration
		want []uint64
	}{
		{"answer within the lease", kindAnswer, 2 * time.Second, []uint64{1, 2}},
		{"answer after the lease", kindAnswer, 3 * time.Second, []uint64{1}},
		{"life within the lease", kindLife, 2 * time.Second, []uint64{1, 2}},
		{"life after the lease", kindLife, 3 * time.Second, []uint64{1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			s.settle(t, 1)
			if tt.kept == kindLife {
				s.b.stop()
				s.b = start(t, "node02")
				s.wire.lead(s.b)
			}
			s.lose(tt.kept)
			s.a.Ask(election.AskVoter{To: s.to, Question: question(2)})
			late := s.wire.last(t, tt.kept, 2)
			s.a.clock.Store(int64(tt.late))
			s.loseNothing()
			s.wire.send(false, late.bytes)
			if len(tt.want) == 1 {
				waitUntil(t, "it is dropped", func() bool { return s.a.dropped(dropUnasked) == 1 })
			} else {
				waitUntil(t, "it is told", func() bool { return len(s.a.wasTold()) == 2 })
			}
			s.settle(t, 3)
			expect(t, "told", append(tt.want, 3), s.a.answers())
		})
	}
}

// Each sending is corrected at most once, and no question is sent more than
// three times.
func TestLifeReplayed(t *testing.T) {
	s := newScene(t)
	s.lose(kindAnswer)
	s.a.Ask(election.AskVoter{To: s.to, Question: question(1)})
	s.wire.last(t, kindAnswer, 1) // sent again, to the right life
	told := s.wire.last(t, kindLife, 1).bytes
	for range 3 {
		s.wire.send(false, told)
	}
	waitUntil(t, "replays are dropped", func() bool { return s.a.dropped(dropOtherLife) == 3 })
	correct := func(wrong, right life) {
		m := parse(t, told)
		m.wrong, m.voter = wrong, right
		s.wire.send(false, seal(t, m))
	}
	correct(s.b.voter.life, lifeOf(8))
	waitUntil(t, "a third sending, which the voter corrects in vain", func() bool {
		return s.a.Status().Asker.SentAgain == 2 && s.a.dropped(dropOtherLife) == 4
	})
	correct(lifeOf(8), lifeOf(9))
	waitUntil(t, "no fourth", func() bool { return s.a.dropped(dropOtherLife) == 5 })
	expect(t, "sent again", uint64(2), s.a.Status().Asker.SentAgain)
	s.settle(t, 2)
	s.wire.send(false, told) // question 1 is open, 2 is not
	s.wire.send(false, s.wire.last(t, kindLife, 2).bytes)
	s.settle(t, 3)
	expect(t, "b was asked", []uint64{1, 2, 3}, s.b.numbers())
	expect(t, "dropped", []uint64{6, 1}, []uint64{s.a.dropped(dropOtherLife), s.a.dropped(dropUnasked)})
}
