package election

import (
	"slices"
	"time"
)

// txnKind is what a request is for, so that what is rare and dangerous can be
// lost more often than what is frequent.
type txnKind string

const (
	kindRead    txnKind = "read"
	kindRenew   txnKind = "renewal"
	kindQueue   txnKind = "queueing"
	kindTake    txnKind = "acquisition"
	kindReplace txnKind = "replacement"
	kindReceipt txnKind = "receipt"
)

func kindOf(txn []Op) txnKind {
	kind := kindQueue
	for i, op := range txn {
		switch {
		case op.Key.Kind == NodeRecord && op.Kind == OpCreate:
			return kindReplace
		case op.Key.Kind == NodeRecord && op.Kind == OpSet && i == 0:
			return kindReceipt
		case op.Key.Kind == NodeRecord && op.Kind == OpSet:
			return kindTake
		case op.Key.Kind == NodeRecord && op.Kind == OpCheck:
			kind = kindRenew
		}
	}
	if len(txn) == 0 {
		kind = kindRead
	}
	return kind
}

// fate is what becomes of a request on its way.
type fate struct {
	delay    time.Duration // until it runs
	back     time.Duration // until the reply is there
	lost     bool          // the reply never comes
	limbo    bool          // runs much later, or never
	never    bool          // does not run
	patience time.Duration // until the client gives up on the connection
}

func (h *host) fate(kind txnKind, txn []Op) fate {
	s := h.s
	f := fate{delay: s.upTo(20 * time.Millisecond), back: s.upTo(20 * time.Millisecond), patience: time.Second}
	if s.now < h.slow {
		f.patience += s.upTo(4 * time.Second)
		if s.chance(50) {
			f.delay = s.upTo(3 * time.Second)
		}
		if s.chance(30) {
			f.back = s.upTo(3 * time.Second)
		}
	}
	if s.chance(1) {
		f.delay = s.upTo(5 * time.Second)
	}
	f.lost = h.cut || s.chance(2) || s.now < h.lossy && s.chance(60)
	if kind.rare() {
		h.worse(&f, 15)
	}
	if kind == kindTake && young(txn) {
		h.worse(&f, 25)
	}
	if s.now < h.partitioned && kind != kindRead {
		f.lost = true
	}
	if f.lost && !f.limbo {
		f.limbo, f.never = s.chance(25), s.chance(50)
		f.never = f.never || s.now < h.partitioned || h.cut
	}
	return f
}

// rare reports whether only few of such requests are sent, on which much depends.
func (k txnKind) rare() bool { return k == kindTake || k == kindReplace || k == kindReceipt }

// young reports whether the record is as it was created: one that is created
// anew has the same version.
func young(txn []Op) bool {
	for _, op := range txn {
		if op.Key.Kind == NodeRecord && op.Version == 0 {
			return true
		}
	}
	return false
}

// worse lets each mishap come true with some percent.
func (h *host) worse(f *fate, percent float64) {
	if h.s.often(percent) {
		f.delay = h.s.upTo(4 * time.Second)
	}
	if h.s.often(percent) {
		f.back, f.patience = h.s.upTo(4*time.Second), 4*time.Second
	}
	f.lost = f.lost || h.s.often(percent)
	f.limbo = f.limbo || h.s.often(percent)
}

// send plays the network.
func (h *host) send(r Request) {
	s, session, replied := h.s, h.session, false
	kind := kindOf(r.Txn)
	deliver := h.liveReply(func(rep Reply) {
		if replied {
			return
		}
		replied, h.sending = true, false
		rep.ID = r.ID
		h.event(func(now time.Duration) []Action {
			actions := h.m.Replied(now, rep)
			h.checkFenced(kind, r.Txn, rep)
			return actions
		})
	})
	f := h.fate(kind, r.Txn)
	run := func() {
		if session != h.session && r.Txn == nil {
			return
		}
		rep := h.serve(session, kind, r)
		if kind == kindRead && f.delay > 800*time.Millisecond && s.often(20) {
			s.blind(r.Observe) // what was read is as new as can be, and was asked for long ago
		}
		if !f.lost && !f.limbo && !h.cut {
			s.after(f.back, func() { deliver(rep) })
		}
	}
	switch {
	case f.limbo:
		s.limbo = append(s.limbo, stray{kind, run})
	case !f.never:
		s.after(f.delay, run)
	}
	s.tempt(h, kind, r, f)
	// the client gives up on the connection, and comes back
	s.after(f.patience, h.live(func() {
		if replied {
			return
		}
		h.event(h.m.Disconnected)
		deliver(Reply{Outcome: OutcomeUnknown})
		h.reconnect()
	}))
}

// liveReply is live for a reply; one that finds the process paused waits.
func (h *host) liveReply(do func(Reply)) func(Reply) {
	life := h.life
	return func(r Reply) {
		if life == h.life && !h.dead {
			do(r)
		}
	}
}

func (h *host) serve(session uint64, kind txnKind, r Request) Reply {
	s := h.s
	if !s.sessionAlive(session) {
		return Reply{Outcome: OutcomeUnknown}
	}
	if kind == kindRead && s.now < h.partitioned {
		return Reply{Observation: s.store.frozen(h.seen, r)}
	}
	if session == h.session {
		h.touched = s.now
	}
	if kind == kindRead {
		return Reply{Observation: s.store.observe(s.rng, &h.seen, r)}
	}
	rep := s.store.commit(session, r.Txn)
	if rep.Outcome == OutcomeOK {
		h.seen = s.store.zxid()
		s.committed(h, r.Txn)
		s.ripple(h, kind, r.Txn[0].Key.Group)
	}
	return rep
}

// ripple lets a commit be noticed by watches, or be followed by trouble.
func (s *schedule) ripple(by *host, kind txnKind, group string) {
	if kind == kindReplace {
		s.logf("%s replaced the record of %s", by.name, group)
		if s.often(80) {
			s.stir(500 * time.Millisecond)
		}
	}
	s.hint(group, by)
	if kind == kindTake && s.often(20) {
		s.after(s.upTo(2*time.Second), func() { s.deleteRecord(group) })
	}
}

// hint lets some directors look at once, as watches do; they may be lost.
func (s *schedule) hint(group string, but *host) {
	for _, h := range s.hosts {
		if h != but && !h.dead && s.rng.IntN(3) == 0 {
			s.after(s.upTo(10*time.Millisecond), h.live(func() {
				h.event(func(now time.Duration) []Action { return h.m.Hint(now, group) })
			}))
		}
	}
}

// tempt makes trouble at the moment at which it may hurt most: when it is open
// whether a lock holds, or will.
func (s *schedule) tempt(h *host, kind txnKind, r Request, f fate) {
	if kind == kindRenew && f.back > 800*time.Millisecond && s.often(30) {
		h.partition(s.upTo(6 * time.Second)) // the last renewal that is heard of, and late
	}
	open := f.lost || f.limbo || f.delay > time.Second || f.back > time.Second
	if !kind.rare() || !open {
		return
	}
	group := r.Txn[0].Key.Group
	s.logf("%s: %s of %s goes astray (%+v)", h.name, kind, group, f)
	switch {
	case s.often(25):
		h.partition(s.upTo(15 * time.Second))
	case s.often(40):
		s.after(s.upTo(4*time.Second), func() { s.deleteRecord(group) })
	}
}

// partition leaves a host with a server that is cut off from the quorum: it
// answers reads with what it had and commits nothing.
func (h *host) partition(d time.Duration) {
	h.partitioned = h.s.now + d
	h.s.logf("%s reads old state and commits nothing until %.3f", h.name, h.partitioned.Seconds())
}

func (s *schedule) deleteRecord(group string) {
	if s.calm {
		return
	}
	s.logf("record of %s deleted by hand", group)
	s.forget(group)
	s.store.remove(func(k Key, _ *modelNode) bool { return k.Group == group && k.Kind == NodeRecord })
	s.hint(group, nil)
	if s.often(40) {
		s.rerun()
	}
	s.blind(group)
}

// blind lets holders of a group learn late of what happens.
func (s *schedule) blind(group string) {
	for _, h := range s.hosts {
		if h.answers[group] > s.now && s.often(50) {
			h.partition(s.upTo(5 * time.Second))
		}
	}
}

// rerun lets what was astray run in the order that does most harm where a
// record is gone: it is created anew, and taken at once.
func (s *schedule) rerun() {
	if !slices.ContainsFunc(s.limbo, func(x stray) bool { return x.kind == kindReplace }) {
		return // they may hurt more after a replacement
	}
	for _, x := range s.limbo {
		switch x.kind {
		case kindReplace:
			s.after(s.upTo(20*time.Millisecond), x.run)
		default:
			s.after(20*time.Millisecond+s.upTo(100*time.Millisecond), x.run)
		}
	}
	s.limbo = nil
}

// reconnect comes back with the same session if it still lives.
func (h *host) reconnect() {
	life := h.life
	h.s.after(h.s.upTo(500*time.Millisecond), func() {
		switch {
		case life != h.life || h.dead:
		case h.cut:
			h.reconnect()
		case h.s.now-h.touched > simTimeout && h.s.now >= h.partitioned:
			h.newSession()
			h.event(h.m.Expired)
			h.event(h.connected)
		default:
			h.event(h.connected)
		}
	})
}
