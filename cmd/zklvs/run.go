package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/health"
	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/control"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/guard"
	"github.com/zklvs/zklvs/internal/ipvshost"
	"github.com/zklvs/zklvs/internal/life"
	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
	"github.com/zklvs/zklvs/ipvs"
)

func runCommand() *cobra.Command {
	var config string
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a director: compete for groups, bind their VIPs, forward with IPVS",
		Long: `Runs the daemon until SIGTERM or SIGINT, which release everything in order:
addresses removed and verified, receipt written, rules removed. It waits for
ZooKeeper as long as it takes, and holds nothing meanwhile.`,
		Example: `  zklvs run
  zklvs run --config ./zklvs.yaml --log-format json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			local, err := readLocal(config)
			if err != nil {
				return err
			}
			log, err := logs.logger()
			if err != nil {
				return err
			}
			thrifty()
			return run(cmd.Context(), local, logs, log)
		},
	}
	addConfig(cmd, &config, "this director's file")
	logs.add(cmd)
	return cmd
}

// thrifty has garbage collected when half as much as is in use has come up, not as
// much again: a director lives for months beside other programs, and makes little
// garbage but where documents change. GOGC overrides it.
func thrifty() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// readLocal reads a director's file and fills in the host name.
func readLocal(file string) (spec.Local, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return spec.Local{}, badInput(fmt.Errorf("%w: write it (see the README) or name another with --config", err))
	}
	l, err := spec.ParseLocal(file, data)
	if err != nil || l.Node != "" {
		return l, err
	}
	name, err := os.Hostname()
	if err != nil {
		return l, fmt.Errorf("host name: %w", err)
	}
	l.Node, _, _ = strings.Cut(strings.ToLower(name), ".")
	if err := spec.CheckName(l.Node); err != nil {
		return l, badInput(fmt.Errorf("%s: the host name does not do as `node`: %w; set node", file, err))
	}
	return l, nil
}

// run wires a director together. Parts are stopped in the reverse order of
// their start: the sessions last, since releasing needs them.
func run(ctx context.Context, local spec.Local, logs logFlags, log *zap.Logger) error {
	if os.Geteuid() != 0 {
		return errors.New("binding addresses and changing IPVS need root: run as root, or through the systemd unit in deploy/")
	}
	claim, err := takeLife(ctx, local, log)
	if err != nil {
		return err
	}
	defer claim.Close()
	p, err := newParts(local, logs, log, claim)
	if err != nil {
		return err
	}
	defer p.close()
	log.Info("starting", zap.String(logfield.Node, local.Node), zap.String("cluster", local.Cluster), zap.String("version", versionString()),
		zap.Strings("fence_layers", p.life.Layers))
	sessions, stopSessions := context.WithCancel(context.WithoutCancel(ctx))
	var background errgroup.Group
	for _, task := range p.background() {
		background.Go(func() error { return ignoreCancelled(task(sessions)) })
	}
	err = p.direct(ctx)
	stopSessions()
	err = errors.Join(err, background.Wait())
	if err == nil {
		log.Info("stopped in order")
	}
	return err
}

// settling is how long the guard of an earlier life may take to end: it settles
// that life's locks.
const settling = 10 * time.Second

// takeLife claims the cluster on this host. It waits for the guard of a life
// that died, not for a director that lives.
func takeLife(ctx context.Context, local spec.Local, log *zap.Logger) (*life.Claim, error) {
	deadline := boottime.Now() + settling
	for told := false; ; told = true {
		claim, err := life.Take(local.Cluster)
		if !errors.Is(err, life.ErrTaken) || boottime.Now() > deadline || control.Status(ctx, local.Socket(), new(struct{})) == nil {
			return claim, err
		}
		if !told {
			log.Info("waiting for a process of an earlier life to end", zap.Duration("at_most", settling))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func ignoreCancelled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// parts are the pieces of a director.
type parts struct {
	local     spec.Local
	logs      logFlags // the guard's too
	log       *zap.Logger
	tree      zk.Tree
	elections *zk.Session // carries nothing but the election
	others    *zk.Session // documents, verdicts, presence
	documents *zk.Documents
	drained   *zk.Documents // operator/drained
	publisher *zk.Publisher
	netlink   *fence.Netlink
	links     *fence.LinkWatch
	ipvsHost  *ipvshost.Host
	traffic   *traffic
	guard     *guard.Supervisor
	life      guard.Life // what the guard offers
	director  *director.Director
	elector   *zk.Elector
	promises  *promises
	keys      *zk.KeyReader
}

// patientReply is how long documents and verdicts wait for an answer: a slow
// server fails every read under way, and nothing there is in a hurry.
const patientReply = 2 * time.Second

func newParts(local spec.Local, logs logFlags, log *zap.Logger, claim *life.Claim) (p *parts, err error) {
	p = &parts{local: local, logs: logs, log: log, traffic: &traffic{connections: connectionList}}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if err = os.MkdirAll(local.RunDir, 0o755); err != nil {
		return p, fmt.Errorf("run_dir: %w", err)
	}
	if p.tree, err = zk.NewTree(local.Cluster); err != nil {
		return p, badInput(err)
	}
	cfg, err := zkConfig(local.ZooKeeper, log)
	if err != nil {
		return p, err
	}
	cfg.Logger = log.Named("election")
	if p.elections, err = zk.New(cfg); err != nil {
		return p, badInput(err)
	}
	cfg.ReplyTimeout, cfg.Logger = patientReply, log.Named("documents")
	if p.others, err = zk.New(cfg); err != nil {
		return p, badInput(err)
	}
	p.documents = zk.NewDocuments(zk.NewStore(p.others, p.tree), log)
	p.drained = zk.NewDrained(zk.NewStore(p.others, p.tree), log)
	p.publisher = zk.NewPublisher(p.others, log)
	if err = p.kernel(); err == nil {
		err = p.startGuard(claim, cfg)
	}
	if err == nil {
		err = p.join()
	}
	return p, err
}

// kernel opens what talks to this host's kernel.
func (p *parts) kernel() (err error) {
	if p.netlink, err = fence.NewNetlink(); err != nil {
		return err
	}
	p.links, err = fence.NewLinkWatch()
	return err
}

// state returns the path of a state file of this cluster.
func (p *parts) state(name string) string {
	return filepath.Join(p.local.RunDir, p.local.Cluster+"."+name)
}

// join makes the director and the elector that drives it.
func (p *parts) join() error {
	scope, err := ipvs.HostScope()
	if err != nil {
		return err
	}
	owned, err := ipvs.OpenOwned(p.state("services"), scope)
	if err != nil {
		return err
	}
	p.ipvsHost, err = ipvshost.New(ipvshost.Config{Logger: p.log, OpenTable: openHostTable, StatePath: p.state("ipvs"), Scope: scope})
	if err != nil {
		return err
	}
	host := life.HostID()
	p.promises = newPromises(p.local, host.MachineID, func() *zk.Elector { return p.elector }, p.log)
	p.keys = zk.NewKeyReader(p.others, p.tree, p.log, p.promises.setKey)
	machine, err := election.New(election.Config{Node: p.local.Node, Host: host, Address: p.promises.address,
		Timing: director.Timing(spec.DefaultCluster(), p.life.Lateness), Random: random, Wall: time.Now})
	if err != nil {
		return badInput(err)
	}
	p.director = director.New(director.Config{
		Node: p.local.Node, Host: hostName(), Addresses: hostAddresses(), MACs: hostMACs(), Peers: p.peers, Guard: p.guardStatus, Interface: p.local.Interface, Version: versionString(),
		Documents: documents{p.documents}, Fencer: p.guard, Checks: health.New(p.log, boottime.Now, health.Probers(p.local.ExecDir)),
		OpenTable: opener(owned), IPVSHost: p.ipvsHost, Drains: drains{p.drained, zk.NewStore(p.others, p.tree)}, OpenViews: openViews, Traffic: p.traffic, LeftoverRules: len(owned.Keys()) > 0, Links: p.links.Hints(),
		Lateness: p.life.Lateness, FenceLayers: p.life.Layers, CannotHold: p.cannotHold,
		Publisher: publisher{p.publisher, p.tree}, Now: boottime.Now, Logger: p.log,
	})
	p.elector = zk.NewElector(zk.ElectorConfig{Session: p.elections, Tree: p.tree, Machine: machine,
		Executor: p.director, Ask: p.promises.ask, Now: boottime.Now, Logger: p.log})
	return nil
}

// cannotHold tells why nothing is held here without ZooKeeper.
func (p *parts) cannotHold() string { return cmp.Or(p.promises.cannot(), p.keys.Problem()) }

// peers reads what the directors say of themselves. One that cannot be
// understood is passed over.
func (p *parts) peers(ctx context.Context) ([]director.Presence, error) {
	nodes, _, err := p.others.Children(ctx, p.tree.Directors())
	if err != nil {
		return nil, err
	}
	var out []director.Presence
	for _, node := range nodes {
		data, _, err := p.others.Get(ctx, p.tree.Director(node))
		var one director.Presence
		if err == nil && json.Unmarshal(data, &one) == nil {
			out = append(out, one)
		}
	}
	return out, nil
}

func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return binary.NativeEndian.Uint64(b[:])
}

// opener opens the IPVS table when it is first needed.
func opener(owned *ipvs.Owned) func() (director.Table, error) {
	return func() (director.Table, error) {
		t, err := ipvs.Open()
		if err != nil {
			return nil, err
		}
		r, err := ipvs.NewReconciler(t, owned)
		if err != nil {
			t.Close()
			return nil, err
		}
		return r, nil
	}
}

// openHostTable opens the table once more, for what is not of one service: the
// two do not wait for each other.
func openHostTable() (ipvshost.Table, error) {
	t, err := ipvs.Open()
	if err != nil {
		return nil, err
	}
	return t, nil
}

// background are the tasks that outlive the director's work.
func (p *parts) background() []func(context.Context) error {
	return []func(context.Context) error{p.elections.Run, p.others.Run, p.documents.Run, p.drained.Run, p.publisher.Run, p.links.Run, p.keys.Run}
}

// direct runs the director, its admin socket, and the check of the credentials.
func (p *parts) direct(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	socket, stopSocket := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error {
		return control.NewServer(p.local.Socket(), func() any { return p.status() }, p.views()).Run(socket)
	})
	g.Go(func() error { return ignoreCancelled(p.checkAccess(ctx)) })
	g.Go(func() error { return notifier{p.log, p.alive}.run(ctx) })
	g.Go(func() error {
		defer stopSocket()
		return p.director.Run(ctx, asked{p.elector, p.promises})
	})
	return g.Wait()
}

// alive reports whether nothing is bound beyond its lease and the loop turns.
func (p *parts) alive() bool { return p.guard.Alive() && p.director.Turns() }

// checkAccess ends the daemon where ZooKeeper refuses its credentials: that is
// a mistake in the file, which no waiting mends.
func (p *parts) checkAccess(ctx context.Context) error {
	for {
		if _, err := p.others.WaitConnected(ctx); err != nil {
			return ctx.Err()
		}
		err := p.others.CheckAccess(ctx, p.tree.Root())
		if err == nil || errors.Is(err, zk.ErrAuth) {
			return err
		}
	}
}

func (p *parts) close() {
	if p.ipvsHost != nil {
		p.ipvsHost.Close()
	}
	p.traffic.close()
	if p.links != nil {
		p.links.Close()
	}
	if p.netlink != nil {
		p.netlink.Close()
	}
}

// documents adapts the copy of the documents to what the director reads.
type documents struct{ d *zk.Documents }

func (d documents) Documents() (map[string][]byte, bool) {
	snap, ok := d.d.Snapshot()
	if !ok {
		return nil, false
	}
	return snap.Data(), true
}

func (d documents) Changes() <-chan struct{} { return d.d.Changes() }

// publisher adapts paths below the cluster's root.
type publisher struct {
	p    *zk.Publisher
	tree zk.Tree
}

func (p publisher) Publish(path string, data []byte) { p.p.Publish(p.tree.Root()+"/"+path, data) }
func (p publisher) Withdraw(path string)             { p.p.Withdraw(p.tree.Root() + "/" + path) }
