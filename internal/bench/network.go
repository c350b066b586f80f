package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/zklvs/zklvs/internal/lab"
)

const (
	// patience bounds every wait that is not itself what is measured.
	patience = 40 * time.Second
	// probeEvery is the time between two requests of a client.
	probeEvery = 2 * time.Millisecond
	// askEvery is the time between two questions who has the VIP, and askUMLEvery in
	// user-mode Linux, where a question that goes to every host costs a millisecond.
	askEvery, askUMLEvery = 2 * time.Millisecond, 10 * time.Millisecond
)

// fault is what is done to the holder of a VIP.
type fault string

// The faults. Where keepalived has no part of its own for what zklvs's director and
// guard are, all its processes are struck.
const (
	killed     fault = "SIGKILL"                       // zklvs: of the director
	killedBoth fault = "SIGKILL of director and guard" // zklvs alone
	frozen     fault = "SIGSTOP"                       // zklvs: of the director
	frozenBoth fault = "SIGSTOP of director and guard" // zklvs alone
	cutOff     fault = "host cut off"                  // from LAN and, zklvs, from ZooKeeper
	stopped    fault = "planned stop"                  // SIGTERM of the main process
)

// heals tells whether the fault goes away by itself being taken away, the holder
// being alive: then what follows is observed too.
func (f fault) heals() bool { return f == frozen || f == frozenBoth || f == cutOff }

// contender is a pair of hosts that keep a VIP answered.
type contender interface {
	name() string
	vip() netip.Addr
	// ready waits until one host holds and the other one stands by.
	ready(ctx context.Context) (holder, heir *lab.Host, err error)
	// strike does the fault to the holder.
	strike(f fault, holder *lab.Host) error
	// repair undoes it: what was stopped goes on, what has ended is started again.
	// It does not wait until both are ready.
	repair(ctx context.Context, f fault, holder *lab.Host) error
	// suffers tells whether the fault is one of this contender's.
	suffers(f fault) bool
}

// network is a lab with a client, ZooKeeper, and contenders.
type network struct {
	lab        *lab.Lab
	zookeeper  *lab.Ensemble
	client     *lab.Host
	zklvs      *zklvsPair
	contenders []contender
}

// networkOptions say what is in it.
type networkOptions struct {
	// services are put behind the VIPs, with this scheduler; "" for none.
	scheduler string
	lease     time.Duration // of zklvs at first
	// sysctls are set on keepalived's directors; zklvs sets its own.
	sysctls    []string
	contenders []string
}

func (o networkOptions) wants(name string) bool { return slices.Contains(o.contenders, name) }

// startNetwork builds it. Close it also after an error.
func startNetwork(ctx context.Context, env Env, o networkOptions) (*network, error) {
	l, err := lab.New(lab.Options{})
	if err != nil {
		return &network{}, err
	}
	n := &network{lab: l}
	hosts, err := l.AddNodes("zk1", "client", "node02", "node03")
	if err != nil {
		return n, err
	}
	n.client = hosts[1]
	if o.wants(Zklvs) {
		env.Progress("starting ZooKeeper")
		if n.zookeeper, err = l.StartZooKeeper(ctx, lab.ZooKeeperOptions{}, hosts[0]); err != nil {
			return n, err
		}
	}
	var servers []netip.Addr
	if o.scheduler != "" {
		if servers, err = n.startRealServers(ctx, env); err != nil {
			return n, err
		}
	}
	err = n.startContenders(ctx, env, o, servers)
	return n, err
}

// inNetwork measures in a network that it takes down again, also after an error. Logs
// are kept then, or where they are asked for.
func inNetwork(ctx context.Context, env Env, o networkOptions, measure func(*network, *Result) error) (Result, error) {
	r := Result{}
	n, err := startNetwork(ctx, env, o)
	if err == nil {
		err = measure(n, &r)
	}
	if err != nil || env.Logs {
		err = errors.Join(err, n.keepLogs(env))
	}
	env.Progress("taking the network down")
	return r, errors.Join(err, n.Close())
}

// Close ends everything and leaves nothing behind.
func (n *network) Close() error {
	if n.lab == nil {
		return nil
	}
	return n.lab.Close()
}

// vips are those of the contenders, in the order of the series.
var vips = map[string]netip.Addr{
	Zklvs:  lab.VIP,
	Notes:  netip.MustParseAddr("192.168.150.110"),
	Tuned:  netip.MustParseAddr("192.168.150.120"),
	Synced: netip.MustParseAddr("192.168.150.130"),
}

// startRealServers starts nginx on both and hides every VIP there.
func (n *network) startRealServers(ctx context.Context, env Env) ([]netip.Addr, error) {
	var servers []netip.Addr
	up := []string{env.Zklvs, "realserver", "up", "--interface", "eth0", "--label", "lo:1"}
	for _, name := range []string{Zklvs, Notes, Tuned, Synced} {
		up = append(up, "--vip", vips[name].String())
	}
	for _, name := range []string{"node02", "node03"} {
		h := n.lab.Host(name)
		env.Progress("starting nginx on %s", name)
		if _, err := lab.StartNginx(ctx, h, name); err != nil {
			return nil, err
		}
		if _, err := h.Run(ctx, up...); err != nil {
			return nil, err
		}
		servers = append(servers, h.Addr("eth0"))
	}
	return servers, nil
}

func (n *network) startContenders(ctx context.Context, env Env, o networkOptions, servers []netip.Addr) error {
	if o.wants(Zklvs) {
		env.Progress("starting zklvs on two directors")
		z, err := startZklvs(ctx, n, env, o, servers)
		if err != nil {
			return err
		}
		n.zklvs = z
		n.contenders = append(n.contenders, z)
	}
	for i, p := range []keepalivedPair{
		{label: Notes, config: lab.KeepalivedConfig{RouterID: 51}},
		{label: Tuned, config: lab.KeepalivedConfig{RouterID: 52, Advert: 100 * time.Millisecond}},
		{label: Synced, config: lab.KeepalivedConfig{RouterID: 53, SyncID: 53}},
	} {
		if !o.wants(p.label) {
			continue
		}
		env.Progress("starting %s, on two hosts", p.label)
		p.config.RealServers, p.config.Scheduler = servers, o.scheduler
		if err := p.start(ctx, n, byte(31+10*i), o.sysctls); err != nil {
			return err
		}
		n.contenders = append(n.contenders, &p)
	}
	return nil
}

// addDirector makes a host in LAN and Mgmt.
func (n *network) addDirector(name string, last byte, sysctls []string) (*lab.Host, error) {
	h, err := n.lab.AddHost(name,
		lab.NIC{Name: "eth0", LAN: lab.LAN, Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 150, last}), 24)},
		lab.NIC{Name: "eth1", LAN: lab.Mgmt, Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, 0, last}), 24)})
	if err != nil {
		return nil, err
	}
	for _, setting := range sysctls {
		if _, err := h.Run(context.Background(), "sysctl", "-q", "-w", setting); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// within bounds a wait.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("not within %v", d))
}

// pause waits for a time, or for ctx to end.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

var errNotYet = errors.New("not yet")
