package election

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// A schedule is one run of several machines against the model: every delay,
// loss, pause, crash and deletion is drawn from one seed, so that a failure is
// replayed by its seed alone:
//
//	ZKLVS_SEED=17 go test ./election -run TestSchedules -v
//
// ZKLVS_SCHEDULES=100000 plays more of them.
type schedule struct {
	rng   *rand.Rand
	now   time.Duration // true time
	queue events
	store *model
	hosts []*host
	seq   int
	epoch map[string]uint64
	trace []string
	fail  string
	calm  bool // no more faults
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

// host is a director: its machine and the executor that answers.
type host struct {
	s       *schedule
	name    string
	rate    float64 // of its clock against true time
	offset  time.Duration
	life    int
	groups  []GroupConfig
	timer   int // the one timer that counts
	m       *Machine
	session uint64
	touched time.Duration // true time of the last commit or read by the session
	seen    int64
	cut     bool
	paused  time.Duration // until, true time
	lossy   time.Duration // until, true time: most requests are lost
	// answers is the true time until which this host answers for the group.
	answers map[string]time.Duration
	fenced  map[string]bool
	dead    bool
}

const (
	simTimeout = 6 * time.Second
	simLease   = 3 * time.Second
)

func simTiming() Timing {
	return Timing{Lease: simLease, Renew: DefaultRenew(simLease), Drift: 0.1}
}

func (s *schedule) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, event{s.now + d, s.seq, do})
}

func (s *schedule) upTo(d time.Duration) time.Duration {
	return time.Duration(s.rng.Int64N(int64(d) + 1))
}

func (s *schedule) chance(percent float64) bool { return !s.calm && s.rng.Float64()*100 < percent }

func (s *schedule) logf(format string, a ...any) {
	s.trace = append(s.trace, fmt.Sprintf("%9.3f ", s.now.Seconds())+fmt.Sprintf(format, a...))
}

func (h *host) clock() time.Duration {
	return h.offset + time.Duration(float64(h.s.now)*h.rate)
}

// trueTime converts a time of the host's clock.
func (h *host) trueTime(local time.Duration) time.Duration {
	return time.Duration(float64(local-h.offset) / h.rate)
}

// event lets the machine see an event, later if the process is paused.
func (h *host) event(do func(now time.Duration) []Action) {
	if wait := h.paused - h.s.now; wait > 0 {
		h.s.after(wait, h.live(func() { h.event(do) }))
		return
	}
	life := h.life
	h.act(do(h.clock()))
	if !h.dead && life == h.life {
		h.arm()
	}
}

// live wraps do so that it is dropped when the process has died meanwhile.
func (h *host) live(do func()) func() {
	life := h.life
	return func() {
		if life == h.life && !h.dead {
			do()
		}
	}
}

func (h *host) arm() {
	wake := h.m.Wake(h.clock())
	if wake == Never {
		return
	}
	h.timer++
	timer := h.timer
	h.s.after(max(time.Millisecond, h.trueTime(wake)-h.s.now), h.live(func() {
		if timer == h.timer {
			h.event(h.m.Tick)
		}
	}))
}

func (h *host) act(actions []Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case Send:
			h.send(a.Request)
		case Grant:
			h.grant(a)
		case Fence:
			h.fence(a)
		case Note:
			h.s.logf("%s %s: %s (%s)", h.name, a.Group, a.Text, a.Reason)
		}
	}
}

// send plays the network: a request may be lost, run late, or its reply be lost.
func (h *host) send(r Request) {
	s, session := h.s, h.session
	delay := s.upTo(20 * time.Millisecond)
	if s.chance(1) {
		delay = s.upTo(5 * time.Second)
	}
	lost := h.cut || s.chance(1) || s.now < h.lossy && s.chance(60)
	replied := false
	life := h.life
	deliver := func(rep Reply) {
		if replied || life != h.life || h.dead {
			return
		}
		replied = true
		rep.ID = r.ID
		h.event(func(now time.Duration) []Action { return h.m.Replied(now, rep) })
	}
	late := lost && s.chance(50) // a request that runs although nobody waits for it
	if !lost || late {
		s.after(delay, func() {
			if session != h.session && r.Txn == nil {
				return
			}
			rep := h.serve(session, r)
			if lost || h.cut || s.chance(1) {
				return
			}
			s.after(s.upTo(20*time.Millisecond), func() { deliver(rep) })
		})
	}
	// the client gives up on the connection, and comes back
	s.after(time.Second, h.live(func() {
		if replied {
			return
		}
		h.event(h.m.Disconnected)
		deliver(Reply{Outcome: OutcomeUnknown})
		h.reconnect()
	}))
}

func (h *host) serve(session uint64, r Request) Reply {
	if !h.s.sessionAlive(session) {
		return Reply{Outcome: OutcomeUnknown}
	}
	for _, o := range h.s.hosts {
		if o.session == session {
			o.touched = h.s.now
		}
	}
	if r.Txn == nil {
		return Reply{Observation: h.s.store.observe(h.s.rng, &h.seen, r)}
	}
	rep := h.s.store.commit(session, r.Txn)
	if rep.Outcome == OutcomeOK {
		h.seen = h.s.store.zxid()
		h.s.checkEpochs()
	}
	return rep
}

func (s *schedule) sessionAlive(session uint64) bool {
	for _, h := range s.hosts {
		if h.session == session {
			return true
		}
	}
	return false
}

// reconnect comes back with the same session if it still lives.
func (h *host) reconnect() {
	life := h.life
	h.s.after(h.s.upTo(500*time.Millisecond), func() {
		switch {
		case life != h.life || h.dead:
		case h.cut:
			h.reconnect()
		case h.s.now-h.touched > simTimeout:
			h.newSession()
			h.event(h.m.Expired)
			h.event(h.connected)
		default:
			h.event(h.connected)
		}
	})
}

func (h *host) connected(now time.Duration) []Action {
	return h.m.Connected(now, h.session, simTimeout)
}

// newSession ends the old session, as early or late as the service likes.
func (h *host) newSession() {
	old := h.session
	h.s.seq++
	h.session, h.touched = uint64(h.s.seq), h.s.now
	if old != 0 {
		h.s.store.expire(old)
	}
}

func (h *host) grant(a Grant) {
	s, group := h.s, a.Holding.Group
	if h.fenced[a.Holding.Lock] {
		s.fail = fmt.Sprintf("%s was granted %s after its lock was fenced", h.name, group)
	}
	until := h.trueTime(a.Deadline)
	if until <= s.now {
		return // the executor checks the clock
	}
	for _, o := range s.hosts {
		if o != h && o.answers[group] > s.now {
			s.fail = fmt.Sprintf("%s answers for %s, and so does %s until %.3f", h.name, group, o.name, o.answers[group].Seconds())
		}
	}
	if a.First {
		s.logf("%s answers for %s, epoch %d", h.name, group, a.Holding.Epoch)
	}
	h.answers[group] = until
}

// fence stops answering after a while, at the latest at the deadline.
func (h *host) fence(a Fence) {
	life := h.life
	h.s.after(h.s.upTo(100*time.Millisecond), func() {
		if life != h.life || h.dead {
			return
		}
		h.answers[a.Holding.Group] = min(h.answers[a.Holding.Group], h.s.now)
		h.fenced[a.Holding.Lock] = true
		h.s.logf("%s fenced %s: %s", h.name, a.Holding.Group, a.Reason)
		h.event(func(now time.Duration) []Action { return h.m.Fenced(now, a.Holding) })
	})
}

// start begins a life: nothing of the earlier one answers or runs any more.
func (h *host) start() {
	h.life++
	h.dead, h.paused, h.session = false, 0, 0
	clear(h.answers)
	clear(h.fenced)
	m, err := New(Config{Node: h.name, Host: HostID{MachineID: h.name, BootID: "boot", NetnsCookie: 1}, Timing: simTiming(),
		Random: h.s.rng.Uint64, Wall: func() time.Time { return time.Unix(0, int64(h.s.now)) }})
	if err != nil {
		panic(err)
	}
	h.m = m
	h.newSession()
	h.event(func(now time.Duration) []Action { return h.m.Configure(now, h.groups) })
	h.event(h.connected)
}

func (s *schedule) checkEpochs() {
	for group, was := range s.epoch {
		r, ok := s.store.record(group)
		if !ok {
			continue
		}
		if r.Epoch < was || r.Epoch > was+1 {
			s.fail = fmt.Sprintf("epoch of %s went from %d to %d", group, was, r.Epoch)
		}
		s.epoch[group] = r.Epoch
	}
}

// faults draws faults until the schedule is calmed.
func (s *schedule) faults(groups []GroupConfig) {
	s.after(s.upTo(2*time.Second), func() {
		if s.calm {
			return
		}
		h := s.hosts[s.rng.IntN(len(s.hosts))]
		switch s.rng.IntN(9) {
		case 7:
			h.lossy = s.now + s.upTo(20*time.Second)
			s.logf("%s loses requests until %.3f", h.name, h.lossy.Seconds())
		case 0:
			h.paused = s.now + s.upTo(8*time.Second)
			s.logf("%s paused until %.3f", h.name, h.paused.Seconds())
		case 1:
			h.cut = true
			s.logf("%s cut off", h.name)
			s.after(s.upTo(10*time.Second), func() { h.cut = false })
		case 2:
			s.logf("%s killed", h.name)
			h.dead = true
			old := h.session
			s.after(s.upTo(simTimeout), func() { s.store.expire(old) })
			s.after(s.upTo(5*time.Second), h.restart)
		case 3:
			g := groups[s.rng.IntN(len(groups))].Name
			s.logf("locks of %s deleted by hand", g)
			s.store.remove(func(k Key) bool { return k.Group == g && k.Kind == NodeLock && s.rng.IntN(2) == 0 })
		case 4:
			g := groups[s.rng.IntN(len(groups))].Name
			s.logf("record of %s deleted by hand", g)
			delete(s.epoch, g)
			s.store.remove(func(k Key) bool { return k.Group == g && k.Kind == NodeRecord })
		case 5:
			if h.s.rng.IntN(2) == 0 && !h.dead {
				h.event(func(now time.Duration) []Action {
					a, _ := h.m.Handover(now, groups[0].Name, s.hosts[0].name)
					return a
				})
			}
		case 6:
			s.logf("session of %s expired early", h.name)
			s.store.expire(h.session)
			h.touched = s.now - 2*simTimeout
			if !h.dead {
				h.event(h.m.Disconnected)
				h.reconnect()
			}
		}
		s.faults(groups)
	})
}

func (h *host) restart() {
	if h.dead {
		h.start()
	}
}

// run plays one schedule and returns what went wrong, with its trace.
func runSchedule(seed uint64) *schedule {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := &schedule{rng: rng, store: newModel(), epoch: map[string]uint64{}}
	groups := []GroupConfig{{Name: "web", Priority: 100}, {Name: "db", Priority: 100, Preempt: true, PreemptDelay: time.Second}}
	for _, g := range groups {
		s.store.apply(g.Name, NewRecord(true, time.Unix(0, 0)))
		s.epoch[g.Name] = 0
	}
	for i := range 2 + rng.IntN(2) {
		h := &host{s: s, name: fmt.Sprintf("node%d", i), rate: 1 + (rng.Float64()-0.5)*0.09,
			offset: s.upTo(time.Hour), answers: map[string]time.Duration{}, fenced: map[string]bool{}, dead: true}
		s.hosts = append(s.hosts, h)
		mine := append([]GroupConfig(nil), groups...)
		mine[1].Priority += i * 10
		h.groups = mine
		s.after(s.upTo(time.Second), h.start)
	}
	s.faults(groups)
	const stormy, bound = 40 * time.Second, 30 * time.Second
	s.after(stormy, func() { s.calm = true })
	for s.fail == "" && len(s.queue) > 0 && s.now < stormy+bound {
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		e.do()
	}
	for _, g := range groups {
		if s.fail == "" && !s.answered(g.Name) {
			s.fail = fmt.Sprintf("nobody holds %s %v after the last fault", g.Name, bound)
		}
	}
	return s
}

func (s *schedule) answered(group string) bool {
	for _, h := range s.hosts {
		if h.answers[group] > s.now {
			return true
		}
	}
	return false
}

func TestSchedules(t *testing.T) {
	if text := os.Getenv("ZKLVS_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		report(t, seed, runSchedule(seed), true)
		return
	}
	n := uint64(500)
	if text := os.Getenv("ZKLVS_SCHEDULES"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range n {
		report(t, seed, runSchedule(seed), false)
		if t.Failed() {
			return
		}
	}
}

func report(t *testing.T, seed uint64, s *schedule, verbose bool) {
	t.Helper()
	if s.fail == "" && !verbose {
		return
	}
	for _, line := range s.trace {
		t.Log(line)
	}
	if s.fail != "" {
		t.Errorf("at %.3f s: %s\nreplay: ZKLVS_SEED=%d go test ./election -run TestSchedules -v", s.now.Seconds(), s.fail, seed)
	}
}
