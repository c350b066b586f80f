package zk

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// handshakeLimit bounds dialing and shaking hands with one server: a frozen
	// one costs this much and not the session.
	handshakeLimit = 500 * time.Millisecond
	// maxHandshakeLimit is reached by doubling after fruitless rounds, so that
	// an ensemble that is merely slow is not refused for ever.
	maxHandshakeLimit = 2 * time.Second
)

// dialer makes the connections of one go-zk client. It resolves names at each
// dial, and falls back on the address that worked last when the resolver does
// not answer.
type dialer struct {
	ctx    context.Context // ends with the client
	tls    *tls.Config
	rounds func() int
	accept func(c net.Conn, server string, until time.Time) net.Conn
	failed func(server string, err error)

	mu   sync.Mutex
	last map[string]string // server name -> the address that worked last
}

// limit is the time for one server after so many fruitless rounds.
func limit(rounds int) time.Duration {
	return min(handshakeLimit<<min(rounds, 4), maxHandshakeLimit)
}

// dial is go-zk's Dialer. Its own timeout argument is ignored.
func (d *dialer) dial(network, server string, _ time.Duration) (net.Conn, error) {
	patience := limit(d.rounds())
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	c, err := d.connect(ctx, network, server)
	if err != nil {
		d.failed(server, err)
		return nil, err
	}
	return d.accept(c, server, time.Now().Add(patience)), nil
}

func (d *dialer) connect(ctx context.Context, network, server string) (net.Conn, error) {
	c, err := d.resolve(ctx, network, server)
	if err != nil || d.tls == nil {
		return c, err
	}
	t := tls.Client(c, d.tlsFor(server))
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("tls handshake with %s: %w", server, err)
	}
	return t, nil
}

func (d *dialer) resolve(ctx context.Context, network, server string) (net.Conn, error) {
	var nd net.Dialer
	c, err := nd.DialContext(ctx, network, server)
	var dns *net.DNSError
	if errors.As(err, &dns) {
		if addr, ok := d.known(server); ok && d.ctx.Err() == nil {
			late, cancel := context.WithTimeout(d.ctx, handshakeLimit)
			defer cancel()
			c, err = nd.DialContext(late, network, addr)
		}
	}
	if err != nil {
		return nil, err
	}
	d.remember(server, c.RemoteAddr().String())
	return c, nil
}

func (d *dialer) known(server string) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	addr, ok := d.last[server]
	return addr, ok
}

func (d *dialer) remember(server, addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		d.last = make(map[string]string)
	}
	d.last[server] = addr
}

// tlsFor checks the certificate against the server's own name where the
// config names none.
func (d *dialer) tlsFor(server string) *tls.Config {
	c := d.tls.Clone()
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(server)
	}
	return c
}
