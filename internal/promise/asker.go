package promise

import (
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/logfield"
)

const (
	// maxOpen bounds the questions that wait for an answer, the oldest are
	// forgotten first; some 10 MiB. 1000 groups with 3 directors have about 12,000
	// in a lease without any answer.
	maxOpen = 16384
	// maxLives bounds the voters whose life is remembered.
	maxLives = 1024
	// maxSendings bounds how often one question is sent: to no life, to one that
	// is over, to the right one.
	maxSendings = 3
)

// asker is what a Service remembers of its own questions.
type asker struct {
	life life // never changes

	mu    sync.Mutex // guards what follows
	last  uint64     // number of the newest question
	open  map[uint64]*openQuestion
	order []uint64 // numbers, oldest first; some are not open any more
	lives map[identity]life
}

func newAsker() asker {
	return asker{life: newLife(), open: map[uint64]*openQuestion{}, lives: map[identity]life{}}
}

// openQuestion waits for an answer.
type openQuestion struct {
	to       election.Voter
	address  netip.AddrPort
	question election.Question
	// until is when an answer cannot extend a lease any more: it would count from
	// before the question was asked.
	until time.Duration
	// voter is the life that the question was sent to last.
	voter    life
	sendings int
}

// Ask sends a question, at once or not at all, and never blocks. The voter's
// address must be an IP address with a port: a name would have to be looked up.
func (s *Service) Ask(a election.AskVoter) {
	fields := []zap.Field{zap.String(logfield.Node, a.To.Node), zap.String(logfield.Group, a.Question.Group)}
	address, err := netip.ParseAddrPort(a.To.Address)
	if err != nil || address.Port() == 0 {
		s.drop(dropAddress, append(fields, zap.String(logfield.To, a.To.Address))...)
		return
	}
	voter, ok := s.asker.begin(s.cfg.Now(), a, address)
	if !ok {
		s.drop(dropNumber, fields...)
		return
	}
	if s.send(questionTo(a.To, a.Question, s.asker.life, voter), path{remote: address}) {
		s.count.sent.Add(1)
		return
	}
	s.asker.forget(a.Question.Number)
}

// begin opens a question and returns the life to send it to. A number that is not
// above all earlier ones would let an answer be told to the wrong question.
func (k *asker) begin(now time.Duration, a election.AskVoter, address netip.AddrPort) (life, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	q := a.Question
	if q.Number <= k.last {
		return life{}, false
	}
	k.last = q.Number
	k.purge(now)
	voter := k.lives[identify(a.To)]
	k.open[q.Number] = &openQuestion{
		to: a.To, address: address, question: q, until: now + min(q.Lease, election.MaxLease), voter: voter, sendings: 1,
	}
	k.order = append(k.order, q.Number)
	return voter, true
}

// purge makes room for a question.
func (k *asker) purge(now time.Duration) {
	for len(k.order) > 0 {
		o := k.open[k.order[0]]
		if o != nil && now < o.until && len(k.order) < maxOpen {
			return
		}
		delete(k.open, k.order[0])
		k.order = k.order[1:]
	}
}

func (k *asker) forget(number uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.open, number)
}

// find returns the open question that an authentic message of a voter is about,
// or why there is none. The lock is held.
func (k *asker) find(now time.Duration, m *message) (*openQuestion, drop, bool) {
	o := k.open[m.number]
	switch {
	case m.asker != k.life, o == nil, now >= o.until:
		return nil, dropUnasked, false
	case m.who != identify(o.to):
		return nil, dropOtherAnswers, false
	}
	return o, 0, true
}

// answered is an answer on its way to Answered.
type answered struct {
	from     election.Voter
	question election.Question
	answer   election.Answer
}

// answered checks an authentic answer and queues it.
func (s *Service) answered(m *message, from path, queue chan<- answered) {
	fields := []zap.Field{zap.Stringer(logfield.From, from.remote), zap.String(logfield.Node, m.who.node)}
	o, why, ok := s.asker.close(s.cfg.Now(), m)
	if !ok {
		s.drop(why, fields...)
		return
	}
	select {
	case queue <- answered{o.to, o.question, election.Answer{Promised: m.promised, Reason: m.reason}}:
	default:
		s.drop(dropBusy, fields...)
	}
}

// close takes the answer to an open question.
func (k *asker) close(now time.Duration, m *message) (*openQuestion, drop, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, why, ok := k.find(now, m)
	if !ok {
		return nil, why, false
	}
	if m.voter != o.voter {
		return nil, dropOtherLife, false
	}
	delete(k.open, m.number)
	return o, 0, true
}

// deliver hands an answer to the election.
func (s *Service) deliver(a answered) {
	if a.answer.Promised {
		s.count.gotPromise.Add(1)
	} else {
		s.count.gotRefusal.Add(1)
	}
	s.cfg.Answered(a.from, a.question, a.answer)
}

// lifeTold learns a voter's life and sends the question again that was for
// another one. Its number and time stay: see the package doc.
func (s *Service) lifeTold(m *message, from path) {
	o, why, ok := s.asker.learn(s.cfg.Now(), m)
	if !ok {
		s.drop(why, zap.Stringer(logfield.From, from.remote), zap.String(logfield.Node, m.who.node))
		return
	}
	if s.send(questionTo(o.to, o.question, s.asker.life, m.voter), path{remote: o.address}) {
		s.count.sentAgain.Add(1)
	}
}

// learn takes the correction of an open question. Each sending is corrected at
// most once, since the correction names the life that it was sent to.
func (k *asker) learn(now time.Duration, m *message) (openQuestion, drop, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, why, ok := k.find(now, m)
	if !ok {
		return openQuestion{}, why, false
	}
	if m.wrong != o.voter || o.sendings >= maxSendings {
		return openQuestion{}, dropOtherLife, false
	}
	if len(k.lives) >= maxLives {
		clear(k.lives)
	}
	k.lives[m.who] = m.voter
	o.voter = m.voter
	o.sendings++
	return *o, 0, true
}
