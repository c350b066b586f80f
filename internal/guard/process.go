package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/rpc"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/logfield"
)

const (
	// fenceRetry is the pause between two tries to remove an address.
	fenceRetry = 20 * time.Millisecond
	// settleGrace is how long it is tried to settle a lock: when ZooKeeper cannot
	// be reached the others find out by waiting.
	settleGrace = 5 * time.Second
	// leaveWithin is how long a guard may live after its director: it holds the
	// claim that a new life needs, and systemd leaves it alone. What it has not
	// fenced by then goes by its lifetime.
	leaveWithin = 20 * time.Second
	// maxNap bounds a sleep: Go's timers stand still while the machine is
	// suspended, deadlines do not.
	maxNap = 250 * time.Millisecond
)

// ProcessConfig is what a guard's process starts with: all but the settings,
// which the director tells it. All fields are required.
type ProcessConfig struct {
	Conn     net.Conn // to the director
	Director Director
	ID       uint64 // random
	Version  string
	Assemble func(Settings) (*Parts, error)
	Now      func() time.Duration // CLOCK_BOOTTIME
	Logger   *zap.Logger
}

// Director is the process that the guard works for.
type Director interface {
	// Wait returns when it has ended.
	Wait()
	// Kill sends SIGKILL; one that has ended is no error.
	Kill() error
}

// Parts is what a guard works with.
type Parts struct {
	Host  Host
	Alarm Alarm
	// Exempt lets in what comes from the given hardware addresses to a VIP that is
	// shut here, see fence/gate.
	Exempt func(netip.Addr, []net.HardwareAddr) error
	// Settle settles one lock, see zk.Settle.
	Settle func(context.Context, election.Settlement) (string, error)
	// ClearRules removes the IPVS services that are the director's. What it set for
	// the whole host stays, sync daemons too: a next life adopts it (see
	// internal/ipvshost), and without one it does no harm.
	ClearRules func(context.Context) error
	Layers     []string
	Lateness   time.Duration
	// Run runs what works in the background; alive reports whether nothing is
	// bound beyond its deadline. It returns after ctx has ended.
	Run func(ctx context.Context, alive func() bool) error
}

// Host is what the guard asks of fence.Host.
type Host interface {
	Watch([]fence.VIP) error
	Sweep() ([]fence.VIP, error)
	Bind(fence.Holding, []fence.VIP, time.Duration) error
	Extend(fence.Holding, time.Duration) error
	Fence(h fence.Holding, reason string) error
	RemoveForeign([]fence.VIP) (removed, hidden []fence.Address, err error)
	SetGARPRefresh(time.Duration)
}

// Alarm kills this process shortly before the earliest of the deadlines set,
// see fence/deadman.
type Alarm interface {
	Set(key string, deadline time.Duration) error
	Clear(key string) error
}

// Process is a guard.
type Process struct {
	ProcessConfig
	log     *zap.Logger
	changed chan struct{} // the core has something new
	tasks   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	core  *Core
	parts *Parts
	left  bool // the director ended in order

	ended chan error         // the background, by itself or when told to
	stop  context.CancelFunc // ends the background
}

// NewProcess returns a guard that Run starts.
func NewProcess(cfg ProcessConfig) *Process {
	return &Process{ProcessConfig: cfg, log: cfg.Logger, core: NewCore(cfg.ID), changed: make(chan struct{}, 1), ended: make(chan error, 1)}
}

// Run serves the director until it is gone, and then does for it what it can
// not do any more: fence, settle, remove its IPVS services. It returns when that
// is done. No context ends it: a guard that leaves early protects nobody.
func (p *Process) Run() error {
	gone := p.watchDirector()
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		select {
		case why := <-gone:
			return p.leave(why)
		case err := <-p.ended: // the director fences when this process is gone
			return fmt.Errorf("a part of the guard ended: %w", err)
		case <-wake.C:
		case <-p.changed:
		}
		p.mu.Lock()
		actions, next := p.core.Tick(p.Now()), p.core.Wake()
		p.mu.Unlock()
		p.do(actions)
		wake.Reset(max(0, min(next-p.Now(), maxNap)))
	}
}

// watchDirector serves the socket and watches the process behind it. The
// channel yields why the director is gone.
func (p *Process) watchDirector() <-chan string {
	gone := make(chan string, 2)
	server := rpc.NewServer()
	if err := server.RegisterName("Guard", &service{p}); err != nil {
		panic("guard: " + err.Error()) // the methods have the wrong form
	}
	go func() {
		server.ServeConn(p.Conn)
		gone <- "the director closed its socket"
	}()
	go func() {
		p.Director.Wait()
		gone <- "the director died"
	}()
	return gone
}

// hello assembles the guard and starts its background.
func (p *Process) hello(s Settings) (Life, error) {
	if s.Version != p.Version {
		return Life{Version: p.Version}, errVersion(s.Version, p.Version)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parts != nil {
		return Life{}, errors.New("guard: told its settings twice")
	}
	parts, err := p.Assemble(s)
	if err != nil {
		return Life{}, err
	}
	p.parts = parts
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	go func() { p.ended <- parts.Run(ctx, p.alive) }()
	return Life{ID: p.ID, Version: p.Version, Layers: parts.Layers, Lateness: parts.Lateness}, nil
}

func (p *Process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.Alive(p.Now())
}

// carryOut does what a grant allows, if it does. The alarm is armed before.
func (p *Process) carryOut(a BindArgs, act func(fence.Holding, time.Duration) error) error {
	p.mu.Lock()
	err := p.core.Grant(p.Now(), a.Guard, a.Grant)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if err := p.parts.Alarm.Set(a.Grant.Holding.Lock, a.Grant.Deadline); err != nil {
		return fmt.Errorf("arm the process timer, without which nothing is bound: %w", err)
	}
	p.hint()
	return act(fence.Holding(a.Grant.Holding), a.Grant.Deadline)
}

// ordered fences at the director's word.
func (p *Process) ordered(h election.Holding, reason string) error {
	p.mu.Lock()
	p.core.Order(h)
	p.mu.Unlock()
	if err := p.parts.Host.Fence(fence.Holding(h), reason); err != nil {
		return err
	}
	p.verified(h)
	return nil
}

// verified notes that nothing answers for a holding any more.
func (p *Process) verified(h election.Holding) {
	if err := p.parts.Alarm.Clear(h.Lock); err != nil {
		p.log.Error("the process timer cannot be disarmed: it will end this guard", zap.Error(err))
	}
	p.mu.Lock()
	actions := p.core.Fenced(h)
	p.mu.Unlock()
	p.do(actions)
	p.hint()
}

func (p *Process) hint() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// do starts what the core wants.
func (p *Process) do(actions []Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case Fence:
			p.tasks.Go(func() { p.fence(a) })
		case Settle:
			p.tasks.Go(func() { p.settle(a.Settlement) })
		}
	}
}

// fence tries until the addresses are verified gone.
func (p *Process) fence(f Fence) {
	p.log.Warn("fencing by itself", zap.String(logfield.Group, f.Holding.Group), zap.String(logfield.Reason, f.Reason), zap.String(logfield.Lock, f.Holding.Lock))
	for {
		err := p.parts.Host.Fence(fence.Holding(f.Holding), f.Reason)
		if err == nil {
			break
		}
		p.log.Error("the addresses are not verified gone: trying again", zap.String(logfield.Group, f.Holding.Group), zap.Error(err))
		time.Sleep(fenceRetry)
	}
	p.verified(f.Holding)
}

func (p *Process) settle(s election.Settlement) {
	begun := p.Now()
	ctx, cancel := context.WithTimeout(context.Background(), settleGrace)
	defer cancel()
	how, err := p.parts.Settle(ctx, s)
	fields := []zap.Field{zap.String(logfield.Group, s.Group), zap.String(logfield.Lock, s.Lock), zap.Duration(logfield.Took, p.Now()-begun)}
	if err != nil {
		p.log.Error("the lock is left as it is: others wait out the lease", append(fields, zap.Error(err))...)
	} else {
		p.log.Info("settled: "+how, fields...)
	}
	p.mu.Lock()
	p.core.Settled(s.Group, s.Lock)
	p.mu.Unlock()
	p.hint()
}

// leave does for a director that is gone what is to be done, and ends the guard.
func (p *Process) leave(why string) error {
	p.mu.Lock()
	ready, left := p.parts != nil, p.left
	actions := p.core.Gone(why)
	p.mu.Unlock()
	if !ready {
		return nil
	}
	if err := p.parts.Alarm.Set("after the director", p.Now()+leaveWithin); err != nil {
		p.log.Error("no process timer bounds this guard's life", zap.Error(err))
	}
	p.do(actions)
	p.tasks.Wait() // every task starts its followers before it ends
	var err error
	if !left {
		err = p.clearRules()
	}
	p.stop()
	return errors.Join(err, <-p.ended)
}

// clearRules removes the director's IPVS services, once it is certain that it
// does not change them any more.
func (p *Process) clearRules() error {
	if err := p.Director.Kill(); err != nil {
		return fmt.Errorf("end the director that closed its socket: %w", err)
	}
	p.Director.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), settleGrace)
	defer cancel()
	if err := p.parts.ClearRules(ctx); err != nil {
		return fmt.Errorf("remove the director's IPVS services: %w", err)
	}
	return nil
}
