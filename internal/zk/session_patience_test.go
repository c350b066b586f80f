package zk

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// All servers are killed, and started again long after the session's timeout:
// the session and what it has are there, and nobody was told that it expired.
func TestSessionOutlivesTheEnsemble(t *testing.T) {
	e := sharedEnsemble(t)
	const timeout = 3 * time.Second
	s := run(t, Config{Servers: e.Servers(), SessionTimeout: timeout})
	st := connected(t, s)
	path := scratch(t, s)
	if _, err := s.Create(context.Background(), path+"/mine", nil, Ephemeral); err != nil {
		t.Fatal(err)
	}
	sub := s.Subscribe()
	defer sub.Close()
	heal(t, e, 0, 1, 2)
	down := time.Now()
	for i := range 3 {
		if err := e.Kill(i); err != nil {
			t.Fatal(err)
		}
	}
	same := func() {
		t.Helper()
		if now := s.State(); now.ID != st.ID || now.Generation != st.Generation || now.Rewound != 0 {
			t.Fatalf("after %v the state is %+v, before %+v", time.Since(down), now, st)
		}
	}
	eventually(t, 6*timeout, "more than three session timeouts have passed", func() bool {
		same()
		return time.Since(down) > 3*timeout+time.Second
	})
	for i := range 3 {
		if err := e.Start(i); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 30*time.Second, "the session is back", func() bool {
		same()
		return s.State().Connected
	})
	t.Logf("back %v after the servers were killed", time.Since(down).Round(time.Millisecond))
	writeUntil(t, s, path, 10*time.Second)
	stat, ok, err := s.Exists(context.Background(), path+"/mine")
	if err != nil || !ok || stat.Owner != st.ID {
		t.Errorf("the ephemeral znode: %+v, %v, %v; want that of session %x", stat, ok, err, st.ID)
	}
	same()
}

// grudge is a server that grants new sessions, and hangs up on whoever asks for
// an old one.
type grudge struct {
	net.Listener
	sessions atomic.Int64
	refused  atomic.Int64
	zxid     int64
	hangUp   chan struct{} // closed: connections end
}

func (g *grudge) serve() {
	for {
		c, err := g.Accept()
		if err != nil {
			return
		}
		go g.talk(c)
	}
}

func (g *grudge) talk(c net.Conn) {
	defer c.Close()
	ask, err := readPacket(c)
	if err != nil || len(ask) < 28 {
		return
	}
	if binary.BigEndian.Uint64(ask[16:]) != 0 { // protocol, zxid, timeout, session
		g.refused.Add(1)
		return
	}
	granted := make([]byte, 36)
	binary.BigEndian.PutUint32(granted[4:], 1000)
	binary.BigEndian.PutUint64(granted[8:], uint64(g.sessions.Add(1)))
	binary.BigEndian.PutUint32(granted[16:], 16)
	sendPacket(c, granted)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-g.hangUp:
			c.Close()
		case <-ended:
		}
	}()
	for {
		request, err := readPacket(c)
		if err != nil || len(request) < 8 {
			return
		}
		reply := append([]byte(nil), request[:4]...)
		reply = binary.BigEndian.AppendUint64(reply, uint64(g.zxid))
		sendPacket(c, append(reply, 0, 0, 0, 0))
	}
}

func readPacket(c net.Conn) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return nil, err
	}
	p := make([]byte, binary.BigEndian.Uint32(n[:]))
	_, err := io.ReadFull(c, p)
	return p, err
}

func sendPacket(c net.Conn, p []byte) {
	_, _ = c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...))
}

// A session that is refused for longer than it could live, by servers that serve
// others all the time, is given up; not before, and never while nobody serves.
func TestSessionThatIsRefusedWhileOthersAreServed(t *testing.T) {
	t.Parallel()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	g := &grudge{Listener: l, zxid: 1 << 40, hangUp: make(chan struct{})}
	t.Cleanup(func() { l.Close() })
	go g.serve()
	s := run(t, Config{Servers: []string{l.Addr().String()}, SessionTimeout: time.Second})
	st := connected(t, s)
	lost := time.Now()
	close(g.hangUp)
	eventually(t, 10*time.Second, "a new session", func() bool { return s.State().Generation > st.Generation })
	if took := time.Since(lost); took < 2*time.Second || g.refused.Load() < 5 {
		t.Errorf("given up after %v and %d refusals, want twice the session timeout of 1s at least", took, g.refused.Load())
	}
}
