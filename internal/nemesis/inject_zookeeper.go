package nemesis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zklvs/zklvs/internal/demo"
)

// server finds a ZooKeeper server by what it does; where none does that now, such
// as in the second half of a pair, dice choose.
func (s *site) server(ctx context.Context, role string, dice int) int {
	ctx, cancel := demo.Within(ctx, time.Second)
	defer cancel()
	n := len(s.ZooKeeper.Servers())
	for k := range n {
		i := (dice + k) % n
		if mode, err := s.ZooKeeper.Mode(ctx, i); err == nil && mode == role {
			return i
		}
	}
	return dice % n
}

// startServer starts a server that has ended.
func (s *site) startServer(i int) error {
	if s.ZooKeeper.Process(i).Running() {
		return nil
	}
	return s.ZooKeeper.Start(i)
}

func killServer(role string) func(context.Context, *site, struck) (func(context.Context) error, error) {
	return func(ctx context.Context, s *site, p struck) (func(context.Context) error, error) {
		i := s.server(ctx, role, p.Dice)
		return heals(func() error { return s.startServer(i) }), s.ZooKeeper.Kill(i)
	}
}

func freezeServer(role string) func(context.Context, *site, struck) (func(context.Context) error, error) {
	return func(ctx context.Context, s *site, p struck) (func(context.Context) error, error) {
		i := s.server(ctx, role, p.Dice)
		return heals(func() error { return gone(s.ZooKeeper.Thaw(i)) }), gone(s.ZooKeeper.Freeze(i))
	}
}

// each makes one of what is done to every server.
func (s *site) each(f func(i int) error) func() error {
	return func() error {
		var errs []error
		for i := range s.ZooKeeper.Servers() {
			errs = append(errs, f(i))
		}
		return errors.Join(errs...)
	}
}

func killEnsemble(_ context.Context, s *site, _ struck) (func(context.Context) error, error) {
	return heals(s.each(s.startServer)), s.each(s.ZooKeeper.Kill)()
}

func freezeEnsemble(_ context.Context, s *site, _ struck) (func(context.Context) error, error) {
	return heals(s.each(func(i int) error { return gone(s.ZooKeeper.Thaw(i)) })),
		s.each(func(i int) error { return gone(s.ZooKeeper.Freeze(i)) })()
}

// fillDisk fills the disk of one server, which ends itself at the next change.
func fillDisk(_ context.Context, s *site, p struck) (func(context.Context) error, error) {
	i := p.Dice % len(s.ZooKeeper.Servers())
	h := s.Lab.Host(fmt.Sprintf("zk%d", i+1))
	dir := h.ZooKeeperDisk()
	return func(ctx context.Context) error {
		err := h.EmptyDisk(dir)
		// One that is about to end need not have ended by now: it is struck once more.
		return errors.Join(err, s.ZooKeeper.Kill(i), s.startServer(i), ctx.Err())
	}, h.FillDisk(dir)
}

// outage is how long ZooKeeper is away in outageAndDeath.
const outage = 60 * time.Second

// outageAndDeath stops all servers for a minute, and then lets a director die too.
func outageAndDeath(ctx context.Context, s *site, p struck) (func(context.Context) error, error) {
	heal := heals(s.each(s.startServer))
	if err := s.each(s.ZooKeeper.Kill)(); err != nil {
		return heal, err
	}
	select {
	case <-ctx.Done():
		return heal, ctx.Err()
	case <-time.After(outage):
	}
	return heal, s.Director(p.director).Kill()
}
