package director

import (
	"maps"
	"slices"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/health"
	"github.com/zklvs/zklvs/internal/spec"
)

// setChecks hands every target that the documents ask for to the checks, if they
// are others than before. All directors check, so that a new holder knows who is
// alive. It needs d.mu.
func (d *Director) setChecks(targets map[health.Target]bool) {
	if maps.Equal(targets, d.targets) {
		return
	}
	if err := d.cfg.Checks.Set(slices.Collect(maps.Keys(targets))); err != nil {
		d.log.Error("the checks are refused; the earlier ones go on", zap.Error(err))
	}
	d.targets = targets
}

// checkTargets are the distinct targets of all services and of fitness.
func checkTargets(sp *spec.Spec, iface string) map[health.Target]bool {
	out := map[health.Target]bool{}
	for _, s := range sp.Services {
		if s.Check == nil {
			continue
		}
		for _, rs := range s.RealServers {
			if t, err := checkTarget(s, rs); err == nil {
				out[t] = true
			}
		}
	}
	for _, g := range sp.Groups {
		for _, t := range fitnessTargets(g, iface) {
			out[t] = true
		}
	}
	return out
}

// checkTarget is what the check of a service that has one means for one of its
// real servers.
func checkTarget(s spec.Service, rs spec.RealServer) (health.Target, error) {
	c := s.Check
	t := health.Target{
		Kind: health.TCP, Address: s.CheckAddress(rs), Interval: c.Interval, Timeout: c.Timeout,
		Retries: c.Retries, RetryDelay: c.RetryDelay, Rise: c.Rise, Fall: c.Fall,
	}
	if c.HTTP == nil {
		return t, nil
	}
	ranges := make([]health.StatusRange, len(c.HTTP.Status))
	for i, r := range c.HTTP.Status {
		ranges[i] = health.StatusRange{First: r.Low, Last: r.High}
	}
	status, err := health.Statuses(ranges...)
	t.Kind, t.Path, t.Host, t.Status = health.HTTP, c.HTTP.Path, c.HTTP.Host, status
	return t, err
}
