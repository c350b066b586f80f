package director

import (
	"bytes"
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/drain"
	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/ipvs"
)

// Drains is what the operator wants drained.
type Drains interface {
	// Entries returns every entry by name; ok is false until they have been read
	// once.
	Entries() (entries map[string]drain.Stored, ok bool)
	Changes() <-chan struct{}
	// Finish replaces the entry of that version, if the lock in the group's queue is
	// still there.
	Finish(ctx context.Context, name string, version int32, data []byte, group, lock string) error
}

// Views reads what the kernel counts, beside Table, so that no reading holds up
// the rules.
type Views interface {
	// Counts are the connections of the destinations of services.
	Counts(services ...ipvs.Key) (map[ipvs.Key]map[netip.AddrPort]Counts, error)
	// Established counts the connections in the kernel's list that can carry data
	// and that match. It is slow where there are many connections.
	Established(match func(Connection) bool) (int, error)
	// TemplatesExpire tells whether a client that is bound to a destination of weight
	// 0 by persistence goes elsewhere with its next connection.
	TemplatesExpire() bool
	Close()
}

// Counts are connections of one destination, as `ipvsadm -L` counts them.
type Counts struct {
	Active, Inactive int
	Persistent       int // templates: clients that are bound to it
}

// Connection is an entry of the kernel's list of connections.
type Connection struct {
	Protocol             ipvs.Protocol
	Virtual, Destination netip.AddrPort
}

const (
	drainPoll = time.Second
	// drainSettle is for how long a destination must have had weight 0 before no
	// connections mean that none will come: a SYN that was let through is under way,
	// and after a fail-over the clients' next packets are.
	drainSettle = 3 * time.Second
	// drainWait is for how long nothing is done because the entries cannot be read. A
	// director that began without them would send clients to a drained real server.
	drainWait = 5 * time.Second
	// finishTimeout bounds the writing of an entry.
	finishTimeout = 5 * time.Second
)

// drains carries out the operator's entries on this host.
type drains struct {
	source  Drains
	open    func() (Views, error)
	node    string
	now     func() time.Duration
	log     *zap.Logger
	changed chan struct{} // there is something to publish

	mu        sync.Mutex // guards what follows
	set       drain.Set
	raw       map[string]drain.Stored
	known     bool
	revisions uint64        // of set
	firstLook time.Duration // when the entries were first asked for, 0: never
	next      []drained     // what the pass over the rules under way installs
	installed []drained     // what the kernel's table shows
	counts    map[place]Counts

	// run's own.
	views    Views
	progress map[part]*progress
}

// place is a destination in the kernel's table.
type place struct {
	key         ipvs.Key
	destination netip.AddrPort
}

// drained is a destination that an entry is about.
type drained struct {
	place
	service, group string
	server         string // see spec.RealServer.String
	held           bool   // else the rules are those of a warm standby
	state          drain.State
	items          []drain.Item
}

func newDrains(cfg Config) *drains {
	return &drains{source: cfg.Drains, open: cfg.OpenViews, node: cfg.Node, now: cfg.Now, log: cfg.Logger,
		changed: make(chan struct{}, 1), counts: map[place]Counts{}, progress: map[part]*progress{}}
}

// load takes in what ZooKeeper holds. ready is false as long as rules are better
// not made; changed tells that they are to be made anew.
func (d *drains) load() (ready, changed bool) {
	raw, ok := d.source.Entries()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !ok {
		if d.firstLook == 0 {
			d.firstLook = d.now()
		}
		return d.known || d.now()-d.firstLook >= drainWait, false
	}
	if d.known && maps.EqualFunc(raw, d.raw, sameEntry) {
		return true, false
	}
	d.raw, d.set, d.known = raw, drain.Load(raw), true
	d.revisions++
	for _, p := range d.set.Problems {
		d.log.Error("a drain is not understood", zap.String(logfield.Reason, p))
	}
	return true, true
}

// revision is another number whenever the entries are others.
func (d *drains) revision() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.revisions
}

func sameEntry(a, b drain.Stored) bool {
	return a.Version == b.Version && bytes.Equal(a.Data, b.Data)
}

// reduce takes what is drained out of the rules: weight 0, or no destination at
// all. It is called in a pass over the rules, and passed after it has succeeded.
// here are the groups whose rules stand in the table, also those of a warm standby.
func (d *drains) reduce(sp *spec.Spec, here, held map[string]bool, services []ipvs.Service) []ipvs.Service {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = drainedIn(sp, here, held, d.set)
	if len(d.next) == 0 {
		return services
	}
	states := map[place]drain.State{}
	for _, one := range d.next {
		states[one.place] = one.state
	}
	for i, s := range services {
		var left []ipvs.Destination
		for _, dest := range s.Destinations {
			switch states[place{s.Key, dest.AddrPort()}] {
			case drain.Drained:
				continue
			case drain.Draining:
				dest.Weight = 0
			}
			left = append(left, dest)
		}
		services[i].Destinations = left
	}
	return services
}

// passed notes that the kernel's table shows what reduce returned last.
func (d *drains) passed() {
	d.mu.Lock()
	news := len(d.installed)+len(d.next) > 0
	d.installed = d.next
	d.mu.Unlock()
	if news {
		d.hint()
	}
}

func (d *drains) hint() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// drainedIn lists the destinations that entries are about, whether their checks
// let them into the table or not.
func drainedIn(sp *spec.Spec, here, held map[string]bool, set drain.Set) []drained {
	if len(set.Items) == 0 {
		return nil
	}
	var out []drained
	for _, name := range slices.Sorted(maps.Keys(sp.Services)) {
		s := sp.Services[name]
		if !here[s.Group] {
			continue
		}
		for _, rs := range s.RealServers {
			if !set.Names(rs.Address.Addr()) {
				continue
			}
			for _, p := range places(s, rs) {
				if state, items := set.At(s.Group, name, p.destination); state != drain.None {
					out = append(out, drained{p, name, s.Group, rs.String(), held[s.Group], state, items})
				}
			}
		}
	}
	return out
}

// DrainMeans tells whether a drain of that target is about a real server of a service.
func DrainMeans(t drain.Target, service string, s spec.Service, rs spec.RealServer) bool {
	return slices.ContainsFunc(places(s, rs), func(p place) bool { return t.Matches(service, p.destination) })
}

// places are the destinations that a real server of a service becomes.
func places(s spec.Service, rs spec.RealServer) []place {
	s.RealServers = []spec.RealServer{rs}
	one := &spec.Spec{Services: map[string]spec.Service{"": s}}
	var out []place
	for _, k := range Rules(one, map[string]bool{s.Group: true}, func(spec.Service, spec.RealServer) bool { return true }) {
		for _, d := range k.Destinations {
			out = append(out, place{k.Key, d.AddrPort()})
		}
	}
	return out
}

// services are those of which real servers are drained here.
func (d *drains) services() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]bool{}
	for _, one := range d.installed {
		out[one.service] = true
	}
	return out
}

// show adds what is drained to the verdicts.
func (d *drains) show(services []ServiceHealth) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.installed) == 0 {
		return
	}
	type row struct{ service, server string }
	rows := map[row]*RealServerHealth{}
	for i, s := range services {
		for j, rs := range s.RealServers {
			rows[row{s.Service, rs.Address}] = &services[i].RealServers[j]
		}
	}
	for _, one := range d.installed {
		if r := rows[row{one.service, one.server}]; r != nil && one.held {
			if r.Drain == nil {
				r.Drain = &DrainHealth{State: "drained"}
			}
			r.Drain.add(one, d.counts[one.place])
		}
	}
}

// add takes in one destination of a real server. As long as one of them drains,
// the real server does.
func (h *DrainHealth) add(one drained, c Counts) {
	if one.state == drain.Draining {
		h.State = "draining"
		h.Active += connections(one.place, c)
		h.Persistent += c.Persistent
		h.Inactive += c.Active + c.Inactive - connections(one.place, c)
	}
	for _, item := range one.items {
		if !slices.Contains(h.Drains, item.ID) {
			h.Drains = append(h.Drains, item.ID)
		}
	}
}
