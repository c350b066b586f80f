package sim

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/sim/lockservice"
)

const (
	// sessionTimeout is what the service grants.
	sessionTimeout = 6 * time.Second
	// settling is how long a calm schedule is watched for late damage, bound
	// how long it may take until somebody holds every group: a dead lock that
	// lives on, the longest lease after an unreceipted end, twice, and ranks.
	settling = 4 * time.Second
	bound    = 40 * time.Second
	// maxSteps is far above what any schedule needs: an endless loop ends there.
	maxSteps = 1 << 17

	maxGroups = 2
	maxHosts  = 3
)

// Result is how a schedule ended.
type Result struct {
	Seed uint64
	// Broken is the invariant that does not hold, "" if all do; Fail says how, at
	// the true time At.
	Broken Invariant
	Fail   string
	At     time.Duration
	// Mishaps are those that came true, in order.
	Mishaps []Mishap
	Trace   []string // empty unless asked for
	Steps   int      // events that happened
}

// schedule is one run of several hosts against the model.
type schedule struct {
	seed  uint64
	only  map[Mishap]bool // nil: all
	took  []Mishap
	now   time.Duration // true time
	seq   int
	steps int
	queue events
	store *lockservice.Service
	hosts []*host
	calm  bool // no more mishaps
	harsh bool // what is rare in life is drawn often
	// deletions is for schedules in which operators delete records.
	deletions bool
	quiet     bool // few faults, so that long stories with requests come true
	// outsider is for schedules in which a director comes while the holder is cut off.
	outsider bool
	// hold is for schedules in which directors hold without the service.
	hold    bool
	down    time.Duration // until then the whole service is away
	forgets time.Duration // after which a holder drops a voter

	// groups is how every director is configured when it is calm.
	groups   []election.GroupConfig
	records  [maxGroups]recordSeen
	receipts []string // locks that were released
	limbo    []*request
	sessions []bool        // whether they live; the first has number 1
	storm    time.Duration // when it becomes calm

	tracing bool
	trace   []string
	broken  Invariant
	fail    string
}

// Run plays the schedule of a seed. With only != nil no other mishaps than those
// come true.
func Run(seed uint64, only []Mishap, trace bool) Result {
	s := &schedule{seed: seed, tracing: trace, store: lockservice.New(), harsh: seed%2 == 1,
		queue: make(events, 0, 64)}
	if only != nil {
		s.only = map[Mishap]bool{}
		for _, m := range only {
			s.only[m] = true
		}
	}
	s.play()
	return Result{Seed: seed, Broken: s.broken, Fail: s.fail, At: s.now, Mishaps: s.took, Trace: s.trace, Steps: s.steps}
}

// play runs until something is wrong, or until it is calm and every group is held.
func (s *schedule) play() {
	defer func() {
		if p := recover(); p != nil {
			s.failf(NoPanic, "%v", p)
			if s.tracing {
				s.logf("%s", debug.Stack())
			}
		}
	}()
	s.setUp()
	for s.broken == "" && len(s.queue) > 0 && s.now < s.storm+bound {
		s.step()
		if s.now > s.storm+settling && s.answered() {
			s.checkEnd()
			return
		}
		if s.steps > maxSteps {
			s.failf(Liveness, "%d events and no end", s.steps)
		}
	}
	if s.broken == "" && !s.answered() {
		s.explain()
		s.failf(Liveness, "nobody holds some group %v after the last fault", bound)
	}
}

// setUp draws how many there are of what, and how they are configured.
func (s *schedule) setUp() {
	d := s.dice(streamSetup, 0)
	s.storm = 10 * time.Second
	if d.mishap(25) {
		s.storm = 25 * time.Second
	}
	s.deletions, s.quiet = s.seed%8 == 7, s.seed%4 == 1
	if s.deletions || s.outsider { // the longest lease is waited out first
		s.storm = 35 * time.Second
	}
	s.hold = s.seed>>3&1 == 1 && !s.deletions
	s.outsider = s.hold && s.seed>>4&7 == 7
	s.forgets = 500*time.Millisecond + d.upTo(5*time.Second)
	s.groups = []election.GroupConfig{{Name: "web", Hold: s.hold, Priority: 100, Backoff: 300 * time.Millisecond}}
	if d.mishap(30) && !s.deletions {
		s.groups = append(s.groups, election.GroupConfig{Name: "db", Hold: s.hold, Priority: 100, Preempt: true, PreemptDelay: time.Second})
	}
	for i, g := range s.groups {
		s.store.Apply(g.Name, election.NewRecord(!d.mishap(10), time.Unix(0, 0)))
		s.records[i].known = true
	}
	hosts := maxHosts - 1
	if d.mishap(40) || s.outsider {
		hosts++
	}
	timing := drawTiming(&d)
	for i := range hosts {
		h := newHost(s, i, timing)
		s.hosts = append(s.hosts, h)
		within := 500 * time.Millisecond
		if s.deletions && i > 0 {
			within = 8 * time.Second // the first is alone for a while
		}
		if s.outsider && i == maxHosts-1 {
			break // it comes later, see faultOutsider
		}
		if s.hold && i == maxHosts-1 {
			within = 6 * time.Second // it comes when the others are at work
		}
		s.after(h.dice().upTo(within), h.start)
	}
	s.faults(0)
	s.after(s.storm, s.becomeCalm)
}

func drawTiming(d *dice) election.Timing {
	lease := []time.Duration{election.MinLease, election.MinLease, 2 * time.Second, 3 * time.Second}[d.intN(4)]
	t := election.Timing{Lease: lease, Renew: lease / 3, Drift: 0.1}
	if d.mishap(30) {
		t.Renew = election.DefaultRenew(lease)
	}
	return t
}

// becomeCalm ends all faults; what is under way goes on.
func (s *schedule) becomeCalm() {
	s.calm, s.down = true, min(s.down, s.now)
	s.logf("no more faults")
	s.mendVoters()
	for _, g := range s.groups {
		s.store.Apply(g.Name, election.NewRecord(false, time.Unix(0, 0)))
	}
	for _, h := range s.hosts {
		h.cut, h.mute, h.lossy, h.slow = false, false, 0, 0
		h.director.zk.partitioned, h.guard.zk.partitioned = 0, 0
		if h.director.alive {
			h.director.after(0, func() { h.director.configure(h.groups) })
		}
	}
}

// explain lets every director say where it stands.
func (s *schedule) explain() {
	for _, h := range s.hosts {
		if s.tracing && h.director.alive {
			for _, g := range h.director.m.Status(h.clock()) {
				s.logf("%s, %s: %s: %s", h.name, g.Group, g.Phase, g.Why)
			}
		}
	}
}

func (s *schedule) answered() bool {
	for i := range s.groups {
		held := false
		for _, h := range s.hosts {
			held = held || h.open[i].until > s.now
		}
		if !held {
			return false
		}
	}
	return true
}

// index returns a group's number.
func (s *schedule) index(group string) int {
	for i := range s.groups {
		if s.groups[i].Name == group {
			return i
		}
	}
	panic("sim: no group " + group)
}

func (s *schedule) logf(format string, a ...any) {
	if s.tracing {
		s.trace = append(s.trace, fmt.Sprintf("%9.3f "+format, append([]any{s.now.Seconds()}, a...)...))
	}
}
