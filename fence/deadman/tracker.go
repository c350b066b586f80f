package deadman

import (
	"fmt"
	"sync"
	"time"
)

// Margin is how long before a holding's deadline the process is killed. It is
// more than the kernel was seen to be late (see the package's text), and leaves
// the steps that come first (a director gives up 200 ms before its deadline, a
// guard 150 ms) their time.
const Margin = 50 * time.Millisecond

// Switch is what a Tracker arms: a Timer, or a stand-in in tests.
type Switch interface {
	Arm(at time.Duration) error
	Disarm() error
}

var _ Switch = (*Timer)(nil)

// Tracker keeps the deadlines of several holdings and arms the switch Margin
// before the earliest; without a holding the switch is not armed. Its methods
// are safe for concurrent use.
type Tracker struct {
	mu        sync.Mutex
	sw        Switch
	deadlines map[string]time.Duration
	armed     time.Duration // what the kernel was told
	isArmed   bool
}

// NewTracker returns a Tracker without holdings. It takes the switch for itself,
// and believes it to be not armed.
func NewTracker(sw Switch) *Tracker {
	return &Tracker{sw: sw, deadlines: map[string]time.Duration{}}
}

// Set sets a holding's deadline on CLOCK_BOOTTIME, or moves it forward or back.
// When it returns nil the switch is armed accordingly, and the caller may do
// what it may do only before that deadline.
//
// On an error it must not: the switch and all deadlines are as before the call,
// so that what was allowed under an earlier deadline ends with that one.
//
// A deadline that is less than Margin away, or has passed, kills the process.
// That is meant: whoever asks is about to act, and has been frozen since it last
// looked at the clock. So look at the clock first, and refuse a lease that is
// about to end, rather than be killed for it with all other holdings.
func (t *Tracker) Set(key string, deadline time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, had := t.deadlines[key]
	t.deadlines[key] = deadline
	if err := t.rearm(); err != nil {
		if had {
			t.deadlines[key] = before
		} else {
			delete(t.deadlines, key)
		}
		return fmt.Errorf("arm for %s: %w", key, err)
	}
	return nil
}

// Clear takes out a holding that is verified gone; one that is not there is no
// error. After an error the process may be killed although it need not be; the
// next Set or Clear puts that right.
func (t *Tracker) Clear(key string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.deadlines, key)
	if err := t.rearm(); err != nil {
		return fmt.Errorf("disarm for %s: %w", key, err)
	}
	return nil
}

// Next returns when the process is to be killed; false without a holding.
func (t *Tracker) Next() (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.armed, t.isArmed
}

// rearm tells the switch what follows from the deadlines, if it is news.
func (t *Tracker) rearm() error {
	at, some := t.earliest()
	if some == t.isArmed && at == t.armed {
		return nil
	}
	var err error
	if some {
		err = t.sw.Arm(at)
	} else {
		err = t.sw.Disarm()
	}
	if err == nil {
		t.armed, t.isArmed = at, some
	}
	return err
}

func (t *Tracker) earliest() (at time.Duration, some bool) {
	for _, d := range t.deadlines {
		if !some || d-Margin < at {
			at, some = d-Margin, true
		}
	}
	return at, some
}
