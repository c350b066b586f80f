package zk

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/zklvs/zklvs/internal/lab"
)

// shared is the ensemble of three that most tests use, each in its own part
// of the tree. A test that harms a server heals it.
var shared struct {
	once sync.Once
	dir  string
	e    *lab.Ensemble
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.e != nil {
		_ = shared.e.Close()
	}
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

func needZooKeeper(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIP: -short: this test runs a real ZooKeeper ensemble")
	}
}

func sharedEnsemble(t testing.TB) *lab.Ensemble {
	t.Helper()
	needZooKeeper(t)
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "zk-test-"); shared.err == nil {
			shared.e, shared.err = lab.StartLocalZooKeeper(within(t, time.Minute), shared.dir, 3, lab.ZooKeeperOptions{})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.e
}

// within is a context for one step of a test.
func within(t testing.TB, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls a condition and fails the test when it does not hold
// within limit.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	not := errors.New("not so")
	err := lab.WaitUntil(within(t, limit), what, func() error {
		if ok() {
			return nil
		}
		return not
	})
	if err != nil {
		t.Fatal(err)
	}
}

// heal undoes, at the end of the test, what it did to servers.
func heal(t testing.TB, e *lab.Ensemble, servers ...int) {
	t.Cleanup(func() {
		for _, i := range servers {
			if e.Process(i).Running() {
				_ = e.Thaw(i)
			} else if err := e.Start(i); err != nil {
				t.Error(err)
			}
		}
		if err := e.WaitReady(within(t, 30*time.Second)); err != nil {
			t.Error(err)
		}
	})
}

// must returns a step's value or ends the test.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// run starts a session and ends it with the test.
func run(t testing.TB, cfg Config) *Session {
	t.Helper()
	s, _ := runUntil(t, cfg)
	return s
}

// runUntil is run with a function that ends the session before.
func runUntil(t testing.TB, cfg Config) (*Session, func()) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = zaptest.NewLogger(t)
	}
	s := must(New(cfg))(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return s, stop
}

func connected(t testing.TB, s *Session) State {
	t.Helper()
	return must(s.WaitConnected(within(t, 20*time.Second)))(t)
}

// background runs something until the test ends.
func background(t testing.TB, do func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = do(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}
