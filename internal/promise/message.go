package promise

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/zklvs/zklvs/election"
)

const (
	version = 1
	// maxDatagram bounds a message with its HMAC, in bytes.
	maxDatagram = 512
	// minDatagram is the shortest message: an answer of a voter with the
	// shortest name and machine-id.
	minDatagram = 2 + 2*lifeSize + 8 + 2*2 + 2 + macSize

	lifeSize     = 16
	maxNode      = 63
	maxMachineID = 64
	maxGroup     = 128
	maxLock      = 123
	maxReason    = 255
)

// life is a random id; all zeros means that it is not known.
type life [lifeSize]byte

type kind byte

const (
	kindQuestion kind = 1
	kindAnswer   kind = 2
	kindLife     kind = 3
)

// message is one datagram without its HMAC. See the package doc for the layout.
type message struct {
	kind   kind
	asker  life
	voter  life
	number uint64
	who    identity // of the voter

	// question
	epoch uint64
	lease time.Duration
	group string
	lock  string

	// answer
	promised bool
	reason   string

	// life
	wrong life
}

// identity is what tells voters apart.
type identity struct{ node, machineID string }

func identify(v election.Voter) identity { return identity{v.Node, v.MachineID} }

func questionTo(v election.Voter, q election.Question, asker, voter life) *message {
	return &message{
		kind: kindQuestion, asker: asker, voter: voter, number: q.Number, who: identify(v),
		epoch: q.Epoch, lease: q.Lease, group: q.Group, lock: q.Lock,
	}
}

func (m *message) question() election.Question {
	return election.Question{Group: m.group, Lock: m.lock, Epoch: m.epoch, Lease: m.lease, Number: m.number}
}

// check returns why the message is none, whether it is to be sent or has come.
func (m *message) check() error {
	if err := m.checkHead(); err != nil {
		return err
	}
	switch m.kind {
	case kindQuestion:
		if m.lease <= 0 {
			return fmt.Errorf("lease %v: expected more than 0", m.lease)
		}
		return errors.Join(checkText("group", m.group, 1, maxGroup), checkText("lock", m.lock, 1, maxLock))
	case kindAnswer:
		if m.promised && m.reason != "" {
			return errors.New("a promise with a reason why not")
		}
		return checkText("reason", m.reason, 0, maxReason)
	case kindLife:
		if m.wrong == m.voter {
			return errors.New("a life that the question named already")
		}
		return nil
	}
	return fmt.Errorf("kind %d: expected 1 to 3", m.kind)
}

func (m *message) checkHead() error {
	switch {
	case m.asker == life{}:
		return errors.New("no asker")
	case m.voter == life{} && m.kind != kindQuestion:
		return errors.New("no voter's life")
	case m.number == 0:
		return errors.New("no number")
	}
	return checkIdentity(m.who)
}

func checkIdentity(i identity) error {
	return errors.Join(checkText("node", i.node, 1, maxNode), checkText("machine-id", i.machineID, 1, maxMachineID))
}

func checkText(name, s string, least, most int) error {
	if len(s) < least || len(s) > most || !utf8.ValidString(s) {
		return fmt.Errorf("%s %.40q of %d bytes: expected %d to %d bytes of UTF-8", name, s, len(s), least, most)
	}
	return nil
}

// encode returns the message's bytes, with room for the HMAC.
func (m *message) encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	b := make([]byte, 0, maxDatagram)
	b = append(b, version, byte(m.kind))
	b = append(b, m.asker[:]...)
	b = append(b, m.voter[:]...)
	b = binary.BigEndian.AppendUint64(b, m.number)
	b = appendText(b, m.who.node)
	b = appendText(b, m.who.machineID)
	switch m.kind {
	case kindQuestion:
		b = binary.BigEndian.AppendUint64(b, m.epoch)
		b = binary.BigEndian.AppendUint64(b, uint64(m.lease))
		b = appendText(b, m.group)
		b = appendText(b, m.lock)
	case kindAnswer:
		b = append(b, flag(m.promised))
		b = appendText(b, m.reason)
	case kindLife:
		b = append(b, m.wrong[:]...)
	}
	return b, nil
}

// appendText appends a string that check has bounded to what a byte can say.
func appendText(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// decode reads a message strictly: what it accepts encodes to the same bytes.
func decode(b []byte) (*message, error) {
	r := &reader{rest: b}
	if v := r.byte(); v != version {
		return nil, fmt.Errorf("version %d: expected %d", v, version)
	}
	m := &message{kind: kind(r.byte()), asker: r.life(), voter: r.life(), number: r.uint64()}
	m.who = identity{node: r.text(), machineID: r.text()}
	switch m.kind {
	case kindQuestion:
		m.epoch, m.lease = r.uint64(), time.Duration(r.uint64())
		m.group, m.lock = r.text(), r.text()
	case kindAnswer:
		m.promised, m.reason = r.flag(), r.text()
	case kindLife:
		m.wrong = r.life()
	}
	if r.bad || len(r.rest) != 0 {
		return nil, errors.New("not laid out as a message")
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, nil
}

// reader takes a message apart. Once it has met something bad it yields zeros.
type reader struct {
	rest []byte
	bad  bool
}

// take returns the next n bytes, nil if there are fewer.
func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.rest) {
		r.bad = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) flag() bool {
	b := r.byte()
	r.bad = r.bad || b > 1
	return b == 1
}

func (r *reader) life() (l life) {
	copy(l[:], r.take(lifeSize))
	return l
}

// text reads a string of at most 255 bytes, if they are there; check knows how
// long it may be.
func (r *reader) text() string { return string(r.take(int(r.byte()))) }
