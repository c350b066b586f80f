package nemesis

import (
	"cmp"
	"slices"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/lab"
)

// grace is what the service may take to return besides W: ranks, looking, binding,
// announcing.
const grace = 2 * time.Second

// Bound is how long after its end a fault may keep the service away: W + 2 s;
// where a record is gone its lease is unknown, and W is that of the longest.
func Bound(t election.Timing, recordLost bool) time.Duration {
	if recordLost {
		return t.Wait(election.MaxLease) + grace
	}
	return t.Wait(t.Lease+t.Lateness) + grace
}

// steady is how long the client must be served without a loss before the service
// counts as returned. It is longer than requestTimeout: a request that is to be
// lost is known to be by then.
const steady = 1200 * time.Millisecond

// hole is a pause between two requests that is too long to say that the client was
// served meanwhile.
const hole = 500 * time.Millisecond

// servedFrom returns the first time at or after since from which the client was
// served for as long as steady; false if there is none yet.
func servedFrom(outcomes []lab.Outcome, since time.Duration) (time.Duration, bool) {
	outcomes = slices.DeleteFunc(slices.Clone(outcomes), func(o lab.Outcome) bool { return o.Begun < since })
	slices.SortFunc(outcomes, func(a, b lab.Outcome) int { return cmp.Compare(a.Begun, b.Begun) })
	begin := -1
	for i, o := range outcomes {
		switch {
		case o.Err != nil:
			begin = -1
			continue
		case begin < 0 || o.Begun-outcomes[i-1].Begun > hole:
			begin = i
		}
		if o.Begun-outcomes[begin].Begun >= steady {
			return outcomes[begin].Begun, true
		}
	}
	return 0, false
}

// unserved is what a fault cost the client in a time: the longest pause from one
// request that was answered to the next, by when they began, and the number of
// requests lost.
func unserved(outcomes []lab.Outcome, from, until, interval time.Duration) (longest time.Duration, lost int) {
	slices.SortFunc(outcomes, func(a, b lab.Outcome) int { return cmp.Compare(a.Begun, b.Begun) })
	last := from
	for _, o := range outcomes {
		if o.Begun < from || o.Begun > until {
			continue
		}
		if o.Err != nil {
			lost++
			continue
		}
		longest = max(longest, o.Begun-last-interval)
		last = o.Begun
	}
	return max(longest, until-last-hole, 0), lost
}
