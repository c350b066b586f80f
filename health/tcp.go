package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// TCPProber makes a connection and drops it.
//
// It drops it with a reset (SO_LINGER 0), not with a FIN: a server that accepts
// and never closes would otherwise collect sockets in CLOSE_WAIT, and this host
// would keep one TIME_WAIT entry for a minute for each check. Servers see the
// connection vanish before a byte came, as from a port scan.
type TCPProber struct{}

// Probe implements [Prober].
func (TCPProber) Probe(ctx context.Context, t Target) error {
	conn, err := connect(ctx, t)
	if err != nil {
		return err
	}
	return reset(conn)
}

// connect makes the connection that t asks for. Keep-alive probes are off: no
// connection lives long enough, and setting them up costs system calls.
func connect(ctx context.Context, t Target) (*net.TCPConn, error) {
	dialer := net.Dialer{KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp", t.Address.String())
	if err == nil {
		return conn.(*net.TCPConn), nil
	}
	if ended := over(ctx, err); ended != nil {
		return nil, fmt.Errorf("%s: no connection within %s: %w", t, t.Timeout, ended)
	}
	return nil, fmt.Errorf("%s: expected a connection: %w", t, local(cause(err)))
}

// over returns why the time for a probe is over, nil if it is not. The dialer
// keeps ctx's deadline with a timer of its own, which can be the first to ring.
func over(ctx context.Context, err error) error {
	if ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// reset closes conn at once and without TIME_WAIT.
func reset(conn *net.TCPConn) error {
	return errors.Join(conn.SetLinger(0), conn.Close())
}

// cause strips what net wraps around an errno: the target's own text already
// says what was done to which address.
func cause(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// local marks the errors that come from a shortage on this host. ENOBUFS is not
// among them: it is also what sending on a link without carrier returns.
func local(err error) error {
	for _, shortage := range []unix.Errno{
		unix.EMFILE, unix.ENFILE, unix.ENOMEM,
		unix.EADDRNOTAVAIL, // no local port is left
	} {
		if errors.Is(err, shortage) {
			return fmt.Errorf("%w: %w", ErrInconclusive, err)
		}
	}
	return err
}

// deadliner is a connection or file whose waiting calls can be broken off.
type deadliner interface{ SetDeadline(time.Time) error }

// breakOff makes every call that waits on c fail once ctx ends, whether by its
// deadline or by cancellation. The function returned undoes the binding; after
// it, no goroutine of it is left.
func breakOff(ctx context.Context, c deadliner) func() {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = c.SetDeadline(time.Unix(1, 0)) // fails only on what is closed
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// socketFile hands a non-blocking socket to the runtime's poller. It owns fd.
func socketFile(fd int, name string) *os.File { return os.NewFile(uintptr(fd), name) }
