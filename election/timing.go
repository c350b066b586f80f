package election

import (
	"fmt"
	"time"
)

const (
	// MaxLease is Lmax: the longest time for which any holder, its fence
	// lateness included, may answer after its last renewal. A record that
	// names no lease (state unknown) is waited out with it.
	MaxLease = 10 * time.Second
	// MinLease is the shortest lease that can be configured.
	MinLease = time.Second
	// StepDown is how long before the deadline the director gives up by itself.
	StepDown = 200 * time.Millisecond
	// waitSlack is added to every wait for an unreceipted lease.
	waitSlack = 250 * time.Millisecond
	// rankStep is how much longer each place in the queue waits.
	rankStep = time.Second
	// chosenHeadStart is what all others leave to the director named in released_to.
	chosenHeadStart = time.Second
	// conflictPause is how long a waiter leaves its server to catch up after an
	// acquisition that was refused.
	conflictPause = 50 * time.Millisecond
	// sessionSlack is what a session timeout must leave over lease and renewal.
	sessionSlack = 500 * time.Millisecond
)

// Timing holds the durations that the safety argument rests on.
type Timing struct {
	// Lease is L: how long after the moment just before a confirmed renewal
	// was sent the holder may answer.
	Lease time.Duration
	// Renew is R: the time between two renewals.
	Renew time.Duration
	// Drift bounds how much the rates of two directors' clocks differ (0.1 =
	// 10 %; chrony may slew by 8 %).
	Drift float64
	// Lateness is the most by which this host's fence outlives a deadline when
	// every process of ours is dead. It is added to the lease in the record.
	Lateness time.Duration
}

// DefaultRenew returns the renewal interval for a lease: a sixth of it, at
// most 500 ms.
func DefaultRenew(lease time.Duration) time.Duration {
	return min(lease/6, 500*time.Millisecond)
}

// Validate refuses timings that are inconsistent with each other.
func (t Timing) Validate() error {
	switch {
	case t.Lease < MinLease:
		return fmt.Errorf("lease %v is too short: expected at least %v", t.Lease, MinLease)
	case t.Lateness < 0:
		return fmt.Errorf("fence lateness %v is negative", t.Lateness)
	case t.recorded() > MaxLease:
		return fmt.Errorf("lease %v plus a fence lateness of %v is above %v: shorten the lease to at most %v",
			t.Lease, t.Lateness, MaxLease, MaxLease-t.Lateness)
	case t.Renew <= 0 || t.Renew > t.Lease/3:
		return fmt.Errorf("renewal interval %v does not fit a lease of %v: expected more than 0 and at most a third of the lease", t.Renew, t.Lease)
	case t.Drift < 0 || t.Drift > 0.5:
		return fmt.Errorf("drift %v is out of range: expected 0 to 0.5", t.Drift)
	}
	return nil
}

// CheckSession refuses a negotiated session timeout under which the session
// may expire before the lease does. Safety does not rest on it; a holder whose
// lock vanishes while it is well would give up for nothing.
func (t Timing) CheckSession(timeout time.Duration) error {
	need := t.Lease + max(t.Renew, timeout/4) + sessionSlack
	if timeout >= need {
		return nil
	}
	const shown = 100 * time.Millisecond
	return fmt.Errorf("lease %v is too long for the session timeout of %v that ZooKeeper granted: it needs %v; shorten `lease` in the cluster's document, or raise zookeeper.session_timeout here and maxSessionTimeout in zoo.cfg",
		t.Lease, timeout, (t.sessionFor() + shown - 1).Truncate(shown))
}

// WarnSession returns what a session timeout costs, "" if nothing. A crashed
// holder's lock that outlives W is taken over at W; one that vanishes before
// starts the wait anew, since its last renewal was perhaps not seen.
func (t Timing) WarnSession(timeout time.Duration) string {
	need := t.Wait(t.recorded()) + t.Renew + sessionSlack
	if timeout >= need {
		return ""
	}
	return fmt.Sprintf("the session timeout of %v that ZooKeeper granted is shorter than %v: after a crash of the holder a take-over may take up to %v instead of %v; raise zookeeper.session_timeout",
		timeout, need, timeout+t.Wait(t.recorded()), t.Wait(t.recorded()))
}

// sessionFor returns the shortest session timeout that CheckSession accepts.
func (t Timing) sessionFor() time.Duration {
	return max(t.Lease+t.Renew+sessionSlack, (t.Lease+sessionSlack)*4/3)
}

// recorded is the lease that others must wait out.
func (t Timing) recorded() time.Duration { return t.Lease + t.Lateness }

// Wait returns W: how long a lease of the given recorded length is waited out,
// counted on this host's clock from the reply after which it cannot have been
// renewed.
func (t Timing) Wait(recorded time.Duration) time.Duration {
	return recorded + time.Duration(float64(recorded)*2*t.Drift) + waitSlack
}
