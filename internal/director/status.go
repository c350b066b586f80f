package director

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/health"
	"github.com/zklvs/zklvs/internal/spec"
)

// Presence is what a director says of itself in ZooKeeper, in its ephemeral
// znode directors/<node>.
type Presence struct {
	Node        string            `json:"node"`
	Host        string            `json:"host"`
	Addresses   []string          `json:"addresses"`
	MACs        map[string]string `json:"macs,omitempty"` // by interface
	Version     string            `json:"version"`
	Since       string            `json:"since"` // RFC 3339
	Interface   string            `json:"interface,omitempty"`
	FenceLayers []string          `json:"fence_layers"`
	// OnZooKeeperLoss is "hold", or "fence: " and why.
	OnZooKeeperLoss string            `json:"on_zookeeper_loss,omitempty"`
	Unfit           map[string]string `json:"unfit,omitempty"`    // by group: why it may not hold or queue
	Problems        []string          `json:"problems,omitempty"` // of the documents, and of this host's IPVS settings
	// HangingConnections says where connections hang in SYN_RECV, and why; it is
	// bounded. Status has all of it with figures.
	HangingConnections []string `json:"hanging_connections,omitempty"`
}

// ServiceHealth is one director's verdict on a service, in
// health/<node>/<service>.
type ServiceHealth struct {
	Service     string             `json:"service"`
	RealServers []RealServerHealth `json:"real_servers"`
}

// RealServerHealth is the verdict on one real server.
type RealServerHealth struct {
	Address string `json:"address"`
	State   string `json:"state"` // up, down, unknown, unchecked
	Since   string `json:"since,omitempty"`
	Error   string `json:"error,omitempty"`
	// Drain is what the holder's table makes of the operator's drain, nil while there
	// is none.
	Drain *DrainHealth `json:"drain,omitempty"`
}

// DrainHealth tells of a real server that the holder does not send clients to.
type DrainHealth struct {
	// State is "draining" as soon as weight 0 is in the kernel's table, "drained" as
	// soon as the real server is not in it.
	State string `json:"state"`
	// Drains are the ids of the entries that are carried out.
	Drains []string `json:"drains"`
	// Connections of a real server that drains, as the holder's kernel counts them.
	Active     int `json:"active"`
	Inactive   int `json:"inactive"`
	Persistent int `json:"persistent"` // templates
}

// GuardStatus is how the guard beside a director is.
type GuardStatus struct {
	PID      int `json:"pid"`      // 0 while none runs
	Restarts int `json:"restarts"` // since the director's start
}

// Status is what a director answers on its admin socket.
type Status struct {
	Presence
	Guard  GuardStatus            `json:"guard"`
	Groups []election.GroupStatus `json:"groups"`
	Health []ServiceHealth        `json:"health"`
	// Hanging are connections in SYN_RECV, see internal/synrecv.
	Hanging []Hanging `json:"hanging,omitempty"`
	// Drift is how many things in the IPVS table another program had changed since
	// the director's start.
	Drift uint64 `json:"ipvs_drift"`
}

// Status returns what this director knows and does.
func (d *Director) Status() Status {
	groups, guard := d.groupStatus(), d.cfg.Guard()
	d.mu.Lock()
	sp := d.docs.spec
	s := Status{Presence: d.presence(groups), Guard: guard, Groups: groups}
	d.mu.Unlock()
	s.Hanging, s.Drift = d.hanging.status(), d.rules.drift.Load()
	if sp != nil {
		s.Health = serviceHealth(sp, d.cfg.Checks.Snapshot(), nil)
		d.drains.show(s.Health)
	}
	return s
}

// groupStatus is what the election knows, nothing before it has begun.
func (d *Director) groupStatus() []election.GroupStatus {
	d.mu.Lock()
	elector, sp := d.elector, d.docs.spec
	d.mu.Unlock()
	if elector == nil {
		return nil
	}
	groups := elector.Status()
	if sp != nil {
		d.explainLoss(groups, sp.Cluster)
	}
	return groups
}

// presence needs d.mu.
func (d *Director) presence(groups []election.GroupStatus) Presence {
	unfit := map[string]string{}
	for _, g := range groups {
		if g.Ineligible != "" {
			unfit[g.Group] = g.Ineligible
		}
	}
	p := Presence{Node: d.cfg.Node, Host: d.cfg.Host, Addresses: d.cfg.Addresses, MACs: d.cfg.MACs, Version: d.cfg.Version, Since: d.started.UTC().Format(time.RFC3339),
		Interface: d.cfg.Interface, FenceLayers: d.cfg.FenceLayers, Unfit: unfit, Problems: slices.Concat(d.docs.problems, d.warm.refused, d.settings.wrong()), HangingConnections: d.hanging.lines()}
	if sp := d.docs.spec; sp != nil {
		p.OnZooKeeperLoss = d.onLoss(sp.Cluster)
	}
	return p
}

// serviceHealth is about the services that are wanted, nil for all.
func serviceHealth(sp *spec.Spec, verdicts map[health.Target]health.Verdict, wanted func(name string, s spec.Service) bool) []ServiceHealth {
	var names []string
	for name, s := range sp.Services {
		if wanted == nil || wanted(name, s) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []ServiceHealth
	for _, name := range names {
		s := sp.Services[name]
		h := ServiceHealth{Service: name, RealServers: []RealServerHealth{}}
		for _, rs := range s.RealServers {
			h.RealServers = append(h.RealServers, realServerHealth(s, rs, verdicts))
		}
		out = append(out, h)
	}
	return out
}

func realServerHealth(s spec.Service, rs spec.RealServer, verdicts map[health.Target]health.Verdict) RealServerHealth {
	h := RealServerHealth{Address: rs.String(), State: "unchecked"}
	if s.Check == nil {
		return h
	}
	t, err := checkTarget(s, rs)
	if err != nil {
		h.Error = err.Error()
		return h
	}
	v := verdicts[t]
	h.State, h.Error = v.State.String(), v.LastError
	if v.State != health.Unknown {
		h.Since = v.WallSince.UTC().Format(time.RFC3339)
	}
	return h
}

// publish writes what changed about this director and its verdicts.
func (d *Director) publish(sp *spec.Spec) {
	groups := d.groupStatus()
	d.mu.Lock()
	now := map[string]any{"directors/" + d.cfg.Node: d.presence(groups)}
	d.mu.Unlock()
	// Of a service without a check and a drain the documents say everything, and
	// thousands of them need no znodes.
	drained := d.drains.services()
	health := serviceHealth(sp, d.cfg.Checks.Snapshot(), func(name string, s spec.Service) bool { return s.Check != nil || drained[name] })
	d.drains.show(health)
	for _, h := range health {
		now["health/"+d.cfg.Node+"/"+h.Service] = h
	}
	for path, v := range now {
		b, err := json.Marshal(v)
		if err != nil { // plain data cannot fail
			panic("director: encode " + path + ": " + err.Error())
		}
		if d.published[path] != string(b) {
			d.published[path] = string(b)
			d.cfg.Publisher.Publish(path, b)
		}
	}
	for path := range d.published {
		if _, ok := now[path]; !ok {
			delete(d.published, path)
			d.cfg.Publisher.Withdraw(path)
		}
	}
}
