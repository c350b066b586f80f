package election

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
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
func (l LockName) prefix() string {
	return fmt.Sprintf("%s-%016x-%016x-", l.Node, l.Session, l.Random)
}

// String returns the znode's name.
func (l LockName) String() string { return fmt.Sprintf("%s%010d", l.prefix(), l.Sequence) }

// ZooKeeper appends %010d; the counter is a signed 32-bit integer.
var lockPattern = regexp.MustCompile(`^([a-z0-9][a-z0-9.-]{0,62})-([0-9a-f]{16})-([0-9a-f]{16})-(\d{10})$`)

// ParseLockName reads the name of a lock znode.
func ParseLockName(name string) (LockName, error) {
	m := lockPattern.FindStringSubmatch(name)
	if m == nil {
		return LockName{}, fmt.Errorf("%.80q is not the name of a lock: expected <node>-<session>-<random>-<sequence>", name)
	}
	session, err1 := strconv.ParseUint(m[2], 16, 64)
	random, err2 := strconv.ParseUint(m[3], 16, 64)
	seq, err3 := strconv.ParseInt(m[4], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return LockName{}, fmt.Errorf("lock %q: %w", name, err)
	}
	return LockName{Node: m[1], Session: session, Random: random, Sequence: seq}, nil
}

// LockData is what a lock znode holds. It is for people, except for the
// priority, which is written once and never changed.
type LockData struct {
	Node     string `json:"node"`
	Priority int    `json:"priority"`
	Renewals uint64 `json:"renewals"`
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
