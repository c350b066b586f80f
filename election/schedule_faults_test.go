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

// faults draws faults until the schedule is calmed.
func (s *schedule) faults() {
	kinds := []func(h *host, group string){
		faultPause, faultCut, faultKill, faultLocks, faultRecord, faultHandover, faultExpire, faultLossy,
		faultSlow, faultPartition, faultConfigure, faultGroup, faultTiming, faultStir,
	}
	s.after(s.upTo(2*time.Second), func() {
		if s.calm {
			return
		}
		h := s.hosts[s.rng.IntN(len(s.hosts))]
		group := s.groups[s.rng.IntN(len(s.groups))].Name
		kinds[s.rng.IntN(len(kinds))](h, group)
		s.faults()
	})
}

func faultPause(h *host, _ string) {
	h.paused = h.s.now + h.s.upTo(8*time.Second)
	h.s.logf("%s paused until %.3f", h.name, h.paused.Seconds())
}

func faultCut(h *host, _ string) {
	h.cut = true
	h.s.logf("%s cut off", h.name)
	h.s.after(h.s.upTo(10*time.Second), func() { h.cut = false })
}

func faultKill(h *host, _ string) {
	h.s.logf("%s killed", h.name)
	h.dead = true
	old := h.session
	h.s.after(h.s.upTo(simTimeout), func() { h.s.store.expire(old) })
	h.s.after(h.s.upTo(5*time.Second), h.restart)
}

func faultLocks(h *host, group string) {
	h.s.logf("locks of %s deleted by hand", group)
	h.s.store.remove(func(k Key, _ *modelNode) bool {
		return k.Group == group && k.Kind == NodeLock && h.s.rng.IntN(2) == 0
	})
}

func faultRecord(h *host, group string) { h.s.deleteRecord(group) }

func faultHandover(h *host, group string) {
	to := h.s.hosts[h.s.rng.IntN(len(h.s.hosts))].name
	if h.dead {
		return
	}
	h.event(func(now time.Duration) []Action {
		a, err := h.m.Handover(now, group, to)
		if err != nil { // nothing was done, not even what time asks for
			return h.m.Tick(now)
		}
		return a
	})
}

func faultExpire(h *host, _ string) {
	h.s.logf("session of %s expired early", h.name)
	h.s.store.expire(h.session)
	h.touched = h.s.now - 2*simTimeout
	if !h.dead && h.s.rng.IntN(2) == 0 { // or it is noticed when a request fails
		h.event(h.m.Disconnected)
		h.reconnect()
	}
}

func faultLossy(h *host, _ string) {
	h.lossy = h.s.now + h.s.upTo(20*time.Second)
	h.s.logf("%s loses requests until %.3f", h.name, h.lossy.Seconds())
}

func faultSlow(h *host, _ string) {
	h.slow = h.s.now + h.s.upTo(20*time.Second)
	h.s.logf("%s is slow until %.3f", h.name, h.slow.Seconds())
}

func faultPartition(h *host, _ string) { h.partition(h.s.upTo(10 * time.Second)) }

// faultConfigure changes what one director knows of a group for a while.
func faultConfigure(h *host, group string) {
	if h.dead {
		return
	}
	groups := append([]GroupConfig(nil), h.groups...)
	for i := range groups {
		if groups[i].Name != group {
			continue
		}
		switch h.s.rng.IntN(4) {
		case 0:
			groups[i].Ineligible = "not fit"
		case 1:
			groups[i].Paused = true
		case 2:
			groups[i].Priority = h.s.rng.IntN(200)
		case 3:
			groups = append(groups[:i:i], groups[i+1:]...)
		}
		break
	}
	h.s.logf("%s configured with %+v", h.name, groups)
	h.configure(groups)
	h.s.after(h.s.upTo(6*time.Second), h.live(func() { h.configure(h.groups) }))
}

// faultGroup deletes a whole group by hand; somebody applies it anew.
func faultGroup(h *host, group string) {
	if h.s.rng.IntN(2) == 0 {
		return
	}
	h.s.logf("group %s deleted by hand", group)
	h.s.forget(group)
	h.s.store.remove(func(k Key, _ *modelNode) bool { return k.Group == group })
	h.s.after(h.s.upTo(5*time.Second), func() {
		h.s.store.apply(group, NewRecord(false, time.Unix(0, 0)))
	})
}

func faultTiming(h *host, _ string) {
	if h.dead {
		return
	}
	lease := []time.Duration{MinLease, 2 * time.Second, simLease}[h.s.rng.IntN(3)]
	t := h.timing
	t.Lease, t.Renew = lease, DefaultRenew(lease)
	h.s.logf("%s: lease is to be %v", h.name, lease)
	h.event(func(now time.Duration) []Action {
		a, err := h.m.SetTiming(now, t)
		if err != nil {
			panic(err)
		}
		return a
	})
}

func faultStir(h *host, _ string) { h.s.stir(2 * time.Second) }
