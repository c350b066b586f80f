package synrecv

import (
	"cmp"
	"slices"
	"time"

	"github.com/zklvs/zklvs/ipvs"
)

// report compares what should be found now with what was going on.
func (d *Detector) report(now time.Duration, stats []ipvs.ServiceStats) []Finding {
	var out []Finding
	current := map[target]bool{}
	for _, s := range stats {
		for _, f := range d.of(now, s) {
			t := target{f.Service, f.RealServer}
			current[t] = true
			f.Phase, f.Began = Begins, now
			if before := d.found[t]; before != nil {
				f.Phase, f.Began, f.Cause, f.Remedy = GoesOn, before.Began, before.Cause, before.Remedy
			}
			d.found[t] = &f
			out = append(out, f)
		}
	}
	out = append(out, d.ended(now, stats, current)...)
	slices.SortFunc(out, func(a, b Finding) int {
		return cmp.Or(a.Service.Compare(b.Service), a.RealServer.Compare(b.RealServer))
	})
	return out
}

// of returns what is found of a service: all of its real servers that are in
// use, or each that hangs. It does not begin with one while another may follow
// in the next window.
func (d *Detector) of(now time.Duration, s ipvs.ServiceStats) []Finding {
	var hang []Finding
	var all Evidence
	var forwards []ipvs.Forward
	healthy, pending := 0, 0
	for _, ds := range s.Destinations {
		one := d.seen[target{s.Key, ds.AddrPort}]
		switch {
		case one == nil || now-one.newest >= quiet:
		case one.stuck:
			hang = append(hang, Finding{Service: s.Key, RealServer: ds.AddrPort, Evidence: *one.evidence})
			all, forwards = all.plus(*one.evidence), append(forwards, ds.Forward)
		case one.bad > 0 && one.last == bad:
			pending++
		case one.good > 0:
			healthy++
		}
	}
	waits := pending > 0 && d.found[target{service: s.Key}] == nil
	if healthy == 0 && !waits && len(hang) > 1 {
		f := Finding{Service: s.Key, Evidence: all}
		f.Cause, f.Remedy = explainAll(forwards[0], all)
		return []Finding{f}
	}
	for i := range hang {
		hang[i].Cause, hang[i].Remedy = explainOne(s.Key, forwards[i], healthy+pending+len(hang) == 1, hang[i].Evidence)
	}
	return slices.DeleteFunc(hang, func(f Finding) bool {
		return pending > 0 && d.found[target{f.Service, f.RealServer}] == nil
	})
}

// ended returns the findings that were going on and are not current any more.
func (d *Detector) ended(now time.Duration, stats []ipvs.ServiceStats, current map[target]bool) []Finding {
	var out []Finding
	var services map[ipvs.Key]*ipvs.ServiceStats
	for t, f := range d.found {
		if current[t] {
			continue
		}
		if services == nil {
			services = make(map[ipvs.Key]*ipvs.ServiceStats, len(stats))
			for i := range stats {
				services[stats[i].Key] = &stats[i]
			}
		}
		f.Phase, f.Ended = Ends, d.why(now, t, services[t.service], current)
		out = append(out, *f)
		delete(d.found, t)
	}
	return out
}

// why tells why a finding ended.
func (d *Detector) why(now time.Duration, t target, s *ipvs.ServiceStats, current map[target]bool) string {
	if s == nil {
		return "the service is no longer in the table"
	}
	if t.server.IsValid() {
		one := d.seen[t]
		switch {
		case one == nil:
			return "the real server is no longer in the table"
		case current[target{service: t.service}]:
			return "all real servers of the service hang now"
		case now-one.newest >= quiet:
			return "no new connections for " + quiet.String()
		}
		return "connections get through again"
	}
	idle := true
	for _, ds := range s.Destinations {
		if current[target{t.service, ds.AddrPort}] {
			return "not all real servers of the service hang any more"
		}
		one := d.seen[target{t.service, ds.AddrPort}]
		idle = idle && (one == nil || now-one.newest >= quiet)
	}
	if idle {
		return "no new connections for " + quiet.String()
	}
	return "connections get through again"
}
