package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Ensemble is a real ZooKeeper of one or three servers. Its servers are counted
// from 0, in the order of Servers.
type Ensemble struct {
	options ZooKeeperOptions
	servers []*zkServer
	thread  func(i int) *thread // where server i is started
	dial    func(ctx context.Context, i int, address string) (net.Conn, error)
	close   func()
}

// StartLocalZooKeeper starts n servers on free ports of 127.0.0.1, which needs
// neither root nor namespaces, with data and logs below dir. It returns when
// every server serves. The caller closes the ensemble.
func StartLocalZooKeeper(ctx context.Context, dir string, n int, options ZooKeeperOptions) (*Ensemble, error) {
	var dialer net.Dialer
	here := newThread()
	e := &Ensemble{
		options: options.withDefaults(),
		thread:  func(int) *thread { return here },
		dial: func(ctx context.Context, _ int, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		},
		close: here.close,
	}
	ports, err := freePorts(4 * n)
	if err != nil {
		e.close()
		return nil, fmt.Errorf("start ZooKeeper: %w", err)
	}
	for i := range n {
		e.servers = append(e.servers, &zkServer{
			id: i + 1, dir: filepath.Join(dir, fmt.Sprintf("zk%d", i+1)), address: "127.0.0.1",
			client: ports[4*i], secure: ports[4*i+1], quorumPort: ports[4*i+2], electionPt: ports[4*i+3],
		})
	}
	if err := e.startAll(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// freePorts finds ports that nobody listens on, below those that the kernel
// hands out to outgoing connections (32768 on): a server that is restarted must
// find its port free.
func freePorts(n int) ([]int, error) {
	var ports []int
	var held []net.Listener // all are held until all are found
	defer func() {
		for _, listener := range held {
			listener.Close()
		}
	}()
	for range 1000 {
		port := 12000 + rand.IntN(20000)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		held = append(held, listener)
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("fewer than %d free ports found on 127.0.0.1", n)
}

// startAll configures and starts every server; on failure none is left.
func (e *Ensemble) startAll(ctx context.Context) error {
	err := requireZooKeeper()
	for i, s := range e.servers {
		if err == nil {
			err = s.configure(e.servers, e.options)
		}
		if err == nil {
			err = e.spawn(i)
		}
	}
	if err == nil {
		err = e.WaitReady(ctx)
	}
	if err != nil {
		return fmt.Errorf("start ZooKeeper: %w", errors.Join(err, e.Close()))
	}
	return nil
}

func (e *Ensemble) spawn(i int) error {
	s := e.servers[i]
	argv := s.command(e.options)
	p, err := startProcess(e.thread(i), fmt.Sprintf("ZooKeeper server %d", i), filepath.Join(s.dir, "log"),
		exec.Command(argv[0], argv[1:]...))
	if err != nil {
		return err
	}
	s.process = p
	return nil
}

// Close kills every server and waits for their end. It may be called again.
func (e *Ensemble) Close() error {
	var errs []error
	for i, s := range e.servers {
		if s.process != nil {
			errs = append(errs, e.Kill(i))
		}
	}
	e.close()
	return errors.Join(errs...)
}

// Servers returns the client addresses, "address:port" each.
func (e *Ensemble) Servers() []string {
	return e.addresses(func(s *zkServer) int { return s.client })
}

// SecureServers returns the addresses of the encrypted client ports; they are
// served only where the options ask for TLS.
func (e *Ensemble) SecureServers() []string {
	return e.addresses(func(s *zkServer) int { return s.secure })
}

func (e *Ensemble) addresses(port func(*zkServer) int) []string {
	var all []string
	for _, s := range e.servers {
		all = append(all, net.JoinHostPort(s.address, strconv.Itoa(port(s))))
	}
	return all
}

// Process returns the process of server i, for its log and for signals.
func (e *Ensemble) Process(i int) *Process { return e.servers[i].process }

// Kill ends server i with SIGKILL and waits for its end.
func (e *Ensemble) Kill(i int) error { return e.servers[i].process.Kill() }

// Start starts server i again, with the data it had. Use WaitReady to wait until
// it serves.
func (e *Ensemble) Start(i int) error {
	if e.servers[i].process.Running() {
		return fmt.Errorf("start ZooKeeper server %d: it runs", i)
	}
	return e.spawn(i)
}

// Freeze stops server i (SIGSTOP): its connections stay, nothing is answered.
func (e *Ensemble) Freeze(i int) error { return e.servers[i].process.Freeze() }

// Thaw lets server i go on.
func (e *Ensemble) Thaw(i int) error { return e.servers[i].process.Thaw() }

// askInterval spares the servers: a question costs a connection, and in a
// user-mode Linux that is milliseconds of the one CPU they start on.
const askInterval = 100 * time.Millisecond

// WaitReady waits until every server serves; a server that has ended fails it
// at once, with the end of its log.
func (e *Ensemble) WaitReady(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for i, s := range e.servers {
		group.Go(func() error {
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			return waitEvery(ctx, askInterval, fmt.Sprintf("ZooKeeper server %d serves", i), func() error {
				if !s.process.Running() {
					cancel(fmt.Errorf("%w; its log ends:\n%s", errEnded, tail(s.process.Log(), 20)))
				}
				_, err := e.Mode(ctx, i)
				return err
			})
		})
	}
	return group.Wait()
}

// Mode returns what server i says it is: leader, follower or standalone. A
// server that does not serve (no quorum, frozen, gone) is an error.
func (e *Ensemble) Mode(ctx context.Context, i int) (string, error) {
	answer, err := e.FourLetterWord(ctx, i, "srvr")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(answer) {
		if mode, ok := strings.CutPrefix(strings.TrimSpace(line), "Mode: "); ok {
			return mode, nil
		}
	}
	return "", fmt.Errorf("ZooKeeper server %d does not serve: %q", i, answer)
}

// FourLetterWord sends a command such as srvr, mntr or cons to server i. One
// that does not answer within a second is an error.
func (e *Ensemble) FourLetterWord(ctx context.Context, i int, word string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := e.dial(ctx, i, e.Servers()[i])
	if err != nil {
		return "", fmt.Errorf("ask ZooKeeper server %d for %s: %w", i, word, err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", fmt.Errorf("ask ZooKeeper server %d for %s: %w", i, word, err)
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return "", fmt.Errorf("ask ZooKeeper server %d for %s: %w", i, word, err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		return "", fmt.Errorf("ask ZooKeeper server %d for %s: %w", i, word, err)
	}
	return string(answer), nil
}

// Leader returns the server that leads; the only one of a single-server
// ensemble leads it.
func (e *Ensemble) Leader(ctx context.Context) (int, error) {
	return e.withMode(ctx, "leader", "standalone")
}

// Follower returns a server that follows.
func (e *Ensemble) Follower(ctx context.Context) (int, error) { return e.withMode(ctx, "follower") }

// withMode waits until a server has one of the modes, and returns the first.
func (e *Ensemble) withMode(ctx context.Context, modes ...string) (found int, err error) {
	err = waitEvery(ctx, askInterval, "a ZooKeeper server is "+strings.Join(modes, " or "), func() error {
		var errs []error
		for i := range e.servers {
			mode, err := e.Mode(ctx, i)
			for _, wanted := range modes {
				if mode == wanted {
					found = i
					return nil
				}
			}
			errs = append(errs, err)
		}
		return errors.Join(append(errs, errors.New("none is"))...)
	})
	return found, err
}
