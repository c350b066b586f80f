package election

import (
	"slices"
	"strings"
	"time"
)

// Question asks a voter to promise that it will not acquire a group for as long
// as the asker may answer: Lease from when the question was sent.
type Question struct {
	Group string
	Lock  string
	Epoch uint64
	// Lease is the asker's lease plus its fence lateness, as in the record.
	Lease time.Duration
	// Number grows with every question of a life, so that an answer is told to
	// its question.
	Number uint64
}

// Answer is what a voter says to a question.
type Answer struct {
	Promised bool
	Reason   string // why not, for people
}

// AskVoter sends a question to a voter, at once or not at all: the lease that
// the answer may extend counts from the call that returned the AskVoter.
type AskVoter struct {
	To       Voter
	Question Question
}

func (AskVoter) action() {}

// keptQuestions is how many unanswered questions to one voter are remembered.
const keptQuestions = 32

// hold is how a holder goes on without ZooKeeper: every director that may be in
// the list of voters promises not to acquire. It begins anew with each holding.
type hold struct {
	voters []*promiser
	// written tells that a list of this holding is in force, or a later one.
	written bool
	// doubt tells that the outcome of a write is not known: nobody is dropped any
	// more, since the list may be any that was sent.
	doubt bool
	// open tells that the list in force may be empty: everyone may acquire then.
	open bool
	// votersBefore and openBefore are what an attempt that is refused goes back to.
	votersBefore []*promiser
	openBefore   bool

	next time.Duration // when to ask, at the earliest
	// going tells that the last extension came from promises: they are then asked
	// for as often as a renewal would be sent.
	going bool
}

// promiser is a voter, and what it was asked and promised.
type promiser struct {
	Voter
	sent []sentQuestion // newest last
	// since is when the newest question that it promised to was sent; -1 while
	// there is none.
	since time.Duration
	// refusal is what it said last instead of promising.
	refusal string
}

type sentQuestion struct {
	number uint64
	at     time.Duration
}

// attempt prepares for a list that may come into force from now on.
func (h *hold) attempt(list Voters) {
	h.votersBefore, h.openBefore = slices.Clone(h.voters), h.open
	if len(list.Voters) == 0 {
		h.open = true
	}
	for _, v := range list.Voters {
		h.add(v)
	}
}

func (h *hold) add(v Voter) {
	for _, a := range h.voters {
		if a.same(v) {
			a.Address = v.Address
			return
		}
	}
	h.voters = append(h.voters, &promiser{Voter: v, since: -1})
}

// refused: the attempt certainly did not come into force.
func (h *hold) refused() {
	h.voters, h.open = h.votersBefore, h.openBefore
}

// confirmed: the list is in force. Without a doubt about an earlier attempt it
// is the only one.
func (h *hold) confirmed(list Voters) {
	h.written = true
	if h.doubt {
		return
	}
	h.open = len(list.Voters) == 0
	h.voters = slices.DeleteFunc(h.voters, func(a *promiser) bool { return !list.has(a.Voter) })
}

// possible reports whether promises could keep the holding.
func (h *hold) possible() bool { return h.written && !h.open && len(h.voters) > 1 }

// askAt returns when the voters are to be asked, Never if not: when half a lease
// has passed without a renewal, and then as often as renewals are sent.
func (g *group) askAt() time.Duration {
	if g.phase != PhaseHolding || g.deadline == 0 || !g.cfg.Hold || !g.hold.possible() {
		return Never
	}
	return max(g.deadline-g.lease+g.askAfter(), g.hold.next)
}

// askAfter is how old a promise, or a renewal, is when it is asked for anew.
func (g *group) askAfter() time.Duration {
	if g.hold.going {
		return g.m.cfg.Timing.Renew
	}
	return g.lease / 2
}

// ask asks those voters whose promise is due.
func (g *group) ask(now time.Duration) {
	if now < g.askAt() {
		return
	}
	g.hold.next = now + g.m.cfg.Timing.Renew/2
	for _, a := range g.hold.voters {
		if a.same(g.m.self()) || a.since >= 0 && now < a.since+g.askAfter() {
			continue
		}
		g.m.questions++
		q := Question{Group: g.name, Lock: g.lock.String(), Epoch: g.epoch, Lease: g.recorded, Number: g.m.questions}
		if a.sent = append(a.sent, sentQuestion{q.Number, now}); len(a.sent) > keptQuestions {
			a.sent = a.sent[1:]
		}
		g.m.out = append(g.m.out, AskVoter{To: a.Voter, Question: q})
	}
}

// Answered hands in a voter's answer to a question of this machine.
func (m *Machine) Answered(now time.Duration, from Voter, q Question, a Answer) []Action {
	g := m.byName[q.Group]
	if g != nil {
		g.expire(now) // a lease that has ended is lengthened by no promise
	}
	if g != nil && g.phase == PhaseHolding && q.Lock == g.lock.String() && q.Epoch == g.epoch {
		g.answered(now, from, q.Number, a)
	}
	return m.advance(now)
}

func (g *group) answered(now time.Duration, from Voter, number uint64, a Answer) {
	i := slices.IndexFunc(g.hold.voters, func(v *promiser) bool { return v.same(from) })
	if i < 0 {
		return
	}
	v := g.hold.voters[i]
	j := slices.IndexFunc(v.sent, func(s sentQuestion) bool { return s.number == number })
	if j < 0 {
		return
	}
	if !a.Promised {
		if v.refusal != a.Reason { // once, not at every question
			g.m.note(Note{Group: g.name, Text: "a voter does not promise", Reason: from.Node + ": " + a.Reason, Trouble: true})
		}
		v.refusal = a.Reason
		return
	}
	v.refusal = ""
	v.since = max(v.since, v.sent[j].at)
	v.sent = v.sent[j+1:]
	if since, all := g.promisedSince(); all {
		was := g.deadline
		g.extend(now, since)
		g.hold.going = g.hold.going || g.deadline != was
	}
}

// promisedSince returns since when every voter has promised: when the oldest of
// the questions was sent that count, the newest one for each voter.
func (g *group) promisedSince() (since time.Duration, all bool) {
	if !g.cfg.Hold || !g.hold.possible() {
		return 0, false
	}
	since = Never
	for _, a := range g.hold.voters {
		if a.same(g.m.self()) {
			continue
		}
		if a.since < 0 {
			return 0, false
		}
		since = min(since, a.since)
	}
	return since, since != Never
}

// refusals says who does not promise, and why; "" if nobody refused.
func (h *hold) refusals() string {
	var all []string
	for _, v := range h.voters {
		if v.refusal != "" {
			all = append(all, v.Node+" refuses: "+v.refusal)
		}
	}
	return strings.Join(all, "; ")
}
