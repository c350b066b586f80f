package promise

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/zklvs/zklvs/election"
)

var allowAll = cmp.AllowUnexported(message{}, identity{})

// examples returns one message of each kind with the shortest or the longest
// names.
func examples(long bool) []*message {
	size := func(most int) string {
		if long {
			return strings.Repeat("x", most)
		}
		return "x"
	}
	head := message{asker: lifeOf(1), voter: lifeOf(2), number: math.MaxUint64, who: identity{size(maxNode), size(maxMachineID)}}
	q, a, l := head, head, head
	q.kind, q.epoch, q.lease, q.group, q.lock = kindQuestion, math.MaxUint64, math.MaxInt64, size(maxGroup), size(maxLock)
	a.kind, a.reason = kindAnswer, size(maxReason)
	if !long {
		a.promised, a.reason = true, ""
	}
	l.kind, l.wrong = kindLife, lifeOf(3)
	return []*message{&q, &a, &l}
}

func TestEveryMessageFitsADatagram(t *testing.T) {
	var longest, shortest []int
	for _, long := range []bool{true, false} {
		for _, m := range examples(long) {
			n := len(seal(t, m))
			if n > maxDatagram || n < minDatagram {
				t.Errorf("a message of kind %d has %d bytes, expected %d to %d", m.kind, n, minDatagram, maxDatagram)
			}
			if long {
				longest = append(longest, n)
			} else {
				shortest = append(shortest, n)
			}
		}
	}
	expect(t, "longest question, answer, life", []int{472, 460, 219}, longest)
	expect(t, "shortest question, answer, life", []int{98, 80, 94}, shortest)
}

func TestLayoutStays(t *testing.T) {
	m := &message{
		kind: kindQuestion, asker: lifeOf(0xaa), voter: lifeOf(0xbb), number: 1, who: identity{"n1", "m"},
		epoch: 2, lease: 3, group: "g", lock: "l",
	}
	got, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	want := "\x01\x01" + strings.Repeat("\xaa", 16) + strings.Repeat("\xbb", 16) + "\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x02n1\x01m" + "\x00\x00\x00\x00\x00\x00\x00\x02" + "\x00\x00\x00\x00\x00\x00\x00\x03" + "\x01g\x01l"
	expect(t, "bytes of a question", []byte(want), got)
}

func TestDecodeIsStrict(t *testing.T) {
	q := func(change func(*message)) []byte { return raw(0, change) }
	a := func(change func(*message)) []byte { return raw(1, change) }
	l := func(change func(*message)) []byte { return raw(2, change) }
	none := func(*message) {}
	put := func(b []byte, at int, v byte) []byte { b[at] = v; return b }
	const names = 2 + 2*lifeSize + 8
	for name, b := range map[string][]byte{
		"nothing":              nil,
		"another version":      put(q(none), 0, 2),
		"kind 0":               put(q(none), 1, 0),
		"kind 4":               put(l(none), 1, 4),
		"one byte more":        append(q(none), 0),
		"one byte less":        q(none)[:len(q(none))-1],
		"no asker":             q(func(m *message) { m.asker = life{} }),
		"answer of no life":    a(func(m *message) { m.voter = life{} }),
		"life of no life":      l(func(m *message) { m.voter = life{} }),
		"no number":            q(func(m *message) { m.number = 0 }),
		"no node":              q(func(m *message) { m.who.node = "" }),
		"no machine-id":        q(func(m *message) { m.who.machineID = "" }),
		"node too long":        q(func(m *message) { m.who.node += "x" }),
		"machine-id too long":  q(func(m *message) { m.who.machineID += "x" }),
		"node not UTF-8":       q(func(m *message) { m.who.node = "\xff" }),
		"no group":             q(func(m *message) { m.group = "" }),
		"group too long":       q(func(m *message) { m.group += "x" }),
		"no lock":              q(func(m *message) { m.lock = "" }),
		"lock too long":        q(func(m *message) { m.lock += "x" }),
		"lock not UTF-8":       q(func(m *message) { m.lock = "\xc0\x80" }),
		"kind 4, head alone":   put(q(none)[:names+2+maxNode+maxMachineID], 1, 4),
		"no lease":             q(func(m *message) { m.lease = 0 }),
		"negative lease":       q(func(m *message) { m.lease = -1 }),
		"promise with reason":  a(func(m *message) { m.promised = true }),
		"reason not UTF-8":     a(func(m *message) { m.reason = "\xff" }),
		"promised is 2":        put(a(none), names+1+maxNode+1+maxMachineID, 2),
		"correction to itself": l(func(m *message) { m.wrong = m.voter }),
		"length beyond end":    put(q(func(m *message) { m.lock = "x" }), len(q(func(m *message) { m.lock = "x" }))-2, 9),
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := decode(b); err == nil {
				t.Errorf("accepted as %+v", m)
			}
		})
	}
	for _, m := range append(examples(true), examples(false)...) {
		b, _ := m.encode()
		for n := range b {
			if _, err := decode(b[:n]); err == nil {
				t.Errorf("kind %d: the first %d of %d bytes are accepted", m.kind, n, len(b))
			}
		}
	}
	for i, m := range examples(true) {
		if _, err := decode(raw(i, none)); err != nil {
			t.Errorf("kind %d: the unchanged message is refused: %v", m.kind, err)
		}
	}
}

// raw encodes a changed example whatever it is, which encode would refuse.
func raw(example int, change func(*message)) []byte {
	m := examples(true)[example]
	change(m)
	b := []byte{version, byte(m.kind)}
	b = append(append(b, m.asker[:]...), m.voter[:]...)
	b = appendUint64(b, m.number)
	b = appendText(appendText(b, m.who.node), m.who.machineID)
	switch m.kind {
	case kindQuestion:
		b = appendUint64(appendUint64(b, m.epoch), uint64(m.lease))
		b = appendText(appendText(b, m.group), m.lock)
	case kindAnswer:
		b = appendText(append(b, flag(m.promised)), m.reason)
	case kindLife:
		b = append(b, m.wrong[:]...)
	}
	return b
}

func appendUint64(b []byte, n uint64) []byte {
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(n>>shift))
	}
	return b
}

func anyMessage(t *rapid.T) *message {
	text := func(name string, least, most int) string {
		return rapid.StringN(-1, most, most).Filter(func(s string) bool { return len(s) >= least }).Draw(t, name)
	}
	m := &message{
		kind: kind(rapid.IntRange(1, 3).Draw(t, "kind")), asker: lifeOf(1), voter: lifeOf(2),
		number: rapid.Uint64Min(1).Draw(t, "number"), who: identity{text("node", 1, maxNode), text("machine-id", 1, maxMachineID)},
	}
	switch m.kind {
	case kindQuestion:
		m.epoch, m.lease = rapid.Uint64().Draw(t, "epoch"), time.Duration(rapid.Int64Min(1).Draw(t, "lease"))
		m.group, m.lock = text("group", 1, maxGroup), text("lock", 1, maxLock)
	case kindAnswer:
		if m.promised = rapid.Bool().Draw(t, "promised"); !m.promised {
			m.reason = text("reason", 0, maxReason)
		}
	case kindLife:
		m.wrong = lifeOf(rapid.SampledFrom([]byte{0, 3}).Draw(t, "wrong"))
	}
	return m
}

func TestWhatIsEncodedDecodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyMessage(t)
		b, err := want.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, allowAll); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A datagram of the cluster with any one byte changed, its kind among them, is
// not authentic; nor is one that was cut or added to.
func TestEveryByteIsUnderTheMAC(t *testing.T) {
	s := newSealer(testKey, "web")
	for _, m := range examples(false) {
		good := seal(t, m)
		if s.open(good) == nil {
			t.Fatal("the unchanged datagram is refused")
		}
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			if s.open(bad) != nil {
				t.Errorf("kind %d: byte %d may be changed", m.kind, i)
			}
		}
		for _, bad := range [][]byte{good[:len(good)-1], good[1:], append(bytes.Clone(good), 0), good[:macSize-1], nil} {
			if s.open(bad) != nil {
				t.Errorf("kind %d: may be cut or added to: %x", m.kind, bad)
			}
		}
	}
}

// What asks for a life is longer than what tells it.
func TestNothingIsAmplified(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := anyMessage(t)
		if q.kind != kindQuestion {
			return
		}
		l := &message{kind: kindLife, asker: q.asker, voter: lifeOf(9), number: q.number, who: q.who, wrong: q.voter}
		asked, _ := q.encode()
		said, err := l.encode()
		if err != nil || len(said) >= len(asked) {
			t.Fatalf("a question of %d bytes is answered with a life of %d: %v", len(asked), len(said), err)
		}
	})
}

func TestShorten(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"fits", "why not", "why not"},
		{"too long", strings.Repeat("x", 300), strings.Repeat("x", maxReason)},
		{"cut within a character", strings.Repeat("x", maxReason-1) + "\u00e9", strings.Repeat("x", maxReason-1)},
		{"not UTF-8", "a\xffb", "ab"},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, "reason", tt.want, shorten(tt.in)) })
	}
}

// FuzzDecode: what is accepted encodes to the same bytes.
func FuzzDecode(f *testing.F) {
	for _, long := range []bool{true, false} {
		for _, m := range examples(long) {
			b, err := m.encode()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			t.Fatalf("decoded, but cannot be encoded: %v", err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("decoded from\n%x, encodes to\n%x", b, again)
		}
	})
}

// FuzzReceived: whatever comes, without the key nothing of it is heeded, and
// with the key nothing breaks.
func FuzzReceived(f *testing.F) {
	for _, m := range append(examples(true), examples(false)...) {
		b, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(newSealer(testKey, "another").seal(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := New(Config{
			Cluster: "web", Self: election.Voter{Node: "x", MachineID: "x"}, Listen: ":0", Logger: zap.NewNop(),
			Asked:    func(election.Question) election.Answer { return election.Answer{} },
			Answered: func(election.Voter, election.Question, election.Answer) {}, Now: func() time.Duration { return 0 },
		})
		if err != nil {
			t.Fatal(err)
		}
		in := newInbox()
		s.SetKey(testKey)
		s.received(b, path{}, in)
		if st := s.Status(); st.Dropped[dropForged.String()]+st.Dropped[dropLength.String()]+st.Dropped[dropVersion.String()] != 1 {
			t.Fatalf("a datagram without the key was looked into: %+v", st)
		}
		s.received(s.sealer.Load().seal(bytes.Clone(b)), path{}, in)
		if len(in.questions)+len(in.answers) != 0 {
			t.Fatal("a message was accepted that names neither life of this service")
		}
	})
}
