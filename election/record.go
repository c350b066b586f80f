package election

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// RecordFormat is the format of the record that this version writes. A record
// of another format is not understood and never taken over.
const RecordFormat = 1

// maxRecord bounds what is read from a record's znode, in bytes.
const maxRecord = 16 << 10

// State says what the record claims.
type State string

// The states of a record.
const (
	// StateReleased: the holder named has fenced and let go (the receipt).
	StateReleased State = "released"
	// StateHolding: the director named may answer.
	StateHolding State = "holding"
	// StateUnknown: nobody knows who may answer, for at most MaxLease.
	StateUnknown State = "unknown"
)

// HostID tells one life of one network namespace from another.
type HostID struct {
	MachineID   string `json:"machine_id,omitempty"`   // /etc/machine-id
	BootID      string `json:"boot_id,omitempty"`      // /proc/sys/kernel/random/boot_id
	NetnsCookie uint64 `json:"netns_cookie,omitempty"` // SO_NETNS_COOKIE (Linux 5.14); 0 = unreadable
}

// complete reports whether the identity is good enough to speak for an earlier life.
func (h HostID) complete() bool {
	return h.MachineID != "" && h.BootID != "" && h.NetnsCookie != 0
}

// elsewhere reports whether two identities cannot be lives of one host: another
// machine, or another network namespace of the same boot.
func (h HostID) elsewhere(o HostID) bool {
	return h.MachineID != o.MachineID || h.BootID == o.BootID && h.NetnsCookie != o.NetnsCookie
}

// Record is a group's one persistent znode `leader`, written only by
// compare-and-set on its version. The znode holds one JSON object.
type Record struct {
	Format int    `json:"format"`
	State  State  `json:"state"`
	Epoch  uint64 `json:"epoch"` // +1 with every acquisition
	Node   string `json:"node,omitempty"`
	Lock   string `json:"lock,omitempty"` // name of the lock znode
	HostID
	LeaseMS    int64  `json:"lease_ms"` // lease plus that holder's fence lateness, milliseconds
	Since      string `json:"since"`    // RFC 3339, for people
	Reason     string `json:"reason,omitempty"`
	ReleasedTo string `json:"released_to,omitempty"` // node that may take at once
}

// NewRecord returns the record that `apply` creates for a group that does not
// exist yet: released where the whole cluster is created with it (nobody can
// hold), unknown otherwise.
func NewRecord(wholeCluster bool, now time.Time) Record {
	r := Record{Format: RecordFormat, State: StateUnknown, LeaseMS: MaxLease.Milliseconds(),
		Since: since(now), Reason: "group applied; an earlier holder is not known"}
	if wholeCluster {
		r.State, r.Reason = StateReleased, "cluster created; never held"
	}
	return r
}

func since(now time.Time) string { return now.UTC().Format(time.RFC3339) }

// Lease returns the lease to be waited out before a record that is not
// released may be taken.
func (r Record) Lease() time.Duration { return time.Duration(r.LeaseMS) * time.Millisecond }

// Encode returns the record as one JSON object.
func (r Record) Encode() []byte {
	b, err := json.Marshal(r)
	if err != nil { // no field can fail to encode
		panic("election: encode record: " + err.Error())
	}
	return b
}

// DecodeRecord reads a record strictly: whatever is not understood is an error,
// and a record with an error is never acted upon.
func DecodeRecord(data []byte) (Record, error) {
	var r Record
	if err := decodeStrict("record", data, &r); err != nil {
		return Record{}, err
	}
	return r, r.validate()
}

// decodeStrict reads one JSON object of bounded size, without fields that are
// not known; what is the word for it in errors.
func decodeStrict(what string, data []byte, into any) error {
	if len(data) > maxRecord {
		return fmt.Errorf("%s of %d bytes is above the limit of %d", what, len(data), maxRecord)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s is not understood: %w", what, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is not understood: data after the JSON object", what)
	}
	return nil
}

func (r Record) validate() error {
	if r.Format != RecordFormat {
		return fmt.Errorf("record of format %d is not understood: expected %d; run one version of zklvs on all directors", r.Format, RecordFormat)
	}
	switch r.State {
	case StateUnknown:
	case StateReleased:
		if r.Lock == "" {
			break // never held
		}
		fallthrough
	case StateHolding:
		if _, err := ParseLockName(r.Lock); err != nil {
			return fmt.Errorf("record in state %s: %w", r.State, err)
		}
	default:
		return fmt.Errorf("record state %q is not understood: expected released, holding or unknown", r.State)
	}
	if r.State != StateReleased && (r.LeaseMS <= 0 || r.LeaseMS > MaxLease.Milliseconds()) {
		return fmt.Errorf("record lease_ms %d is out of range: expected 1 to %d", r.LeaseMS, MaxLease.Milliseconds())
	}
	return nil
}
