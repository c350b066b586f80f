package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/boottime"
)

// journal is what guards, hosts and supervisors did, in order.
type journal struct {
	mu      sync.Mutex
	lines   []string
	changed chan struct{}
}

func newJournal() *journal { return &journal{changed: make(chan struct{})} }

func (j *journal) add(format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, a...))
	close(j.changed)
	j.changed = make(chan struct{})
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// wait waits until a line is there.
func (j *journal) wait(t *testing.T, line string) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		j.mu.Lock()
		found, changed := slices.Contains(j.lines, line), j.changed
		j.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%q did not happen; what did: %q", line, j.all())
		}
	}
}

// wantOrder checks that lines happened in this order.
func (j *journal) wantOrder(t *testing.T, lines ...string) {
	t.Helper()
	at := -1
	for _, l := range lines {
		next := slices.Index(j.all()[at+1:], l)
		if next < 0 {
			t.Fatalf("want %q in this order, got %q", lines, j.all())
		}
		at += 1 + next
	}
}

// fakeHost stands for fence.Host: it binds in memory.
type fakeHost struct {
	j *journal

	mu    sync.Mutex
	bound map[string]string // lock by group
	fails int               // of the next fences
	stuck chan struct{}     // not nil: calls wait for its end
}

func (h *fakeHost) Watch([]fence.VIP) error {
	h.mu.Lock()
	stuck := h.stuck
	h.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	return nil
}

func (h *fakeHost) Sweep() ([]fence.VIP, error)  { return nil, nil }
func (h *fakeHost) SetGARPRefresh(time.Duration) {}

func (h *fakeHost) RemoveForeign([]fence.VIP) (removed, hidden []fence.Address, err error) {
	return nil, nil, fmt.Errorf("VIP: %w", fence.ErrOwnAddress)
}

func (h *fakeHost) Bind(hold fence.Holding, _ []fence.VIP, _ time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bound[hold.Group] = hold.Lock
	h.j.add("bind %s", hold.Lock)
	return nil
}

func (h *fakeHost) Extend(hold fence.Holding, _ time.Duration) error {
	h.j.add("extend %s", hold.Lock)
	return nil
}

func (h *fakeHost) Fence(hold fence.Holding, _ string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fails > 0 {
		h.fails--
		h.j.add("fence of %s fails", hold.Lock)
		return errors.New("the kernel is busy")
	}
	delete(h.bound, hold.Group)
	h.j.add("fenced %s", hold.Lock)
	return nil
}

// fakeAlarm notes what it is armed for.
type fakeAlarm struct {
	mu   sync.Mutex
	keys map[string]time.Duration
	fail bool
}

func newAlarm() *fakeAlarm { return &fakeAlarm{keys: map[string]time.Duration{}} }

func (a *fakeAlarm) Set(key string, d time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fail {
		return errors.New("no timer")
	}
	a.keys[key] = d
	return nil
}

func (a *fakeAlarm) Clear(key string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.keys, key)
	return nil
}

func (a *fakeAlarm) armed(key string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.keys[key]
	return ok
}

// fakeGuard is a real Process without a process: it runs in the test's, with
// stand-ins for the director and for the kernel.
type fakeGuard struct {
	host  *fakeHost
	alarm *fakeAlarm
	conn  net.Conn // its end
	ended chan struct{}
	once  sync.Once
	dead  chan struct{} // closed: the director's death
}

// die ends the director.
func (g *fakeGuard) die() { close(g.dead) }

// Wait implements Director.
func (g *fakeGuard) Wait() { <-g.dead }

// Kill implements Director.
func (g *fakeGuard) Kill() error {
	g.host.j.add("director killed")
	select {
	case <-g.dead:
	default:
		g.die()
	}
	return nil
}

// kill stands for SIGKILL: nothing of it acts any more, and its socket closes.
func (g *fakeGuard) kill() {
	g.once.Do(func() {
		close(g.ended)
		g.conn.Close()
	})
}

type guards struct {
	t       *testing.T
	j       *journal
	version string

	mu     sync.Mutex
	all    []*fakeGuard
	layers []string
}

// launch starts a guard.
func (x *guards) launch() (*Child, error) {
	ours, theirs := net.Pipe()
	g := &fakeGuard{host: &fakeHost{j: x.j, bound: map[string]string{}}, alarm: newAlarm(), conn: theirs, ended: make(chan struct{}), dead: make(chan struct{})}
	x.mu.Lock()
	x.all = append(x.all, g)
	id, layers := len(x.all), slices.Clone(x.layers)
	x.mu.Unlock()
	p := NewProcess(ProcessConfig{Conn: theirs, Director: g, ID: uint64(id), Version: x.version, Now: boottime.Now, Logger: zaptest.NewLogger(x.t),
		Assemble: func(Settings) (*Parts, error) {
			return &Parts{Host: g.host, Alarm: g.alarm, Layers: layers, Lateness: fence.LatenessGated,
				Settle: func(_ context.Context, s election.Settlement) (string, error) {
					x.j.add("settled %s", s.Lock)
					return "wrote the receipt", nil
				},
				ClearRules: func(context.Context) error { x.j.add("rules cleared"); return nil },
				Run:        func(ctx context.Context, _ func() bool) error { <-ctx.Done(); return nil },
			}, nil
		}})
	x.j.add("guard %d starts", id)
	go func() {
		_ = p.Run()
		x.j.add("guard %d ends", id)
		g.kill()
	}()
	return &Child{PID: id, Conn: ours, Kill: func() error { g.kill(); return nil }, Wait: func() error { <-g.ended; return nil }}, nil
}

func (x *guards) nth(i int) *fakeGuard {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.all[i]
}

// supervised is a supervisor with its guards.
type supervised struct {
	*Supervisor
	*guards
	alarm *fakeAlarm
}

func newSupervised(t *testing.T) *supervised {
	t.Helper()
	x := &guards{t: t, j: newJournal(), version: "v1", layers: []string{"guard"}}
	alarm := newAlarm()
	s := NewSupervisor(SupervisorConfig{
		Launch: x.launch, Settings: Settings{Version: "v1", Cluster: "web", Node: "node1"},
		FenceHere: func() error { x.j.add("fenced here"); return nil },
		Lost:      func(string) { x.j.add("lost") },
		Link:      func(string) (bool, bool, error) { return true, true, nil },
		Alarm:     alarm, Now: boottime.Now, Logger: zaptest.NewLogger(t),
	})
	return &supervised{s, x, alarm}
}

func (s *supervised) start(t *testing.T) (stop func() error) {
	t.Helper()
	if _, err := s.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	return stop
}

func soon(lock string) election.Grant {
	return election.Grant{Holding: hold(lock), Deadline: boottime.Now() + lease, Version: 9}
}

func TestGuardDoesWhatItIsTold(t *testing.T) {
	s := newSupervised(t)
	stop := s.start(t)
	if err := errors.Join(s.Queued(election.Queued{Group: "web", Lock: "a"}), s.Watch(nil), s.Bind(soon("a"), nil), s.Extend(soon("a"))); err != nil {
		t.Fatal(err)
	}
	if !s.alarm.armed("a") || !s.nth(0).alarm.armed("a") {
		t.Error("a process timer is not armed while an address is bound")
	}
	if _, _, err := s.RemoveForeign(nil); !errors.Is(err, fence.ErrOwnAddress) {
		t.Errorf("an error lost what it is on its way: %v", err)
	}
	if err := s.Fence(hold("a"), "test"); err != nil {
		t.Fatal(err)
	}
	if s.alarm.armed("a") || s.nth(0).alarm.armed("a") {
		t.Error("a process timer is armed although all is verified gone")
	}
	if err := s.Bind(soon("a"), nil); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("bind after the fence: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	s.j.wantOrder(t, "bind a", "extend a", "fenced a", "guard 1 ends")
	for _, line := range s.j.all() {
		if line == "settled a" || line == "rules cleared" || line == "lost" {
			t.Errorf("an ordered end: %s", line)
		}
	}
}

func TestGuardFencesForADeadDirector(t *testing.T) {
	s := newSupervised(t)
	s.start(t)
	if err := s.Bind(soon("a"), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Queued(election.Queued{Group: "db", Lock: "w"}); err != nil {
		t.Fatal(err)
	}
	g := s.nth(0)
	g.host.mu.Lock()
	g.host.fails = 2
	g.host.mu.Unlock()
	g.die()
	s.j.wait(t, "guard 1 ends")
	s.j.wantOrder(t, "bind a", "fence of a fails", "fence of a fails", "fenced a", "settled a", "rules cleared", "guard 1 ends")
	s.j.wantOrder(t, "settled w", "guard 1 ends")
	if !g.alarm.armed("after the director") {
		t.Error("nothing bounds the life of a guard that is stuck")
	}
}

func TestGuardEndsADirectorThatClosedItsSocket(t *testing.T) {
	s := newSupervised(t)
	s.start(t)
	if err := s.Bind(soon("a"), nil); err != nil {
		t.Fatal(err)
	}
	s.current().child.Conn.Close()
	s.j.wait(t, "guard 1 ends")
	s.j.wantOrder(t, "fenced a", "settled a", "director killed", "rules cleared", "guard 1 ends")
}

func TestGuardFencesForASilentDirector(t *testing.T) {
	s := newSupervised(t)
	s.start(t)
	g := soon("a")
	g.Deadline = boottime.Now() + SilenceMargin + 300*time.Millisecond
	if err := s.Bind(g, nil); err != nil {
		t.Fatal(err)
	}
	s.j.wait(t, "settled a")
	s.j.wantOrder(t, "bind a", "fenced a", "settled a")
	if now := boottime.Now(); now < g.Deadline-SilenceMargin {
		t.Errorf("it was fenced %v too early", g.Deadline-SilenceMargin-now)
	}
	if err := s.Extend(soon("a")); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("a renewal after that: %v", err)
	}
}

func TestSupervisorFencesForADeadGuard(t *testing.T) {
	s := newSupervised(t)
	s.start(t)
	if err := s.Bind(soon("a"), nil); err != nil {
		t.Fatal(err)
	}
	s.nth(0).kill()
	s.j.wait(t, "guard 2 starts")
	s.j.wantOrder(t, "bind a", "lost", "fenced here", "guard 2 starts")
	if err := s.Extend(soon("a")); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("a holding is resumed under another guard: %v", err)
	}
	if err := s.Fence(hold("a"), "the guard died"); err != nil {
		t.Errorf("the fence of what went with its guard: %v", err)
	}
	until(t, "the second guard serves", func() bool { return s.Bind(soon("b"), nil) == nil })
	if s.Status().Restarts != 1 {
		t.Errorf("%d restarts", s.Status().Restarts)
	}
}

// A guard that does not answer is killed, and fenced for.
func TestSupervisorKillsASilentGuard(t *testing.T) {
	s := newSupervised(t)
	s.start(t)
	stuck := make(chan struct{})
	t.Cleanup(func() { close(stuck) })
	g := s.nth(0)
	g.host.mu.Lock()
	g.host.stuck = stuck
	g.host.mu.Unlock()
	if err := s.Watch(nil); err == nil {
		t.Error("no error from a guard that does not answer")
	}
	s.j.wait(t, "guard 2 starts")
	s.j.wantOrder(t, "lost", "fenced here", "guard 2 starts")
}

func TestNoGuardNoFitness(t *testing.T) {
	s := newSupervised(t)
	if _, _, err := s.LinkState("eth0"); !errors.Is(err, ErrNoGuard) {
		t.Errorf("before there is a guard: %v", err)
	}
	s.start(t)
	if up, carrier, err := s.LinkState("eth0"); !up || !carrier || err != nil {
		t.Errorf("with a guard: %v %v %v", up, carrier, err)
	}
}

func TestGuardOfAnotherVersionIsRefused(t *testing.T) {
	s := newSupervised(t)
	s.version = "v2"
	_, err := s.Start()
	if err == nil || err.Error() != "start the guard: "+errVersion("v1", "v2").Error() {
		t.Fatalf("Start: %v", err)
	}
}

// A later guard that offers less than the first would make the lease in the
// records too short.
func TestLaterGuardMustOfferTheSameLayers(t *testing.T) {
	s := newSupervised(t)
	s.layers = []string{"guard", "kernel gate"}
	s.start(t)
	s.change(func() { s.layers = []string{"guard"} })
	s.nth(0).kill()
	s.j.wait(t, "guard 3 starts") // the second was refused
	s.change(func() { s.layers = []string{"guard", "kernel gate"} })
	until(t, "a guard as good as the first serves", func() bool { return s.Bind(soon("b"), nil) == nil })
}

func (x *guards) change(do func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	do()
}

func TestNothingIsBoundWithoutATimer(t *testing.T) {
	s := newSupervised(t)
	s.start(t)
	s.alarm.mu.Lock()
	s.alarm.fail = true
	s.alarm.mu.Unlock()
	if err := s.Bind(soon("a"), nil); err == nil {
		t.Error("bound although the director's process timer cannot be armed")
	}
	s.alarm.mu.Lock()
	s.alarm.fail = false
	s.alarm.mu.Unlock()
	a := s.nth(0).alarm
	a.mu.Lock()
	a.fail = true
	a.mu.Unlock()
	if err := s.Bind(soon("a"), nil); err == nil {
		t.Error("bound although the guard's process timer cannot be armed")
	}
	if slices.Contains(s.j.all(), "bind a") {
		t.Errorf("bound: %q", s.j.all())
	}
}

// A lease that is about to end is refused before the process timer is set, which would kill.
func TestLateGrantIsRefusedBeforeTheTimer(t *testing.T) {
	s := newSupervised(t)
	s.start(t)
	g := soon("a")
	g.Deadline = boottime.Now() + fence.StepDownMargin
	if err := s.Bind(g, nil); !errors.Is(err, fence.ErrLeaseOver) || s.alarm.armed("a") {
		t.Errorf("Bind: %v, armed %v", err, s.alarm.armed("a"))
	}
}

func TestPidfd(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f, err := openPidfd(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := pidfd{f}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	p.Wait()
	_ = cmd.Wait() // killed
	if err := p.Kill(); err != nil {
		t.Errorf("one that has ended: %v", err)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
