package sim

import (
	"errors"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/guard"
)

// guardian is the guard of a host: it drives one guard.Core as production does.
type guardian struct {
	process
	h    *host
	core *guard.Core
	id   uint64
	zk   client
	alarm

	settles []guard.Settle   // to be done, the first is under way
	settle  *election.Settle // nil: none is under way
	patient time.Duration    // until then it is tried, true time
}

// start begins a life with an id of its own and a session of its own.
func (g *guardian) start() {
	g.born()
	g.id = g.h.dice().next() | 1
	g.core = guard.NewCore(g.id)
	g.alarm = alarm{number: g.number}
	g.settles, g.settle = nil, nil
	g.zk.newSession()
}

// do rings the alarm.
func (g *guardian) do(number int) {
	if g.rings(g.h, &g.process, g, number) {
		g.act(g.core.Tick(g.h.clock()))
	}
}

func (g *guardian) queued(q election.Queued) {
	if err := g.core.Queued(q); err != nil && !errors.Is(err, guard.ErrGone) {
		g.s.failf(NoPanic, "%s's guard was told of a lock too early: %v", g.h.name, err)
	}
}

// grant opens the gate, or moves its deadline, if the core allows it. The guard
// may stand still between the two.
func (g *guardian) grant(to uint64, a election.Grant) {
	h := g.h
	if err := g.core.Grant(h.clock(), to, a); err != nil {
		g.s.logf("%s's guard refuses a grant: %v", h.name, err)
		if errors.Is(err, fence.ErrFenced) {
			g.report(func(d *director) { d.refused(a.Holding) })
		}
		return
	}
	g.set(h, &g.process, g, g.core.Wake())
	group, lock := g.s.index(a.Holding.Group), a.Holding.Lock
	until := h.trueTime(a.Deadline + h.timing.Lateness)
	d, o := h.dice(), &h.open[group]
	late := d.rare(3)
	if o.lock == lock && o.until > g.s.now && !late {
		h.answer(group, lock, max(until, o.until))
		return
	}
	takes := d.upTo(5 * time.Millisecond)
	if late {
		takes = d.upTo(3 * time.Second)
	}
	fence := o.fence
	g.after(takes, func() {
		if o.fence == fence { // a fence ends what is being bound
			h.answer(group, lock, until)
		}
	})
}

// order fences at the director's word.
func (g *guardian) order(holding election.Holding) {
	g.core.Order(holding)
	g.fence(holding, func() {
		g.report(func(d *director) { d.fenced(g.s.index(holding.Group), holding) })
	})
}

// report tells the director something.
func (g *guardian) report(tell func(d *director)) {
	if d := &g.h.director; d.alive {
		d.after(g.h.dice().upTo(time.Millisecond), func() { tell(d) })
	}
}

// fence makes the host stop answering, and tells the core when it is verified.
func (g *guardian) fence(holding election.Holding, then func()) {
	group := g.s.index(holding.Group)
	gone, verified := g.h.dice().fenceTime()
	g.after(gone, func() {
		g.h.shut(group, holding.Lock)
		g.after(verified, func() {
			g.h.verified(holding.Lock)
			then()
			g.act(g.core.Fenced(holding))
		})
	})
}

// gone tells that the director is dead.
func (g *guardian) gone(why string) {
	g.act(g.core.Gone(why))
}

func (g *guardian) act(actions []guard.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case guard.Fence:
			g.s.logf("%s's guard fences %s: %s", g.h.name, a.Holding.Group, a.Reason)
			g.fence(a.Holding, func() {})
		case guard.Settle:
			g.settles = append(g.settles, a)
		}
	}
	g.set(g.h, &g.process, g, g.core.Wake())
	g.work()
}

// work settles one lock after the other, and ends the guard when all is done.
func (g *guardian) work() {
	if g.settle != nil {
		return
	}
	if len(g.settles) > 0 {
		g.settle = election.NewSettle(g.settles[0].Settlement, g.h.name, g.h.wall)
		g.patient = g.s.now + 4*time.Second
		g.ask()
		return
	}
	if g.core.Done() {
		g.s.logf("%s: the guard has done its work", g.h.name)
		g.died()
		g.zk.abandon()
	}
}

// ask sends what Settle wants to know or write, for as long as it is patient.
func (g *guardian) ask() {
	r, more := g.settle.Next()
	if more && g.s.now < g.patient {
		g.zk.send(r)
		return
	}
	g.s.logf("%s's guard settled %s: %s", g.h.name, short(g.settle.Lock), g.settle.Outcome())
	done := g.settles[0]
	g.settles, g.settle = g.settles[1:], nil
	g.core.Settled(done.Group, done.Lock)
	g.work()
}

func (g *guardian) replied(_ *request, r election.Reply) {
	g.settle.Replied(r)
	if r.Outcome == election.OutcomeUnknown {
		g.after(50*time.Millisecond, g.ask)
		return
	}
	g.ask()
}

// gaveUp: the connection is lost with the request. A session that expired is
// replaced by the time the question is asked again.
func (g *guardian) gaveUp(q *request) {
	if g.s.now-g.zk.touched > sessionTimeout && !g.h.cut && g.s.now >= g.zk.partitioned {
		g.zk.newSession()
	}
	g.replied(q, election.Reply{Outcome: election.OutcomeUnknown})
}
