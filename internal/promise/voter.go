package promise

import (
	"strings"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

// maxAskers bounds what is remembered of askers: one entry for each group of
// each life of a director that asked, at most about 4 MiB.
const maxAskers = 16384

// voter is what a Service remembers to answer questions. Only the goroutine that
// receives uses it.
type voter struct {
	life life
	// highest is the number of the last question that was honored.
	highest map[askerGroup]uint64
}

type askerGroup struct {
	asker life
	group string
}

func newVoter() voter { return voter{life: newLife(), highest: map[askerGroup]uint64{}} }

// heard is a question on its way to Asked.
type heard struct {
	*message
	from path
}

// asked checks an authentic question and queues it.
func (s *Service) asked(m *message, from path, queue chan<- heard) {
	fields := []zap.Field{zap.Stringer(logfield.From, from.remote), zap.String(logfield.Group, m.group), zap.String(logfield.Lock, m.lock)}
	key := askerGroup{m.asker, m.group}
	switch {
	case m.asker == s.asker.life:
		s.drop(dropOwn, fields...)
		return
	case m.who != identify(s.cfg.Self):
		s.drop(dropOtherVoter, fields...)
		return
	}
	last, known := s.voter.highest[key]
	if !known && len(s.voter.highest) >= maxAskers && m.voter == s.voter.life {
		s.voter = newVoter() // all that is forgotten was for another life
	}
	switch {
	case m.voter != s.voter.life:
		s.tellLife(m, from)
		return
	case m.number <= last:
		s.drop(dropReplayed, fields...)
		return
	}
	select {
	case queue <- heard{m, from}:
		s.voter.highest[key] = m.number
	default:
		s.drop(dropBusy, fields...)
	}
}

// tellLife answers a question that is for another life with the right one. It is
// shorter than any question, so that nobody can make this host send more than
// he sends himself.
func (s *Service) tellLife(q *message, to path) {
	if s.send(&message{kind: kindLife, asker: q.asker, voter: s.voter.life, number: q.number, who: q.who, wrong: q.voter}, to) {
		s.count.lifeTold.Add(1)
	}
}

// answer lets Asked answer a question and sends what it says.
func (s *Service) answer(q heard) {
	a := s.cfg.Asked(q.question())
	m := &message{kind: kindAnswer, asker: q.asker, voter: q.voter, number: q.number, who: q.who, promised: a.Promised}
	if !a.Promised {
		m.reason = shorten(a.Reason)
	}
	if !s.send(m, q.from) {
		return
	}
	if a.Promised {
		s.count.promised.Add(1)
	} else {
		s.count.refused.Add(1)
	}
}

// shorten cuts a reason to what a message has room for.
func shorten(reason string) string {
	reason = reason[:min(len(reason), maxReason)]
	return strings.ToValidUTF8(reason, "")
}
