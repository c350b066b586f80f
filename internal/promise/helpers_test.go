package promise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/boottime"
)

var testKey = bytes.Repeat([]byte{7}, KeySize)

const patience = 10 * time.Second

// waitUntil waits for a condition and fails with what it was.
func waitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline, again := time.NewTimer(patience), time.NewTicker(time.Millisecond)
	defer deadline.Stop()
	defer again.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("waited %v in vain: %s", patience, what)
		case <-again.C:
		}
	}
}

// director is a Service with the callbacks of an election that notes what it
// was asked and told.
type director struct {
	*Service
	stop func()

	mu    sync.Mutex
	say   election.Answer
	hold  chan struct{} // Asked waits until it is closed, if not nil
	asked []election.Question
	told  []told
	clock atomic.Int64 // added to CLOCK_BOOTTIME
}

type told struct {
	From     election.Voter
	Question election.Question
	Answer   election.Answer
}

func voterNamed(node string) election.Voter {
	return election.Voter{Node: node, MachineID: "machine-of-" + node}
}

func newDirector(t testing.TB, node string, change ...func(*Config)) *director {
	t.Helper()
	d := &director{say: election.Answer{Promised: true}}
	cfg := Config{
		Cluster: "web", Self: voterNamed(node), Listen: "127.0.0.1:0", Asked: d.onAsked, Answered: d.onAnswered, Logger: zap.NewNop(),
		Now: func() time.Duration { return boottime.Now() + time.Duration(d.clock.Load()) },
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.Service = s
	d.SetKey(testKey)
	return d
}

// start makes a director that runs until the test ends or stop is called.
func start(t testing.TB, node string, change ...func(*Config)) *director {
	t.Helper()
	d := newDirector(t, node, change...)
	d.run(t, func(run func()) { go run() })
	return d
}

// run runs the service; spawn decides in which goroutine.
func (d *director) run(t testing.TB, spawn func(func())) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	spawn(func() { ended <- d.Run(ctx) })
	waitUntil(t, "listening", func() bool {
		if len(ended) > 0 {
			t.Fatal(<-ended)
		}
		return d.socket.Load() != nil
	})
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, expected its context's error", err)
		}
	})
	t.Cleanup(d.stop)
}

func (d *director) onAsked(q election.Question) election.Answer {
	d.mu.Lock()
	d.asked = append(d.asked, q)
	say, hold := d.say, d.hold
	d.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return say
}

// says sets what the director answers from now on.
func (d *director) says(a election.Answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.say = a
}

// hangs makes Asked wait until the function that it returns is called.
func (d *director) hangs() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hold := make(chan struct{})
	d.hold = hold
	return sync.OnceFunc(func() { close(hold) })
}

func (d *director) onAnswered(from election.Voter, q election.Question, a election.Answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, told{from, q, a})
}

func (d *director) wasAsked() []election.Question {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

func (d *director) wasTold() []told {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.told)
}

// numbers are those of the questions that the director was asked.
func (d *director) numbers() []uint64 {
	var n []uint64
	for _, q := range d.wasAsked() {
		n = append(n, q.Number)
	}
	return n
}

// answers are the numbers of the questions whose answers the director was told.
func (d *director) answers() []uint64 {
	var n []uint64
	for _, a := range d.wasTold() {
		n = append(n, a.Question.Number)
	}
	return n
}

func (d *director) dropped(why drop) uint64 { return d.count.dropped[why].Load() }

// at is where the director listens, as it can be reached.
func (d *director) at() netip.AddrPort {
	a := netip.MustParseAddrPort(d.socket.Load().address())
	if a.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.Port())
	}
	return a
}

// voter is the director as others ask it.
func (d *director) asVoter() election.Voter { return reachedAt(d, d.at()) }

// reachedAt is the director as others ask it through an address.
func reachedAt(d *director, a netip.AddrPort) election.Voter {
	v := d.cfg.Self
	v.Address = a.String()
	return v
}

func question(number uint64) election.Question {
	return election.Question{
		Group: "web", Lock: "node01-0000000000000001-0000000000000002-0000000003", Epoch: 4, Lease: 3 * time.Second, Number: number,
	}
}

// ask asks and waits for the answer.
func (d *director) ask(t testing.TB, to election.Voter, number uint64) {
	t.Helper()
	d.Ask(election.AskVoter{To: to, Question: question(number)})
	waitUntil(t, fmt.Sprintf("an answer to question %d", number), func() bool { return slices.Contains(d.answers(), number) })
}

// askOften asks until an answer comes: after much traffic some may be lost.
func (d *director) askOften(t testing.TB, to election.Voter, first uint64) {
	t.Helper()
	number := first
	waitUntil(t, "an answer", func() bool {
		d.Ask(election.AskVoter{To: to, Question: question(number)})
		number++
		return slices.ContainsFunc(d.answers(), func(n uint64) bool { return n >= first })
	})
}

func expect(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func newInbox() inbox {
	return inbox{questions: make(chan heard, queueLength), answers: make(chan answered, queueLength)}
}

func lifeOf(b byte) (l life) {
	for i := range l {
		l[i] = b
	}
	return l
}

var (
	longNode  = strings.Repeat("n", maxNode)
	longGroup = strings.Repeat("g", maxGroup)
)
