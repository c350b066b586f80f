package director

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/logfield"
)

// fenceRetry is the pause between two tries to remove an address.
const fenceRetry = 50 * time.Millisecond

// maxFailures is how many renewals of the addresses may fail in a row before the
// group is given up: a holder whose addresses expire serves nobody.
const maxFailures = 2

// holding carries out one group's grants and fences, in a goroutine of its own
// so that the election is never kept waiting and groups do not wait for each other.
type holding struct {
	d     *Director
	group string
	kick  chan struct{}

	mu       sync.Mutex // guards what follows
	queued   *election.Queued
	grant    *election.Grant
	fence    *election.Fence
	vips     []fence.VIP // what the documents say
	dirty    bool        // vips differs from what was bound
	answered string      // the lock under which this host answers, "" if it does not

	// Only the worker uses these.
	holds    election.Holding
	bound    bool
	failures int // renewals of the addresses that failed in a row
}

// Grant implements zk.Executor. It returns at once.
func (d *Director) Grant(g election.Grant) {
	h := d.holding(g.Holding.Group)
	h.mu.Lock()
	h.grant = &g
	h.mu.Unlock()
	h.wake()
}

// Fence implements zk.Executor. It returns at once.
func (d *Director) Fence(f election.Fence) {
	h := d.holding(f.Holding.Group)
	h.mu.Lock()
	h.fence = &f
	h.mu.Unlock()
	h.wake()
}

// Queued implements zk.Executor. It returns at once.
func (d *Director) Queued(q election.Queued) {
	h := d.holding(q.Group)
	h.mu.Lock()
	h.queued = &q
	h.mu.Unlock()
	h.wake()
}

// holding returns a group's worker, started at its first use. Workers end with
// the director.
func (d *Director) holding(group string) *holding {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.holdings[group]
	if h == nil {
		h = &holding{d: d, group: group, kick: make(chan struct{}, 1)}
		if g, ok := d.docs.spec.Groups[group]; ok {
			h.vips = d.vips(g)
		}
		d.holdings[group] = h
		d.group.Go(func() error { return h.run(d.running) })
	}
	return h
}

func (h *holding) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// replaceVIPs takes in what the documents say now.
func (h *holding) replaceVIPs(vips []fence.VIP) {
	h.mu.Lock()
	same := slices.Equal(h.vips, vips)
	h.vips, h.dirty = vips, h.dirty || !same
	h.mu.Unlock()
	if !same {
		h.wake()
	}
}

func (h *holding) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.kick:
			h.step(ctx)
		}
	}
}

// step does what is asked now. A fence overrides the grants before it: the
// election queues and grants nothing anew before it has heard Fenced.
func (h *holding) step(ctx context.Context) {
	h.mu.Lock()
	queued, grant, stop := h.queued, h.grant, h.fence
	h.queued = nil
	if stop != nil {
		h.grant, h.fence = nil, nil
	}
	h.mu.Unlock()
	if stop != nil {
		h.stop(ctx, *stop)
		return
	}
	if queued != nil {
		if err := h.d.cfg.Fencer.Queued(*queued); err != nil { // then others wait longer if this director dies
			h.d.log.Warn("the guard does not know of the lock in the queue", zap.String(logfield.Group, h.group), zap.Error(err))
		}
	}
	if grant != nil {
		h.answer(ctx, *grant)
	}
}

// answer makes the host answer: rules first, then the addresses.
func (h *holding) answer(ctx context.Context, g election.Grant) {
	begun := h.d.cfg.Now()
	if h.holds != g.Holding {
		h.holds, h.bound = g.Holding, false
		h.d.rules.hold(h.group, true)
		if err := h.d.rules.sync(ctx); err != nil {
			h.d.log.Error("IPVS rules are not complete", zap.String(logfield.Group, h.group), zap.Error(err))
		}
	}
	if h.fencePending() { // it came while the rules were installed
		return
	}
	g, vips, dirty := h.current(g)
	var err error
	if h.bound && !dirty {
		err = h.d.cfg.Fencer.Extend(g)
	} else {
		err = h.d.cfg.Fencer.Bind(g, vips)
	}
	switch {
	case err == nil && !h.bound:
		h.bound, h.failures = true, 0
		h.answers(g.Holding.Lock)
		h.d.log.Info("answering", zap.String(logfield.Group, h.group), zap.Uint64(logfield.Epoch, g.Holding.Epoch),
			zap.Duration(logfield.Took, h.d.cfg.Now()-begun))
	case err == nil:
		h.failures = 0
	case errors.Is(err, fence.ErrLeaseOver):
		h.bound = false // the election orders the fence by itself
	case errors.Is(err, fence.ErrFenced): // by the guard: this holding is over, even if the lease lives on
		h.bound = false
		h.d.elector.GiveUp(g.Holding, "fenced: "+err.Error())
	case h.bound && !dirty && h.failures < maxFailures:
		h.failures++
		h.d.log.Error("renewing the addresses failed", zap.String(logfield.Group, h.group), zap.Error(err))
	default:
		h.d.cannotCarry(h.group, g.Holding, err)
	}
}

// answers notes under which lock this host answers.
func (h *holding) answers(lock string) {
	h.mu.Lock()
	h.answered = lock
	h.mu.Unlock()
}

// answering returns the lock under which this director answers for a group, "" if
// it does not.
func (d *Director) answering(group string) string {
	d.mu.Lock()
	h := d.holdings[group]
	d.mu.Unlock()
	if h == nil {
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answered
}

// fencePending reports whether a fence waits to be carried out. The step that
// does so follows at once: Fence has woken the worker.
func (h *holding) fencePending() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fence != nil
}

// current returns what to bind until when: during a long take-over newer grants
// have come in.
func (h *holding) current(g election.Grant) (election.Grant, []fence.VIP, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.grant != nil && h.grant.Holding == g.Holding {
		g = *h.grant
	}
	dirty := h.dirty
	h.dirty = false
	return g, h.vips, dirty
}

// stop removes the addresses, verified, tells the election, and only then takes
// the rules away.
func (h *holding) stop(ctx context.Context, f election.Fence) {
	h.answers("")
	h.d.log.Info("fencing", zap.String(logfield.Group, h.group), zap.String(logfield.Reason, f.Reason), zap.String(logfield.Lock, f.Holding.Lock))
	for {
		err := h.d.cfg.Fencer.Fence(f.Holding, f.Reason)
		if err == nil {
			break
		}
		h.d.log.Error("the addresses are not verified gone: trying again", zap.String(logfield.Group, h.group), zap.Error(err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(fenceRetry):
		}
	}
	h.holds, h.bound = election.Holding{}, false
	h.d.elector.Fenced(f.Holding)
	h.d.rules.hold(h.group, false)
	h.d.rules.kick()
}

// cannotCarry gives up a group whose addresses cannot be bound here, and stays
// unfit for it for the back-off.
func (d *Director) cannotCarry(group string, h election.Holding, err error) {
	d.log.Error("the addresses cannot be bound: giving the group up", zap.String(logfield.Group, group), zap.Error(err))
	d.mu.Lock()
	backoff := d.docs.spec.Groups[group].Fitness.Backoff
	d.failed[group] = failure{reason: err.Error(), until: d.cfg.Now() + backoff}
	d.mu.Unlock()
	d.elector.GiveUp(h, "the addresses cannot be bound: "+err.Error())
}
