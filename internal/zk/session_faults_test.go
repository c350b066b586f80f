package zk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/lab"
)

// worstCall is what doc.go promises for a session of 6 s, plus what a loaded
// machine may add.
const worstCall = time.Second + 300*time.Millisecond

// writeUntil writes to a znode until a write made after the fault succeeds,
// and returns how long no write succeeded. Every call must end in time.
func writeUntil(t testing.TB, s *Session, path string, limit time.Duration) (gap time.Duration) {
	t.Helper()
	start := time.Now()
	for time.Since(start) < limit {
		if !s.State().Connected {
			_, _ = s.WaitConnected(within(t, time.Second))
		}
		before := time.Now()
		_, err := s.Set(context.Background(), path, []byte("x"), AnyVersion)
		if took := time.Since(before); took > worstCall {
			t.Errorf("a write took %s", took)
		}
		if err == nil {
			return time.Since(start)
		}
		if !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrDisconnected) {
			t.Fatalf("write: %v", err)
		}
	}
	t.Fatalf("no write for %s", limit)
	return 0
}

// sessionOn returns a session that is connected to that server and may go to
// the others.
func sessionOn(t testing.TB, e *lab.Ensemble, i int) *Session {
	t.Helper()
	for range 40 {
		s, stop := runUntil(t, Config{Servers: e.Servers()})
		if st := connected(t, s); st.Server == e.Servers()[i] {
			return s
		}
		stop()
	}
	t.Fatal("never connected to that server: are the servers shuffled?")
	return nil
}

func scratch(t testing.TB, s *Session) string {
	t.Helper()
	path := "/" + strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
	if _, err := s.Create(context.Background(), path, nil, Persistent); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSessionSurvivesFaults(t *testing.T) {
	e := sharedEnsemble(t)
	kill := func(i int) error { return e.Kill(i) }
	freeze := func(i int) error { return e.Freeze(i) }
	leader := func() int { return must(e.Leader(within(t, 10*time.Second)))(t) }
	follower := func() int { return must(e.Follower(within(t, 10*time.Second)))(t) }
	for _, c := range []struct {
		name      string
		connectTo func() int
		harm      func() int
		how       func(int) error
		limit     time.Duration
	}{
		{"leader killed", follower, leader, kill, 10 * time.Second},
		{"own leader killed", leader, leader, kill, 10 * time.Second},
		{"own follower killed", follower, follower, kill, 2 * time.Second},
		{"own follower frozen", follower, follower, freeze, 4 * time.Second},
		{"leader frozen", follower, leader, freeze, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sessionOn(t, e, c.connectTo())
			path, st := scratch(t, s), s.State()
			victim := c.harm()
			heal(t, e, victim)
			if err := c.how(victim); err != nil {
				t.Fatal(err)
			}
			t.Logf("no write for %s", writeUntil(t, s, path, c.limit).Round(time.Millisecond))
			if now := s.State(); now.ID != st.ID || now.Generation != st.Generation {
				t.Errorf("session %x became %x", st.ID, now.ID)
			}
		})
	}
}

func TestServerThatAnswersPingsButCommitsNothing(t *testing.T) {
	e := sharedEnsemble(t)
	own := must(e.Follower(within(t, 10*time.Second)))(t)
	s := sessionOn(t, e, own)
	path := scratch(t, s)
	others := slices.DeleteFunc([]int{0, 1, 2}, func(i int) bool { return i == own })
	heal(t, e, others...)
	for _, i := range others {
		if err := e.Freeze(i); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	var took time.Duration
	for range 10 { // a process takes some ms to stop
		start := time.Now()
		_, err = s.Set(context.Background(), path, nil, AnyVersion)
		if took = time.Since(start); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrUnknown) || took > worstCall {
		t.Errorf("after %s: %v, expected an unknown outcome within %s", took, err, worstCall)
	}
}

func TestClientCutOffAndBack(t *testing.T) {
	e := sharedEnsemble(t)
	links, addresses := proxies(t, e.Servers())
	s := run(t, Config{Servers: addresses})
	st := connected(t, s)
	path := scratch(t, s)
	each(links, (*proxy).freeze)
	if _, err := s.Set(context.Background(), path, nil, AnyVersion); !errors.Is(err, ErrUnknown) {
		t.Fatalf("write into a frozen link: %v", err)
	}
	start := time.Now()
	if _, err := s.Set(context.Background(), path, nil, AnyVersion); !errors.Is(err, ErrDisconnected) || time.Since(start) > 50*time.Millisecond {
		t.Errorf("write without a connection: %v after %s", err, time.Since(start))
	}
	each(links, (*proxy).thaw)
	writeUntil(t, s, path, 3*time.Second)
	if now := s.State(); now.ID != st.ID || now.Connection == st.Connection {
		t.Errorf("state %+v after %+v: expected the same session on another connection", now, st)
	}
}

func TestSessionExpires(t *testing.T) {
	e := sharedEnsemble(t)
	links, addresses := proxies(t, e.Servers())
	s := run(t, Config{Servers: addresses, SessionTimeout: time.Second, ReplyTimeout: time.Second})
	observer := run(t, Config{Servers: e.Servers()})
	connected(t, observer)
	st := connected(t, s)
	if st.Timeout != time.Second {
		t.Fatalf("granted %s", st.Timeout)
	}
	ctx := context.Background()
	path := scratch(t, s)
	if _, err := s.Create(ctx, path+"/mine", nil, Ephemeral); err != nil {
		t.Fatal(err)
	}
	each(links, (*proxy).freeze)
	eventually(t, 5*time.Second, "the ephemeral is gone", func() bool {
		_, ok, err := observer.Exists(ctx, path+"/mine")
		return err == nil && !ok
	})
	each(links, (*proxy).thaw)
	eventually(t, 5*time.Second, "a new session", func() bool { return s.State().Generation > st.Generation && s.State().Connected })
	if now := s.State(); now.ID == st.ID {
		t.Errorf("state %+v after %+v", now, st)
	}
	if _, err := s.MultiIn(ctx, st.ID, OpSet(path, nil, AnyVersion)); !errors.Is(err, ErrExpired) {
		t.Errorf("write in the old session: %v", err)
	}
	if _, err := s.MultiIn(ctx, s.State().ID, OpSet(path, nil, AnyVersion)); err != nil {
		t.Errorf("write in the new session: %v", err)
	}
}

// Servers that lost their state refuse a client which has seen later zxids,
// with a mere EOF and for ever.
func TestServersThatLostTheirState(t *testing.T) {
	needZooKeeper(t)
	dir := t.TempDir()
	e := must(lab.StartLocalZooKeeper(within(t, time.Minute), dir, 1, lab.ZooKeeperOptions{}))(t)
	t.Cleanup(func() { e.Close() })
	s := run(t, Config{Servers: e.Servers(), SessionTimeout: time.Second})
	st := connected(t, s)
	path := scratch(t, s)
	for range 10 {
		_ = must(s.Set(context.Background(), path, nil, AnyVersion))(t)
	}
	if err := e.Kill(0); err != nil {
		t.Fatal(err)
	}
	lost, err := filepath.Glob(dir + "/zk1/data/version-2")
	if err != nil || len(lost) != 1 || os.RemoveAll(lost[0]) != nil {
		t.Fatalf("data %v: %v", lost, err)
	}
	if err := e.Start(0); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "a new session", func() bool {
		now := s.State()
		return now.Connected && now.Generation > st.Generation
	})
	if _, ok, err := s.Exists(context.Background(), path); ok || err != nil {
		t.Errorf("the znode is there (%v)", err)
	}
	if now := s.State(); now.Rewound != 1 {
		t.Errorf("%+v: expected that the loss was noticed", now)
	}
}

// A change that go-zk has queued while it had no connection must not be sent
// on the next one. The queue is only reached in the instants before the loss
// is noticed, which the test stretches.
func TestQueuedChangeIsNeverSent(t *testing.T) {
	e := sharedEnsemble(t)
	links, addresses := proxies(t, e.Servers())
	s := run(t, Config{Servers: addresses, SessionTimeout: time.Second})
	st := connected(t, s)
	ctx := context.Background()
	path := scratch(t, s)
	each(links, (*proxy).freeze)
	each(links, (*proxy).cut)
	eventually(t, time.Second, "another connection is tried", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.wires > st.Connection
	})
	s.mu.Lock()
	s.state.Connected = true // as if it were not
	s.mu.Unlock()
	if _, err := s.Create(ctx, path+"/late", nil, Persistent); !errors.Is(err, ErrDisconnected) {
		t.Fatalf("queued create: %v, expected that it was not sent", err)
	}
	s.mu.Lock()
	s.state.Connected = false
	s.mu.Unlock()
	each(links, (*proxy).thaw)
	writeUntil(t, s, path, 5*time.Second) // is behind it in go-zk's queue
	if kids, _, err := s.Children(ctx, path); err != nil || slices.Contains(kids, "late") {
		t.Errorf("children %v, %v: the queued create was carried out", kids, err)
	}
}

// An idle connection is pinged, and outlives the read deadline.
func TestIdleConnectionIsKept(t *testing.T) {
	e := sharedEnsemble(t)
	s := run(t, Config{Servers: e.Servers(), SessionTimeout: 2 * time.Second})
	st := connected(t, s)
	sub := s.Subscribe()
	defer sub.Close()
	select {
	case <-sub.Changes():
		t.Errorf("state changed: %+v after %+v", s.State(), st)
	case <-time.After(2500 * time.Millisecond): // two read deadlines
	}
}
