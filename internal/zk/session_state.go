package zk

import (
	"net"
	"time"

	gozk "github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

// begin starts the bookkeeping of a new go-zk client.
func (s *Session) begin() (life uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life++
	s.lost = s.cfg.Now()
	s.authed = s.cfg.User == ""
	return s.life
}

func (s *Session) attach(life uint64, conn *gozk.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life == life {
		s.conn = conn
		s.update()
	}
}

// detach forgets a client: its events and wires no longer count, and its
// session is gone as far as this Session is concerned.
func (s *Session) detach(life uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life != life {
		return
	}
	s.life++
	s.conn = nil
	s.shaken = false
	s.state.ID = 0
	s.update()
}

// newWire wraps a fresh connection. The one before is closed: go-zk forgets
// to where the session has expired.
func (s *Session) newWire(life uint64, c net.Conn, until time.Time) net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wires++
	w := newWire(c, s.wires, s, until)
	if s.life != life { // dialed for a client that has been given up
		c.Close()
		return w
	}
	if s.wire != nil {
		s.wire.Conn.Close()
	}
	s.wire = w
	s.endWire()
	return w
}

// event is go-zk's callback, from any of its goroutines.
func (s *Session) event(life uint64, ev gozk.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life != life {
		return
	}
	if ev.Type > 0 { // a watch
		s.fired(ev.Path)
		return
	}
	if ev.Type != gozk.EventSession {
		return
	}
	switch ev.State {
	case gozk.StateHasSession:
		s.hasSession()
	case gozk.StateExpired:
		s.state.ID = 0
		s.endWire()
	case gozk.StateDisconnected:
		s.endWire()
	}
}

func (s *Session) hasSession() {
	h, ok := s.wire.handshake()
	if !ok {
		return // never: go-zk has just read it
	}
	if h.session != s.state.ID {
		s.state.Generation++
	}
	s.state.ID, s.state.Timeout = h.session, h.timeout
	s.state.Connection, s.state.Server = s.wire.no, s.wire.RemoteAddr().String()
	s.shaken = true
	s.dialErr = nil
	s.cfg.Logger.Debug("ZooKeeper session", zap.Int64(logfield.Session, h.session),
		zap.String(logfield.Server, s.state.Server), zap.Duration("timeout", h.timeout))
	s.update()
}

// endWire notes that nothing can be sent until there is another wire.
func (s *Session) endWire() {
	if s.shaken {
		s.lost = s.cfg.Now()
	}
	s.shaken = false
	s.update()
}

// update derives Connected and tells the subscribers; s.mu is held.
func (s *Session) update() {
	s.state.Connected = s.shaken && s.authed && s.conn != nil
	for sub := range s.subs {
		sub.signal()
	}
}

func (s *Session) dialFailed(server string, err error) {
	s.mu.Lock()
	s.dialErr = err
	s.mu.Unlock()
	s.cfg.Logger.Debug("no connection", zap.String(logfield.Server, server), zap.Error(err))
}

// hangUp closes the wire of that number, or whichever is there if 0: go-zk
// then fails what is in flight and goes to the next server.
func (s *Session) hangUp(no uint64) {
	s.mu.Lock()
	w := s.wire
	s.mu.Unlock()
	if w != nil && (no == 0 || w.no == no) {
		w.Close()
	}
}

// admit says whether the change in go-zk's hands may be sent on this wire.
// There is never more than one (Session.writer), so that there is no doubt
// which one it is.
func (s *Session) admit(wire uint64, _ int32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.change == nil || s.change.givenUp || s.change.wire != wire {
		return false
	}
	s.change.written = true
	return true
}

func (s *Session) wantsWatch(op int32, path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watches[watchKey{op, path}] > 0
}

// replied keeps the highest zxid. Creating a session is itself a committed
// change, and a resumed session is refused by a server that lags behind it:
// a lower zxid than before on another wire means that the servers lost state.
func (s *Session) replied(wire uint64, zxid int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire == nil || s.wire.no != wire {
		return
	}
	if zxid < s.maxZxid {
		s.state.Rewound++
		s.cfg.Logger.Warn("ZooKeeper has gone back in time: its servers lost state or were restored",
			zap.Int64("zxid_before", s.maxZxid), zap.Int64("zxid_now", zxid))
		s.update()
	}
	s.maxZxid = zxid
}

func (s *Session) wireDown(wire uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire == nil || s.wire.no != wire {
		return
	}
	if s.shaken {
		s.cfg.Logger.Debug("connection to ZooKeeper lost", zap.Int64(logfield.Session, s.state.ID), zap.Error(err))
	} else {
		s.dialErr = err
	}
	s.endWire()
}

func (s *Session) replyTimeout(granted time.Duration) time.Duration {
	return s.cfg.replyTimeout(granted)
}

// printf turns go-zk's log into debug lines.
type printf struct{ log *zap.SugaredLogger }

// Printf implements go-zk's Logger.
func (p printf) Printf(format string, args ...any) { p.log.Debugf("go-zk: "+format, args...) }

// Subscription is one consumer's view of what changes: the state, and the
// watches that its reads left.
type Subscription struct {
	s     *Session
	c     chan struct{}
	paths map[string]struct{} // guarded by s.mu
}

// Subscribe begins a view. It must be closed.
func (s *Session) Subscribe() *Subscription {
	sub := &Subscription{s: s, c: make(chan struct{}, 1), paths: make(map[string]struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[sub] = struct{}{}
	return sub
}

// Changes receives after any change of State and any fired watch of the
// Session (of whichever consumer); many changes make one receive. Read State
// and Fired then.
func (sub *Subscription) Changes() <-chan struct{} { return sub.c }

// Fired returns the paths whose watches fired since the last call, in no
// order. A watch fires once: read again, with a watch, to have the next.
// Watches are hints: some are lost with each connection (State.Connection),
// so poll slowly besides.
func (sub *Subscription) Fired() []string {
	sub.s.mu.Lock()
	defer sub.s.mu.Unlock()
	paths := make([]string, 0, len(sub.paths))
	for p := range sub.paths {
		paths = append(paths, p)
	}
	clear(sub.paths)
	return paths
}

// Close ends the view.
func (sub *Subscription) Close() {
	sub.s.mu.Lock()
	defer sub.s.mu.Unlock()
	delete(sub.s.subs, sub)
}

func (sub *Subscription) signal() {
	select {
	case sub.c <- struct{}{}:
	default:
	}
}

// fired tells every subscriber of a watch; s.mu is held.
func (s *Session) fired(path string) {
	for sub := range s.subs {
		sub.paths[path] = struct{}{}
		sub.signal()
	}
}
