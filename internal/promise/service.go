package promise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/logfield"
)

// queueLength bounds the questions, and the answers, that wait for a callback.
const queueLength = 256

// Config is what a Service is made with. Everything is required.
type Config struct {
	// Cluster is the cluster's name; a Service hears nothing of another one's.
	Cluster string
	// Self is this director as others ask it. Its address is of no use here.
	Self election.Voter
	// Listen is where to hear questions and from where to ask, host:port. The host
	// is an IP address, or empty for all addresses of both families. Port 0 lets
	// the kernel choose.
	Listen string
	// Asked answers a question of another director. It is called from one
	// goroutine, in the order in which questions came, and may take some
	// milliseconds; questions that come faster than it answers are dropped. Run
	// does not return before it does: it must not wait for what ends after Run.
	Asked func(election.Question) election.Answer
	// Answered is called with each answer to an own question, from one goroutine,
	// another one than Asked's. The same holds for the time that it takes.
	Answered func(from election.Voter, q election.Question, a election.Answer)
	// Now returns the time on CLOCK_BOOTTIME.
	Now    func() time.Duration
	Logger *zap.Logger
}

// Service asks voters and answers others' questions. Its methods are safe for
// concurrent use.
type Service struct {
	cfg Config
	log *zap.Logger

	sealer  atomic.Pointer[sealer] // nil without a key
	socket  atomic.Pointer[socket] // nil while not running
	running atomic.Bool

	asker asker
	voter voter
	count counters
}

// New returns a Service that has no key and does not run yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("carry promises: %w", err)
	}
	return &Service{cfg: cfg, log: cfg.Logger, asker: newAsker(), voter: newVoter()}, nil
}

func (c Config) validate() error {
	if c.Cluster == "" || c.Asked == nil || c.Answered == nil || c.Now == nil || c.Logger == nil {
		return errors.New("one of Cluster, Asked, Answered, Now, Logger is missing")
	}
	if err := checkIdentity(identify(c.Self)); err != nil {
		return fmt.Errorf("this director: %w", err)
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen %q: expected host:port, the host an IP address or empty: %w", c.Listen, err)
	}
	if _, err := network(host); err != nil {
		return fmt.Errorf("listen %q: host: %w", c.Listen, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("listen %q: port: expected a number up to 65535", c.Listen)
	}
	return nil
}

// SetKey sets the cluster's key, KeySize bytes, for what is sent and heard from
// now on. Without a key nothing is sent and everything that comes is dropped; so
// it is with a key of another length, which is logged.
func (s *Service) SetKey(key []byte) {
	if key == nil {
		s.sealer.Store(nil)
		return
	}
	if len(key) != KeySize {
		s.log.Error("the key for promises is unusable: no group can be held without ZooKeeper",
			zap.String(logfield.Reason, fmt.Sprintf("it has %d bytes, expected %d", len(key), KeySize)))
		s.sealer.Store(nil)
		return
	}
	s.sealer.Store(newSealer(key, s.cfg.Cluster))
}

// Run opens the socket and serves until ctx ends; then it closes the socket and
// returns ctx's error. It returns another error when the socket cannot be opened
// or fails. It may be called again after it has returned.
func (s *Service) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("carry promises: already running")
	}
	defer s.running.Store(false)
	sock, err := openSocket(ctx, s.cfg.Listen)
	if ctx.Err() != nil && err != nil {
		return ctx.Err()
	}
	if err != nil {
		return explain(s.cfg.Listen, err)
	}
	defer sock.close()
	s.socket.Store(sock)
	defer s.socket.Store(nil)
	s.log.Info("listening for questions of holders", zap.String(logfield.To, sock.address()))

	group, ctx := errgroup.WithContext(ctx)
	in := inbox{questions: make(chan heard, queueLength), answers: make(chan answered, queueLength)}
	group.Go(func() error { return s.receive(ctx, sock, in) })
	group.Go(func() error { return each(ctx, in.questions, s.answer) })
	group.Go(func() error { return each(ctx, in.answers, s.deliver) })
	group.Go(func() error {
		<-ctx.Done()
		sock.close()
		return ctx.Err()
	})
	return group.Wait()
}

// inbox is what has come and waits for a callback.
type inbox struct {
	questions chan heard
	answers   chan answered
}

// each works on what comes over a channel until ctx ends.
func each[T any](ctx context.Context, from <-chan T, work func(T)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case one := <-from:
			work(one)
		}
	}
}

// receive hears datagrams until the socket is closed.
func (s *Service) receive(ctx context.Context, sock *socket, in inbox) error {
	b := make([]byte, maxDatagram+1) // a longer datagram shows
	control := make([]byte, 128)
	for {
		n, from, err := sock.receive(b, control)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("receive questions on UDP %s: %w", sock.address(), err)
		}
		s.received(b[:n], from, in)
	}
}

// received checks a datagram and hands it on. Until the HMAC is found right
// nothing is kept or said because of it.
func (s *Service) received(b []byte, from path, in inbox) {
	remote := zap.Stringer(logfield.From, from.remote)
	key := s.sealer.Load()
	switch {
	case key == nil:
		s.drop(dropNoKey, remote)
		return
	case len(b) < minDatagram || len(b) > maxDatagram:
		s.drop(dropLength, remote)
		return
	case b[0] != version: // before the HMAC, which may differ too
		s.drop(dropVersion, remote)
		return
	}
	body := key.open(b)
	if body == nil {
		s.drop(dropForged, remote)
		return
	}
	m, err := decode(body)
	if err != nil {
		s.drop(dropMalformed, remote, zap.Error(err))
		return
	}
	switch m.kind {
	case kindQuestion:
		s.asked(m, from, in.questions)
	case kindAnswer:
		s.answered(m, from, in.answers)
	case kindLife:
		s.lifeTold(m, from)
	}
}

// send seals and sends a message, at once or not at all.
func (s *Service) send(m *message, to path) bool {
	key, sock := s.sealer.Load(), s.socket.Load()
	remote := zap.Stringer(logfield.To, to.remote)
	switch {
	case key == nil:
		s.drop(dropNoKey, remote)
		return false
	case sock == nil:
		s.drop(dropNotRunning, remote)
		return false
	}
	b, err := m.encode()
	if err != nil {
		s.drop(dropNotAMessage, remote, zap.Error(err))
		return false
	}
	if err := sock.send(key.seal(b), to); err != nil {
		s.drop(dropNotSent, remote, zap.Error(err))
		return false
	}
	return true
}
