package nemesis

import (
	"cmp"
	"slices"
	"time"
)

// Claim is a packet that shows that a host has the VIP: an answer to ARP, an answer
// to a packet that was sent to the VIP on this host, or an announcement. An answer
// was given at some instant from Asked to At; an announcement, whose Asked is 0, at
// some instant before At.
type Claim struct {
	Host    string
	Asked   time.Duration // CLOCK_BOOTTIME just before the request was sent
	At      time.Duration // after the claim was received
	Request uint32        // number of the request, for an answer
	Prober  int           // who numbered it
}

func (c Claim) announced() bool { return c.Asked == 0 }

// Overlap is a time in which two hosts answered for one VIP.
type Overlap struct {
	Hosts       [2]string     `json:"hosts"`
	From        time.Duration `json:"from_ns"` // CLOCK_BOOTTIME
	Until       time.Duration `json:"until_ns"`
	Requests    int           `json:"requests_answered_by_both"`
	Interleaved bool          `json:"interleaved"` // one answered between two answers of the other
	Announced   bool          `json:"announced"`   // one announced while the other answered
}

// lateNotice is how late the notice of a removed address may be stamped on a busy
// machine.
const lateNotice = 100 * time.Millisecond

// lateReading is how long an announcement may have waited to be read and stamped.
const lateReading = 500 * time.Millisecond

// Judge finds the overlaps in what was claimed for one VIP. removed tells when the
// kernel of a host is known to have removed the VIP: whoever has the VIP again had
// to bind it anew, so two answers of a host with no removal between them mean that
// it held all the time between them. delay is the most by which a packet can have
// been delayed on its way from a host.
//
// What it reports is certain, whatever the delays of packets to the witness: of an
// answer only that it was given between Asked and At is used. What it cannot see is
// an overlap shorter than the interval of the requests.
func Judge(claims []Claim, removed map[string][]time.Duration, delay time.Duration) []Overlap {
	var found []Overlap
	found = append(found, twice(claims)...)
	holdings := holdings(claims, removed)
	for i, a := range holdings {
		for _, b := range holdings[i+1:] {
			if o, ok := a.overlap(b); ok {
				found = append(found, o)
			}
		}
		for _, c := range claims {
			if c.announced() && c.Host != a.host && a.from <= c.At-lateReading-delay && c.At <= a.until {
				found = append(found, Overlap{Hosts: pair(a.host, c.Host), From: c.At, Until: c.At, Announced: true})
			}
		}
	}
	return merge(found)
}

// twice finds the requests that two hosts answered.
func twice(claims []Claim) (found []Overlap) {
	type request struct {
		prober int
		number uint32
	}
	first := map[request]Claim{}
	for _, c := range claims {
		if c.announced() {
			continue
		}
		asked := request{c.Prober, c.Request}
		other, seen := first[asked]
		if !seen {
			first[asked] = c
			continue
		}
		if other.Host != c.Host {
			found = append(found, Overlap{Hosts: pair(other.Host, c.Host), From: c.Asked, Until: max(c.At, other.At), Requests: 1})
		}
	}
	return found
}

// holding is a time in which a host held without a pause: it answered at or before
// from and at or after until, and between. For one with a single answer, until is
// before from.
type holding struct {
	host        string
	from, until time.Duration
	answers     []Claim
}

func holdings(claims []Claim, removed map[string][]time.Duration) (all []holding) {
	byHost := map[string][]Claim{}
	for _, c := range claims {
		if !c.announced() {
			byHost[c.Host] = append(byHost[c.Host], c)
		}
	}
	for host, answers := range byHost {
		slices.SortStableFunc(answers, func(a, b Claim) int { return cmp.Compare(a.At, b.At) })
		begin := 0
		for i := range answers {
			if i+1 == len(answers) || gaveUp(answers[i], answers[i+1], removed[host]) {
				all = append(all, newHolding(host, answers[begin:i+1]))
				begin = i + 1
			}
		}
	}
	slices.SortFunc(all, func(a, b holding) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.host, b.host)) })
	return all
}

// gaveUp tells whether the host may have lost the VIP between two answers.
func gaveUp(before, after Claim, removed []time.Duration) bool {
	return slices.ContainsFunc(removed, func(at time.Duration) bool { return before.Asked <= at && at <= after.At+lateNotice })
}

func newHolding(host string, answers []Claim) holding {
	h := holding{host: host, from: answers[0].At, until: answers[0].Asked, answers: answers}
	for _, a := range answers {
		h.from, h.until = min(h.from, a.At), max(h.until, a.Asked)
	}
	return h
}

// overlap is the time in which both surely held.
func (a holding) overlap(b holding) (Overlap, bool) {
	if a.host == b.host {
		return Overlap{}, false
	}
	if from, until := max(a.from, b.from), min(a.until, b.until); from < until {
		return Overlap{Hosts: pair(a.host, b.host), From: from, Until: until, Interleaved: true}, true
	}
	for _, c := range []struct{ whole, part holding }{{a, b}, {b, a}} {
		for _, answer := range c.part.answers {
			if c.whole.from <= answer.Asked && answer.At <= c.whole.until {
				return Overlap{Hosts: pair(a.host, b.host), From: answer.Asked, Until: answer.At, Interleaved: true}, true
			}
		}
	}
	return Overlap{}, false
}

func pair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// merge makes one of all overlaps of two hosts that follow each other within a second.
func merge(found []Overlap) (merged []Overlap) {
	slices.SortStableFunc(found, func(a, b Overlap) int { return cmp.Compare(a.From, b.From) })
	for _, o := range found {
		i := slices.IndexFunc(merged, func(m Overlap) bool { return m.Hosts == o.Hosts && o.From <= m.Until+time.Second })
		if i < 0 {
			merged = append(merged, o)
			continue
		}
		m := &merged[i]
		m.Until = max(m.Until, o.Until)
		m.Requests += o.Requests
		m.Interleaved = m.Interleaved || o.Interleaved
		m.Announced = m.Announced || o.Announced
	}
	return merged
}
