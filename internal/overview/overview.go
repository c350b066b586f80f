// Package overview reads the state of a whole cluster out of ZooKeeper, so that
// it can be shown on any host that reaches ZooKeeper. What it shows is as fresh
// as the reads: parts may be some milliseconds apart.
package overview

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

// Cluster is what is known of a cluster.
type Cluster struct {
	Name      string              `json:"cluster"`
	Revision  int64               `json:"revision"` // number of applies
	Groups    []Group             `json:"groups"`
	Services  []Service           `json:"services"`
	Directors []director.Presence `json:"directors"`
	Drains    []Drain             `json:"drains,omitempty"`
	Problems  []string            `json:"problems,omitempty"`
}

// Group is one group: its record and its queue.
type Group struct {
	Name   string         `json:"group"`
	VIPs   []string       `json:"vips"`
	Holder string         `json:"holder,omitempty"`
	State  election.State `json:"state"`
	Epoch  uint64         `json:"epoch"`
	Since  string         `json:"since,omitempty"` // RFC 3339
	Reason string         `json:"reason,omitempty"`
	// LockGone: the record says that somebody holds, but the lock is gone.
	LockGone bool `json:"lock_gone,omitempty"`
	// OnZooKeeperLoss is "hold" where the holder goes on while ZooKeeper is away
	// for as long as the other voters promise not to take, else "fence" and why.
	OnZooKeeperLoss string `json:"on_zookeeper_loss"`
	// Voters are the nodes that may take without a receipt; none: everyone.
	Voters []string `json:"voters,omitempty"`
	// Standbys in the order in which they would take.
	Standbys []election.QueueEntry `json:"standbys"`
}

// Service is one virtual service with the verdicts of the director that counts:
// the holder, or else the first that reported.
type Service struct {
	Name        string       `json:"service"`
	Group       string       `json:"group"`
	Listen      string       `json:"listen"`
	Scheduler   string       `json:"scheduler"`
	Forward     string       `json:"forward"`
	Verdicts    string       `json:"verdicts_of,omitempty"` // node
	RealServers []RealServer `json:"real_servers"`
}

// RealServer is one real server of a service.
type RealServer struct {
	Weight int `json:"weight"`
	director.RealServerHealth
	// Wanted is "draining" or "drained" if the operator has it drained. What the
	// holder's table makes of that is Drain.
	Wanted string `json:"wanted,omitempty"`
}

// Read reads a cluster.
func Read(ctx context.Context, name string, s *zk.Session, tree zk.Tree) (*Cluster, error) {
	snap, err := zk.NewStore(s, tree).ReadSpec(ctx)
	if err != nil {
		return nil, err
	}
	if !snap.Exists() {
		return nil, fmt.Errorf("cluster %q is not in ZooKeeper (%s): store its documents with `zklvs apply -f FILE`", name, tree.Root())
	}
	r := &reader{ctx: ctx, s: s, tree: tree, out: &Cluster{Name: name, Revision: snap.Revision.Number,
		Groups: []Group{}, Services: []Service{}, Directors: []director.Presence{}}}
	sp := r.documents(snap.Data())
	if err := errors.Join(r.directors(), r.groups(sp), r.services(sp)); err != nil {
		return nil, err
	}
	if r.unsaid > 0 {
		r.out.Problems = append(r.out.Problems, fmt.Sprintf("... and %d more problems", r.unsaid))
	}
	return r.out, nil
}

type reader struct {
	ctx    context.Context
	s      *zk.Session
	tree   zk.Tree
	out    *Cluster
	unsaid int // problems beyond maxProblems
}

// What is shown of problems is bounded, whoever wrote what they are about.
const (
	maxProblems    = 100
	maxProblemText = 1000 // bytes
)

func (r *reader) problem(format string, a ...any) {
	if len(r.out.Problems) == maxProblems {
		r.unsaid++
		return
	}
	text := fmt.Sprintf(format, a...)
	if len(text) > maxProblemText {
		text = text[:maxProblemText] + "..."
	}
	r.out.Problems = append(r.out.Problems, strings.Map(printable, strings.ToValidUTF8(text, "?")))
}

// printable keeps what stands in a znode from steering a terminal.
func printable(c rune) rune {
	if unicode.IsPrint(c) {
		return c
	}
	return ' '
}

// faults reports each fault of documents.
func (r *reader) faults(err error) {
	var list spec.Errors
	if !errors.As(err, &list) {
		r.problem("%v", err)
		return
	}
	for _, p := range list {
		r.problem("%s", p)
	}
}

// documents decodes what can be decoded and reports the rest.
func (r *reader) documents(raw map[string][]byte) *spec.Spec {
	var good []*spec.Documents
	for _, path := range slices.Sorted(maps.Keys(raw)) {
		doc, err := spec.Decode(path, raw[path])
		if err != nil {
			r.faults(err)
			continue
		}
		good = append(good, doc)
	}
	merged, err := spec.Merge(good...)
	if err != nil {
		r.faults(err)
		return &spec.Spec{}
	}
	sp := merged.Spec()
	if err := sp.Check(); err != nil {
		r.faults(err)
	}
	return sp
}

// each reads the JSON objects below a parent; what is missing or gone is not
// there, what is not understood is reported.
func each[T any](r *reader, parent string, path func(name string) string, add func(name string, v T)) error {
	names, _, err := r.s.Children(r.ctx, parent)
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		data, _, err := r.s.Get(r.ctx, path(zk.NameOf(name)))
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return err
		}
		var v T
		if err := json.Unmarshal(data, &v); err != nil {
			r.problem("%s: not understood: %v", path(zk.NameOf(name)), err)
			continue
		}
		add(zk.NameOf(name), v)
	}
	return nil
}

func (r *reader) directors() error {
	defer r.askedInVain()
	return each(r, r.tree.Directors(), r.tree.Director, func(node string, p director.Presence) {
		p.Node = node // its znode's name is what locks and verdicts go by
		r.out.Directors = append(r.out.Directors, p)
		for _, text := range p.Problems {
			r.problem("%s keeps the last good documents: %s", p.Node, text)
		}
		for _, text := range p.HangingConnections {
			r.problem("%s: %s", p.Node, text)
		}
	})
}

// askedInVain reports directors that cannot promise anything to those that try to
// hold without ZooKeeper.
func (r *reader) askedInVain() {
	hold := func(d director.Presence) bool { return d.OnZooKeeperLoss == "hold" }
	if !slices.ContainsFunc(r.out.Directors, hold) {
		return
	}
	for _, d := range r.out.Directors {
		if because, fences := strings.CutPrefix(d.OnZooKeeperLoss, "fence: "); fences {
			r.problem("%s cannot promise others anything while ZooKeeper is away, so that nobody can hold then: %s", d.Node, because)
		}
	}
}

func (r *reader) groups(sp *spec.Spec) error {
	for _, name := range slices.Sorted(maps.Keys(sp.Groups)) {
		g := Group{Name: name, VIPs: []string{}, Standbys: []election.QueueEntry{}}
		for _, v := range sp.Groups[name].VIPs {
			g.VIPs = append(g.VIPs, v.Address.String())
		}
		if err := errors.Join(r.record(&g), r.voters(&g, sp)); err != nil {
			return err
		}
		r.out.Groups = append(r.out.Groups, g)
	}
	return nil
}

// record reads record and queue of a group.
func (r *reader) record(g *Group) error {
	data, _, err := r.s.Get(r.ctx, r.tree.Record(g.Name))
	if errors.Is(err, zk.ErrNoNode) {
		r.problem("group %s has no record: a waiting director replaces it", g.Name)
		return nil
	}
	if err != nil {
		return err
	}
	rec, err := election.DecodeRecord(data)
	if err != nil {
		r.problem("group %s: %v", g.Name, err)
		return nil
	}
	g.State, g.Epoch, g.Since, g.Reason = rec.State, rec.Epoch, rec.Since, rec.Reason
	if rec.State == election.StateHolding {
		g.Holder, g.LockGone = rec.Node, true
	}
	return r.queue(g, rec)
}

// voters reads the list of voters: whether a group can be held without ZooKeeper
// stands in it, for every director to see.
func (r *reader) voters(g *Group, sp *spec.Spec) error {
	data, _, err := r.s.Get(r.ctx, r.tree.Voters(g.Name))
	if errors.Is(err, zk.ErrNoNode) {
		g.OnZooKeeperLoss = "fence: the list of voters is missing"
		r.problem("group %s has no list of voters: its holder makes it; without a holder nobody takes the group, see docs/SAFETY.md", g.Name)
		return nil
	}
	if err != nil {
		return err
	}
	list, err := election.DecodeVoters(data)
	if err != nil {
		g.OnZooKeeperLoss = "fence: the list of voters is not understood"
		r.problem("group %s: %v", g.Name, err)
		return nil
	}
	for _, v := range list.Voters {
		g.Voters = append(g.Voters, v.Node)
	}
	g.OnZooKeeperLoss = r.onLoss(g, sp)
	return nil
}

// onLoss says why a group without voters is given up: it is the holder that
// writes them.
func (r *reader) onLoss(g *Group, sp *spec.Spec) string {
	switch {
	case len(g.Voters) > 0:
		return "hold"
	case sp.Cluster.OnZooKeeperLoss == spec.Fence:
		return "fence"
	case g.Holder == "":
		return "fence: nobody holds"
	}
	for _, d := range r.out.Directors {
		if because, fences := strings.CutPrefix(d.OnZooKeeperLoss, "fence: "); d.Node == g.Holder && fences {
			return "fence: " + because
		}
	}
	return "fence: no other director could promise not to take"
}

func (r *reader) queue(g *Group, rec election.Record) error {
	names, _, err := r.s.Children(r.ctx, r.tree.Election(g.Name))
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	if err != nil {
		return err
	}
	var locks []election.LockName
	for _, n := range names {
		if l, err := election.ParseLockName(n); err == nil {
			locks = append(locks, l)
		}
	}
	slices.SortFunc(locks, func(a, b election.LockName) int { return cmp.Compare(a.Sequence, b.Sequence) })
	for _, l := range locks {
		if g.Holder != "" && l.String() == rec.Lock {
			g.LockGone = false
			continue
		}
		data, _, err := r.s.Get(r.ctx, r.tree.Lock(g.Name, l.String()))
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return err
		}
		d, _ := election.DecodeLockData(data) // for people: 0 where it is not understood
		g.Standbys = append(g.Standbys, election.QueueEntry{Node: l.Node, Priority: d.Priority, Lock: l.String()})
	}
	return nil
}

func (r *reader) services(sp *spec.Spec) error {
	set, err := r.drains()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(sp.Services)) {
		s := sp.Services[name]
		out := Service{Name: name, Group: s.Group, Listen: s.ListenText(), Scheduler: s.Scheduler, Forward: string(s.Forward), RealServers: []RealServer{}}
		health, err := r.verdicts(name, s.Group)
		if err != nil {
			return err
		}
		out.Verdicts = health.node
		for _, rs := range s.RealServers {
			h, ok := health.of[rs.String()]
			if !ok {
				h = director.RealServerHealth{Address: rs.String(), State: "unknown"}
				if s.Check == nil { // nobody says so
					h.State = "unchecked"
				}
			}
			one := RealServer{Weight: rs.Weight, RealServerHealth: h}
			r.noteDrain(set, name, s, rs, &one)
			out.RealServers = append(out.RealServers, one)
		}
		r.out.Services = append(r.out.Services, out)
	}
	r.settleDrains()
	return nil
}

type verdicts struct {
	node string
	of   map[string]director.RealServerHealth
}

// verdicts reads what the holder of the group says, or else another director.
func (r *reader) verdicts(service, group string) (verdicts, error) {
	nodes := make([]string, 0, len(r.out.Directors)+1)
	for _, g := range r.out.Groups {
		if g.Name == group && g.Holder != "" {
			nodes = append(nodes, g.Holder)
		}
	}
	for _, d := range r.out.Directors {
		nodes = append(nodes, d.Node)
	}
	for _, node := range nodes {
		data, _, err := r.s.Get(r.ctx, r.tree.HealthService(node, service))
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return verdicts{}, err
		}
		var h director.ServiceHealth
		if err := json.Unmarshal(data, &h); err != nil {
			r.problem("verdicts of %s on %s: not understood: %v", node, service, err)
			continue
		}
		v := verdicts{node: node, of: map[string]director.RealServerHealth{}}
		for _, rs := range h.RealServers {
			v.of[rs.Address] = rs
		}
		return v, nil
	}
	return verdicts{}, nil
}
