package promise

import (
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

// Status is what a Service has done since it was made.
type Status struct {
	// Listening is where questions are heard, empty while they are not.
	Listening string `json:"listening,omitempty"`
	// Key tells whether there is one.
	Key   bool        `json:"key"`
	Asker AskerCounts `json:"asker"`
	Voter VoterCounts `json:"voter"`
	// Dropped counts what was not sent or not heeded, by reason.
	Dropped map[string]uint64 `json:"dropped,omitempty"`
}

// AskerCounts are of own questions and the answers to them.
type AskerCounts struct {
	Sent uint64 `json:"sent"`
	// SentAgain counts those that were sent to the right life then.
	SentAgain uint64 `json:"sent_again"`
	Answered  uint64 `json:"answered"`
	Promised  uint64 `json:"promised"`
	Refused   uint64 `json:"refused"`
}

// VoterCounts are of others' questions and the own answers to them.
type VoterCounts struct {
	Answered uint64 `json:"answered"`
	Promised uint64 `json:"promised"`
	Refused  uint64 `json:"refused"`
	// LifeTold counts questions for another life of this voter.
	LifeTold uint64 `json:"life_told"`
}

// drop is why something was not sent or not heeded.
type drop int

const (
	dropNoKey drop = iota
	dropNotRunning
	dropAddress
	dropNotAMessage
	dropNumber
	dropNotSent
	dropLength
	dropVersion
	dropForged
	dropMalformed
	dropOwn
	dropOtherVoter
	dropReplayed
	dropBusy
	dropUnasked
	dropOtherAnswers
	dropOtherLife
	drops // how many there are
)

func (d drop) String() string {
	return [drops]string{
		dropNoKey:        "no key",
		dropNotRunning:   "not listening",
		dropAddress:      "voter without a usable address",
		dropNotAMessage:  "cannot be encoded",
		dropNumber:       "number did not grow",
		dropNotSent:      "could not be sent at once",
		dropLength:       "wrong length",
		dropVersion:      "another version",
		dropForged:       "not authentic",
		dropMalformed:    "malformed",
		dropOwn:          "own message",
		dropOtherVoter:   "question for another voter",
		dropReplayed:     "question replayed",
		dropBusy:         "too many at once",
		dropUnasked:      "answer to no open question",
		dropOtherAnswers: "answer of another voter",
		dropOtherLife:    "answer of another life",
	}[d]
}

type counters struct {
	sent, sentAgain, gotPromise, gotRefusal atomic.Uint64
	promised, refused, lifeTold             atomic.Uint64
	dropped                                 [drops]atomic.Uint64
}

// Status returns what was done so far. It may be called at any time.
func (s *Service) Status() Status {
	c := &s.count
	st := Status{
		Key:   s.sealer.Load() != nil,
		Asker: AskerCounts{Sent: c.sent.Load(), SentAgain: c.sentAgain.Load(), Promised: c.gotPromise.Load(), Refused: c.gotRefusal.Load()},
		Voter: VoterCounts{Promised: c.promised.Load(), Refused: c.refused.Load(), LifeTold: c.lifeTold.Load()},
	}
	st.Asker.Answered = st.Asker.Promised + st.Asker.Refused
	st.Voter.Answered = st.Voter.Promised + st.Voter.Refused
	if sock := s.socket.Load(); sock != nil {
		st.Listening = sock.address()
	}
	for d := range drops {
		if n := c.dropped[d].Load(); n > 0 {
			if st.Dropped == nil {
				st.Dropped = map[string]uint64{}
			}
			st.Dropped[d.String()] = n
		}
	}
	return st
}

// drop counts and, at debug, logs. A flood must not fill the log.
func (s *Service) drop(d drop, fields ...zap.Field) {
	s.count.dropped[d].Add(1)
	if entry := s.log.Check(zap.DebugLevel, "dropped"); entry != nil {
		entry.Write(append(fields, zap.Stringer(logfield.Reason, d))...)
	}
}
