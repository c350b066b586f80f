package nemesis

import (
	"context"
	"errors"
	"time"

	"github.com/zklvs/zklvs/internal/lab"
)

// cut loses a director's packets on one card, in one direction or both.
func cut(nic string, in, out bool) func(context.Context, *site, struck) (func(context.Context) error, error) {
	return func(_ context.Context, s *site, p struck) (func(context.Context) error, error) {
		h := s.host(p)
		heal := heals(func() error { return h.HealWay(nic) })
		switch {
		case in && out:
			return heals(func() error { return h.Heal(nic) }), h.Cut(nic)
		case in:
			return heal, h.CutIn(nic)
		}
		return heal, h.CutOut(nic)
	}
}

func isolate(_ context.Context, s *site, p struck) (func(context.Context) error, error) {
	h := s.host(p)
	return heals(func() error { return h.Heal("eth0") }, func() error { return h.Heal("eth1") }),
		errors.Join(h.Cut("eth0"), h.Cut("eth1"))
}

// cardDown takes one of a director's cards down, as `ip link set down` does; its
// routes go with it, that of its own network comes back.
func cardDown(_ context.Context, s *site, p struck) (func(context.Context) error, error) {
	h, nic := s.host(p), "eth0"
	if p.Dice%4 == 0 {
		nic = "eth1"
	}
	return heals(func() error { return h.LinkUp(nic) }), h.LinkDown(nic)
}

// mostDelay is the longest that impair keeps a packet, with its jitter.
const mostDelay = 400 * time.Millisecond

// impair makes what a director sends, on both cards, get lost or come late.
func impair(loss, delay bool) func(context.Context, *site, struck) (func(context.Context) error, error) {
	return func(_ context.Context, s *site, p struck) (func(context.Context) error, error) {
		h := s.host(p)
		var i lab.Impairment
		if loss {
			i.Loss = float32(5 + p.Dice%36) // percent
		}
		if delay {
			i.Delay = time.Duration(20+p.Dice%281) * time.Millisecond
			i.Jitter = i.Delay / 3
		}
		return heals(func() error { return h.Unimpair("eth0") }, func() error { return h.Unimpair("eth1") }),
			errors.Join(h.Impair("eth0", i), h.Impair("eth1", i))
	}
}

func needsNetem(s *site) string {
	if s.netem {
		return ""
	}
	return "this kernel has no netem"
}

// removeVIP leaves it to the director to bind it again.
func removeVIP(_ context.Context, s *site, p struck) (func(context.Context) error, error) {
	holder := s.holder(p.Group)
	if holder == "" {
		holder = p.director
	}
	return nil, s.Lab.Host(holder).RemoveAddress("eth0", p.group.vip.String()+"/32")
}

// addVIP leaves it to the director to remove it again.
func addVIP(_ context.Context, s *site, p struck) (func(context.Context) error, error) {
	p.Standby = true
	p = s.aim(p.Part)
	nic, prefix := "eth0", "/32"
	switch p.Dice % 4 { // weak host model: a VIP on any interface is answered for on all
	case 1:
		nic = "eth1"
	case 2:
		prefix = "/24"
	}
	return nil, s.host(p).AddAddress(nic, p.group.vip.String()+prefix)
}
