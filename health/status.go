package health

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Status codes are three digits, 100 to 599 (RFC 9110 section 15).
const (
	minStatus = 100
	maxStatus = 599
)

// StatusSet is a set of HTTP status codes, 100 to 599. It is comparable, so
// that two targets that accept the same codes, however written, are the same
// target. The zero value is empty.
type StatusSet [(maxStatus-minStatus)/64 + 1]uint64

// StatusRange is an inclusive range of HTTP status codes.
type StatusRange struct{ First, Last int }

// Statuses returns the union of ranges. Its error names the first range that
// is empty or not within 100 to 599.
func Statuses(ranges ...StatusRange) (StatusSet, error) {
	var set StatusSet
	for _, r := range ranges {
		if r.First < minStatus || r.Last > maxStatus || r.First > r.Last {
			return StatusSet{}, fmt.Errorf("status %d-%d: expected a range within %d-%d",
				r.First, r.Last, minStatus, maxStatus)
		}
		for code := r.First; code <= r.Last; code++ {
			bit := code - minStatus
			set[bit/64] |= 1 << (bit % 64)
		}
	}
	return set, nil
}

// Contains reports whether code is in the set; false for what is no code.
func (s StatusSet) Contains(code int) bool {
	if code < minStatus || code > maxStatus {
		return false
	}
	bit := code - minStatus
	return s[bit/64]&(1<<(bit%64)) != 0
}

// ranges returns the fewest ranges that make up the set, ascending.
func (s StatusSet) ranges() []StatusRange {
	var out []StatusRange
	for code := minStatus; code <= maxStatus; code++ {
		switch {
		case !s.Contains(code):
		case len(out) > 0 && out[len(out)-1].Last == code-1:
			out[len(out)-1].Last = code
		default:
			out = append(out, StatusRange{code, code})
		}
	}
	return out
}

// String is the form people write: "200-299,301"; "" for the empty set.
func (s StatusSet) String() string {
	var parts []string
	for _, r := range s.ranges() {
		text := strconv.Itoa(r.First)
		if r.Last > r.First {
			text += "-" + strconv.Itoa(r.Last)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ",")
}

func (s StatusSet) validate() error {
	if s == (StatusSet{}) {
		return errors.New("no status is expected: name at least one, such as 200")
	}
	return nil
}
