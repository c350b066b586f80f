package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Mishap names one thing that goes wrong in a schedule: the Sub-th decision of
// the N-th event of a stream. Streams are drawn independently of each other, so
// that leaving one mishap out changes the others as little as possible.
type Mishap struct {
	Stream byte
	N      uint16
	Sub    uint8
}

// The streams; those of hosts are followed by as many letters as there are hosts.
const (
	streamSetup    = 's' // what a schedule begins with
	streamFault    = 'f' // what is done to hosts and by operators
	streamDirector = 'a' // requests of directors
	streamGuard    = 'g' // requests of guards
	streamMessage  = 'm' // questions of directors to each other
	streamAct      = 'p' // what a host does: messages, fences, addresses
)

// String returns the mishap as ZKLVS_ONLY takes it: f3, or a17.2.
func (m Mishap) String() string {
	if m.Sub == 1 {
		return fmt.Sprintf("%c%d", m.Stream, m.N)
	}
	return fmt.Sprintf("%c%d.%d", m.Stream, m.N, m.Sub)
}

// noMishaps is how an empty list is written, since an empty variable is none.
const noMishaps = "none"

// FormatMishaps writes mishaps separated by commas.
func FormatMishaps(ms []Mishap) string {
	if len(ms) == 0 {
		return noMishaps
	}
	words := make([]string, len(ms))
	for i, m := range ms {
		words[i] = m.String()
	}
	return strings.Join(words, ",")
}

// ParseMishaps reads what FormatMishaps wrote.
func ParseMishaps(text string) ([]Mishap, error) {
	ms := []Mishap{}
	if text == noMishaps {
		return ms, nil
	}
	for _, word := range strings.Split(text, ",") {
		m, err := parseMishap(strings.TrimSpace(word))
		if err != nil {
			return nil, err
		}
		ms = append(ms, m)
	}
	return ms, nil
}

func parseMishap(word string) (Mishap, error) {
	bad := fmt.Errorf("mishap %q: expected a letter and a number such as f3, or a17.2", word)
	if len(word) < 2 || word[0] < 'a' || word[0] > 'z' {
		return Mishap{}, bad
	}
	number, decision, more := strings.Cut(word[1:], ".")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return Mishap{}, bad
	}
	sub := uint64(1)
	if more {
		if sub, err = strconv.ParseUint(decision, 10, 8); err != nil {
			return Mishap{}, bad
		}
	}
	return Mishap{word[0], uint16(n), uint8(sub)}, nil
}

// dice draws what happens in one event. The numbers are SplitMix64's (Steele,
// Lea, Flood, 2014): a copy is cheap, and each event has its own.
type dice struct {
	s     *schedule
	state uint64
	of    Mishap
}

// dice returns the dice of the n-th event of a stream.
func (s *schedule) dice(stream byte, n int) dice {
	return dice{s, mix(s.seed ^ mix(uint64(stream)<<32|uint64(n))), Mishap{stream, uint16(n), 0}}
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (d *dice) next() uint64 {
	d.state += 0x9e3779b97f4a7c15
	return mix(d.state)
}

// upTo draws a time from 0 to most.
func (d *dice) upTo(most time.Duration) time.Duration {
	return time.Duration(d.next() % (uint64(most) + 1))
}

func (d *dice) intN(n int) int { return int(d.next() % uint64(n)) }

// share draws from 0 to 1.
func (d *dice) share() float64 { return float64(d.next()>>11) / (1 << 53) }

// mishap decides whether something goes wrong; never once it is calm, nor when
// the mishap is left out of this run.
func (d *dice) mishap(percent float64) bool {
	d.of.Sub++
	return !d.s.calm && d.share()*100 < percent && d.s.takes(d.of)
}

// rare is mishap in a harsh schedule, a twentieth of it in mild ones, and more
// where records are deleted: harm takes many steps there.
func (d *dice) rare(percent float64) bool {
	switch {
	case d.s.deletions:
		percent *= 1.7
	case !d.s.harsh:
		percent /= 20
	}
	return d.mishap(percent)
}

// takes notes a mishap that comes true.
func (s *schedule) takes(m Mishap) bool {
	if s.only != nil && !s.only[m] {
		return false
	}
	s.took = append(s.took, m)
	return true
}
