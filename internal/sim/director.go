package sim

import (
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/sim/lockservice"
)

// director drives one election.Machine as production does: it tells the guard
// what it may do, and carries out what the guard cannot when that is dead.
type director struct {
	process
	h  *host
	m  *election.Machine
	zk client
	alarm
	sending  bool
	stopping bool

	held    [maxGroups]held
	orders  [maxGroups]election.Holding // fences that were not verified yet
	waiting [maxGroups]string           // the lock in the queue, as the guard is told
	guard   uint64                      // the guard that grants are meant for, 0: none
}

// held is a holding that was granted and not ordered to be fenced.
type held struct {
	holding  election.Holding
	deadline time.Duration
}

// alarm is a timer that is armed anew only when it would ring too late.
type alarm struct {
	number int           // of the one that counts
	at     time.Duration // when it rings, true time; 0: it is not armed
	wanted time.Duration // when it should, on the host's clock
}

// set arms the alarm for a time of the host's clock.
func (a *alarm) set(h *host, p *process, t task, wanted time.Duration) {
	a.wanted = wanted
	if wanted == election.Never {
		return
	}
	at := max(h.s.now+time.Millisecond, h.trueTime(wanted)+time.Microsecond)
	if a.at != 0 && a.at <= at {
		return
	}
	a.number++
	a.at = at
	p.schedule(at-h.s.now, t, a.number)
}

// rings reports whether an alarm that rings counts and is due; one that rings
// early is armed again.
func (a *alarm) rings(h *host, p *process, t task, number int) bool {
	if number != a.number {
		return false
	}
	a.at = 0
	if h.clock() < a.wanted {
		a.set(h, p, t, a.wanted)
		return false
	}
	return true
}

// start begins the director's part of a life.
func (d *director) start() {
	h := d.h
	d.born()
	d.alarm, d.sending, d.stopping = alarm{number: d.number}, false, false
	d.held, d.orders, d.waiting = [maxGroups]held{}, [maxGroups]election.Holding{}, [maxGroups]string{}
	d.guard = h.guard.id
	random := h.dice()
	m, err := election.New(election.Config{Node: h.name, Host: election.HostID{MachineID: h.name, BootID: "boot", NetnsCookie: 1},
		Timing: h.timing, Address: h.name, ForgetVoter: h.s.forgets, Random: random.next, Wall: h.wall})
	if err != nil {
		panic(err)
	}
	d.m = m
	d.zk.newSession()
	d.configure(h.groups)
	d.connected()
}

// do rings the alarm.
func (d *director) do(number int) {
	if d.rings(d.h, &d.process, d, number) {
		now := d.h.clock()
		d.done(now, d.m.Tick(now))
	}
}

// event lets the machine see an event.
func (d *director) event(do func(now time.Duration) []election.Action) {
	now := d.h.clock()
	d.done(now, do(now))
}

// done carries out what an event led to.
func (d *director) done(now time.Duration, actions []election.Action) {
	life := d.life
	d.act(actions)
	if d.life != life {
		return
	}
	for _, x := range d.held {
		if x.deadline != 0 && now >= x.deadline-election.StepDown {
			d.s.failf(StepsDown, "%s goes on holding %s %v before the end of its lease", d.h.name, x.holding.Group, x.deadline-now)
		}
	}
	if d.stopping && d.m.Done() {
		d.s.logf("%s has stopped", d.h.name)
		d.h.killDirector()
		return
	}
	wake := d.m.Wake(now)
	if wake <= now {
		d.s.failf(NoPanic, "%s wants to be woken in the past", d.h.name)
	}
	d.set(d.h, &d.process, d, wake)
}

func (d *director) act(actions []election.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case election.Send:
			if d.sending {
				d.s.failf(NoPanic, "%s sent a request while another is under way", d.h.name)
			}
			d.sending = true
			d.zk.send(a.Request)
		case election.Grant:
			d.grant(a)
		case election.Fence:
			d.fence(a)
		case election.AskVoter:
			d.ask(a)
		case election.Queued:
			d.waiting[d.s.index(a.Group)] = a.Lock
			d.tellQueued(a)
		case election.Note:
			if d.s.tracing {
				d.s.logf("%s %s: %s (%s)", d.h.name, a.Group, a.Text, a.Reason)
			}
		}
	}
}

func (d *director) tellQueued(q election.Queued) {
	if d.guard != 0 {
		d.h.tell(func() { d.h.guard.queued(q) })
	}
}

func (d *director) grant(a election.Grant) {
	d.held[d.s.index(a.Holding.Group)] = held{a.Holding, a.Deadline}
	if to := d.guard; to != 0 {
		d.h.tell(func() { d.h.guard.grant(to, a) })
	}
}

// fence lets the guard fence. If it does not answer it is killed; then, and
// where there is none, the director fences by itself.
func (d *director) fence(a election.Fence) {
	h, group, holding := d.h, d.s.index(a.Holding.Group), a.Holding
	d.s.logf("%s fences %s: %s", h.name, holding.Group, a.Reason)
	d.held[group] = held{}
	d.orders[group] = holding
	to := d.guard
	if to == 0 {
		d.fenceAlone(group, holding)
		return
	}
	h.tell(func() { h.guard.order(holding) })
	d.after(time.Second+h.dice().upTo(time.Second), func() {
		if d.orders[group] == holding && d.guard == to {
			h.killGuard()
		}
	})
}

func (d *director) fenceAlone(group int, holding election.Holding) {
	gone, verified := d.h.dice().fenceTime()
	d.after(gone, func() {
		d.h.shut(group, holding.Lock)
		d.after(verified, func() {
			d.h.verified(holding.Lock)
			d.fenced(group, holding)
		})
	})
}

// fenced hands on that a fence is verified.
func (d *director) fenced(group int, holding election.Holding) {
	if d.orders[group] != holding {
		return
	}
	d.orders[group] = election.Holding{}
	d.event(func(now time.Duration) []election.Action { return d.m.Fenced(now, holding) })
}

// refused: the guard fenced by itself, when it heard nothing for too long. What
// it will not answer for again must not be held on to.
func (d *director) refused(holding election.Holding) {
	d.event(func(now time.Duration) []election.Action {
		return d.m.GiveUp(now, holding, "the guard has fenced")
	})
}

// guardLost fences everything, gives it up, and starts another guard.
func (d *director) guardLost() {
	d.guard = 0
	dice := d.h.dice()
	gone, verified := dice.fenceTime()
	d.after(gone, func() {
		for i := range d.s.groups {
			d.h.shut(i, d.h.open[i].lock)
		}
		d.after(verified, func() {
			d.swept()
			d.after(dice.upTo(500*time.Millisecond), d.startGuard)
		})
	})
}

// swept tells the machine what became of its holdings.
func (d *director) swept() {
	for i := range d.s.groups {
		d.h.verified(d.h.open[i].lock)
		if o := d.orders[i]; o != (election.Holding{}) {
			d.fenced(i, o)
		}
		if x := d.held[i]; x.deadline != 0 {
			d.event(func(now time.Duration) []election.Action {
				return d.m.GiveUp(now, x.holding, "the guard died")
			})
		}
	}
}

func (d *director) startGuard() {
	d.s.logf("%s starts another guard", d.h.name)
	d.h.guard.start()
	d.guard = d.h.guard.id
	for i, lock := range d.waiting {
		if lock != "" {
			d.tellQueued(election.Queued{Group: d.s.groups[i].Name, Lock: lock})
		}
	}
}

func (d *director) configure(groups []election.GroupConfig) {
	d.event(func(now time.Duration) []election.Action { return d.m.Configure(now, groups) })
}

func (d *director) connected() {
	d.event(func(now time.Duration) []election.Action {
		return d.m.Connected(now, d.zk.session, sessionTimeout)
	})
}

// replied hands in a reply. A renewal that was refused ends the holding to blame.
func (d *director) replied(q *request, r election.Reply) {
	d.sending = false
	r.ID = q.request.ID
	now := d.h.clock()
	d.done(now, d.m.Replied(now, r))
	if q.kind != lockservice.Renew && q.kind != lockservice.List || r.Outcome != election.OutcomeConflict {
		return
	}
	if q.request.Txn[r.FailedOp].Key.Kind == election.NodeVoters {
		return // the lease is as it was
	}
	for _, op := range q.request.Txn {
		key := q.request.Txn[r.FailedOp].Key
		if op.Key.Group == key.Group && op.Key.Kind == election.NodeLock && d.held[d.s.index(key.Group)].holding.Lock == op.Key.Lock {
			d.s.failf(StepsDown, "%s goes on holding %s although a renewal was refused", d.h.name, key.Group)
		}
	}
}

// gaveUp: the connection is lost with the request, and comes back.
func (d *director) gaveUp(q *request) {
	d.event(d.m.Disconnected)
	d.replied(q, election.Reply{Outcome: election.OutcomeUnknown})
	d.reconnect()
}

// reconnect comes back with the same session if it still lives.
func (d *director) reconnect() {
	s := d.s
	d.after(d.h.dice().upTo(500*time.Millisecond), func() {
		switch {
		case d.h.cut || s.now < s.down:
			d.reconnect()
		case s.now-d.zk.touched > sessionTimeout && s.now >= d.zk.partitioned:
			d.zk.newSession()
			d.event(d.m.Expired)
			d.connected()
		default:
			d.connected()
		}
	})
}
