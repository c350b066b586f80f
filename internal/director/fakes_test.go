package director

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/fence/fencetest"
	"github.com/zklvs/zklvs/health"
	"github.com/zklvs/zklvs/ipvs"
)

// journal is what the parts around a director saw, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, a...))
}

// take returns what was written since the last time.
func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := j.lines
	j.lines = nil
	return out
}

type fakeDocuments struct {
	mu      sync.Mutex
	docs    map[string][]byte
	changes chan struct{}
}

func (f *fakeDocuments) Documents() (map[string][]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.docs, f.docs != nil
}

func (f *fakeDocuments) Changes() <-chan struct{} { return f.changes }

// set replaces all documents.
func (f *fakeDocuments) set(docs map[string]string) {
	f.mu.Lock()
	f.docs = map[string][]byte{}
	for path, text := range docs {
		f.docs[path] = []byte(text)
	}
	f.mu.Unlock()
	f.changes <- struct{}{}
}

// fakeElector grants what a test says. Like the real one it fences what it is
// asked to give up, and its Run ends only when everything granted is fenced.
type fakeElector struct {
	journal *journal
	// onFenced is called in Fenced, before anything else.
	onFenced  func(election.Holding)
	timingErr error
	onLoss    string // of groups that are to be held without ZooKeeper, "" for "hold"

	mu         sync.Mutex
	exec       *Director
	held       map[election.Holding]bool
	changed    chan struct{}
	groups     []election.GroupConfig
	configured int
	ready      chan struct{} // closed by the first Configure
	timing     election.Timing
}

func (e *fakeElector) Run(ctx context.Context) error {
	e.journal.add("election runs")
	<-ctx.Done()
	for _, h := range e.holdings() {
		e.exec.Fence(election.Fence{Holding: h, Reason: "stopping"})
	}
	for len(e.holdings()) > 0 {
		<-e.changed
	}
	e.journal.add("election ended")
	return ctx.Err()
}

func (e *fakeElector) holdings() []election.Holding {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Keys(e.held))
}

func (e *fakeElector) Configure(g []election.GroupConfig) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.groups = g
	if e.configured++; e.configured == 1 {
		close(e.ready)
	}
}

func (e *fakeElector) SetTiming(t election.Timing) error {
	if e.timingErr != nil {
		return e.timingErr
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.timing = t
	return nil
}

func (e *fakeElector) Fenced(h election.Holding) {
	if e.onFenced != nil {
		e.onFenced(h)
	}
	e.journal.add("fenced %s", h.Lock)
	e.mu.Lock()
	delete(e.held, h)
	e.mu.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func (e *fakeElector) GiveUp(h election.Holding, reason string) {
	e.journal.add("give up %s: %s", h.Lock, reason)
	e.exec.Fence(election.Fence{Holding: h, Reason: reason})
}

func (e *fakeElector) Status() []election.GroupStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []election.GroupStatus
	for _, g := range e.groups {
		loss := "fence"
		if g.Hold {
			loss = cmp.Or(e.onLoss, "hold")
		}
		out = append(out, election.GroupStatus{Group: g.Name, Ineligible: g.Ineligible, OnZooKeeperLoss: loss})
	}
	return out
}

// ineligible returns why the director says that it may not hold a group.
func (e *fakeElector) ineligible(t *testing.T, group string) string {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, g := range e.groups {
		if g.Name == group {
			return g.Ineligible
		}
	}
	t.Fatalf("group %s is not configured: %+v", group, e.groups)
	return ""
}

// fakeTable records what is desired. before, if set, is called before each pass.
type fakeTable struct {
	drift   []ipvs.Drift // what the next pass finds
	journal *journal
	before  func(desired []ipvs.Service) error

	mu   sync.Mutex
	last []ipvs.Service
}

func (f *fakeTable) Reconcile(_ context.Context, desired []ipvs.Service) (ipvs.Report, error) {
	if f.before != nil {
		if err := f.before(desired); err != nil {
			return ipvs.Report{}, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = desired
	f.journal.add("rules%s", printed(desired))
	drift := f.drift
	f.drift = nil
	return ipvs.Report{Drift: drift}, nil
}

func (f *fakeTable) services() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return printed(f.last)
}

// printed is a table on one line: " TCP 192.0.2.100:80 -> 192.0.2.11:80=1".
func printed(services []ipvs.Service) string {
	var b strings.Builder
	for _, s := range services {
		fmt.Fprintf(&b, " %s ->", s.Key)
		for _, d := range s.Destinations {
			fmt.Fprintf(&b, " %s=%d", d.AddrPort(), d.Weight)
		}
	}
	if b.Len() == 0 {
		return " none"
	}
	return b.String()
}

type fakeChecks struct {
	changed chan struct{}
	fail    chan error // ends Run
	onSet   func([]health.Target)

	mu       sync.Mutex
	sets     [][]health.Target
	verdicts map[health.Target]health.Verdict
}

func (f *fakeChecks) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-f.fail:
		return err
	}
}

func (f *fakeChecks) Set(targets []health.Target) error {
	if f.onSet != nil {
		f.onSet(targets)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sets = append(f.sets, targets)
	return nil
}

func (f *fakeChecks) Snapshot() map[health.Target]health.Verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.verdicts)
}

func (f *fakeChecks) Changed() <-chan struct{} { return f.changed }

// set counts calls of Set and returns the last one's targets.
func (f *fakeChecks) set() (calls int, last []health.Target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sets) == 0 {
		return 0, nil
	}
	return len(f.sets), f.sets[len(f.sets)-1]
}

// report gives every target whose words contain text a verdict.
func (f *fakeChecks) report(t *testing.T, text string, v health.Verdict) {
	t.Helper()
	_, targets := f.set()
	found := false
	f.mu.Lock()
	for _, target := range targets {
		if strings.Contains(target.String(), text) {
			f.verdicts[target], found = v, true
		}
	}
	f.mu.Unlock()
	if !found {
		t.Fatalf("no target %q among %v", text, targets)
	}
	f.changed <- struct{}{}
}

type fakePublisher struct {
	onPublish func(path, data string)

	mu     sync.Mutex
	now    map[string]string
	events []string // "publish PATH", "withdraw PATH"
}

func (f *fakePublisher) Publish(path string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now[path] = string(data)
	if f.onPublish != nil {
		f.onPublish(path, string(data))
	}
	f.events = append(f.events, "publish "+path)
}

func (f *fakePublisher) Withdraw(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.now, path)
	f.events = append(f.events, "withdraw "+path)
}

func (f *fakePublisher) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.events
	f.events = nil
	slices.Sort(out)
	return out
}

// failingFencer is a real fence.Host whose fences can be made to fail.
type failingFencer struct {
	*fence.Host
	onBind   func(fence.Holding) // called after a bind
	mu       sync.Mutex
	failures int             // of the next fences
	bindErr  error           // of the next binds
	binds    []time.Duration // deadlines asked for
	exempt   map[netip.Addr][]net.HardwareAddr
}

func (f *failingFencer) Exempt(vip netip.Addr, macs []net.HardwareAddr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.exempt == nil {
		f.exempt = map[netip.Addr][]net.HardwareAddr{}
	}
	f.exempt[vip] = macs
	return nil
}

func (f *failingFencer) Queued(election.Queued) error { return nil }

func (f *failingFencer) Extend(g election.Grant) error {
	return f.Host.Extend(fence.Holding(g.Holding), g.Deadline)
}

func (f *failingFencer) Fence(h election.Holding, reason string) error {
	f.mu.Lock()
	fails := f.failures > 0
	if fails {
		f.failures--
	}
	f.mu.Unlock()
	if fails {
		return errors.New("the kernel is busy")
	}
	return f.Host.Fence(fence.Holding(h), reason)
}

func (f *failingFencer) Bind(g election.Grant, vips []fence.VIP) error {
	f.mu.Lock()
	err := f.bindErr
	f.binds = append(f.binds, g.Deadline)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	err = f.Host.Bind(fence.Holding(g.Holding), vips, g.Deadline)
	if f.onBind != nil {
		f.onBind(fence.Holding(g.Holding))
	}
	return err
}

func (f *failingFencer) failBind(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bindErr = err
}

type silence struct{}

func (silence) Announce(fence.Link, netip.Addr) error { return nil }

// bench is a director with a kernel in memory, a real fence.Host and fakes.
type bench struct {
	t         *testing.T
	d         *Director
	journal   *journal
	docs      *fakeDocuments
	elector   *fakeElector
	kernel    *fencetest.Kernel
	fencer    *failingFencer
	checks    *fakeChecks
	table     *fakeTable
	drains    *fakeDrains
	views     *fakeViews
	ipvsHost  *fakeHost
	publisher *fakePublisher
	traffic   *fakeTraffic
	links     chan struct{}
	logs      *observer.ObservedLogs
	now       func() time.Duration
	cfg       Config // may be changed before the start

	mu      sync.Mutex
	openErr error
	ended   chan error
	cancel  context.CancelFunc
}

// play runs a director in a synctest bubble: prepare before it starts, story
// while it runs. Whatever the story leaves is released at the end.
func play(t *testing.T, docs map[string]string, prepare, story func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, docs)
		if prepare != nil {
			prepare(b)
		}
		b.run()
		story(b)
		if err := b.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func newBench(t *testing.T, docs map[string]string) *bench {
	start := time.Now()
	core, logs := observer.New(zapcore.DebugLevel)
	j := &journal{}
	b := &bench{
		t: t, journal: j, logs: logs,
		now:       func() time.Duration { return time.Since(start) + time.Hour },
		docs:      &fakeDocuments{changes: make(chan struct{}, 1)},
		elector:   &fakeElector{journal: j, held: map[election.Holding]bool{}, changed: make(chan struct{}, 1), ready: make(chan struct{})},
		checks:    &fakeChecks{changed: make(chan struct{}, 1), fail: make(chan error, 1), verdicts: map[health.Target]health.Verdict{}},
		table:     &fakeTable{journal: j},
		drains:    newFakeDrains(),
		views:     &fakeViews{counts: map[string]Counts{}},
		ipvsHost:  &fakeHost{journal: j},
		publisher: &fakePublisher{now: map[string]string{}},
		traffic:   &fakeTraffic{},
		links:     make(chan struct{}, 1),
		ended:     make(chan error, 1),
	}
	if docs != nil {
		b.docs.set(docs)
	}
	b.kernel = fencetest.NewKernel(b.now)
	b.kernel.AddLink("eth0", nil)
	b.kernel.AddLink("eth1", nil)
	b.kernel.Hook = func(op string, a fence.Address) error {
		switch op {
		case "replace":
			j.add("bind %s", a.Prefix.Addr())
		case "remove":
			j.add("remove %s", a.Prefix.Addr())
		}
		return nil
	}
	b.fencer = &failingFencer{Host: b.host(filepath.Join(t.TempDir(), "vips"))}
	b.cfg = Config{
		Node: "node01", Interface: "eth0", Version: "v1", Lateness: fence.LatenessUngated, FenceLayers: []string{"test layer"}, Documents: b.docs, Fencer: b.fencer, Checks: b.checks,
		OpenTable: b.open, IPVSHost: b.ipvsHost, Traffic: b.traffic, Drains: b.drains, OpenViews: func() (Views, error) { return b.views, nil }, CannotHold: func() string { return "" }, Guard: func() GuardStatus { return GuardStatus{PID: 7} }, Links: b.links, Publisher: b.publisher, Now: b.now, Logger: zap.New(core),
	}
	return b
}

func (b *bench) host(state string) *fence.Host {
	h, err := fence.New(fence.Config{Logger: zap.NewNop(), Kernel: b.kernel, Announcer: silence{}, Now: b.now, StatePath: state})
	if err != nil {
		b.t.Fatal(err)
	}
	return h
}

func (b *bench) open() (Table, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.openErr != nil {
		return nil, b.openErr
	}
	return b.table, nil
}

func (b *bench) failOpen(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.openErr = err
}

// run starts the director in a bubble.
func (b *bench) run() {
	b.begin()
	synctest.Wait()
}

func (b *bench) begin() {
	b.d = New(b.cfg)
	b.elector.exec = b.d
	var ctx context.Context
	ctx, b.cancel = context.WithCancel(b.t.Context())
	go func() { b.ended <- b.d.Run(ctx, b.elector) }()
}

func (b *bench) stop() error {
	b.cancel()
	return b.wait()
}

// wait waits for the end of Run. A bubble cannot be left while its goroutines
// run, hence the panic.
func (b *bench) wait() error {
	select {
	case err := <-b.ended:
		return err
	case <-time.After(time.Minute):
		panic("director: Run does not end; journal: " + strings.Join(b.journal.take(), "; "))
	}
}

// pass lets time go by.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// apply replaces the documents and waits until the director has seen them.
func (b *bench) apply(docs map[string]string) {
	b.docs.set(docs)
	synctest.Wait()
}

func hold(group string, epoch uint64) election.Holding {
	return election.Holding{Group: group, Lock: fmt.Sprintf("%s-lock%d", group, epoch), Epoch: epoch}
}

// grant gives a lease from now on, and waits until it is acted upon.
func (b *bench) grant(h election.Holding, lease time.Duration) {
	b.order(h, lease)
	synctest.Wait()
}

func (b *bench) order(h election.Holding, lease time.Duration) {
	b.elector.mu.Lock()
	b.elector.held[h] = true
	b.elector.mu.Unlock()
	b.d.Grant(election.Grant{Holding: h, Deadline: b.now() + lease})
}

func (b *bench) fence(h election.Holding) {
	b.d.Fence(election.Fence{Holding: h, Reason: "test"})
	synctest.Wait()
}

// bound lists the addresses that are bound, without those of `own`.
func (b *bench) bound() []string {
	b.t.Helper()
	table, err := b.kernel.Addresses()
	if err != nil {
		b.t.Fatal(err)
	}
	out := []string{}
	for _, a := range table {
		out = append(out, a.Prefix.Addr().String())
	}
	slices.Sort(out)
	return out
}

func (b *bench) wantBound(want ...string) {
	b.t.Helper()
	if got := b.bound(); !slices.Equal(got, want) {
		b.t.Errorf("bound are %v, want %v", got, want)
	}
}

// logged counts log lines with a text.
func (b *bench) logged(text string) int { return b.logs.FilterMessageSnippet(text).Len() }

// The documents of most tests.
const (
	webGroup   = "vips: [192.0.2.100]\n"
	webService = `group: web
listen: 192.0.2.100:80/tcp
scheduler: rr
forward: dr
real_servers:
  - {address: 192.0.2.11:80, weight: 1}
  - {address: 192.0.2.12:80, weight: 2}
`
	// With this the table is looked at only when the director has a reason.
	calm = "ipvs_check_interval: 1h\n"
)

func webDocs() map[string]string {
	return map[string]string{"spec/cluster": calm, "spec/groups/web": webGroup, "spec/services/http": webService}
}

func checked(check string) map[string]string {
	docs := webDocs()
	docs["spec/services/http"] = webService + "check: " + check + "\n"
	return docs
}

func with(docs map[string]string, path, text string) map[string]string {
	docs = maps.Clone(docs)
	docs[path] = text
	return docs
}
