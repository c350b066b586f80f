// Package director is the one loop of a director: documents, role and verdicts
// go in, the state that this host should have comes out. What to hold is
// decided by election, how to bind by fence, what the kernel's table should
// look like by ipvs.Diff, who is alive by health; this package joins them.
//
// Guaranteed: while a group is taken over its IPVS rules stand before its
// addresses are bound; while it is given up its addresses are verified gone
// before the election hears of it. A document that is not understood changes
// nothing: the last good one stays in force and the problem is shown.
//
// Not guaranteed: that all documents of one `apply` take effect at one instant.
package director

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/health"
	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/ipvs"
)

// Documents is where the cluster's documents come from.
type Documents interface {
	// Documents returns every document by its path below the cluster's root; ok
	// is false until they have been read once.
	Documents() (docs map[string][]byte, ok bool)
	Changes() <-chan struct{}
}

// Elector is the election as seen from here; see internal/zk.Elector.
type Elector interface {
	// Run returns when, after ctx has ended, nothing of this director answers.
	Run(ctx context.Context) error
	Configure([]election.GroupConfig)
	SetTiming(election.Timing) error
	Fenced(election.Holding)
	GiveUp(h election.Holding, reason string)
	Status() []election.GroupStatus
}

// Fencer binds and removes VIPs; see guard.Supervisor, and fence.Host behind it.
type Fencer interface {
	Run(ctx context.Context) error
	Sweep() ([]fence.VIP, error)
	// Watch tells all VIPs of the documents, held here or not, before any is bound.
	Watch([]fence.VIP) error
	// Queued tells which lock is to be settled for this director if it dies.
	Queued(election.Queued) error
	Bind(election.Grant, []fence.VIP) error
	Extend(election.Grant) error
	Fence(h election.Holding, reason string) error
	RemoveForeign([]fence.VIP) (removed, hidden []fence.Address, err error)
	// Exempt lets packets from other directors in to a VIP of which this host is a
	// real server.
	Exempt(vip netip.Addr, macs []net.HardwareAddr) error
	LinkState(name string) (up, carrier bool, err error)
	SetGARPRefresh(time.Duration)
}

// Checks probes targets; see health.Engine.
type Checks interface {
	Run(ctx context.Context) error
	Set([]health.Target) error
	Snapshot() map[health.Target]health.Verdict
	Changed() <-chan struct{}
}

// Table is the kernel's IPVS table; see ipvs.Reconciler.
type Table interface {
	Reconcile(ctx context.Context, desired []ipvs.Service) (ipvs.Report, error)
}

// Publisher keeps a znode below the cluster's root at a value for as long as
// this director lives.
type Publisher interface {
	Publish(path string, data []byte)
	Withdraw(path string)
}

// Config is what a director is made of. All fields are required.
type Config struct {
	Node      string
	Host      string // host name
	Addresses []string
	Interface string // of groups that name none
	Version   string
	Documents Documents
	Fencer    Fencer
	Checks    Checks
	// OpenTable is called when a group with services is first seen, and again
	// after it failed.
	OpenTable func() (Table, error)
	// Drains are the operator's words about real servers that are to go.
	Drains Drains
	// OpenViews is called when something drains, and again after it failed.
	OpenViews func() (Views, error)
	// Host is this host's IPVS settings, put back at the end. If the director dies
	// they stay, and its guard removes only the services: the next life adopts them.
	IPVSHost Host
	// Traffic is asked while services are held here.
	Traffic Traffic
	// LeftoverRules tells that an earlier life left rules in the kernel.
	LeftoverRules bool
	// Lateness is the fence lateness of this host's layers, and FenceLayers their names.
	Lateness    time.Duration
	FenceLayers []string
	// CannotHold tells why this director cannot hold without ZooKeeper, nor promise
	// anything to those who do; "" if it can.
	CannotHold func() string
	// Guard tells how the guard is.
	Guard func() GuardStatus
	// Peers reads what all directors say of themselves.
	Peers func(ctx context.Context) ([]Presence, error)
	// MACs are this host's hardware addresses by interface.
	MACs map[string]string
	// Links yields after the state of some interface has changed.
	Links     <-chan struct{}
	Publisher Publisher
	Now       func() time.Duration
	Logger    *zap.Logger
}

const (
	// pollInterval is how often everything is looked at without a hint.
	pollInterval = time.Second
	// stuck is after how long without a look the loop counts as stuck: a guard
	// that does not answer takes some seconds to be replaced.
	stuck = 15 * time.Second
)

// Director joins election, fencing, rules and checks on one host.
type Director struct {
	cfg      Config
	log      *zap.Logger
	rules    *rules
	drains   *drains
	settings *settings
	hanging  *hanging
	started  time.Time

	looked atomic.Int64 // time.Duration: when the loop looked at everything last

	mu       sync.Mutex // guards what follows
	elector  Elector    // written before anything else runs
	docs     documents
	warm     warm // of docs
	holdings map[string]*holding
	unfit    map[string]string // by group
	failed   map[string]failure
	// unwatched is why the VIPs of the documents are not all gated, "" if they are.
	unwatched string
	targets   map[health.Target]bool // as last given to the checks
	named     naming

	// The pass over the rules alone uses these two.
	asked   asked
	desired []ipvs.Service

	published map[string]string
	groups    []election.GroupConfig
	lossTold  *string // why groups are not held without ZooKeeper, as last logged
	group     *errgroup.Group
	running   context.Context
}

// failure is why a group could not be carried out here, kept for its back-off.
type failure struct {
	reason string
	until  time.Duration
}

// New returns a director that Run starts.
func New(cfg Config) *Director {
	d := &Director{
		cfg:       cfg,
		log:       cfg.Logger,
		started:   time.Now(),
		holdings:  map[string]*holding{},
		unfit:     map[string]string{},
		failed:    map[string]failure{},
		published: map[string]string{},
	}
	d.drains = newDrains(cfg)
	d.rules = newRules(cfg.OpenTable, d.desiredRules, d.drains.passed, cfg.Logger)
	d.settings = newSettings(cfg.IPVSHost, d.desiredHost, cfg.Logger)
	d.hanging = newHanging(cfg.Traffic, d.heldServices, cfg.Now, cfg.Logger)
	return d
}

// Run removes what an earlier life left, then directs until ctx ends and
// everything is released in order. The election's and the publisher's sessions
// must outlive it. A part that ends by itself ends the director in the same
// order: what fences outlives the election.
func (d *Director) Run(ctx context.Context, elector Elector) error {
	d.mu.Lock()
	d.elector = elector
	d.mu.Unlock()
	if err := d.sweep(ctx); err != nil {
		return err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	elect, release := context.WithCancel(ctx)
	defer release()
	d.group, d.running = new(errgroup.Group), work
	part := func(run func(context.Context) error) {
		d.group.Go(func() error {
			defer release()
			return ignoreCancel(run(work))
		})
	}
	part(d.cfg.Fencer.Run)
	part(d.cfg.Checks.Run)
	part(d.rules.run)
	part(d.settings.run)
	part(d.exemptions)
	part(func(ctx context.Context) error { return d.drains.run(ctx, d.answering) })
	part(d.hanging.run)
	part(d.loop)
	d.group.Go(func() error {
		defer stop() // nothing answers any more: the rest may go
		return ignoreCancel(elector.Run(elect))
	})
	err := d.group.Wait()
	ctx = context.WithoutCancel(ctx)
	return errors.Join(err, d.rules.clear(ctx), d.cfg.IPVSHost.Restore(ctx))
}

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// sweep removes leftovers of an earlier life: the election may only start when
// they are verified gone.
func (d *Director) sweep(ctx context.Context) error {
	vips, err := d.cfg.Fencer.Sweep()
	if err != nil {
		return fmt.Errorf("remove the addresses that an earlier life left: %w", err)
	}
	for _, v := range vips {
		d.log.Warn("removed an address that an earlier life left", zap.String(logfield.VIP, v.Address.String()))
	}
	if !d.cfg.LeftoverRules {
		return nil
	}
	d.log.Warn("removing IPVS rules that an earlier life left")
	if err := d.rules.clear(ctx); err != nil {
		return fmt.Errorf("remove the IPVS rules that an earlier life left: %w", err)
	}
	return nil
}

// loop reacts to hints, and looks at everything once a second besides.
func (d *Director) loop(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		d.refresh()
		d.looked.Store(int64(d.cfg.Now()))
		select {
		case <-ctx.Done():
			return nil
		case <-d.cfg.Documents.Changes():
		case <-d.cfg.Drains.Changes():
		case <-d.drains.changed:
		case <-d.cfg.Checks.Changed():
			d.rules.kick()
		case <-d.cfg.Links:
		case <-tick.C:
		}
	}
}

// Turns reports whether the loop is not stuck; also before it has begun.
func (d *Director) Turns() bool {
	last := time.Duration(d.looked.Load())
	return last == 0 || d.cfg.Now()-last < stuck
}

// refresh brings every part up to date with the documents and with what was
// found out about this host.
func (d *Director) refresh() {
	raw, ok := d.cfg.Documents.Documents()
	if !ok {
		return
	}
	ready, drains := d.drains.load()
	if !ready {
		return
	}
	sp, problems, changed := d.load(raw)
	if changed {
		d.changed(sp, problems)
	}
	if drains {
		d.rules.kick()
	}
	d.watch(sp)
	d.configure(sp)
	d.removeForeign(sp)
	d.publish(sp)
}

// load puts documents in force, together with their checks: rules made from new
// documents and verdicts on old targets would know no living real server. They
// are read without d.mu, which the election needs for every grant.
func (d *Director) load(raw map[string][]byte) (sp *spec.Spec, problems []string, changed bool) {
	d.mu.Lock()
	docs := d.docs
	d.mu.Unlock()
	if !docs.load(raw) {
		return docs.spec, docs.problems, false
	}
	targets, warm := checkTargets(docs.spec, d.cfg.Interface), d.warmGroups(docs.spec)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logWarm(d.warm, warm)
	d.docs, d.warm = docs, warm
	d.setChecks(targets)
	return docs.spec, docs.problems, true
}

// changed applies what new documents say.
func (d *Director) changed(sp *spec.Spec, problems []string) {
	for _, p := range problems {
		d.log.Error("a document is not usable: its last good version stays in force", zap.String(logfield.Reason, p))
	}
	d.log.Info("documents in force", zap.Int("groups", len(sp.Groups)), zap.Int("services", len(sp.Services)), zap.Int("problems", len(problems)))
	d.cfg.Fencer.SetGARPRefresh(sp.Cluster.GARPRefresh)
	if err := d.elector.SetTiming(Timing(sp.Cluster, d.cfg.Lateness)); err != nil {
		d.log.Error("the cluster's timing is refused; the earlier one stays in force", zap.Error(err))
	}
	d.rules.interval(sp.Cluster.IPVSCheckInterval)
	d.rules.kick()
	d.settings.interval(sp.Cluster.IPVSCheckInterval)
	d.settings.kick()
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, h := range d.holdings {
		if g, ok := sp.Groups[name]; ok {
			h.replaceVIPs(d.vips(g))
		}
	}
}

// Timing is what the cluster's document says about leases, on a host whose fence
// may be late by lateness.
func Timing(c spec.Cluster, lateness time.Duration) election.Timing {
	return election.Timing{Lease: c.Lease, Renew: c.Renewal(), Drift: c.Drift, Lateness: lateness}
}

// Lost tells that the guard under which groups are held has died: those
// holdings are over.
func (d *Director) Lost(reason string) {
	d.mu.Lock()
	elector := d.elector
	var held []election.Holding
	for _, h := range d.holdings {
		h.mu.Lock()
		if h.grant != nil {
			held = append(held, h.grant.Holding)
		}
		h.mu.Unlock()
	}
	d.mu.Unlock()
	for _, h := range held {
		elector.GiveUp(h, reason)
	}
}
