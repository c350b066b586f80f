package drain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/zklvs/zklvs/internal/spec"
)

// Format is the format of the entries that this version writes and reads.
const Format = 1

const (
	maxEntry = 64 << 10 // bytes
	maxText  = 256      // bytes of a text for people
)

// Reason says why a drain is over.
type Reason string

// Why a drain is over.
const (
	Empty    Reason = "empty"    // no connections were left
	Deadline Reason = "deadline" // those that were left are cut
)

// Entry is the data of one znode operator/drained/<name>, a JSON object. The
// command writes it, and each group's holder adds under Drained when that
// group's part is over.
type Entry struct {
	Format int `json:"format"`
	// ID is random: it tells one drain from the next of the same real server.
	ID         string `json:"id"`
	RealServer string `json:"real_server"`       // IP, or IP:port
	Service    string `json:"service,omitempty"` // "": all
	Since      string `json:"since"`             // RFC 3339
	Deadline   string `json:"deadline,omitempty"`
	By         string `json:"by"` // user@host, for people
	// Drained tells by group how the drain ended there.
	Drained map[string]End `json:"drained,omitempty"`
}

// End is how a drain ended in one group.
type End struct {
	Reason Reason `json:"reason"`
	At     string `json:"at"` // RFC 3339
	Node   string `json:"node"`
	// Cut is how many connections the deadline has cut.
	Cut int `json:"cut,omitempty"`
	// Kept is how many more were left and go on: the kernel does not cut a connection that was
	// synchronized from an earlier holder and belongs to no destination of its table.
	Kept int `json:"kept,omitempty"`
}

// New returns an entry. A zero deadline is none.
func New(t Target, id, by string, since, deadline time.Time) Entry {
	e := Entry{Format: Format, ID: id, RealServer: t.RealServer(), Service: t.Service, Since: stamp(since), By: clean(by)}
	return e.Until(deadline)
}

// Until returns the entry with another deadline, zero for none.
func (e Entry) Until(deadline time.Time) Entry {
	e.Deadline = ""
	if !deadline.IsZero() {
		e.Deadline = stamp(deadline)
	}
	return e
}

// With returns the entry with one more group in which the drain is over.
func (e Entry) With(group string, end End) Entry {
	drained := map[string]End{group: end}
	for g, was := range e.Drained {
		if g != group {
			drained[g] = was
		}
	}
	e.Drained = drained
	return e
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// clean makes a text fit to be stored.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "")
	}
	return text
}

// Target is what the entry is about. Of an entry that Decode returned it is valid.
func (e Entry) Target() Target {
	t, err := ParseTarget(e.RealServer, e.Service)
	if err != nil { // Decode refuses it
		return Target{}
	}
	return t
}

// DeadlineTime is when what is left is cut, false for never.
func (e Entry) DeadlineTime() (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, e.Deadline)
	return t, err == nil
}

// Encode returns the entry as one JSON object; an error if there is too much in
// it to be read again.
func (e Entry) Encode() ([]byte, error) {
	b, err := json.Marshal(e)
	if err == nil && len(b) > maxEntry {
		err = fmt.Errorf("%d bytes, at most %d are read", len(b), maxEntry)
	}
	if err != nil {
		return nil, fmt.Errorf("drain of %s: %w", e.RealServer, err)
	}
	return b, nil
}

// Decode reads the entry of that name strictly: whatever is not understood is
// an error, and such an entry has no effect.
func Decode(name string, data []byte) (Entry, error) {
	var e Entry
	if len(data) > maxEntry {
		return e, fmt.Errorf("%d bytes, at most %d are read", len(data), maxEntry)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return Entry{}, fmt.Errorf("not understood: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Entry{}, errors.New("not understood: data after the JSON object")
	}
	if err := e.check(name); err != nil {
		return Entry{}, err
	}
	return e, nil
}

func (e Entry) check(name string) error {
	if e.Format != Format {
		return fmt.Errorf("format %d is not understood: expected %d", e.Format, Format)
	}
	t, err := ParseTarget(e.RealServer, e.Service)
	if err != nil {
		return err
	}
	if t.Name() != name {
		return fmt.Errorf("it is about %s: expected its znode to be named %s", t, t.Name())
	}
	if e.ID == "" || e.ID != clean(e.ID) || e.By != clean(e.By) {
		return fmt.Errorf("id and by: expected printable text of at most %d bytes", maxText)
	}
	if _, err := time.Parse(time.RFC3339, e.Since); err != nil {
		return fmt.Errorf("since: %q is no time: expected RFC 3339", cut(e.Since))
	}
	if _, ok := e.DeadlineTime(); e.Deadline != "" && !ok {
		return fmt.Errorf("deadline: %q is no time: expected RFC 3339", cut(e.Deadline))
	}
	for group, end := range e.Drained {
		if err := end.check(group); err != nil {
			return fmt.Errorf("drained: group %q: %w", cut(group), err)
		}
	}
	return nil
}

func (e End) check(group string) error {
	if err := spec.CheckName(group); err != nil {
		return err
	}
	if e.Reason != Empty && e.Reason != Deadline {
		return fmt.Errorf("reason %q: expected %s or %s", cut(string(e.Reason)), Empty, Deadline)
	}
	if _, err := time.Parse(time.RFC3339, e.At); err != nil {
		return fmt.Errorf("at: %q is no time: expected RFC 3339", cut(e.At))
	}
	if e.Node != clean(e.Node) || e.Cut < 0 || e.Kept < 0 {
		return errors.New("node, cut and kept: expected a name and numbers that are not negative")
	}
	return nil
}
