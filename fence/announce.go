package fence

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

const (
	burstCount = 5                      // announcements right after binding,
	burstGap   = 200 * time.Millisecond // within a second;
	afterBurst = 5 * time.Second        // once more after this
)

// schedule says when the VIPs of a holding are announced next: at once, four
// times more within a second, again after 5 s, then at every refresh.
type schedule struct {
	sent int
	next time.Duration // CLOCK_BOOTTIME; zero: at once
}

// after returns the schedule once an announcement was sent at now.
func (s schedule) after(now, refresh time.Duration) schedule {
	gap := refresh
	switch s.sent++; {
	case s.sent < burstCount:
		gap = burstGap
	case s.sent == burstCount:
		gap = min(afterBurst, refresh)
	}
	s.next = now + gap
	return s
}

// SetGARPRefresh changes how often bound VIPs are announced again; zero or less
// means DefaultGARPRefresh.
func (h *Host) SetGARPRefresh(d time.Duration) {
	if d <= 0 {
		d = DefaultGARPRefresh
	}
	h.refresh.Store(int64(d))
}

// hint has Run look at the schedules again.
func (h *Host) hint() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run announces what is bound until ctx is done, then returns nil.
func (h *Host) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
		case <-timer.C:
		}
		timer.Reset(h.announceDue())
	}
}

// announceDue sends what is due and returns the time until something is again.
func (h *Host) announceDue() time.Duration {
	wait := DefaultGARPRefresh
	h.mu.Lock()
	all := make([]*group, 0, len(h.groups))
	for _, g := range h.groups {
		all = append(all, g)
	}
	h.mu.Unlock()
	for _, g := range all {
		wait = min(wait, h.announceGroup(g))
	}
	return wait
}

// announceGroup announces one group if it is due, and returns the time until it
// is due again. It holds the group's lock: no fence completes between the
// check of the lease and the packet.
func (h *Host) announceGroup(g *group) time.Duration {
	g.act.Lock()
	defer g.act.Unlock()
	if g.held == nil || !g.held.bound {
		return DefaultGARPRefresh
	}
	now := h.now()
	if now >= g.held.announce.next {
		h.announceVIPs(g)
		g.held.announce = g.held.announce.after(now, time.Duration(h.refresh.Load()))
	}
	return max(g.held.announce.next-now, time.Millisecond)
}

func (h *Host) announceVIPs(g *group) {
	links := map[string]Link{}
	for _, v := range g.held.vips {
		link, ok := links[v.Interface]
		if !ok {
			var err error
			if link, err = h.kernel.Link(v.Interface); err != nil {
				h.cannotAnnounce(g, v, err)
				continue
			}
			links[v.Interface] = link
		}
		if _, err := h.permitAt(g, g.held.Lock, h.now(), g.held.deadline); err != nil {
			return
		}
		if err := h.announcer.Announce(link, v.Address); err != nil {
			h.cannotAnnounce(g, v, err)
		}
	}
}

func (h *Host) cannotAnnounce(g *group, v VIP, err error) {
	h.log.Warn("cannot announce", zap.String(logfield.Group, g.held.Group), zap.Stringer(logfield.VIP, v), zap.Error(err))
}
