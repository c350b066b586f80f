package promise

import (
	"testing"

	"github.com/zklvs/zklvs/election"
)

// BenchmarkRoundTrip asks over loopback, from Ask to Answered.
func BenchmarkRoundTrip(b *testing.B) {
	answers := make(chan struct{}, 1)
	asker := start(b, "node01", func(c *Config) {
		c.Answered = func(election.Voter, election.Question, election.Answer) { answers <- struct{}{} }
	})
	voter := start(b, "node02", func(c *Config) {
		c.Asked = func(election.Question) election.Answer { return election.Answer{Promised: true} }
	})
	to, number := voter.asVoter(), uint64(0)
	for b.Loop() {
		number++
		asker.Ask(election.AskVoter{To: to, Question: question(number)})
		<-answers
	}
}

// BenchmarkForged is what a datagram of the greatest length costs that is not
// authentic.
func BenchmarkForged(b *testing.B) {
	d := newDirector(b, "node02")
	datagram := make([]byte, maxDatagram)
	datagram[0] = version
	in := newInbox()
	for b.Loop() {
		d.received(datagram, path{}, in)
	}
	if d.dropped(dropForged) == 0 {
		b.Error("not dropped")
	}
}
