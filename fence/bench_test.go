package fence_test

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/fence/fencetest"
)

var (
	vipA = fence.VIP{Address: netip.MustParseAddr("10.0.0.100"), Interface: "eth0", Label: "eth0:2"}
	vipB = fence.VIP{Address: netip.MustParseAddr("10.0.0.101"), Interface: "eth0"}
	vip6 = fence.VIP{Address: netip.MustParseAddr("fd00::100"), Interface: "eth0", Label: "eth0:2"}
	web1 = fence.Holding{Group: "web", Lock: "lock-1", Epoch: 1}
	web2 = fence.Holding{Group: "web", Lock: "lock-2", Epoch: 2}
	db1  = fence.Holding{Group: "db", Lock: "lock-9", Epoch: 1}
)

const lease = 3 * time.Second

// clock is set by hand and starts late enough for any deadline.
type clock struct {
	mu  sync.Mutex
	now time.Duration
}

func (c *clock) Now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
}

// recorder is an Announcer.
type recorder struct {
	mu   sync.Mutex
	now  func() time.Duration
	sent []string // "address interface after"
}

func (r *recorder) Announce(l fence.Link, a netip.Addr) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, fmt.Sprintf("%v %s %v", a, l.Name, r.now()))
	return nil
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sent
	r.sent = nil
	return s
}

// bench is a Host over a kernel in memory and a clock set by hand.
type bench struct {
	*fence.Host
	clock  *clock
	kernel *fencetest.Kernel
	gate   *fencetest.Gate // nil: none
	state  string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return startBench(t, nil)
}

// newGatedBench returns a bench with a kernel gate in memory.
func newGatedBench(t *testing.T) *bench {
	t.Helper()
	return startBench(t, &fencetest.Gate{})
}

func startBench(t *testing.T, g *fencetest.Gate) *bench {
	t.Helper()
	b := &bench{clock: &clock{now: time.Hour}, gate: g, state: filepath.Join(t.TempDir(), "vips.json")}
	b.kernel = newFake(b.clock.Now)
	must(t, b.kernel.Replace(address("10.0.0.1/24", "eth0", "", fence.Forever)))
	b.restart(t)
	return b
}

// restart makes a new Host, as a new life of the process would.
func (b *bench) restart(t *testing.T) {
	t.Helper()
	c := fence.Config{
		Logger: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)), Kernel: b.kernel, Now: b.clock.Now,
		Announcer: &recorder{now: b.clock.Now}, StatePath: b.state,
	}
	if b.gate != nil {
		c.Gate = b.gate
	}
	h, err := fence.New(c)
	must(t, err)
	b.Host = h
}

// wantOpen checks which VIPs pass the gate.
func (b *bench) wantOpen(t *testing.T, want ...fence.VIP) {
	t.Helper()
	for _, a := range b.gate.Addresses() {
		wanted := slices.ContainsFunc(want, func(v fence.VIP) bool { return v.Address == a })
		if b.gate.Open(a, b.clock.Now()) != wanted {
			t.Errorf("the gate of %v is open=%v, want %v", a, !wanted, wanted)
		}
	}
	for _, v := range want {
		if !slices.Contains(b.gate.Addresses(), v.Address) {
			t.Errorf("%v is not gated", v)
		}
	}
}

func (b *bench) deadline() time.Duration { return b.clock.Now() + lease }

const own = "10.0.0.1/24 eth0 eth0 for ever"

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
