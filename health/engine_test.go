package health

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// script is a prober that a test steers: each probe of a target takes the
// time and gives the error set for it.
type script struct {
	now func() time.Duration

	mu      sync.Mutex
	err     map[Target]error
	takes   map[Target]time.Duration
	started map[Target][]time.Duration
	running int
	most    int // running at one time
}

func newScript(now func() time.Duration) *script {
	return &script{now: now, err: map[Target]error{}, takes: map[Target]time.Duration{}, started: map[Target][]time.Duration{}}
}

// Probe implements Prober.
func (s *script) Probe(ctx context.Context, t Target) error {
	takes, err := s.begin(t)
	defer s.end()
	if takes == 0 {
		return err
	}
	timer := time.NewTimer(takes)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s: no answer: %w", t, ctx.Err())
	case <-timer.C:
		return err
	}
}

func (s *script) begin(t Target) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started[t] = append(s.started[t], s.now())
	s.running++
	s.most = max(s.most, s.running)
	return s.takes[t], s.err[t]
}

func (s *script) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
}

func (s *script) set(t Target, takes time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes[t], s.err[t] = takes, err
}

func (s *script) starts(t Target) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Duration(nil), s.started[t]...)
}

// bench is an engine that runs in a synctest bubble.
type bench struct {
	*Engine
	script *script
	jump   *atomic.Int64 // nanoseconds by which the engine's clock is ahead
	stop   func()        // and wait for Run
}

func runEngine(t *testing.T, log *zap.Logger, change func(*Engine)) bench {
	t.Helper()
	began, jump := time.Now(), new(atomic.Int64)
	now := func() time.Duration { return time.Hour + time.Since(began) + time.Duration(jump.Load()) }
	s := newScript(now)
	e := New(log, now, map[Kind]Prober{TCP: s})
	if change != nil {
		change(e)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	b := bench{Engine: e, script: s, jump: jump}
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return b
}

func mustSet(t *testing.T, e *Engine, targets ...Target) {
	t.Helper()
	if err := e.Set(targets); err != nil {
		t.Fatalf("set: %v", err)
	}
}

// after lets d pass and then all work of that moment be done.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func states(e *Engine) map[string]State {
	out := make(map[string]State)
	for t, v := range e.Snapshot() {
		out[t.Address.String()] = v.State
	}
	return out
}

func hinted(e *Engine) bool {
	select {
	case <-e.Changed():
		return true
	default:
		return false
	}
}

func TestEngineFollowsAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		b := runEngine(t, zap.New(core), nil)
		defer b.stop()
		target := tcpTarget("10.0.0.1:80")
		b.script.set(target, time.Millisecond, nil)
		mustSet(t, b.Engine, target)
		if got := b.Snapshot()[target]; got.State != Unknown || got.LastRun != 0 || got.Since != time.Hour {
			t.Errorf("before the first probe: %+v", got)
		}
		after(10 * time.Millisecond)
		if got := b.Snapshot()[target]; got.State != Up || got.LastLatency != time.Millisecond || !hinted(b.Engine) {
			t.Errorf("after the first probe: %+v", got)
		}
		b.script.set(target, time.Millisecond, errDead)
		after(5*time.Second + 2*3*time.Second - 20*time.Millisecond)
		if got := b.Snapshot()[target]; got.State != Up || got.LastError != "dead" || hinted(b.Engine) {
			t.Errorf("while retries are left: %+v", got)
		}
		after(100 * time.Millisecond)
		if got := b.Snapshot()[target]; got.State != Down || got.Changes != 2 || !hinted(b.Engine) {
			t.Errorf("after the retries: %+v", got)
		}
		b.script.set(target, 0, nil)
		after(5 * time.Second)
		if got := b.Snapshot()[target]; got.State != Up || got.LastError != "" || !hinted(b.Engine) {
			t.Errorf("after its return: %+v", got)
		}
		var lines []string
		for _, entry := range logs.All() {
			f := entry.ContextMap()
			lines = append(lines, fmt.Sprintf("%v %v %v->%v %v", entry.Level, f["check"], f["from"], f["to"], f["reason"]))
		}
		want := []string{
			"info tcp 10.0.0.1:80 unknown->up answers",
			"warn tcp 10.0.0.1:80 up->down dead",
			"info tcp 10.0.0.1:80 down->up answers",
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

func TestEngineProbesEqualTargetsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runEngine(t, zap.NewNop(), nil)
		defer b.stop()
		target := tcpTarget("10.0.0.1:80")
		mustSet(t, b.Engine, target, target, tcpTarget("10.0.0.1:80"))
		after(11 * time.Second)
		if got := len(b.script.starts(target)); got != 3 {
			t.Errorf("%d probes in 11 s at an interval of 5 s, want 3", got)
		}
	})
}

func TestEngineSetKeepsWhatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runEngine(t, zap.NewNop(), nil)
		defer b.stop()
		kept, gone, dead := tcpTarget("10.0.0.1:80"), tcpTarget("10.0.0.2:80"), tcpTarget("10.0.0.3:80")
		b.script.set(dead, 0, errDead)
		mustSet(t, b.Engine, kept, gone, dead)
		after(time.Second)
		before := b.Snapshot()[kept]
		retimed, added := dead, tcpTarget("10.0.0.4:80")
		retimed.Interval = 8 * time.Second
		mustSet(t, b.Engine, kept, retimed, added)
		if diff := cmp.Diff(before, b.Snapshot()[kept]); diff != "" {
			t.Errorf("kept target (-before +after):\n%s", diff)
		}
		want := map[string]State{"10.0.0.1:80": Up, "10.0.0.3:80": Down, "10.0.0.4:80": Unknown}
		if diff := cmp.Diff(want, states(b.Engine)); diff != "" {
			t.Errorf("a target with new terms keeps its verdict (-want +got):\n%s", diff)
		}
		probes := len(b.script.starts(gone))
		after(20 * time.Second)
		if got := len(b.script.starts(gone)); got != probes {
			t.Errorf("a target that is gone was probed %d times more", got-probes)
		}
		slots := b.script.starts(kept)
		for i := 1; i < len(slots); i++ {
			if gap := slots[i] - slots[i-1]; gap != kept.Interval {
				t.Errorf("probe %d came %v after the one before, want %v: Set must not disturb the schedule", i, gap, kept.Interval)
			}
		}
	})
}

func TestEngineSetRefusesAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runEngine(t, zap.NewNop(), nil)
		defer b.stop()
		target, bad, foreign := tcpTarget("10.0.0.1:80"), tcpTarget("10.0.0.2:80"), tcpTarget("10.0.0.3:80")
		bad.Rise, foreign.Kind = 0, "grpc"
		mustSet(t, b.Engine, target)
		err := b.Set([]Target{bad, foreign})
		for _, want := range []string{"tcp 10.0.0.2:80: rise 0", `grpc 10.0.0.3:80: no prober for kind "grpc"`} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q in it", err, want)
			}
		}
		if diff := cmp.Diff(map[string]State{"10.0.0.1:80": Unknown}, states(b.Engine)); diff != "" {
			t.Errorf("targets after a refused Set (-want +got):\n%s", diff)
		}
	})
}

func TestEngineBreaksOffProbesOfDroppedTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runEngine(t, zap.NewNop(), nil)
		defer b.stop()
		slow := tcpTarget("10.0.0.1:80")
		slow.Timeout = time.Hour
		b.script.set(slow, time.Hour, nil)
		mustSet(t, b.Engine, slow)
		after(time.Second)
		mustSet(t, b.Engine)
		synctest.Wait()
		if b.script.running != 0 {
			t.Fatal("the probe runs on")
		}
		b.script.set(slow, 0, nil)
		mustSet(t, b.Engine, slow) // the same again: the old probe must not speak for it
		if got := b.Snapshot()[slow]; got.State != Unknown || got.LastError != "" {
			t.Errorf("verdict of the new one: %+v", got)
		}
		after(time.Second)
		if got := b.Snapshot()[slow]; got.State != Up {
			t.Errorf("verdict of the new one after its probe: %+v", got)
		}
	})
}

func TestEngineBreaksOffAndReaddsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runEngine(t, zap.NewNop(), nil)
		defer b.stop()
		target := tcpTarget("10.0.0.1:80")
		b.script.set(target, 500*time.Millisecond, errDead)
		mustSet(t, b.Engine, target)
		after(100 * time.Millisecond)
		b.script.set(target, 0, nil)
		mustSet(t, b.Engine)
		mustSet(t, b.Engine, target) // the broken-off probe has not returned yet
		after(20 * time.Second)
		if got := b.Snapshot()[target]; got.State != Up || got.Changes != 1 {
			t.Errorf("verdict: %+v", got)
		}
		starts := b.script.starts(target)[1:] // without the one broken off
		for i := 1; i < len(starts); i++ {
			if gap := starts[i] - starts[i-1]; gap != target.Interval {
				t.Errorf("a probe %v after the one before, want %v", gap, target.Interval)
			}
		}
	})
}

// slowToEnd takes a second to clean up after its context has ended.
type slowToEnd struct{ ended *atomic.Bool }

func (s slowToEnd) Probe(ctx context.Context, _ Target) error {
	<-ctx.Done()
	after := time.NewTimer(time.Second)
	defer after.Stop()
	<-after.C
	s.ended.Store(true)
	return ctx.Err()
}

func TestEngineRunWaitsForItsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prober := slowToEnd{new(atomic.Bool)}
		b := runEngine(t, zap.NewNop(), func(e *Engine) { e.probers[TCP] = prober })
		mustSet(t, b.Engine, tcpTarget("10.0.0.1:80"))
		after(500 * time.Millisecond)
		b.stop()
		if !prober.ended.Load() {
			t.Error("Run returned before its probe")
		}
	})
}

func TestEngineStopsProbesWhenRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runEngine(t, zap.NewNop(), nil)
		target := tcpTarget("10.0.0.1:80")
		b.script.set(target, time.Hour, nil)
		mustSet(t, b.Engine, target)
		after(500 * time.Millisecond)
		b.stop() // synctest fails the test if a goroutine is left
		if got := b.Snapshot()[target]; got.State != Unknown || got.LastError != "" || b.script.running != 0 {
			t.Errorf("a probe broken off by the end of Run counted: %+v", got)
		}
	})
}

func TestEngineRunsAgainButNotTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runEngine(t, zap.NewNop(), nil)
		synctest.Wait()
		if err := b.Run(context.Background()); err == nil {
			t.Error("a second Run was accepted")
		}
		target := tcpTarget("10.0.0.1:80")
		b.script.set(target, time.Hour, nil)
		mustSet(t, b.Engine, target)
		after(500 * time.Millisecond)
		b.stop()
		b.script.set(target, 0, nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := b.Run(ctx); err != nil {
			t.Errorf("Run after Run: %v", err)
		}
		if got := b.Snapshot()[target].State; got != Up {
			t.Errorf("after the second run: %v", got)
		}
	})
}

func TestEngineSpreadsTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runEngine(t, zap.NewNop(), nil)
		defer b.stop()
		targets := manyTargets(1000)
		mustSet(t, b.Engine, targets...)
		window := time.Duration(len(targets)) * startGap
		var perTenth [10]int
		after(window)
		for _, target := range targets {
			starts := b.script.starts(target)
			if len(starts) == 0 {
				t.Fatalf("%s: not probed within %v", target, window)
			}
			perTenth[int((starts[0]-time.Hour)*10/window)]++
		}
		for i, n := range perTenth {
			if n < 50 || n > 150 { // 100 expected, standard deviation 9.5
				t.Errorf("%d of %d first probes in tenth %d of %v", n, len(targets), i, window)
			}
		}
	})
}

func manyTargets(n int) []Target {
	targets := make([]Target, n)
	for i := range targets {
		targets[i] = tcpTarget("10.0.0.1:80")
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		targets[i].Address = netip.AddrPortFrom(addr, 80)
	}
	return targets
}

func TestEngineBoundsConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runEngine(t, zap.NewNop(), func(e *Engine) { e.limit = 7 })
		defer b.stop()
		targets := manyTargets(100)
		for _, target := range targets {
			b.script.set(target, time.Second, nil)
		}
		mustSet(t, b.Engine, targets...)
		after(100 / 7 * 5 * time.Second)
		if b.script.most != 7 {
			t.Errorf("%d probes ran at a time, want 7", b.script.most)
		}
		for _, target := range targets {
			if len(b.script.starts(target)) < 3 {
				t.Errorf("%s was probed %d times: places must be shared fairly", target, len(b.script.starts(target)))
			}
		}
	})
}

func TestEngineShowsAStuckCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runEngine(t, zap.NewNop(), nil)
		defer b.stop()
		target := tcpTarget("10.0.0.1:80")
		mustSet(t, b.Engine, target)
		after(time.Second)
		b.script.set(target, 0, fmt.Errorf("%w: no descriptors", ErrInconclusive))
		after(time.Minute)
		got := b.Snapshot()[target]
		if age := b.now() - got.LastRun; got.State != Up || age < time.Minute || got.LastError != "inconclusive: no descriptors" {
			t.Errorf("last run %v ago: %+v", age, got)
		}
	})
}

// lateProber says "well" after its time is over.
type lateProber struct{}

func (lateProber) Probe(ctx context.Context, _ Target) error {
	<-ctx.Done()
	return nil
}

func TestEngineTakesALateSuccessForAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runEngine(t, zap.NewNop(), func(e *Engine) { e.probers[TCP] = lateProber{} })
		defer b.stop()
		target := tcpTarget("10.0.0.1:80")
		mustSet(t, b.Engine, target)
		after(2 * time.Second)
		if got := b.Snapshot()[target]; got.State != Down || got.LastError != "tcp 10.0.0.1:80: answered, but not within 1s" {
			t.Errorf("verdict: %+v", got)
		}
	})
}

// A process that stood still for ten seconds finds all its probes due at once.
// They must not stay in step for ever after.
func TestEngineKeepsTargetsSpreadAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runEngine(t, zap.NewNop(), nil)
		defer b.stop()
		targets := manyTargets(200)
		mustSet(t, b.Engine, targets...)
		after(6 * time.Second)
		b.jump.Store(int64(10 * time.Second))
		after(11 * time.Second)
		together := make(map[time.Duration]int)
		for _, target := range targets {
			starts := b.script.starts(target)
			together[starts[len(starts)-1].Truncate(10*time.Millisecond)]++
		}
		for at, n := range together {
			if n > 30 { // 5 expected: 200 over 0.4 s
				t.Errorf("%d probes within 10 ms at %v", n, at)
			}
		}
	})
}
