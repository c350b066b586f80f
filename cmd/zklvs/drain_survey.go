package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/drain"
	"github.com/zklvs/zklvs/internal/overview"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

// meant is a real server of a service that a drain is about.
type meant struct {
	service, group string
	server         string // see spec.RealServer.String
}

// survey is what must be known before a drain begins.
type survey struct {
	sp      *spec.Spec
	stored  zk.Drained
	set     drain.Set
	cluster *overview.Cluster
}

func (c *connection) drains() *zk.Store { return zk.NewStore(c.session, c.tree) }

// readSurvey reads entries first: whoever drains another real server meanwhile
// makes the write fail.
func readSurvey(ctx context.Context, c *connection) (s *survey, err error) {
	s = &survey{}
	err = c.read(ctx, func(ctx context.Context) error {
		if s.stored, err = c.drains().ReadDrained(ctx); err != nil {
			return err
		}
		if s.cluster, err = overview.Read(ctx, c.local.Cluster, c.session, c.tree); err != nil {
			return err
		}
		snap, err := c.drains().ReadSpec(ctx)
		s.sp = usableSpec(snap)
		return err
	})
	s.set = drain.Load(storedDrains(s.stored))
	return s, err
}

// usableSpec is what can be read of the documents: one bad document must not keep
// a real server from being drained.
func usableSpec(snap zk.Snapshot) *spec.Spec {
	var good []*spec.Documents
	for path, data := range snap.Data() {
		if doc, err := spec.Decode(path, data); err == nil {
			good = append(good, doc)
		}
	}
	merged, err := spec.Merge(good...)
	if err != nil {
		return &spec.Spec{}
	}
	return merged.Spec()
}

// find lists what a target is about. If that is nothing, the error names what
// there is.
func (s *survey) find(t drain.Target) ([]meant, error) {
	if _, ok := s.sp.Services[t.Service]; t.Service != "" && !ok {
		names := slices.Sorted(maps.Keys(s.sp.Services))
		return nil, fmt.Errorf("there is no service %q%s: there are %s", t.Service, spec.DidYouMean(t.Service, names), some(names))
	}
	var found []meant
	names := map[string]bool{}
	for _, service := range slices.Sorted(maps.Keys(s.sp.Services)) {
		sv := s.sp.Services[service]
		for _, rs := range sv.RealServers {
			switch {
			case director.DrainMeans(t, service, sv, rs):
				found = append(found, meant{service, sv.Group, rs.String()})
			case t.Service == "" || t.Service == service:
				names[rs.String()] = true
			}
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	in := ""
	if t.Service != "" {
		in = " in service " + t.Service
	}
	list := sortedServers(names)
	if len(list) == 0 {
		return nil, fmt.Errorf("there is no real server %s%s: there is none at all", t.RealServer(), in)
	}
	return nil, fmt.Errorf("there is no real server %s%s%s: there are %s", t.RealServer(), in, spec.DidYouMean(t.RealServer(), alike(t, list)), some(list))
}

// alike are the names that somebody may have meant who wrote t: addresses, if
// there is no port in it.
func alike(t drain.Target, names []string) []string {
	if t.Port != 0 {
		return names
	}
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = n
		if ap, err := netip.ParseAddrPort(n); err == nil {
			out[i] = ap.Addr().String()
		}
	}
	return out
}

// sortedServers sorts addresses as such, not as text.
func sortedServers(names map[string]bool) []string {
	parse := func(s string) netip.AddrPort {
		if ap, err := netip.ParseAddrPort(s); err == nil {
			return ap
		}
		a, _ := netip.ParseAddr(s) // or the zero address: the order is for people
		return netip.AddrPortFrom(a, 0)
	}
	return slices.SortedFunc(maps.Keys(names), func(a, b string) int { return parse(a).Compare(parse(b)) })
}

// some is a list for people, cut where it is long.
func some(names []string) string {
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// refuseLast refuses to drain what is the last real server of a service that
// takes clients.
func (s *survey) refuseLast(t drain.Target, list []meant) error {
	var empty []string
	for _, service := range slices.Compact(servicesOf(list)) {
		if !s.another(t, service) {
			empty = append(empty, service)
		}
	}
	if len(empty) == 0 {
		return nil
	}
	return fmt.Errorf("service %s would have no real server left that takes new clients", strings.Join(empty, ", "))
}

func servicesOf(list []meant) []string {
	out := make([]string, len(list))
	for i, m := range list {
		out[i] = m.service
	}
	return out
}

// another tells whether a service has a real server that takes clients besides
// the target.
func (s *survey) another(t drain.Target, service string) bool {
	sv := s.sp.Services[service]
	return slices.ContainsFunc(sv.RealServers, func(rs spec.RealServer) bool {
		if rs.Weight == 0 || director.DrainMeans(t, service, sv, rs) || s.down(service, rs.String()) {
			return false
		}
		return !slices.ContainsFunc(s.set.Items, func(i drain.Item) bool { return director.DrainMeans(i.Target(), service, sv, rs) })
	})
}

// down tells whether a director says that a real server gets no clients.
func (s *survey) down(service, server string) bool {
	for _, v := range s.cluster.Services {
		if v.Name != service || v.Verdicts == "" {
			continue
		}
		for _, rs := range v.RealServers {
			if rs.Address == server {
				return rs.State != "up" && rs.State != "unchecked"
			}
		}
	}
	return false
}

// warnings are about services in which weight 0 does something else than to keep
// new clients away.
func (s *survey) warnings(list []meant) []string {
	var out []string
	expire := s.sp.Cluster.IPVS.AllSysctls()["expire_quiescent_template"] == "1"
	for _, service := range slices.Compact(servicesOf(list)) {
		sv := s.sp.Services[service]
		if hashes := sv.Scheduler == "sh" || sv.Scheduler == "mh"; hashes && sv.SchedulerFlagBits()&1 == 0 {
			out = append(out, fmt.Sprintf("service %s: scheduler %s without %s-fallback refuses the clients that it hashes to a draining real server", service, sv.Scheduler, sv.Scheduler))
		}
		if sv.Persistence > 0 && !expire {
			out = append(out, fmt.Sprintf("service %s has persistence, and expire_quiescent_template is not 1: clients that it bound to a draining real server come back to it", service))
		}
	}
	return out
}
