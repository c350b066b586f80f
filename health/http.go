package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
)

// Bounds of what is read of one answer.
const (
	maxHeader = 64 << 10
	maxBody   = 64 << 10
)

// userAgent is what servers find in their access logs.
const userAgent = "zklvs"

// HTTPProber sends one HTTP/1.1 GET on a connection of its own and looks at the
// status.
//
// The status is the server's own: no redirect is followed and no proxy asked.
// After an expected status the body is read to its end or to 64 KiB, and must
// get there in time: a server that stops in the middle of an answer is not
// well. It uses net/http's codec and not its client, which keeps goroutines
// that end only after the call has returned.
type HTTPProber struct{}

// Probe implements [Prober].
func (HTTPProber) Probe(ctx context.Context, t Target) error {
	conn, err := connect(ctx, t)
	if err != nil {
		return err
	}
	release := breakOff(ctx, conn)
	doing, err := exchange(conn, t)
	release()
	if err != nil {
		// A server that hangs shall not keep the socket, see TCPProber.
		_ = reset(conn)
		return explain(ctx, t, doing, err)
	}
	_ = conn.Close() // the answer is in; nothing is left to fail
	return nil
}

// statusError is an answer that is not the one wanted.
type statusError struct {
	got  int
	want StatusSet
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d, expected %s", e.got, e.want) }

func explain(ctx context.Context, t Target, doing string, err error) error {
	var status *statusError
	switch {
	case errors.As(err, &status):
		return fmt.Errorf("%s: %w", t, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: not answered within %s (%s), expected %s: %w", t, t.Timeout, doing, t.Status, ctx.Err())
	}
	return fmt.Errorf("%s: %s: %w, expected %s", t, doing, cause(err), t.Status)
}

// exchange sends the request and reads the answer. With an error it returns
// what it was doing.
func exchange(conn net.Conn, t Target) (doing string, err error) {
	if _, err := conn.Write(request(t)); err != nil {
		return "sending the request", err
	}
	bounded := &io.LimitedReader{R: conn, N: maxHeader}
	response, err := readHeader(bounded)
	if err != nil {
		return "waiting for the header", err
	}
	defer response.Body.Close() // reads no more than is buffered: bounded is used up or at its end
	if !t.Status.Contains(response.StatusCode) {
		bounded.N = 0
		return "", &statusError{got: response.StatusCode, want: t.Status}
	}
	bounded.N = maxBody
	if _, err := io.Copy(io.Discard, response.Body); err != nil && bounded.N > 0 {
		return "reading the body", err
	}
	return "", nil
}

// readHeader reads the header of the final answer, passing over interim ones
// (RFC 9110 section 15.2).
func readHeader(bounded *io.LimitedReader) (*http.Response, error) {
	reader := bufio.NewReader(bounded)
	for {
		response, err := http.ReadResponse(reader, nil)
		switch {
		case err != nil && bounded.N <= 0:
			return nil, fmt.Errorf("it is longer than %d bytes", maxHeader)
		case err != nil:
			return nil, err
		case response.StatusCode/100 != 1 || response.StatusCode == http.StatusSwitchingProtocols:
			return response, nil
		}
		_ = response.Body.Close() // an interim answer has none
	}
}

// request returns the bytes of the GET. Target.Validate has made sure that path
// and host cannot end their line.
func request(t Target) []byte {
	host := t.Host
	if host == "" {
		host = defaultHost(t.Address)
	}
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept: */*\r\nConnection: close\r\n\r\n",
		t.Path, host, userAgent)
}

// defaultHost leaves out the port that http has by default (RFC 9110 section
// 4.2.1) and the zone, which is of this host only (RFC 6874 section 1).
func defaultHost(address netip.AddrPort) string {
	bare := netip.AddrPortFrom(address.Addr().WithZone(""), address.Port())
	if bare.Port() != 80 {
		return bare.String()
	}
	if bare.Addr().Is4() {
		return bare.Addr().String()
	}
	return "[" + bare.Addr().String() + "]"
}
