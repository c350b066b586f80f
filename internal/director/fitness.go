package director

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/health"
	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/spec"
)

// configure tells the election what the documents and this host's fitness say.
func (d *Director) configure(sp *spec.Spec) {
	verdicts := d.cfg.Checks.Snapshot()
	groups := []election.GroupConfig{} // not nil: an empty set is told once, too
	hold := d.fenceBecause(sp.Cluster) == ""
	for _, name := range slices.Sorted(maps.Keys(sp.Groups)) {
		g := sp.Groups[name]
		groups = append(groups, election.GroupConfig{
			Name: name, Priority: g.PriorityOf(d.cfg.Node), Preempt: g.Preempt, PreemptDelay: preemptDelay(sp, name, g),
			Ineligible: d.judge(name, g, sp, verdicts), Backoff: g.Fitness.Backoff,
			Hold: hold,
		})
	}
	d.logLoss(sp.Cluster)
	if d.groups != nil && reflect.DeepEqual(groups, d.groups) {
		return
	}
	d.groups = groups
	d.elector.Configure(groups)
}

// judge returns why this director is not fit to hold a group, "" if it is. A
// check without a result yet counts against a director that was not fit before:
// a check that is new in the documents must not make a holder let go.
func (d *Director) judge(name string, g spec.Group, sp *spec.Spec, verdicts map[health.Target]health.Verdict) string {
	reasons := d.linkProblems(g)
	d.mu.Lock()
	was, known := d.unfit[name]
	d.mu.Unlock()
	for what, t := range fitnessTargets(g, d.cfg.Interface) {
		switch v := verdicts[t]; {
		case v.State == health.Unknown && (!known || was != ""):
			reasons = append(reasons, what+" has not been checked yet")
		case v.State == health.Down:
			reasons = append(reasons, fmt.Sprintf("%s failed: %s", what, v.LastError))
		}
	}
	if hasServices(sp, name) {
		if err := d.rules.available(); err != nil {
			reasons = append(reasons, err.Error())
		}
	}
	slices.Sort(reasons)
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.failed[name]; f.until > d.cfg.Now() {
		reasons = append(reasons, f.reason)
	}
	if d.unwatched != "" && !slices.Contains(reasons, d.unwatched) {
		reasons = append(reasons, d.unwatched)
	}
	reason := strings.Join(reasons, "; ")
	if !known || was != reason {
		d.logFitness(name, reason)
	}
	d.unfit[name] = reason
	return reason
}

func (d *Director) logFitness(group, reason string) {
	if reason == "" {
		d.log.Info("fit to hold", zap.String(logfield.Group, group))
		return
	}
	d.log.Warn("not fit to hold", zap.String(logfield.Group, group), zap.String(logfield.Reason, reason))
}

// linkProblems looks at the VIPs' interfaces and the tracked ones.
func (d *Director) linkProblems(g spec.Group) (reasons []string) {
	var names []string
	for _, v := range g.VIPs {
		name := g.InterfaceOf(v, d.cfg.Interface)
		if name == "" {
			return []string{"no interface for the VIPs: set `interface` in this director's file or in the group"}
		}
		names = append(names, name)
	}
	names = append(names, g.Fitness.TrackInterfaces...)
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		up, carrier, err := d.cfg.Fencer.LinkState(name)
		switch {
		case err != nil:
			reasons = append(reasons, err.Error()) // names the interface
		case !up:
			reasons = append(reasons, fmt.Sprintf("interface %s is down", name))
		case !carrier:
			reasons = append(reasons, fmt.Sprintf("interface %s has no carrier", name))
		}
	}
	return reasons
}

func hasServices(sp *spec.Spec, group string) bool {
	for _, s := range sp.Services {
		if s.Group == group {
			return true
		}
	}
	return false
}

// gatewayInterface is where the group's gateway is asked: on the interface of the
// VIPs, or on that of the first if each names its own.
func gatewayInterface(g spec.Group, iface string) string {
	if name := g.InterfaceOr(iface); name != "" || len(g.VIPs) == 0 {
		return name
	}
	return g.VIPs[0].Interface
}

// fitnessTargets are the checks that a group's fitness asks for, by what they are.
func fitnessTargets(g spec.Group, iface string) map[string]health.Target {
	out := map[string]health.Target{}
	if w := g.Fitness.Gateway; w != nil {
		out["gateway "+w.Address.String()] = health.Target{
			Kind: health.ARP, Address: netip.AddrPortFrom(w.Address, 0), Interface: gatewayInterface(g, iface),
			Interval: w.Interval, Timeout: w.Timeout, Rise: w.Rise, Fall: w.Fall}
	}
	if s := g.Fitness.Script; s != nil {
		out["script "+s.Exec] = health.Target{
			Kind: health.Exec, Script: s.Exec,
			Interval: s.Interval, Timeout: s.Timeout, Rise: s.Rise, Fall: s.Fall}
	}
	return out
}
