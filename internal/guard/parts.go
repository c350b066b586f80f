package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/fence/deadman"
	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/fence/gate/nft"
	"github.com/zklvs/zklvs/fence/watchdog"
	"github.com/zklvs/zklvs/internal/zk"
	"github.com/zklvs/zklvs/ipvs"
)

// The words of the setting `gate`.
const (
	GateAuto = "auto" // eBPF, else nftables
	GateNFT  = "nftables"
	GateNone = "none" // an exception to the safety rule, see docs/SAFETY.md
)

// Assembler returns what makes the parts of a real guard.
func Assembler(log *zap.Logger, now func() time.Duration) func(Settings) (*Parts, error) {
	return func(s Settings) (*Parts, error) {
		a := &assembly{settings: s, log: log, now: now}
		parts, err := a.assemble()
		if err != nil {
			a.close()
			return nil, err
		}
		return parts, nil
	}
}

// assembly is a guard's parts in the making.
type assembly struct {
	settings Settings
	log      *zap.Logger
	now      func() time.Duration

	netlink   *fence.Netlink
	announcer *fence.PacketAnnouncer
	gate      kernelGate // nil: none
	host      *fence.Host
	alarm     *deadman.Tracker
	dog       *watchdog.Watchdog
	session   *zk.Session
	tree      zk.Tree
}

// kernelGate is a gate with what keeps it on every interface.
type kernelGate interface {
	fence.Gate
	Exempt(vip netip.Addr, macs ...net.HardwareAddr) error
	Run(ctx context.Context) error
	Close()
}

func (a *assembly) assemble() (*Parts, error) {
	for _, step := range []func() error{a.openKernel, a.openTimers, a.openGate, a.makeHost, a.makeSession} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	err := dropPrivileges(kept(kernelRelease()))
	switch {
	case errors.Is(err, errCgo):
		a.log.Warn("the guard keeps all its rights", zap.Error(err))
	case err != nil:
		return nil, err
	}
	return &Parts{Host: a.host, Alarm: a.alarm, Exempt: a.exempt, Settle: a.settle, ClearRules: a.clearRules,
		Layers: a.layers(), Lateness: a.host.Lateness(), Run: a.run}, nil
}

func (a *assembly) openKernel() (err error) {
	if a.netlink, err = fence.NewNetlink(); err != nil {
		return err
	}
	a.announcer, err = fence.NewPacketAnnouncer()
	return err
}

func (a *assembly) openTimers() error {
	timer, err := deadman.New()
	if err != nil {
		return err
	}
	a.alarm = deadman.NewTracker(timer)
	mode, err := watchdog.ParseMode(a.settings.Watchdog)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	a.dog, err = watchdog.Open(watchdog.Config{Mode: mode, Device: a.settings.WatchdogDevice, Logger: a.log, Now: a.now})
	return err
}

// openGate takes the first gate that the kernel allows. None at all must be asked for.
func (a *assembly) openGate() error {
	if a.settings.Gate == GateNone {
		a.log.Warn("no kernel gate, as configured: while both processes are frozen this host may answer until its address lifetimes end",
			zap.Duration("at_most_after_the_lease", fence.LatenessUngated))
		return nil
	}
	var refusals []error
	for _, kind := range a.gates() {
		g, err := kind()
		if err == nil {
			a.gate = g
			if len(refusals) > 0 {
				a.log.Warn("the better gate is refused: taking "+g.Name(), zap.Error(errors.Join(refusals...)))
			}
			return nil
		}
		refusals = append(refusals, err)
	}
	return fmt.Errorf("this kernel refuses the gate: %w; remove the cause, or set `gate: none` in this host's file and accept what docs/SAFETY.md says of it", errors.Join(refusals...))
}

// gates are the ways to a gate, the best first.
func (a *assembly) gates() []func() (kernelGate, error) {
	if a.settings.Gate == GateNFT {
		return []func() (kernelGate, error){a.nftables}
	}
	return []func() (kernelGate, error){a.ebpf, a.nftables}
}

func (a *assembly) ebpf() (kernelGate, error) {
	g, err := gate.New(gate.Config{Logger: a.log, Now: a.now})
	if err != nil {
		return nil, err // not g: a nil *Gate is no nil interface
	}
	return g, nil
}

func (a *assembly) nftables() (kernelGate, error) {
	window, err := deadman.New()
	if err != nil {
		return nil, err
	}
	g, err := nft.New(nft.Config{Logger: a.log, Now: a.now, Window: window})
	if err != nil {
		return nil, errors.Join(err, window.Close())
	}
	return g, nil
}

// exempt lets packets from some hardware addresses in to a VIP that is shut.
func (a *assembly) exempt(vip netip.Addr, macs []net.HardwareAddr) error {
	if a.gate == nil {
		return nil // everything passes
	}
	return a.gate.Exempt(vip, macs...)
}

func (a *assembly) makeHost() (err error) {
	cfg := fence.Config{Logger: a.log, Kernel: a.netlink, Announcer: a.announcer, Now: a.now, StatePath: a.settings.VIPsPath}
	if a.gate != nil {
		cfg.Gate = a.gate
	}
	a.host, err = fence.New(cfg)
	return err
}

// makeSession makes the session that settles. It connects in the background and
// is kept warm: when it is needed nothing has to be opened.
func (a *assembly) makeSession() (err error) {
	z := a.settings.ZooKeeper
	cfg := zk.Config{Servers: z.Servers, SessionTimeout: z.SessionTimeout, User: z.User, Password: z.Password, WorldRead: z.WorldRead,
		Logger: a.log.Named("zookeeper"), Now: a.now}
	if z.TLS != nil {
		if cfg.TLS, err = zk.LoadTLS(*z.TLS); err != nil {
			return err
		}
	}
	if a.tree, err = zk.NewTree(a.settings.Cluster); err != nil {
		return err
	}
	a.session, err = zk.New(cfg)
	return err
}

func (a *assembly) layers() []string {
	out := append([]string{"director step-down", "guard"}, a.host.Layers()...)
	out = append(out, "process timers")
	if a.dog.Active() {
		st := a.dog.Status()
		out = append(out, fmt.Sprintf("watchdog (%s, %v)", st.Driver, st.Timeout))
	}
	return out
}

func (a *assembly) settle(ctx context.Context, s election.Settlement) (string, error) {
	return zk.Settle(ctx, a.session, a.tree, a.log, election.NewSettle(s, a.settings.Node, time.Now))
}

func (a *assembly) clearRules(ctx context.Context) error {
	return ClearRules(ctx, a.settings.ServicesPath)
}

// ClearRules removes the IPVS services that the file at path lists as ours. It
// is for the time when no director lives.
func ClearRules(ctx context.Context, path string) error {
	scope, err := ipvs.HostScope()
	if err != nil {
		return err
	}
	owned, err := ipvs.OpenOwned(path, scope)
	if err != nil || len(owned.Keys()) == 0 {
		return err
	}
	return ipvs.RemoveOwned(ctx, owned)
}

// run runs the background, and closes everything after it: the watchdog stops
// only if it is fed to the end.
func (a *assembly) run(ctx context.Context, alive func() bool) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return ignoreCancel(a.host.Run(ctx)) })
	group.Go(func() error { return ignoreCancel(a.session.Run(ctx)) })
	group.Go(func() error { return a.dog.Run(ctx, func(time.Duration) bool { return alive() }) })
	if a.gate != nil {
		group.Go(func() error { return ignoreCancel(a.gate.Run(ctx)) })
	}
	err := group.Wait()
	if alive() {
		err = errors.Join(err, a.dog.Close())
	}
	a.close()
	return err
}

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (a *assembly) close() {
	if a.gate != nil {
		a.gate.Close()
	}
	if a.announcer != nil {
		_ = a.announcer.Close() // nothing is left to be sent
	}
	if a.netlink != nil {
		a.netlink.Close()
	}
}
