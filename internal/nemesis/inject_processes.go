package nemesis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/zklvs/zklvs/internal/demo"
)

// heals makes a heal of several; all are tried.
func heals(all ...func() error) func(context.Context) error {
	return func(context.Context) error {
		var errs []error
		for _, h := range all {
			errs = append(errs, h())
		}
		return errors.Join(errs...)
	}
}

// gone is what an error means for a process that has ended before: nothing.
func gone(err error) error {
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// processes finds director and guard; a guard of 0 is none.
func (s *site) processes(name string) (guard int) {
	guard, err := s.Guard(name)
	if err != nil {
		return 0
	}
	return guard
}

func signalGuard(pid int, sig syscall.Signal) error {
	if pid == 0 {
		return nil
	}
	return gone(syscall.Kill(pid, sig))
}

// kill strikes with SIGKILL. Where both get it, neither has time to notice the
// other's end. What has ended is started again by mend.
func kill(director, guard bool) func(context.Context, *site, struck) (func(context.Context) error, error) {
	return func(_ context.Context, s *site, p struck) (func(context.Context) error, error) {
		d, pid := s.Director(p.director), s.processes(p.director)
		var errs []error
		if director && guard {
			errs = append(errs, gone(d.Freeze()), signalGuard(pid, syscall.SIGSTOP))
		}
		if guard {
			errs = append(errs, signalGuard(pid, syscall.SIGKILL))
		}
		if director {
			errs = append(errs, d.Kill())
		}
		return nil, errors.Join(errs...)
	}
}

// stop strikes with SIGSTOP. Their own timers may end them before they go on.
func stop(director, guard bool) func(context.Context, *site, struck) (func(context.Context) error, error) {
	return func(_ context.Context, s *site, p struck) (func(context.Context) error, error) {
		d, pid := s.Director(p.director), s.processes(p.director)
		var errs []error
		thaw := heals(func() error { return gone(d.Thaw()) }, func() error { return signalGuard(pid, syscall.SIGCONT) })
		if director {
			errs = append(errs, gone(d.Freeze()))
		}
		if guard {
			errs = append(errs, signalGuard(pid, syscall.SIGSTOP))
		}
		return thaw, errors.Join(errs...)
	}
}

// rollingRestart restarts everything in turn, as an upgrade does: each server of
// ZooKeeper once the others serve, then each director.
func rollingRestart(ctx context.Context, s *site, _ struck) (func(context.Context) error, error) {
	ctx, cancel := demo.Within(ctx, 3*time.Minute)
	defer cancel()
	for i := range s.ZooKeeper.Servers() {
		if err := s.ZooKeeper.Kill(i); err != nil {
			return nil, err
		}
		if err := s.ZooKeeper.Start(i); err != nil {
			return nil, err
		}
		if err := s.ZooKeeper.WaitReady(ctx); err != nil {
			return nil, err
		}
	}
	for _, name := range s.Directors() {
		if err := s.Director(name).Stop(ctx); err != nil {
			return nil, err
		}
		if err := s.StartDirector(name); err != nil {
			return nil, err
		}
		if err := s.Director(name).WaitLog(ctx, "starting"); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil, nil
}
