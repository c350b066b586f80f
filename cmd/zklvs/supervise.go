package main

import (
	"fmt"
	"net/netip"
	"os"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/fence/deadman"
	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/guard"
	"github.com/zklvs/zklvs/internal/life"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

// thisProgram names the running program even after its file was replaced: a
// guard is of its director's version.
const thisProgram = "/proc/self/exe"

// startGuard starts the guard beside this director.
func (p *parts) startGuard(claim *life.Claim, cfg zk.Config) error {
	file, err := claim.File()
	if err != nil {
		return fmt.Errorf("pass the claim of this life to the guard: %w", err)
	}
	timer, err := deadman.New()
	if err != nil {
		return err
	}
	p.guard = guard.NewSupervisor(guard.SupervisorConfig{
		Launch:    guard.Command{Path: thisProgram, Name: os.Args[0], Args: []string{"guard", "--log-format", p.logs.format, "--log-level", p.logs.level}, Life: file}.Launch,
		Settings:  p.guardSettings(cfg),
		FenceHere: p.fenceHere, Lost: p.guardLost,
		Link: p.linkState, Alarm: deadman.NewTracker(timer), Now: boottime.Now, Logger: p.log,
	})
	p.life, err = p.guard.Start()
	return err
}

func (p *parts) guardSettings(cfg zk.Config) guard.Settings {
	z := p.local.ZooKeeper
	s := guard.Settings{
		Version: versionString(), Cluster: p.local.Cluster, Node: p.local.Node,
		VIPsPath: p.state("vips"), ServicesPath: p.state("services"),
		Gate: string(p.local.Gate), Watchdog: string(p.local.Watchdog), WatchdogDevice: p.local.WatchdogDevice,
		ZooKeeper: guard.ZooKeeper{Servers: cfg.Servers, SessionTimeout: cfg.SessionTimeout, User: cfg.User, Password: cfg.Password, WorldRead: cfg.WorldRead},
	}
	if z.TLS != nil {
		files := tlsFiles(*z.TLS)
		s.ZooKeeper.TLS = &files
	}
	return s
}

func tlsFiles(t spec.TLS) zk.TLSFiles {
	return zk.TLSFiles{CA: t.CA, Cert: t.Cert, Key: t.Key, ServerName: t.ServerName}
}

// guardLost ends what is held, once there is a director that could hold.
func (p *parts) guardLost(reason string) {
	if d := p.director; d != nil {
		d.Lost(reason)
	}
}

// fenceHere removes, verified, what a dead guard may have left bound.
func (p *parts) fenceHere() error {
	host, err := p.localHost()
	if err != nil {
		return err
	}
	left, err := host.Sweep()
	if len(left) > 0 {
		p.log.Warn("removed what the guard left bound", zap.Stringers("vips", left))
	}
	return err
}

// localHost is for the time when no guard lives: two at work would not know of
// each other's addresses.
func (p *parts) localHost() (*fence.Host, error) {
	return fence.New(fence.Config{Logger: p.log, Kernel: p.netlink, Announcer: silent{}, Now: boottime.Now, StatePath: p.state("vips")})
}

func (p *parts) linkState(name string) (up, carrier bool, err error) {
	l, err := p.netlink.Link(name)
	return l.Up, l.Carrier, err
}

// silent announces nothing.
type silent struct{}

func (silent) Announce(fence.Link, netip.Addr) error { return nil }

func (p *parts) guardStatus() director.GuardStatus {
	s := p.guard.Status()
	return director.GuardStatus{PID: s.PID, Restarts: s.Restarts}
}
