package sim

import (
	"slices"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/sim/lockservice"
)

// The most that lies between two faults: in most schedules, in those in which
// requests alone are to do harm, and where records are deleted, since directors
// wait long then until one of them holds.
const (
	gap          = time.Second
	gapQuiet     = 5 * time.Second
	gapDeletions = 12 * time.Second
	gapHold      = 3 * time.Second
)

// fault is something that is done to a host, or by an operator.
type fault struct {
	name string
	do   func(d *dice, h *host, group string)
	// deletions marks those that are drawn where records are deleted.
	deletions bool
}

func allFaults() []fault {
	return []fault{
		{"the director stands still", func(d *dice, h *host, _ string) {
			h.pause(&h.director.process, d, h.killDirector)
		}, false},
		{"the guard stands still", func(d *dice, h *host, _ string) {
			h.pause(&h.guard.process, d, h.killGuard)
		}, false},
		{"both processes stand still", func(d *dice, h *host, _ string) {
			h.pause(&h.director.process, d, h.killDirector)
			h.pause(&h.guard.process, d, h.killGuard)
		}, false},
		{"the director is killed", func(_ *dice, h *host, _ string) { h.killDirector() }, true},
		{"the guard is killed", func(_ *dice, h *host, _ string) { h.killGuard() }, false},
		{"both are killed", faultKillBoth, false},
		{"cut off", faultCut, false},
		{"a session expires early", faultExpire, true},
		{"requests are lost", func(d *dice, h *host, _ string) { h.lossy = h.s.now + d.upTo(8*time.Second) }, true},
		{"requests are slow", func(d *dice, h *host, _ string) { h.slow = h.s.now + d.upTo(8*time.Second) }, true},
		{"its server is cut off from the quorum", func(d *dice, h *host, _ string) {
			h.director.zk.partition(d.upTo(7 * time.Second))
		}, true},
		{"locks are deleted by hand", faultLocks, false},
		{"the record is deleted by hand", faultRecord, true},
		{"the group is deleted by hand", faultGroup, false},
		{"handover", faultHandover, false},
		{"the list of voters is deleted by hand", faultVoters, false},
		{"the other directors are out of reach", faultMute, false},
		{"the service is away", faultDown, false},
		{"other documents", faultConfigure, false},
		{"another lease", faultTiming, false},
		{"the director is told to stop", faultStop, false},
		{"what was lost comes true", func(d *dice, h *host, _ string) { h.s.stir(d, 2*time.Second) }, true},
	}
}

// The faults of most schedules, and of those in which records are deleted; never changed.
var (
	faultsOfLife     = allFaults()
	faultsOfDeletion = slices.DeleteFunc(allFaults(), func(f fault) bool { return !f.deletions })
	faultsOfHolding  = append(append(allFaults(), away()...), away()...)
)

// faults draws the n-th fault and those after it, until it is calm.
func (s *schedule) faults(n int) {
	d := s.dice(streamFault, n)
	table, most := faultsOfLife, gap
	switch {
	case s.deletions:
		table, most = faultsOfDeletion, gapDeletions
	case s.outsider:
		table, most = faultsOfHolding, gapDeletions
	case s.hold:
		table, most = faultsOfHolding, gapHold
	case s.quiet:
		most = gapQuiet
	}
	wait := d.upTo(most)
	if (s.deletions || s.outsider) && n == 0 {
		wait = d.upTo(3 * time.Second)
	}
	s.after(wait, func() {
		if s.calm {
			return
		}
		h := s.hosts[d.intN(len(s.hosts))]
		group := s.groups[d.intN(len(s.groups))].Name
		f := table[d.intN(len(table))]
		if s.outsider && n == 0 {
			f.name, f.do = "the holder is cut off, another director comes", faultOutsider
		}
		if s.deletions && n == 0 {
			f.name, f.do = "the record is deleted by hand", faultRecord
		}
		if d.mishap(100) {
			if s.tracing {
				s.logf("FAULT %v: %s: %s", d.of, h.name, f.name)
			}
			f.do(&d, h, group)
		}
		s.faults(n + 1)
	})
}

func faultKillBoth(_ *dice, h *host, _ string) {
	h.killDirector()
	if h.guard.alive {
		h.killGuard()
	}
}

func faultCut(d *dice, h *host, _ string) {
	h.cut = true
	most := 7 * time.Second
	if h.s.hold {
		most = 15 * time.Second
	}
	end, session := d.upTo(most), h.director.zk.session
	h.s.after(end, func() { h.cut = false })
	if end > sessionTimeout && d.intN(2) == 0 {
		h.s.after(sessionTimeout, func() { h.s.expire(session) })
	}
}

// faultExpire ends the session of a director or a guard. It is noticed at once,
// or when a request fails.
func faultExpire(d *dice, h *host, _ string) {
	c := &h.director.zk
	if d.intN(4) == 0 {
		c = &h.guard.zk
	}
	h.s.expire(c.session)
	c.touched = h.s.now - 2*sessionTimeout
	if c == &h.director.zk && h.director.alive && d.intN(2) == 0 {
		h.director.after(0, func() {
			h.director.event(h.director.m.Disconnected)
			h.director.reconnect()
		})
	}
}

func faultLocks(d *dice, h *host, group string) {
	h.s.store.Remove(func(n lockservice.Node) bool {
		return n.Group == group && n.Kind == election.NodeLock && d.intN(2) == 0
	})
}

func faultRecord(d *dice, h *host, group string) { h.s.deleteRecord(d, group) }

// faultGroup deletes a whole group by hand; somebody applies it anew.
func faultGroup(d *dice, h *host, group string) {
	if d.intN(2) == 0 {
		return
	}
	h.s.forget(group)
	if d.intN(2) == 0 { // all that is in it
		h.s.store.Remove(func(n lockservice.Node) bool { return n.Group == group && n.Kind != election.NodeVoters })
		return
	}
	h.s.store.RemoveGroup(group)
	h.s.after(d.upTo(3*time.Second), func() {
		h.s.store.Apply(group, election.NewRecord(false, time.Unix(0, 0)))
	})
}

func faultHandover(d *dice, h *host, group string) {
	to := h.s.hosts[d.intN(len(h.s.hosts))].name
	h.ifAlive(func(dir *director) {
		dir.event(func(now time.Duration) []election.Action {
			a, err := dir.m.Handover(now, group, to)
			if err != nil { // nothing was done, not even what time asks for
				return dir.m.Tick(now)
			}
			return a
		})
	})
}

// ifAlive does something in the director's process.
func (h *host) ifAlive(do func(d *director)) {
	if h.director.alive {
		h.director.after(0, func() { do(&h.director) })
	}
}

// faultConfigure changes what one director knows of a group for a while.
func faultConfigure(d *dice, h *host, group string) {
	groups := slices.Clone(h.groups)
	i := h.s.index(group)
	switch d.intN(5) {
	case 0:
		groups[i].Ineligible = "not fit"
	case 1:
		groups[i].Paused = true
	case 2:
		groups[i].Priority = d.intN(200)
	case 3:
		groups = slices.Delete(groups, i, i+1)
	case 4:
		groups[i].Hold = !groups[i].Hold
	}
	h.ifAlive(func(dir *director) {
		dir.configure(groups)
		dir.after(d.upTo(4*time.Second), func() { dir.configure(h.groups) })
	})
}

func faultTiming(d *dice, h *host, _ string) {
	t := h.timing
	t.Lease = []time.Duration{election.MinLease, 2 * time.Second, 3 * time.Second}[d.intN(3)]
	t.Renew = t.Lease / 3
	h.ifAlive(func(dir *director) {
		dir.event(func(now time.Duration) []election.Action {
			a, err := dir.m.SetTiming(now, t)
			if err != nil {
				panic(err)
			}
			return a
		})
	})
}

func faultStop(_ *dice, h *host, _ string) {
	h.ifAlive(func(dir *director) {
		dir.stopping = true
		dir.event(dir.m.Stop)
	})
}
