package zk

import (
	"context"
	"errors"
	"time"

	gozk "github.com/go-zookeeper/zk"
)

// AnyVersion makes Set, Delete and Check accept whatever version is there.
const AnyVersion int32 = -1

// Stat is what ZooKeeper keeps about a znode.
type Stat struct {
	Czxid, Mzxid, Pzxid int64 // of the creation, the last data change, the last change of children
	Ctime, Mtime        time.Time
	Version             int32 // data changes
	Cversion            int32 // changes of children
	Owner               int64 // session of an ephemeral znode, else 0
	Children            int
}

func statOf(z *gozk.Stat) Stat {
	if z == nil {
		return Stat{}
	}
	return Stat{
		Czxid: z.Czxid, Mzxid: z.Mzxid, Pzxid: z.Pzxid,
		Ctime: time.UnixMilli(z.Ctime), Mtime: time.UnixMilli(z.Mtime),
		Version: z.Version, Cversion: z.Cversion, Owner: z.EphemeralOwner, Children: int(z.NumChildren),
	}
}

// Mode is the kind of a new znode.
type Mode int32

// The kinds of znode.
const (
	Persistent          Mode = gozk.FlagPersistent
	Ephemeral           Mode = gozk.FlagEphemeral
	Sequential          Mode = gozk.FlagSequence
	EphemeralSequential Mode = gozk.FlagEphemeralSequential
)

// Get reads a znode.
func (s *Session) Get(ctx context.Context, path string) ([]byte, Stat, error) {
	return s.get(ctx, path, false)
}

// GetW reads a znode and leaves a watch on it (also when it is later deleted).
func (s *Session) GetW(ctx context.Context, path string) ([]byte, Stat, error) {
	return s.get(ctx, path, true)
}

func (s *Session) get(ctx context.Context, path string, watch bool) ([]byte, Stat, error) {
	type found struct {
		data []byte
		stat Stat
	}
	f, err := read(ctx, s, watchKey{opGetData, path}, watch, "get", func(c *gozk.Conn) (found, error) {
		data, stat, err := c.Get(path)
		return found{data, statOf(stat)}, err
	})
	return f.data, f.stat, err
}

// Exists reports whether there is a znode; a missing one is no error.
func (s *Session) Exists(ctx context.Context, path string) (Stat, bool, error) {
	return s.exists(ctx, path, false)
}

// ExistsW is Exists and leaves a watch on the znode's creation, change and
// deletion.
func (s *Session) ExistsW(ctx context.Context, path string) (Stat, bool, error) {
	return s.exists(ctx, path, true)
}

func (s *Session) exists(ctx context.Context, path string, watch bool) (Stat, bool, error) {
	type found struct {
		stat Stat
		ok   bool
	}
	f, err := read(ctx, s, watchKey{opExists, path}, watch, "exists", func(c *gozk.Conn) (found, error) {
		ok, stat, err := c.Exists(path)
		return found{statOf(stat), ok}, err
	})
	return f.stat, f.ok, err
}

// getOrAwait is GetW; where the znode is missing the watch is on its creation.
func (s *Session) getOrAwait(ctx context.Context, path string) ([]byte, Stat, error) {
	for {
		data, stat, err := s.GetW(ctx, path)
		if !errors.Is(err, ErrNoNode) {
			return data, stat, err
		}
		_, ok, xerr := s.ExistsW(ctx, path)
		if xerr != nil {
			return nil, Stat{}, xerr
		}
		if !ok {
			return nil, Stat{}, err
		}
	}
}

// Children lists a znode's children, by name, in no order. The Stat is the
// parent's.
func (s *Session) Children(ctx context.Context, path string) ([]string, Stat, error) {
	return s.children(ctx, path, false)
}

// ChildrenW is Children and leaves a watch on the list.
func (s *Session) ChildrenW(ctx context.Context, path string) ([]string, Stat, error) {
	return s.children(ctx, path, true)
}

func (s *Session) children(ctx context.Context, path string, watch bool) ([]string, Stat, error) {
	type found struct {
		names []string
		stat  Stat
	}
	f, err := read(ctx, s, watchKey{opGetChildren2, path}, watch, "children", func(c *gozk.Conn) (found, error) {
		names, stat, err := c.Children(path)
		return found{names, statOf(stat)}, err
	})
	return f.names, f.stat, err
}

// Sync makes the connected server catch up with the leader, so that the next
// read sees whatever was committed before.
func (s *Session) Sync(ctx context.Context, path string) error {
	_, err := read(ctx, s, watchKey{}, false, "sync", func(c *gozk.Conn) (string, error) { return c.Sync(path) })
	return err
}

// Create makes a znode with the session's ACL and returns its path, which for
// a sequential one ends in the number that the server gave.
func (s *Session) Create(ctx context.Context, path string, data []byte, mode Mode) (string, error) {
	return mutate(ctx, s, 0, "create", path, func(c *gozk.Conn) (string, error) {
		return c.Create(path, data, int32(mode), s.cfg.acl())
	})
}

// Set writes a znode whose version is the one given, or AnyVersion.
func (s *Session) Set(ctx context.Context, path string, data []byte, version int32) (Stat, error) {
	return mutate(ctx, s, 0, "set", path, func(c *gozk.Conn) (Stat, error) {
		stat, err := c.Set(path, data, version)
		return statOf(stat), err
	})
}

// Delete removes a znode whose version is the one given, or AnyVersion.
func (s *Session) Delete(ctx context.Context, path string, version int32) error {
	_, err := mutate(ctx, s, 0, "delete", path, func(c *gozk.Conn) (struct{}, error) {
		return struct{}{}, c.Delete(path, version)
	})
	return err
}

type reply[T any] struct {
	value T
	err   error
}

// read runs one reading call. Its answer counts only if it came on the
// connection on which the call was made.
func read[T any](ctx context.Context, s *Session, key watchKey, watch bool, op string, call func(*gozk.Conn) (T, error)) (T, error) {
	var none T
	fail := func(err error) (T, error) { return none, newError(op, key.path, err, false) }
	conn, no, limit, err := s.ready(0)
	if err != nil {
		return fail(err)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case s.reader <- struct{}{}:
	case <-ctx.Done():
		return fail(ctx.Err())
	case <-timer.C:
		return fail(gozk.ErrConnectionClosed)
	}
	if watch {
		s.watch(key, +1)
	}
	got := make(chan reply[T], 1)
	go func() { // ends with the reply, or with the connection on which it waits
		v, err := call(conn)
		if watch {
			s.watch(key, -1)
		}
		<-s.reader
		got <- reply[T]{v, err}
	}()
	select {
	case r := <-got:
		if st := s.State(); r.err == nil && (st.Connection != no || !st.Connected) {
			return fail(gozk.ErrConnectionClosed)
		}
		if r.err != nil {
			return fail(r.err)
		}
		return r.value, nil
	case <-ctx.Done():
		return fail(ctx.Err())
	case <-timer.C:
		s.hangUp(no)
		return fail(gozk.ErrConnectionClosed)
	}
}

// mutate runs one changing call: alone, on the connection that is there now
// (of that session, unless it is 0) or not at all. Where the reply does not come in time the connection is ended.
func mutate[T any](ctx context.Context, s *Session, session int64, op, path string, call func(*gozk.Conn) (T, error)) (T, error) {
	var none T
	fail := func(err error, written bool) (T, error) { return none, newError(op, path, err, written) }
	conn, no, limit, err := s.ready(session)
	if err != nil {
		return fail(err, false)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case s.writer <- struct{}{}:
	case <-ctx.Done():
		return fail(ctx.Err(), false)
	case <-timer.C:
		return fail(gozk.ErrConnectionClosed, false)
	}
	m := s.startChange(no)
	got := make(chan reply[T], 1)
	go func() { // ends with the reply, or with the connection on which it waits
		v, err := call(conn)
		<-s.writer
		got <- reply[T]{v, err}
	}()
	select {
	case r := <-got:
		if r.err != nil {
			return r.value, newError(op, path, r.err, s.giveUp(m))
		}
		return r.value, nil
	case <-ctx.Done():
		return fail(ctx.Err(), s.giveUp(m))
	case <-timer.C:
		s.hangUp(no)
		return fail(gozk.ErrConnectionClosed, s.giveUp(m))
	}
}

// ready returns the client to call, the wire that it must use and the time
// for the reply, or why there is none.
func (s *Session) ready(session int64) (*gozk.Conn, uint64, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case session != 0 && s.state.ID != session:
		return nil, 0, 0, gozk.ErrSessionExpired
	case !s.state.Connected:
		return nil, 0, 0, gozk.ErrConnectionClosed
	}
	return s.conn, s.state.Connection, s.cfg.replyTimeout(s.state.Timeout), nil
}

func (s *Session) startChange(no uint64) *change {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change = &change{wire: no}
	return s.change
}

// giveUp makes sure that a change which was not sent never is, and reports
// whether it was.
func (s *Session) giveUp(m *change) (written bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.givenUp = true
	return m.written
}

func (s *Session) watch(key watchKey, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watches[key] += n; s.watches[key] == 0 {
		delete(s.watches, key)
	}
}
