package promise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/leaktest"
)

func TestQuestionsAndAnswers(t *testing.T) {
	for _, tt := range []struct{ name, listen, via, listening string }{
		{"IPv4", "127.0.0.1:0", "127.0.0.1", "127.0.0.1:"},
		{"IPv6", "[::1]:0", "::1", "[::1]:"},
		{"all addresses, over IPv4", ":0", "127.0.0.1", "[::]:"},
		{"all addresses, over IPv6", ":0", "::1", "[::]:"},
		{"all of IPv4", "0.0.0.0:0", "127.0.0.1", "0.0.0.0:"},
		{"all of IPv6", "[::]:0", "::1", "[::]:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaktest.Check(t)
			listen := func(c *Config) { c.Listen = tt.listen }
			a, b, c := start(t, "node01", listen), start(t, "node02", listen), start(t, "node03", listen)
			no := election.Answer{Reason: "an acquisition by this director is under way"}
			c.says(no)
			at := func(d *director) election.Voter {
				return reachedAt(d, netip.AddrPortFrom(netip.MustParseAddr(tt.via), d.at().Port()))
			}
			a.ask(t, at(b), 1)
			a.ask(t, at(c), 2)
			a.ask(t, at(b), 3)
			expect(t, "b was asked", []election.Question{question(1), question(3)}, b.wasAsked())
			expect(t, "c was asked", []election.Question{question(2)}, c.wasAsked())
			expect(t, "a was told", []told{
				{at(b), question(1), election.Answer{Promised: true}}, {at(c), question(2), no}, {at(b), question(3), election.Answer{Promised: true}},
			}, a.wasTold())
			st := a.Status()
			expect(t, "listening", true, strings.HasPrefix(st.Listening, tt.listening))
			expect(t, "counts of the asker", AskerCounts{Sent: 3, SentAgain: 2, Answered: 3, Promised: 2, Refused: 1}, st.Asker)
			expect(t, "dropped", map[string]uint64(nil), st.Dropped)
			waitUntil(t, "counts of the voter", func() bool {
				return b.Status().Voter == VoterCounts{Answered: 2, Promised: 2, LifeTold: 1}
			})
		})
	}
}

// The longest names that are legal go through, and so does the longest reason.
func TestLongestNames(t *testing.T) {
	a := start(t, longNode, func(c *Config) { c.Self.MachineID = "m" })
	b := start(t, strings.Repeat("b", maxNode), func(c *Config) { c.Self.MachineID = strings.Repeat("m", maxMachineID) })
	b.says(election.Answer{Reason: strings.Repeat("r", 1000)})
	q := election.Question{Group: longGroup, Lock: strings.Repeat("l", maxLock), Epoch: 1, Lease: election.MaxLease, Number: 1}
	a.Ask(election.AskVoter{To: b.asVoter(), Question: q})
	waitUntil(t, "an answer", func() bool { return len(a.wasTold()) == 1 })
	expect(t, "told", []told{{b.asVoter(), q, election.Answer{Reason: strings.Repeat("r", maxReason)}}}, a.wasTold())
	expect(t, "asked", []election.Question{q}, b.wasAsked())
}

func TestNewRefuses(t *testing.T) {
	good := newDirector(t, "node01").cfg
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no cluster", func(c *Config) { c.Cluster = "" }, "missing"},
		{"no logger", func(c *Config) { c.Logger = nil }, "missing"},
		{"no clock", func(c *Config) { c.Now = nil }, "missing"},
		{"no Asked", func(c *Config) { c.Asked = nil }, "missing"},
		{"no Answered", func(c *Config) { c.Answered = nil }, "missing"},
		{"no node", func(c *Config) { c.Self.Node = "" }, "node"},
		{"long node", func(c *Config) { c.Self.Node = longNode + "n" }, "node"},
		{"no machine-id", func(c *Config) { c.Self.MachineID = "" }, "machine-id"},
		{"no port", func(c *Config) { c.Listen = "127.0.0.1" }, "expected host:port"},
		{"name as host", func(c *Config) { c.Listen = "node01:7390" }, "expected an IP address"},
		{"port too high", func(c *Config) { c.Listen = ":65536" }, "expected a number up to 65535"},
		{"name as port", func(c *Config) { c.Listen = ":http" }, "expected a number up to 65535"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, expected an error with %q", err, tt.want)
			}
		})
	}
}

func TestAddressInUse(t *testing.T) {
	leaktest.Check(t)
	a := start(t, "node01")
	b := newDirector(t, "node02", func(c *Config) { c.Listen = a.at().String() })
	err := b.Run(context.Background())
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(fmt.Sprint(err), "another program has this port") {
		t.Errorf("got %v, expected address in use, with the remedy", err)
	}
	c := newDirector(t, "node03", func(c *Config) { c.Listen = "192.0.2.1:7390" })
	if err := c.Run(context.Background()); !errors.Is(err, syscall.EADDRNOTAVAIL) || !strings.Contains(fmt.Sprint(err), "no interface has this address") {
		t.Errorf("got %v, expected address not available, with the remedy", err)
	}
}

func TestRunTwiceAndAgain(t *testing.T) {
	leaktest.Check(t)
	a, b := start(t, "node01"), start(t, "node02")
	if err := a.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "already running") {
		t.Errorf("a second Run returned %v", err)
	}
	a.ask(t, b.asVoter(), 1)
	a.stop()
	expect(t, "listening", "", a.Status().Listening)
	a.run(t, func(run func()) { go run() })
	a.ask(t, b.asVoter(), 2)
	expect(t, "b was asked", []uint64{1, 2}, b.numbers())
}

func TestRunEndsWithADeadlineToo(t *testing.T) {
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	if err := newDirector(t, "node01").Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// Nothing is sent without a key, and nothing that comes is heeded.
func TestWithoutAKey(t *testing.T) {
	for name, key := range map[string][]byte{"none": nil, "empty": {}, "short": testKey[:31], "long": append([]byte{1}, testKey...)} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zap.ErrorLevel)
			a, b := start(t, "node01"), start(t, "node02", func(c *Config) { c.Logger = zap.New(core) })
			a.ask(t, b.asVoter(), 1)
			b.SetKey(key)
			if b.Status().Key {
				t.Error("there is a key")
			}
			expect(t, "logged", key != nil, logs.Len() == 1)
			a.Ask(election.AskVoter{To: b.asVoter(), Question: question(2)})
			waitUntil(t, "a question dropped", func() bool { return b.dropped(dropNoKey) == 1 })
			b.Ask(election.AskVoter{To: a.asVoter(), Question: question(1)})
			expect(t, "own question dropped", uint64(2), b.dropped(dropNoKey))
			b.SetKey(testKey)
			a.ask(t, b.asVoter(), 3)
			expect(t, "b was asked", []uint64{1, 3}, b.numbers())
			expect(t, "a was asked", []uint64(nil), a.numbers())
		})
	}
}

// The key is the caller's: what becomes of his slice does not matter.
func TestKeyIsCopied(t *testing.T) {
	a, b := start(t, "node01"), start(t, "node02")
	key := make([]byte, KeySize)
	copy(key, testKey)
	b.SetKey(key)
	clear(key)
	a.ask(t, b.asVoter(), 1)
}

func TestAskDrops(t *testing.T) {
	b := start(t, "node02")
	a := start(t, "node01")
	idle := newDirector(t, "node03")
	to := func(address string) election.AskVoter {
		return election.AskVoter{To: election.Voter{Node: "node02", MachineID: "m", Address: address}, Question: question(1)}
	}
	for _, tt := range []struct {
		name string
		from *director
		ask  election.AskVoter
		why  drop
	}{
		{"not running", idle, to(b.at().String()), dropNotRunning},
		{"no address", a, to(""), dropAddress},
		{"a name", a, to("localhost:7390"), dropAddress},
		{"no port", a, to("127.0.0.1"), dropAddress},
		{"port 0", a, to("127.0.0.1:0"), dropAddress},
		{"IPv6 from an IPv4 socket", a, to("[::1]:7390"), dropNotSent},
		{"no such zone", start(t, "node04", func(c *Config) { c.Listen = "[::1]:0" }), to("[fe80::1%none0]:7390"), dropNotSent},
		{"no lock", start(t, "node05"), election.AskVoter{To: b.asVoter(), Question: election.Question{Group: "g", Lease: 1, Number: 1}}, dropNotAMessage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.from.dropped(tt.why)
			tt.from.Ask(tt.ask)
			expect(t, "dropped", before+1, tt.from.dropped(tt.why))
			expect(t, "sent", uint64(0), tt.from.Status().Asker.Sent)
			expect(t, "open", 0, len(tt.from.asker.open))
		})
	}
}

// A number that does not grow could let an answer be told to the wrong question.
func TestNumbersMustGrow(t *testing.T) {
	a, b := start(t, "node01"), start(t, "node02")
	a.ask(t, b.asVoter(), 5)
	for _, n := range []uint64{5, 4, 0} {
		a.Ask(election.AskVoter{To: b.asVoter(), Question: question(n)})
	}
	expect(t, "dropped", uint64(3), a.dropped(dropNumber))
	a.ask(t, b.asVoter(), 6)
	expect(t, "b was asked", []uint64{5, 6}, b.numbers())
}

// Asked is slow: questions wait in order, as many as there is room for, and the
// answers to own questions are not held up.
func TestSlowAnswers(t *testing.T) {
	leaktest.Check(t)
	a, b := start(t, "node01"), start(t, "node02")
	a.ask(t, b.asVoter(), 1)
	release := b.hangs()
	defer release()
	number := uint64(1)
	ask := func(to election.Voter) {
		number++
		a.Ask(election.AskVoter{To: to, Question: question(number)})
	}
	nobody := b.asVoter()
	nobody.Node = "nobody"
	ask(b.asVoter())
	waitUntil(t, "Asked is called", func() bool { return len(b.wasAsked()) == 2 })
	want := b.numbers()
	for n := range uint64(queueLength + 10) {
		ask(b.asVoter())
		if n < queueLength {
			want = append(want, number)
		}
		ask(nobody) // so that the kernel's buffer loses nothing
		waitUntil(t, "it is looked at", func() bool { return b.dropped(dropOtherVoter) == n+1 })
	}
	expect(t, "dropped", uint64(10), b.dropped(dropBusy))
	b.ask(t, a.asVoter(), 1)
	release()
	waitUntil(t, "the queue is worked off", func() bool { return len(b.wasAsked()) == len(want) })
	expect(t, "b was asked", want, b.numbers())
	a.askOften(t, b.asVoter(), number+1)
}

// A director that is told to stop while its election answers waits for it.
func TestStopWaitsForCallbacks(t *testing.T) {
	leaktest.Check(t)
	a, b := start(t, "node01"), start(t, "node02")
	release, at := b.hangs(), b.at().String()
	defer release()
	a.Ask(election.AskVoter{To: b.asVoter(), Question: question(1)})
	waitUntil(t, "Asked is called", func() bool { return len(b.wasAsked()) == 1 })
	stopped := make(chan struct{})
	go func() {
		b.stop()
		close(stopped)
	}()
	waitUntil(t, "the socket is closed", func() bool {
		c, err := net.ListenPacket("udp4", at)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	select {
	case <-stopped:
		t.Error("Run returned while Asked was under way")
	default:
	}
	release()
	<-stopped
}

// Everything may be called at any time; for the race detector.
func TestConcurrentUse(t *testing.T) {
	leaktest.Check(t)
	a, b := start(t, "node01"), start(t, "node02")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for n := range uint64(200) {
				a.Ask(election.AskVoter{To: b.asVoter(), Question: question(n + 1)})
				b.Ask(election.AskVoter{To: a.asVoter(), Question: question(n + 1)})
				a.SetKey(testKey)
				a.Status()
			}
		})
	}
	group.Wait()
	a.askOften(t, b.asVoter(), 1000)
}
