package election

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// LockName is the name of a lock znode:
// <node>-<session>-<random>-<sequence>, session and random as 16 hexadecimal
// digits, the sequence as ZooKeeper appends it. The random number is fresh for
// each create, so that no name is ever used twice.
type LockName struct {
	Node     string
	Session  uint64
	Random   uint64
	Sequence int64
}

// prefix is the name without the sequence, as given to a sequential create.
func (l LockName) prefix() string { return string(l.appendPrefix(nil)) }

func (l LockName) appendPrefix(b []byte) []byte {
	b = slices.Grow(b, len(l.Node)+tailWidth)
	b = append(append(b, l.Node...), '-')
	b = append(appendPadded(b, l.Session, 16, hexDigits), '-')
	return append(appendPadded(b, l.Random, 16, hexDigits), '-')
}

// appendPadded writes n with at least width digits. Names are made for every
// lock at every step, hence by hand.
func appendPadded(b []byte, n uint64, base, width int) []byte {
	const zeros = "0000000000000000"
	var digits [20]byte
	d := strconv.AppendUint(digits[:0], n, base)
	return append(append(b, zeros[:max(0, width-len(d))]...), d...)
}

// String returns the znode's name.
func (l LockName) String() string {
	return string(appendPadded(l.appendPrefix(nil), uint64(l.Sequence), 10, seqDigits))
}

// Widths of the parts after the node's name: ZooKeeper appends %010d.
const (
	hexDigits = 16
	seqDigits = 10
	tailWidth = 3*len("-") + 2*hexDigits + seqDigits
	maxNode   = 63
)

// ParseLockName reads the name of a lock znode. It is called for every lock at
// every observation, hence by hand.
func ParseLockName(name string) (LockName, error) {
	cut := len(name) - tailWidth
	if cut < 1 || cut > maxNode || !isNode(name[:cut]) {
		return LockName{}, notALock(name)
	}
	tail := name[cut:]
	session, ok1 := digits(tail[1:1+hexDigits], 16)
	random, ok2 := digits(tail[2+hexDigits:2+2*hexDigits], 16)
	seq, ok3 := digits(tail[3+2*hexDigits:], 10)
	dashes := tail[0] == '-' && tail[1+hexDigits] == '-' && tail[2+2*hexDigits] == '-'
	if !ok1 || !ok2 || !ok3 || !dashes {
		return LockName{}, notALock(name)
	}
	return LockName{Node: name[:cut], Session: session, Random: random, Sequence: int64(seq)}, nil
}

func notALock(name string) error {
	return fmt.Errorf("%.80q is not the name of a lock: expected <node>-<session>-<random>-<sequence>", name)
}

// isNode reports whether s consists of lower-case letters, digits, dots and
// dashes and begins with a letter or digit.
func isNode(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '-') {
			return false
		}
	}
	return s != ""
}

// digits reads lower-case digits of the base: no sign, no underscore.
func digits(s string, base uint64) (uint64, bool) {
	var n uint64
	for i := range len(s) {
		var d uint64
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			d = uint64(c - '0')
		case base == 16 && 'a' <= c && c <= 'f':
			d = uint64(c-'a') + 10
		default:
			return 0, false
		}
		n = n*base + d
	}
	return n, true
}

// LockData is what a lock znode holds. Only the renewals ever change in it, and
// these are for people.
type LockData struct {
	Node     string `json:"node"`
	Priority int    `json:"priority"`
	Renewals uint64 `json:"renewals"`
	// MachineID and Address ask for a place in the list of voters.
	MachineID string `json:"machine_id,omitempty"`
	Address   string `json:"address,omitempty"`
}

func (m *Machine) lockData(priority int, renewals uint64) []byte {
	v := m.self()
	return LockData{Node: v.Node, Priority: priority, Renewals: renewals, MachineID: v.MachineID, Address: v.Address}.Encode()
}

// Encode returns the data as one JSON object.
func (d LockData) Encode() []byte {
	b, err := json.Marshal(d)
	if err != nil {
		panic("election: encode lock: " + err.Error())
	}
	return b
}

// DecodeLockData reads a lock's data. Data that is not understood yields
// priority 0 and an error: such a lock is waited for but nobody steps back for it.
func DecodeLockData(data []byte) (LockData, error) {
	var d LockData
	if len(data) > maxRecord {
		return d, fmt.Errorf("lock data of %d bytes is above the limit of %d", len(data), maxRecord)
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return LockData{}, fmt.Errorf("lock data is not understood: %w", err)
	}
	return d, nil
}
