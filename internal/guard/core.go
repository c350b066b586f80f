package guard

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/finality"
)

// SilenceMargin is how long before a deadline the guard fences by itself: the
// director, had it been alive, would have renewed or fenced 50 ms earlier.
const SilenceMargin = 150 * time.Millisecond

// Why a grant is refused, besides fence.ErrFenced, ErrLeaseOver and ErrHeld.
var (
	ErrOtherGuard = errors.New("the grant was meant for another guard")
	ErrGone       = errors.New("the director is gone")
	ErrFar        = errors.New("the deadline is further away than any lease may last")
)

// Action is what Core wants done: a Fence or a Settle.
type Action interface{ action() }

// Fence orders to make this host stop answering for a holding, verified, until
// it succeeds; then Core.Fenced is to be called.
type Fence struct {
	Holding election.Holding
	Reason  string
}

// Settle orders to settle a lock in ZooKeeper, see election.Settle; then
// Core.Settled is to be called.
type Settle struct{ election.Settlement }

func (Fence) action()  {}
func (Settle) action() {}

// Core decides what a guard may do. It is pure: time is an argument, and what
// is to be done is returned. It is not safe for concurrent use.
type Core struct {
	id     uint64
	why    string // the director is gone
	gone   bool
	groups map[string]*place
}

// place is what the guard knows of one group.
type place struct {
	phase    phase
	holding  election.Holding // its Lock is the one that the director has in the queue
	granted  bool             // there was a grant under this lock
	version  int32            // of the record, in the last grant
	deadline time.Duration    // of the last grant
	settle   bool             // settle the lock when it is fenced
	fenced   finality.Memory
}

type phase uint8

const (
	idle      phase = iota // nothing known, or all settled
	queued                 // a lock that was never granted
	answering              // granted and not fenced
	fencing                // fence ordered, not verified yet
	fenced                 // verified; the director is to write the receipt
	settling               // verified; Settle is under way
)

// NewCore returns a core with the random number of this guard's life.
func NewCore(id uint64) *Core { return &Core{id: id, groups: map[string]*place{}} }

func (c *Core) place(group string) *place {
	p := c.groups[group]
	if p == nil {
		p = &place{}
		c.groups[group] = p
	}
	return p
}

// Queued notes the lock that the director now has in a group's queue.
func (c *Core) Queued(q election.Queued) error {
	p := c.place(q.Group)
	if p.phase == answering || p.phase == fencing {
		return fmt.Errorf("group %s: lock %s: %w (%s)", q.Group, q.Lock, fence.ErrHeld, p.holding.Lock)
	}
	if c.gone {
		return ErrGone
	}
	*p = place{phase: queued, holding: election.Holding{Group: q.Group, Lock: q.Lock}, fenced: p.fenced}
	return nil
}

// Grant decides whether this host may answer under a grant that was made for
// the guard of a given id. A nil error allows to answer until the deadline.
func (c *Core) Grant(now time.Duration, to uint64, g election.Grant) error {
	p := c.place(g.Holding.Group)
	if err := c.refuse(now, to, g, p); err != nil {
		return fmt.Errorf("group %s: lock %s: %w", g.Holding.Group, g.Holding.Lock, err)
	}
	if p.phase != answering {
		p.phase, p.deadline = answering, 0
	}
	p.holding, p.granted, p.version = g.Holding, true, g.Version
	p.deadline = max(p.deadline, g.Deadline)
	return nil
}

func (c *Core) refuse(now time.Duration, to uint64, g election.Grant, p *place) error {
	other := p.holding.Lock != g.Holding.Lock
	switch {
	case to != c.id:
		return ErrOtherGuard
	case c.gone:
		return ErrGone
	case p.fenced.Has(g.Holding.Lock):
		return fence.ErrFenced
	case other && (p.phase == answering || p.phase == fencing):
		return fmt.Errorf("%w (%s)", fence.ErrHeld, p.holding.Lock)
	case g.Deadline-SilenceMargin <= now:
		return fence.ErrLeaseOver
	case g.Deadline > now+election.MaxLease:
		return ErrFar
	}
	return nil
}

// Order notes that the director has ordered a fence: from now on grants for the
// lock are refused. The caller carries it out and calls Fenced.
func (c *Core) Order(h election.Holding) {
	p := c.place(h.Group)
	p.fenced.Add(h.Lock)
	if p.phase == answering && p.holding.Lock == h.Lock {
		p.phase = fencing
	}
}

// Fenced tells that nothing answers for the holding any more, verified.
func (c *Core) Fenced(h election.Holding) []Action {
	p := c.place(h.Group)
	if p.phase != fencing || p.holding.Lock != h.Lock {
		return nil
	}
	p.phase = fenced
	if p.settle || c.gone {
		return []Action{c.settlement(p)}
	}
	return nil
}

// Tick fences what the director has left without renewal for too long.
func (c *Core) Tick(now time.Duration) []Action {
	var out []Action
	for _, p := range c.sorted() {
		if p.phase == answering && now >= p.deadline-SilenceMargin {
			out = append(out, c.fence(p, "the director fell silent"))
		}
	}
	return out
}

// Gone tells that the director is dead: its pidfd or its socket says so. What
// answers is fenced; all locks that it had are settled.
func (c *Core) Gone(why string) []Action {
	if c.gone {
		return nil
	}
	c.gone, c.why = true, why
	var out []Action
	for _, p := range c.sorted() {
		switch p.phase {
		case answering, fencing: // a fence that the director ordered is ordered again
			out = append(out, c.fence(p, why))
		case queued, fenced:
			out = append(out, c.settlement(p))
		}
	}
	return out
}

func (c *Core) fence(p *place, reason string) Fence {
	p.fenced.Add(p.holding.Lock)
	p.phase, p.settle = fencing, true
	return Fence{Holding: p.holding, Reason: reason}
}

func (c *Core) settlement(p *place) Settle {
	p.phase = settling
	reason := "the guard fenced for a director that fell silent"
	if c.gone {
		reason = "the guard fenced: " + c.why
	}
	return Settle{election.Settlement{Group: p.holding.Group, Lock: p.holding.Lock, Granted: p.granted,
		Epoch: p.holding.Epoch, Version: p.version, Reason: reason}}
}

// Leave tells that the director ends in order and has settled its locks by itself.
func (c *Core) Leave() {
	for _, p := range c.groups {
		if p.phase == queued || p.phase == fenced {
			p.phase = idle
		}
	}
}

// Settled tells that a lock was settled, or that it was given up.
func (c *Core) Settled(group, lock string) {
	if p := c.place(group); p.phase == settling && p.holding.Lock == lock {
		p.phase = idle
	}
}

// Wake returns when Tick must be called next, election.Never if not as things stand.
func (c *Core) Wake() time.Duration {
	wake := election.Never
	for _, p := range c.groups {
		if p.phase == answering {
			wake = min(wake, p.deadline-SilenceMargin)
		}
	}
	return wake
}

// Fencing returns what is ordered to be fenced and not verified gone yet.
func (c *Core) Fencing() []election.Holding {
	var out []election.Holding
	for _, p := range c.sorted() {
		if p.phase == fencing {
			out = append(out, p.holding)
		}
	}
	return out
}

// Alive reports whether nothing may be bound whose deadline has passed: what a
// watchdog may be fed for.
func (c *Core) Alive(now time.Duration) bool {
	for _, p := range c.groups {
		if (p.phase == answering || p.phase == fencing) && now >= p.deadline {
			return false
		}
	}
	return true
}

// Done reports whether the director is gone and nothing is left to do for it.
func (c *Core) Done() bool {
	for _, p := range c.groups {
		if p.phase != idle {
			return false
		}
	}
	return c.gone
}

func (c *Core) sorted() []*place {
	out := make([]*place, 0, len(c.groups))
	for _, p := range c.groups {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *place) int { return strings.Compare(a.holding.Group, b.holding.Group) })
	return out
}
