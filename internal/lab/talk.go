package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Talk is one TCP connection to a web server that stays open from request to
// request: what a fail-over must not end. Its methods are for one goroutine.
type Talk struct {
	conn    net.Conn
	request []byte
	buffer  []byte
}

// OpenTalk connects to a web server from inside the host.
func (h *Host) OpenTalk(ctx context.Context, target netip.AddrPort) (*Talk, error) {
	conn, err := h.Dial(ctx, target.String())
	if err != nil {
		return nil, fmt.Errorf("talk to %s from %s: %w", target, h.name, err)
	}
	return &Talk{
		conn: conn, buffer: make([]byte, 4096),
		request: []byte("GET / HTTP/1.1\r\nHost: " + target.String() + "\r\n\r\n"),
	}, nil
}

// Ask sends a request and waits for the whole answer, TCP's retransmissions
// included; it returns the answer's body, which names who answered (StartNginx).
// After an error the connection is of no use.
func (t *Talk) Ask(timeout time.Duration) (server string, err error) {
	if err := t.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if _, err := t.conn.Write(t.request); err != nil {
		return "", fmt.Errorf("ask: %w", err)
	}
	var data []byte
	for len(data) <= largestAnswer {
		n, err := t.conn.Read(t.buffer)
		data = append(data, t.buffer[:n]...)
		if server, whole, err := readAnswer(data); whole {
			return server, err
		}
		if err != nil {
			return "", fmt.Errorf("read the answer: %w", err)
		}
	}
	return "", errors.New("the answer is too long")
}

// Close ends the connection.
func (t *Talk) Close() error { return t.conn.Close() }
