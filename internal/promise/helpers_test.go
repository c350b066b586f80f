package promise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
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

// leavesNothing makes the test fail if, after the cleanups registered later,
// more goroutines or descriptors exist than now.
func leavesNothing(t *testing.T) {
	t.Helper()
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil { // opens the runtime's poller
		l.Close()
	}
	percent := debug.SetGCPercent(-1) // a collection would close what was forgotten
	goroutines, descriptors := runtime.NumGoroutine(), countDescriptors(t)
	t.Cleanup(func() {
		waitUntil(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= goroutines })
		waitUntil(t, "no descriptor left", func() bool { return countDescriptors(t) <= descriptors })
		debug.SetGCPercent(percent)
	})
}

func countDescriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
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

// relay stands between an asker and a voter: it records all that goes through
// it, can lose or keep back, and can send anything to either from the address
// that they know.
type relay struct {
	conn  *net.UDPConn
	asker netip.AddrPort

	mu    sync.Mutex
	voter netip.AddrPort
	pass  func(packet) bool // nil lets everything through
	seen  []packet
}

type packet struct {
	toVoter bool
	kind    kind
	bytes   []byte
}

func newRelay(t testing.TB, asker, voter *director) *relay {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{conn: conn, asker: asker.at(), voter: voter.at()}
	var group sync.WaitGroup
	group.Go(r.run)
	t.Cleanup(func() {
		conn.Close()
		group.Wait()
	})
	return r
}

func (r *relay) run() {
	b := make([]byte, 2048)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		p := packet{toVoter: from == r.asker, kind: kind(b[1]), bytes: bytes.Clone(b[:n])}
		r.mu.Lock()
		r.seen = append(r.seen, p)
		pass := r.pass == nil || r.pass(p)
		r.mu.Unlock()
		if pass {
			r.send(p.toVoter, p.bytes)
		}
	}
}

// send sends bytes to one of the two.
func (r *relay) send(toVoter bool, b []byte) {
	r.mu.Lock()
	to := r.asker
	if toVoter {
		to = r.voter
	}
	r.mu.Unlock()
	_, _ = r.conn.WriteToUDPAddrPort(b, to)
}

func (r *relay) filter(pass func(packet) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pass = pass
}

// lead sends to another voter from now on.
func (r *relay) lead(to *director) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.voter = to.at()
}

// of returns what was recorded of a kind.
func (r *relay) of(k kind) []packet {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []packet
	for _, p := range r.seen {
		if p.kind == k {
			list = append(list, p)
		}
	}
	return list
}

// last waits for the newest datagram of a kind about a question.
func (r *relay) last(t testing.TB, k kind, number uint64) packet {
	t.Helper()
	var found packet
	waitUntil(t, "a datagram on the wire", func() bool {
		for _, p := range r.of(k) {
			if parse(t, p.bytes).number == number {
				found = p
			}
		}
		return found.bytes != nil
	})
	return found
}

// address is the voter as the asker is to know it.
func (r *relay) address(v *director) election.Voter {
	return reachedAt(v, netip.MustParseAddrPort(r.conn.LocalAddr().String()))
}

// parse reads a genuine datagram.
func parse(t testing.TB, b []byte) *message {
	t.Helper()
	m, err := decode(b[:len(b)-macSize])
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// forge makes a datagram with a key of the attacker's choice: the cluster's own
// where a test is about a check that comes after the HMAC.
func forge(t testing.TB, key []byte, cluster string, m *message) []byte {
	t.Helper()
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return newSealer(key, cluster).seal(b)
}

func seal(t testing.TB, m *message) []byte {
	t.Helper()
	return forge(t, testKey, "web", m)
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
