package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/leaktest"
)

// patience is how long a test waits for a condition that must come about; only
// a failing test waits that long.
const patience = 30 * time.Second

// waitUntil returns once condition holds.
func waitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("waited %v in vain: %s", patience, what)
		case <-again.C:
		}
	}
}

// serve accepts on loopback and gives every connection to handle, until the
// test ends: then every connection is closed and every handle waited for.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu     sync.Mutex
		conns  []net.Conn
		closed bool
		group  sync.WaitGroup
	)
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			late := closed
			mu.Unlock()
			if late {
				conn.Close()
			}
			group.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		closed = true
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		group.Wait()
	})
	return l.Addr().String()
}

// answer returns a handler that reads the request and writes text.
func answer(text string) func(net.Conn) {
	return func(conn net.Conn) {
		if readRequest(conn) {
			_, _ = io.WriteString(conn, text)
		}
	}
}

func readRequest(conn net.Conn) bool {
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	return err == nil && strings.HasSuffix(string(buf[:n]), "\r\n\r\n")
}

// hang waits until the other side, or the end of the test, closes conn.
func hang(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// drip writes text one byte each 50 ms, and begins anew.
func drip(text string) func(net.Conn) {
	return func(conn net.Conn) {
		if !readRequest(conn) {
			return
		}
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			if _, err := conn.Write([]byte{text[i%len(text)]}); err != nil {
				return
			}
			<-tick.C
		}
	}
}

// flood writes head and then text for ever.
func flood(head, text string) func(net.Conn) {
	return func(conn net.Conn) {
		if !readRequest(conn) {
			return
		}
		_, err := io.WriteString(conn, head)
		for err == nil {
			_, err = io.WriteString(conn, strings.Repeat(text, 100))
		}
	}
}

const plain200 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// Every misbehavior gets the right verdict. Those that only the timeout can
// end get a short one, and their error must come from it; all others get one
// so long that the test would never end if they ran into it.
func TestHTTPProberAgainstServers(t *testing.T) {
	const short = time.Second // connecting must fit in, also under load
	for _, tt := range []struct {
		name    string
		serve   func(net.Conn)
		timeout time.Duration // 0: none needed
		want    string        // in the error; "" for well
	}{
		{"answers", answer(plain200), 0, ""},
		{"answers with HTTP/1.0 and no length", answer("HTTP/1.0 200 OK\r\n\r\nok"), 0, ""},
		{"answers in chunks", answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), 0, ""},
		{"interim answers first", answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + plain200), 0, ""},
		{"a body without end is enough", flood("HTTP/1.1 200 OK\r\n\r\n", "x"), 0, ""},
		{"a long body in chunks is enough", flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), 0, ""},
		{"wrong status", answer("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), 0, ": status 500, expected 200"},
		{"wrong status, its body does not matter", func(conn net.Conn) {
			answer("HTTP/1.1 503 No\r\nContent-Length: 9999\r\n\r\n")(conn)
			hang(conn)
		}, 0, ": status 503, expected 200"},
		{"redirect is not followed", answer("HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"), 0, ": status 302, expected 200"},
		{"switches protocols", answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), 0, ": status 101, expected 200"},
		{"resets at once", func(conn net.Conn) { reset(conn.(*net.TCPConn)) }, 0, "connection reset by peer"},
		{"resets in place of an answer", func(conn net.Conn) {
			readRequest(conn)
			reset(conn.(*net.TCPConn))
		}, 0, ": waiting for the header: connection reset by peer, expected 200"},
		{"closes without a word", func(conn net.Conn) { readRequest(conn) }, 0, ": waiting for the header: unexpected EOF, expected 200"},
		{"speaks something else", answer("SSH-2.0-OpenSSH_9.2\r\n\r\n"), 0, `malformed HTTP response "SSH-2.0-OpenSSH_9.2", expected 200`},
		{"endless header", flood("HTTP/1.1 200 OK\r\n", "X-Y: z\r\n"), 0, ": waiting for the header: it is longer than 65536 bytes, expected 200"},
		{"endless header line", flood("HTTP/1.1 200 OK\r\nX: ", "z"), 0, "longer than 65536 bytes"},
		{"endless interim answers", flood("", "HTTP/1.1 100 Continue\r\n\r\n"), 0, "longer than 65536 bytes"},
		{"body is cut off", answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok"), 0, ": reading the body: unexpected EOF, expected 200"},
		{"accepts and never answers", hang, short, ": not answered within 1s (waiting for the header), expected 200"},
		{"drips the header", drip("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 1000)), short, "(waiting for the header)"},
		{"drips the body", func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
			drip("x")(conn)
		}, short, "(reading the body)"},
		{"answers too late", func(conn net.Conn) {
			readRequest(conn)
			late := time.NewTimer(short * 3 / 2)
			defer late.Stop()
			<-late.C
			_, _ = io.WriteString(conn, plain200)
		}, short, "(waiting for the header)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaktest.Check(t)
			target := httpTarget(serve(t, tt.serve))
			target.Timeout = patience
			if tt.timeout != 0 {
				target.Timeout = tt.timeout
			}
			assertProbe(t, HTTPProber{}, target, tt.want, tt.timeout != 0)
		})
	}
}

// assertProbe probes once and checks what the error says and whether it came
// from the timeout.
func assertProbe(t *testing.T, p Prober, target Target, want string, timedOut bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), target.Timeout)
	defer cancel()
	err := p.Probe(ctx, target)
	switch {
	case want == "" && err != nil:
		t.Errorf("not well: %v", err)
	case want != "" && err == nil:
		t.Errorf("well, want %q", want)
	case want != "" && (!strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), target.String())):
		t.Errorf("error %q, want %s and %q in it", err, target, want)
	case errors.Is(err, context.DeadlineExceeded) != timedOut:
		t.Errorf("error %v: from the timeout is %v, want %v", err, !timedOut, timedOut)
	}
}

func TestHTTPProberSendsWhatItSays(t *testing.T) {
	leaktest.Check(t)
	got := make(chan string, 1)
	address := serve(t, func(conn net.Conn) {
		buf := make([]byte, 4096)
		n, _ := conn.Read(buf)
		got <- string(buf[:n])
		_, _ = io.WriteString(conn, plain200)
	})
	target := httpTarget(address)
	target.Path, target.Host, target.Timeout = "/health?full=1", "www.example.org", patience
	assertProbe(t, HTTPProber{}, target, "", false)
	want := "GET /health?full=1 HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: zklvs\r\nAccept: */*\r\nConnection: close\r\n\r\n"
	if request := <-got; request != want {
		t.Errorf("request %q, want %q", request, want)
	}
}

// silentAddress is an address on loopback whose server neither accepts nor
// refuses: its queue of connections is full, so that the kernel drops SYNs.
func silentAddress(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(
		unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		unix.Listen(fd, 0),
	); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
}

// closedAddress is one where nobody listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTCPProber(t *testing.T) {
	for _, tt := range []struct {
		name     string
		address  func(*testing.T) string
		timeout  time.Duration
		want     string
		timedOut bool
	}{
		{"answers", func(t *testing.T) string { return serve(t, hang) }, patience, "", false},
		{"closes at once", func(t *testing.T) string { return serve(t, func(net.Conn) {}) }, patience, "", false},
		{"refuses", closedAddress, patience, ": expected a connection: connection refused", false},
		{"drops packets", silentAddress, 200 * time.Millisecond, ": no connection within 200ms", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaktest.Check(t)
			target := tcpTarget(tt.address(t))
			target.Timeout = tt.timeout
			assertProbe(t, TCPProber{}, target, tt.want, tt.timedOut)
		})
	}
}

// The server sees a reset: it keeps no socket in CLOSE_WAIT even if it never
// closes.
func TestTCPProberResets(t *testing.T) {
	leaktest.Check(t)
	got := make(chan error, 1)
	target := tcpTarget(serve(t, func(conn net.Conn) {
		_, err := conn.Read(make([]byte, 1))
		got <- err
	}))
	target.Timeout = patience
	assertProbe(t, TCPProber{}, target, "", false)
	if err := <-got; !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server saw %v, want a reset", err)
	}
}

// A server that hangs sees a reset too, and not a FIN that it may never read.
func TestHTTPProberResetsAServerThatHangs(t *testing.T) {
	leaktest.Check(t)
	got := make(chan error, 1)
	target := httpTarget(serve(t, func(conn net.Conn) {
		readRequest(conn)
		_, err := conn.Read(make([]byte, 1))
		got <- err
	}))
	target.Timeout = 200 * time.Millisecond
	assertProbe(t, HTTPProber{}, target, "not answered within 200ms", true)
	if err := <-got; !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server saw %v, want a reset", err)
	}
}

func TestProbesEndWhenCanceled(t *testing.T) {
	for name, tt := range map[string]struct {
		prober Prober
		target func(*testing.T) Target
	}{
		"tcp":  {TCPProber{}, func(t *testing.T) Target { return tcpTarget(silentAddress(t)) }},
		"http": {HTTPProber{}, func(t *testing.T) Target { return httpTarget(serve(t, hang)) }},
	} {
		t.Run(name, func(t *testing.T) {
			leaktest.Check(t)
			target := tt.target(t)
			ctx, cancel := context.WithCancel(context.Background())
			soon := time.AfterFunc(50*time.Millisecond, cancel)
			defer soon.Stop()
			if err := tt.prober.Probe(ctx, target); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want canceled", err)
			}
		})
	}
}

func TestShortageOfThisHostIsInconclusive(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	target := httpTarget(serve(t, answer(plain200)))
	none := before
	none.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	err := errors.Join(TCPProber{}.Probe(t.Context(), target), HTTPProber{}.Probe(t.Context(), target))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(fmt.Sprint(err), "inconclusive: too many open files"); got != 2 {
		t.Errorf("errors %v, want both inconclusive", err)
	}
}

// The whole of it against servers of every sort at once: each verdict is right,
// and nothing is left when Run returns.
func TestEngineAgainstServers(t *testing.T) {
	leaktest.Check(t)
	e := New(nopLog(), bootNow, Probers("/nonexistent"))
	terms := func(t Target) Target {
		t.Timeout, t.Interval, t.RetryDelay, t.Retries = 200*time.Millisecond, 100*time.Millisecond, 10*time.Millisecond, 1
		return t
	}
	generous := func(t Target) Target {
		t.Timeout, t.Interval, t.RetryDelay = patience, 100*time.Millisecond, 10*time.Millisecond
		return t
	}
	want := map[Target]State{
		generous(httpTarget(serve(t, answer(plain200)))):                                   Up,
		generous(tcpTarget(serve(t, hang))):                                                Up,
		terms(httpTarget(serve(t, hang))):                                                  Down,
		terms(httpTarget(serve(t, drip(plain200)))):                                        Down,
		terms(httpTarget(serve(t, answer("HTTP/1.1 500 x\r\n\r\n")))):                      Down,
		terms(tcpTarget(silentAddress(t))):                                                 Down,
		generous(tcpTarget(closedAddress(t))):                                              Down,
		generous(execTarget("missing")):                                                    Down,
		generous(httpTarget(serve(t, func(conn net.Conn) { reset(conn.(*net.TCPConn)) }))): Down,
	}
	var targets []Target
	for target := range want {
		targets = append(targets, target)
	}
	mustSet(t, e, targets...)
	stop := start(t, e)
	defer stop()
	for target, state := range want {
		waitUntil(t, fmt.Sprintf("%s is %v", target, state), func() bool { return e.Snapshot()[target].State == state })
	}
}
