package zk

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

func TestSessionCalls(t *testing.T) {
	e := sharedEnsemble(t)
	s := run(t, Config{Servers: e.Servers(), SessionTimeout: 4 * time.Second})
	st := connected(t, s)
	if st.Timeout != 4*time.Second || st.ID == 0 || st.Generation != 1 {
		t.Fatalf("state %+v: expected a first session of 4s", st)
	}
	ctx := context.Background()
	if _, err := s.Create(ctx, "/calls", []byte("a"), Persistent); err != nil {
		t.Fatal(err)
	}
	_, err := s.Create(ctx, "/calls", nil, Persistent)
	if !errors.Is(err, ErrNodeExists) {
		t.Errorf("second create: %v", err)
	}
	sub := s.Subscribe()
	defer sub.Close()
	data, stat, err := s.GetW(ctx, "/calls")
	if err != nil || string(data) != "a" || stat.Version != 0 {
		t.Fatalf("get: %q %+v %v", data, stat, err)
	}
	if _, err := s.Set(ctx, "/calls", []byte("b"), 7); !errors.Is(err, ErrBadVersion) {
		t.Errorf("set with a wrong version: %v", err)
	}
	if stat, err = s.Set(ctx, "/calls", []byte("b"), 0); err != nil || stat.Version != 1 {
		t.Fatalf("set: %+v %v", stat, err)
	}
	eventually(t, time.Second, "the watch fires", func() bool {
		f := sub.Fired()
		return len(f) == 1 && f[0] == "/calls"
	})
	if _, ok, err := s.Exists(ctx, "/calls/none"); ok || err != nil {
		t.Errorf("exists of nothing: %v %v", ok, err)
	}
	if _, _, err := s.Get(ctx, "/calls/none"); !errors.Is(err, ErrNoNode) {
		t.Errorf("get of nothing: %v", err)
	}
	if err := s.Delete(ctx, "/calls", AnyVersion); err != nil {
		t.Error(err)
	}
}

func TestMultiNamesTheFailedOperation(t *testing.T) {
	e := sharedEnsemble(t)
	s := run(t, Config{Servers: e.Servers()})
	connected(t, s)
	ctx := context.Background()
	if _, err := s.Multi(ctx, OpCreate("/m", nil, Persistent), OpCreate("/m/a-", nil, EphemeralSequential)); err != nil {
		t.Fatal(err)
	}
	results, err := s.Multi(ctx, OpCheck("/m", 0), OpSet("/m", nil, 5), OpDelete("/m", AnyVersion))
	var e2 *Error
	if !errors.As(err, &e2) || e2.Index != 1 || !errors.Is(err, ErrBadVersion) {
		t.Fatalf("error %v: expected the second operation's version conflict", err)
	}
	want := []error{ErrAborted, ErrBadVersion, ErrAborted}
	for i, r := range results {
		if r.Err != want[i] {
			t.Errorf("operation %d: %v, expected %v", i, r.Err, want[i])
		}
	}
	kids, _, err := s.Children(ctx, "/m")
	if err != nil || len(kids) != 1 {
		t.Fatalf("children %v %v", kids, err)
	}
}

// An orderly end removes the ephemerals at once, and takes no long time where
// no server answers.
func TestClose(t *testing.T) {
	e := sharedEnsemble(t)
	links, addresses := proxies(t, e.Servers())
	observer := run(t, Config{Servers: e.Servers()})
	connected(t, observer)
	ctx := context.Background()
	for _, frozen := range []bool{false, true} {
		s, stop := runUntil(t, Config{Servers: addresses, SessionTimeout: 20 * time.Second})
		connected(t, s)
		if _, err := s.Create(ctx, "/close-me", nil, Ephemeral); err != nil {
			t.Fatal(err)
		}
		if frozen {
			each(links, (*proxy).freeze)
		}
		start := time.Now()
		stop()
		if took := time.Since(start); took > closeLimit+300*time.Millisecond {
			t.Errorf("frozen %v: took %s", frozen, took)
		}
		if s.State().Connected {
			t.Error("connected after its end")
		}
		if frozen {
			continue
		}
		eventually(t, 2*time.Second, "the ephemeral is gone", func() bool {
			_, ok, err := observer.Exists(ctx, "/close-me")
			return err == nil && !ok
		})
	}
}

// Without a server the session waits, and ends when it is told to.
func TestNoServer(t *testing.T) {
	refused := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	refused.Close()
	s, stop := runUntil(t, Config{Servers: []string{refused.Addr().String(), "no..host:1"}})
	_, err := s.WaitConnected(within(t, 300*time.Millisecond))
	expect(t, "wait", err, "zookeeper: no session with "+refused.Addr().String()+",no..host:1: context deadline exceeded (last attempt: ")
	if _, err := s.Create(context.Background(), "/x", nil, Persistent); !errors.Is(err, ErrDisconnected) {
		t.Errorf("create: %v", err)
	}
	start := time.Now()
	stop()
	if took := time.Since(start); took > closeLimit+300*time.Millisecond {
		t.Errorf("took %s", took)
	}
}
