package zk

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	gozk "github.com/go-zookeeper/zk"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

func TestConfigValidate(t *testing.T) {
	const form = ": expected host:port, for example 10.0.0.1:2181 or [2001:db8::1]:2181"
	for _, c := range []struct {
		name string
		cfg  Config
		err  string
	}{
		{"good", Config{Servers: []string{"a", "10.0.0.1:1", "[2001:db8::1]:2181"}, User: "u", Password: "p:w"}, ""},
		{"none", Config{}, "zookeeper: no servers: list at least one host:port"},
		{"every wrong one is named", Config{Servers: []string{"a:b", "ok", "2001:db8::1", ":1", "a b"}},
			`zookeeper: server "a:b": port "b" is not 1 to 65535` + form + "\n" +
				`zookeeper: server "2001:db8::1": not host:port` + form + "\n" +
				`zookeeper: server ":1": bad host name` + form + "\n" +
				`zookeeper: server "a b": bad host name` + form},
		{"port 0", Config{Servers: []string{"a:0"}}, `zookeeper: server "a:0": port "0" is not 1 to 65535` + form},
		{"timeout", Config{Servers: []string{"a"}, SessionTimeout: time.Millisecond}, "zookeeper: session timeout 1ms: expected 1s to 10m0s"},
		{"no password", Config{Servers: []string{"a"}, User: "u"},
			"zookeeper: credentials: a user needs a password and a password a user: set both or neither"},
		{"colon", Config{Servers: []string{"a"}, User: "u:v", Password: "p"}, `zookeeper: credentials: user "u:v": expected no colon and no blank`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if err := c.cfg.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(c.err, got); diff != "" {
				t.Error(diff)
			}
			if _, err := New(c.cfg); (err == nil) != (c.err == "") {
				t.Errorf("New: %v", err)
			}
		})
	}
	got := Config{Servers: []string{"a", "::1", "[::1]:5", "b:3"}}.withDefaults().Servers
	if diff := cmp.Diff([]string{"a:2181", "[::1]:5", "b:3"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestACL(t *testing.T) {
	owner := gozk.ACL{Perms: gozk.PermAll, Scheme: "digest", ID: "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="} // of ZooKeeper's own manual
	for _, c := range []struct {
		cfg  Config
		want []gozk.ACL
	}{
		{Config{}, gozk.WorldACL(gozk.PermAll)},
		{Config{WorldRead: true}, gozk.WorldACL(gozk.PermAll)},
		{Config{User: "super", Password: "admin"}, []gozk.ACL{owner}},
		{Config{User: "super", Password: "admin", WorldRead: true}, []gozk.ACL{owner, {Perms: gozk.PermRead, Scheme: "world", ID: "anyone"}}},
	} {
		if diff := cmp.Diff(c.want, c.cfg.acl()); diff != "" {
			t.Error(diff)
		}
	}
}

// A pause comes after each full round, grows a little, and ends with the
// session. Only a connection that lasted makes a new count.
func TestHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closing := make(chan struct{})
		h := newHosts(closing)
		_ = h.Init([]string{"a", "b", "c"})
		round := func() (took time.Duration) {
			t.Helper()
			start, seen := time.Now(), map[string]bool{}
			for range 3 {
				s, retryStart := h.Next()
				if retryStart {
					t.Error("retryStart: go-zk sleeps a second")
				}
				seen[s] = true
			}
			if len(seen) != 3 {
				t.Errorf("a round of %v", seen)
			}
			return time.Since(start)
		}
		var took []time.Duration
		for range 6 {
			took = append(took, round())
		}
		ms := time.Millisecond
		if diff := cmp.Diff([]time.Duration{0, 50 * ms, 100 * ms, 150 * ms, 200 * ms, 200 * ms}, took); diff != "" {
			t.Error(diff)
		}
		if h.rounds() != 5 {
			t.Errorf("%d rounds", h.rounds())
		}
		h.Connected()
		time.Sleep(settled / 2)
		if round() == 0 {
			t.Error("no pause after a connection that did not last")
		}
		h.Connected()
		time.Sleep(2 * settled)
		if round() != 0 {
			t.Error("a pause after a good connection")
		}
		for range longAway - 1 {
			if took := round(); took > maxRoundPause {
				t.Fatalf("a pause of %v", took)
			}
		}
		if took := []time.Duration{round(), round()}; took[0] != maxRoundPause || took[1] != longPause {
			t.Errorf("after %d rounds: pauses %v", longAway, took)
		}
		h.Connected()
		time.Sleep(2 * settled)
		_, _ = round(), round()
		go func() { time.Sleep(10 * ms); close(closing) }()
		start := time.Now()
		if _, retryStart := h.Next(); !retryStart || time.Since(start) > 10*ms {
			t.Error("closing does not end the pause, or go-zk is not told")
		}
	})
}

func TestLimits(t *testing.T) {
	ms := time.Millisecond
	for rounds, want := range []time.Duration{500 * ms, 1000 * ms, 2000 * ms, 2000 * ms} {
		if got := limit(rounds); got != want {
			t.Errorf("after %d rounds: %s, expected %s", rounds, got, want)
		}
	}
	if limit(1000) != maxHandshakeLimit {
		t.Error("the shift overflows")
	}
	for _, c := range []struct{ set, granted, want time.Duration }{
		{0, 6 * time.Second, time.Second}, {0, 40 * time.Second, time.Second}, {0, 3 * time.Second, 500 * ms}, {0, 4800 * ms, 800 * ms},
		{0, time.Second, 500 * ms}, {5 * time.Second, time.Second, 5 * time.Second},
	} {
		if got := (Config{ReplyTimeout: c.set}).replyTimeout(c.granted); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		err          error
		sent, unsent error
	}{
		{gozk.ErrNoNode, ErrNoNode, ErrNoNode},
		{gozk.ErrNodeExists, ErrNodeExists, ErrNodeExists},
		{gozk.ErrBadVersion, ErrBadVersion, ErrBadVersion},
		{gozk.ErrNotEmpty, ErrNotEmpty, ErrNotEmpty},
		{gozk.ErrNoAuth, ErrAuth, ErrAuth},
		{gozk.ErrSessionExpired, ErrExpired, ErrExpired},
		{gozk.ErrInvalidACL, ErrOther, ErrOther},
		{gozk.ErrShortBuffer, ErrOther, ErrOther},
		{gozk.ErrConnectionClosed, ErrUnknown, ErrDisconnected},
		{gozk.ErrSessionMoved, ErrUnknown, ErrDisconnected},
		{gozk.ErrClosing, ErrUnknown, ErrDisconnected},
		{net.ErrClosed, ErrUnknown, ErrDisconnected},
		{fmt.Errorf("unknown error: -7"), ErrUnknown, ErrDisconnected},
		{errNotAdmitted, ErrDisconnected, ErrDisconnected},
	} {
		sent, unsent := newError("set", "/a", c.err, true), newError("set", "/a", c.err, false)
		if !errors.Is(sent, c.sent) || !errors.Is(unsent, c.unsent) || sent.Index != -1 {
			t.Errorf("%v: sent %v, not sent %v", c.err, sent, unsent)
		}
	}
	got := newError("create", "/a", gozk.ErrInvalidACL, true).Error()
	if want := "zookeeper: create /a: request refused (zk: invalid ACL specified)"; got != want {
		t.Error(got)
	}
}

// A lower zxid on a later connection is lost state; an equal one is not.
func TestRewound(t *testing.T) {
	s := &Session{cfg: Config{Logger: zap.NewNop()}}
	for _, c := range []struct {
		wire    uint64
		zxid    int64
		rewound uint64
	}{{1, 10, 0}, {1, 12, 0}, {2, 12, 0}, {3, 4, 1}, {3, 5, 1}, {2, 99, 1}, {4, 3, 2}} {
		if c.wire != 2 || s.wire == nil || s.wire.no < 2 {
			s.wire = &wire{no: c.wire}
		}
		s.replied(c.wire, c.zxid)
		if s.state.Rewound != c.rewound {
			t.Errorf("%+v: rewound %d", c, s.state.Rewound)
		}
	}
}

// A change is sent on its own connection, while its caller waits for it.
func TestAdmit(t *testing.T) {
	s := &Session{}
	if s.admit(1, opCreate) {
		t.Error("a change of nobody was admitted")
	}
	m := s.startChange(2)
	if s.admit(3, opCreate) || m.written {
		t.Error("admitted on a later connection")
	}
	if !s.admit(2, opCreate) || !s.giveUp(m) {
		t.Error("not admitted, or not known to be sent")
	}
	m = s.startChange(2)
	if s.giveUp(m) || s.admit(2, opCreate) {
		t.Error("admitted after its caller had given up")
	}
}

// Nothing is sent before the credentials are in, or to a client that is gone.
func TestConnected(t *testing.T) {
	s := must(New(Config{Servers: []string{"a"}, User: "u", Password: "p"}))(t)
	life := s.begin()
	client, server := net.Pipe()
	defer server.Close()
	defer client.Close()
	w := s.newWire(life, client, time.Now().Add(time.Second)).(*wire)
	w.frame(connectResponse(4000, 9)[4:])
	session := gozk.Event{Type: gozk.EventSession, State: gozk.StateHasSession}
	s.event(life, session)
	s.attach(life, &gozk.Conn{})
	if s.State().Connected {
		t.Error("connected before the credentials are in")
	}
	s.mu.Lock()
	s.authed = true
	s.update()
	s.mu.Unlock()
	want := State{Connected: true, ID: 9, Timeout: 4 * time.Second, Generation: 1, Connection: 1, Server: "pipe"}
	if diff := cmp.Diff(want, s.State()); diff != "" {
		t.Error(diff)
	}
	w.down(net.ErrClosed)
	if s.State().Connected || s.State().ID != 9 {
		t.Errorf("%+v: expected a session without a connection", s.State())
	}
	s.event(life, gozk.Event{Type: gozk.EventSession, State: gozk.StateExpired})
	if s.State().ID != 0 {
		t.Error("an expired session keeps its id")
	}
	s.detach(life)
	s.event(life, session)
	if s.State().Connected {
		t.Error("an event of a client that is gone counts")
	}
}
