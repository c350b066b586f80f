package nemesis

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/lab"
)

// probeInterval is how often each VIP is asked for by ARP.
const probeInterval = 5 * time.Millisecond

// echoInterval is how often a packet for each VIP is sent straight to each director.
const echoInterval = 25 * time.Millisecond

// requestTimeout is below TCP's first retransmission, after a second: a request
// whose first packet was lost is lost.
const requestTimeout = 900 * time.Millisecond

// captured is how many packets are kept, some 20 s of them.
const captured = 40_000

// observers watch from outside of the processes that are struck.
type observers struct {
	witnesses  [2]*lab.Witness
	echoes     [2][]*lab.Prober // one for each director
	requesters [2]*lab.Requester
	neighbors  *lab.NeighborWatch
	capture    *lab.Capture
}

func newObservers(s *site, interval time.Duration) (o *observers, err error) {
	o = &observers{}
	var directors []*lab.Host
	for _, name := range s.Directors() {
		directors = append(directors, s.Lab.Host(name))
	}
	for i, g := range s.groups {
		if o.witnesses[i], err = lab.NewWitness(s.client(), g.vip, probeInterval, directors...); err != nil {
			return nil, err
		}
		for _, d := range directors {
			mac, err := d.MAC("eth0")
			if err != nil {
				return nil, err
			}
			echo, err := lab.NewEchoProber(s.client(), "eth0", g.vip, mac, echoInterval)
			if err != nil {
				return nil, err
			}
			o.echoes[i] = append(o.echoes[i], echo)
		}
		if o.requesters[i], err = lab.NewRequester(s.client(), lab.RequesterOptions{
			Target: netip.AddrPortFrom(g.vip, 80), Interval: interval, Timeout: requestTimeout, Keep: 20_000,
		}); err != nil {
			return nil, err
		}
	}
	if o.neighbors, err = lab.NewNeighborWatch(s.client()); err != nil {
		return nil, err
	}
	o.capture, err = s.Lab.NewCapture(lab.LAN, captured)
	return o, err
}

// start runs them. An observer that fails ends the returned context.
func (o *observers) start(ctx context.Context) (watching context.Context, stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	for i := range o.witnesses {
		group.Go(func() error { return o.witnesses[i].Run(ctx) })
		group.Go(func() error { return o.requesters[i].Run(ctx) })
		for _, echo := range o.echoes[i] {
			group.Go(func() error { return echo.Run(ctx) })
		}
	}
	group.Go(func() error { return o.neighbors.Run(ctx) })
	group.Go(func() error { return o.capture.Run(ctx) })
	return ctx, func() error {
		cancel()
		if err := group.Wait(); err != nil {
			return fmt.Errorf("an observer failed: %w", err)
		}
		return nil
	}
}

// holder is who answered last for a group's VIP, within half a second.
func (o *observers) holder(group int) string {
	answers := o.witnesses[group].Answers(boottime.Now() - 500*time.Millisecond)
	if len(answers) == 0 {
		return ""
	}
	return o.name(group, answers[len(answers)-1].MAC)
}

// name is the director that has a hardware address; a stranger is called by the
// address.
func (o *observers) name(group int, mac string) string {
	if h := o.witnesses[group].HostOf(mac); h != nil {
		return h.Name()
	}
	return mac
}

// claims are those that came since a time.
func (o *observers) claims(group int, since time.Duration) (claims []Claim) {
	for _, a := range o.witnesses[group].Answers(since) {
		claims = append(claims, Claim{Host: o.name(group, a.MAC), Asked: a.Asked, At: a.At, Request: a.Request})
	}
	for i, echo := range o.echoes[group] {
		for _, a := range echo.Answers(since) {
			claims = append(claims, Claim{Host: o.name(group, a.MAC), Asked: a.Asked, At: a.At, Request: a.Request, Prober: 1 + i})
		}
	}
	for _, a := range o.witnesses[group].Announcements(since) {
		claims = append(claims, Claim{Host: o.name(group, a.MAC), At: a.At})
	}
	return claims
}

// removed are the times at which kernels are known to have removed the VIP.
func (o *observers) removed(group int) map[string][]time.Duration {
	times := map[string][]time.Duration{}
	for _, span := range o.witnesses[group].Bound() {
		if span.Until != 0 {
			times[span.Host] = append(times[span.Host], span.Until)
		}
	}
	return times
}
