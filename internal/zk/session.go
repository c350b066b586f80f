package zk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	gozk "github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

const (
	closeLimit    = 1500 * time.Millisecond // for the close request and go-zk's goroutines
	complainEvery = 5 * time.Second         // while there is no session
	maxReads      = 16                      // in flight at once, go-zk's own queue length
)

// State is what a Session knows about its ZooKeeper session.
type State struct {
	Connected  bool          // calls are sent; false from the first sign of trouble
	ID         int64         // the session's id; kept while disconnected, 0 once it is known to be gone
	Timeout    time.Duration // granted by the servers, not the one asked for
	Generation uint64        // +1 with every new session: ephemerals and locks of an earlier one are lost or will be
	Connection uint64        // +1 with every connection: watches of an earlier one are lost, read again
	Server     string        // address of the server, kept while disconnected
	Rewound    uint64        // +1 each time the servers were seen at an earlier zxid than before: they lost state
}

// Session keeps one ZooKeeper session alive over reconnects, and begins a new
// one after expiry. See the package comment for what its calls promise.
type Session struct {
	cfg    Config
	writer chan struct{} // held by the one change that go-zk has in its hands
	reader chan struct{} // held by each read

	mu      sync.Mutex
	conn    *gozk.Conn // nil while there is none
	life    uint64     // counts gozk.Conns
	authed  bool       // this gozk.Conn's credentials are in
	shaken  bool       // this wire has its session
	wire    *wire      // the newest
	wires   uint64
	state   State
	maxZxid int64
	lost    time.Duration // when the session was last connected (or wanted)
	dialErr error
	change  *change // the change in go-zk's hands, or nil
	watches map[watchKey]int
	subs    map[*Subscription]struct{}
}

type watchKey struct {
	op   int32
	path string
}

// change is one request that changes the tree.
type change struct {
	wire    uint64 // the only connection on which it may be sent
	written bool
	givenUp bool
}

// New checks the config and returns a session that Run starts.
func New(cfg Config) (*Session, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Session{
		cfg:     cfg.withDefaults(),
		writer:  make(chan struct{}, 1),
		reader:  make(chan struct{}, maxReads),
		watches: make(map[watchKey]int),
		subs:    make(map[*Subscription]struct{}),
	}, nil
}

// Run keeps the session until ctx ends, then closes it within 1.5 s: its
// ephemerals vanish at once if a server can still be reached, else when the
// servers expire it. It returns ctx's error only.
func (s *Session) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.runConn(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// State is the state now.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// LastZxid is the highest zxid seen in a reply.
func (s *Session) LastZxid() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.maxZxid
}

// WaitConnected blocks until calls can be made, or ctx ends; its error then
// names the servers and the last reason.
func (s *Session) WaitConnected(ctx context.Context) (State, error) {
	sub := s.Subscribe()
	defer sub.Close()
	for {
		if st := s.State(); st.Connected {
			return st, nil
		}
		select {
		case <-sub.Changes():
		case <-ctx.Done():
			return s.State(), fmt.Errorf("zookeeper: no session with %s: %w", strings.Join(s.cfg.Servers, ","), s.why(ctx.Err()))
		}
	}
}

func (s *Session) why(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dialErr != nil {
		return fmt.Errorf("%w (last attempt: %w)", err, s.dialErr)
	}
	return err
}

// runConn lives as long as one go-zk client: until ctx ends or its session is
// known to be useless. An ensemble that lost its state refuses a client that has
// seen later zxids for ever, which only a new client gets out of.
func (s *Session) runConn(ctx context.Context) error {
	closing, stopHosts := context.WithCancel(context.Background())
	defer stopHosts()
	h := newHosts(closing.Done())
	d := &dialer{ctx: closing, tls: s.cfg.TLS, rounds: h.rounds, failed: s.dialFailed}
	life := s.begin()
	d.accept = func(c net.Conn, _ string, until time.Time) net.Conn { return s.newWire(life, c, until) }
	conn, done, err := gozk.Connect(s.cfg.Servers, s.cfg.SessionTimeout,
		gozk.WithDialer(d.dial), gozk.WithHostProvider(h),
		gozk.WithEventCallback(func(ev gozk.Event) { s.event(life, ev) }),
		gozk.WithLogger(printf{s.cfg.Logger.Sugar()}))
	if err != nil {
		return fmt.Errorf("zookeeper: %w", err) // only an empty or malformed server list, which New refuses
	}
	s.attach(life, conn)
	var wg sync.WaitGroup
	defer wg.Wait()
	authCtx, stopAuth := context.WithCancel(ctx)
	defer stopAuth()
	wg.Go(func() { s.authenticate(authCtx, life, conn) })
	s.watchOver(ctx, d)
	stopAuth()
	s.close(life, conn, done, stopHosts)
	return nil
}

// watchOver returns when ctx ends or the client has to be replaced, and says
// every few seconds that there is no session.
func (s *Session) watchOver(ctx context.Context, d *dialer) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	complained := s.cfg.Now()
	var p patience
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := s.cfg.Now()
		away, err := s.away(now)
		if away == 0 {
			complained, p = now, patience{}
			continue
		}
		if now-complained >= complainEvery {
			complained = now
			s.cfg.Logger.Warn("waiting for a ZooKeeper session", zap.Strings(logfield.Server, s.cfg.Servers),
				zap.Duration("for", away.Round(time.Second)), zap.Error(err),
				zap.String(logfield.Remedy, "check that the servers run, have a quorum and can be reached"))
		}
		if s.useless(ctx, &p, d, now, away) {
			s.cfg.Logger.Debug("the session is of no use any more: a new client")
			return
		}
	}
}

// away is for how long there has been no session, zero while there is one.
func (s *Session) away(now time.Duration) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shaken {
		return 0, nil
	}
	return max(now-s.lost, 1), s.dialErr
}

// authenticate hands the credentials to a new go-zk client, which repeats
// them on each later connection before anything else is sent.
func (s *Session) authenticate(ctx context.Context, life uint64, conn *gozk.Conn) {
	for ctx.Err() == nil && s.cfg.User != "" {
		err := conn.AddAuth("digest", []byte(s.cfg.User+":"+s.cfg.Password))
		if err == nil {
			break
		}
		if errors.Is(err, gozk.ErrClosing) {
			return
		}
		select { // the connection broke meanwhile; go-zk makes the next
		case <-ctx.Done():
			return
		case <-time.After(roundPause):
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life == life {
		s.authed = true
		s.update()
	}
}

// close ends a go-zk client within closeLimit. stop makes its dials and
// pauses end; an established connection does not depend on it.
func (s *Session) close(life uint64, conn *gozk.Conn, done <-chan gozk.Event, stop func()) {
	s.detach(life)
	stop()
	go conn.Close() // ends by itself within 3 s, which is too long to wait for
	limit := time.NewTimer(closeLimit)
	defer limit.Stop()
	for {
		select {
		case _, ok := <-done: // closed when go-zk's main goroutine has ended
			if !ok {
				return
			}
		case <-limit.C:
			s.hangUp(0)
			return
		}
	}
}
