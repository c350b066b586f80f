package election

import "time"

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
