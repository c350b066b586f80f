package health

import (
	"errors"
	"strings"
	"time"
	"unicode"
)

// State is what is held to be true of a target.
type State int

// The states. A target starts as Unknown and never returns to it.
const (
	Unknown State = iota
	Up
	Down
)

func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Down:
		return "down"
	}
	return "unknown"
}

// Verdict is what is known of one target.
type Verdict struct {
	State State

	Since     time.Duration // CLOCK_BOOTTIME of the last change of State, or of the start
	WallSince time.Time     // the same moment by the wall clock, for people

	// LastError is why the newest probe did not succeed, "" if it did. It can
	// stand beside Up: the failure is being retried, or Fall is not reached.
	LastError string

	// LastLatency is how long the newest probe that came to a result took.
	LastLatency time.Duration

	// LastRun is the CLOCK_BOOTTIME at which the newest probe that came to a
	// result ended, 0 for none. A check that is stuck shows by its age.
	LastRun time.Duration

	Changes int // how often State has changed
}

// ErrInconclusive is wrapped by a [Prober]'s error that says nothing about the
// target, such as this host having no descriptor or port left. It changes no
// verdict and does not count as a run; without this rule a director that is
// short of descriptors would find all its real servers dead.
var ErrInconclusive = errors.New("inconclusive")

// A failure that ends this long after its timeout came from a process that
// itself stood still (SIGSTOP, no CPU): timer and answer were both waiting when
// it went on, and the timer won. It is not believed, and the target probed
// again, maxStalls times in a row.
const (
	stallSlack = time.Second
	maxStalls  = 2
)

// maxErrorText bounds what a target can make us keep and print.
const maxErrorText = 512

// check is the state machine of one target: outcomes in, verdict and the time
// of the next probe out. It reads no clock and does no I/O.
type check struct {
	target  Target
	verdict Verdict

	due  time.Duration // when the next probe is to start
	slot time.Duration // a moment of the regular schedule, which is slot + n x interval

	streak  int // results in a row that speak against the state
	retries int // used up of the failure in hand
	stalls  int // in a row
}

// outcome is one finished probe; times are of CLOCK_BOOTTIME.
type outcome struct {
	started, ended time.Duration
	wall           time.Time // at the end
	err            error
}

// newCheck returns a check whose first probe is due at first.
func newCheck(t Target, now time.Duration, wall time.Time, first time.Duration) check {
	return check{target: t, verdict: Verdict{Since: now, WallSince: wall}, due: first, slot: first}
}

// report takes in the outcome of the probe that was due and reports whether
// the state changed.
func (c *check) report(o outcome) bool {
	c.verdict.LastError = errorText(o.err)
	switch {
	case errors.Is(o.err, ErrInconclusive):
		c.due = c.nextSlot(o.ended)
		return false
	case c.stalled(o):
		c.stalls++
		c.due = o.ended
		return false
	}
	c.stalls = 0
	c.verdict.LastRun = o.ended
	c.verdict.LastLatency = o.ended - o.started
	if o.err == nil {
		return c.succeed(o)
	}
	return c.fail(o)
}

func (c *check) stalled(o outcome) bool {
	return o.err != nil && o.ended-o.started > c.target.Timeout+stallSlack && c.stalls < maxStalls
}

func (c *check) succeed(o outcome) bool {
	c.retries = 0
	c.due = c.nextSlot(o.ended)
	return c.count(o, Up, c.target.Rise)
}

// fail counts a failure, unless the target is up and a retry is left: retries
// soften only the way down, where they spare a good server. For a target that
// is down they would be mere extra load.
func (c *check) fail(o outcome) bool {
	if c.verdict.State == Up && c.retries < c.target.Retries {
		c.retries++
		c.due = o.ended + c.target.RetryDelay
		return false
	}
	c.retries = 0
	c.due = c.nextSlot(o.ended)
	return c.count(o, Down, c.target.Fall)
}

// count takes one result for state and reports whether it decided.
func (c *check) count(o outcome, state State, needed int) bool {
	if c.verdict.State == state {
		c.streak = 0
		return false
	}
	c.streak++
	if c.verdict.State != Unknown && c.streak < needed {
		return false
	}
	c.streak = 0
	c.verdict.State = state
	c.verdict.Since, c.verdict.WallSince = o.ended, o.wall
	c.verdict.Changes++
	return true
}

// nextSlot returns the first moment of the regular schedule after at. Keeping
// to the schedule, and not to "end + interval", keeps targets spread even
// after a pause that made all of them due at once.
func (c *check) nextSlot(at time.Duration) time.Duration {
	if at >= c.slot {
		c.slot += ((at-c.slot)/c.target.Interval + 1) * c.target.Interval
	}
	return c.slot
}

// adopt continues from what is known by another target with the same question.
func (c *check) adopt(v Verdict) { c.verdict = v }

func errorText(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText] + "..."
	}
	return strings.Map(printable, strings.ToValidUTF8(text, "?"))
}

// printable keeps what a server sent from steering the terminal it is shown on.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}
