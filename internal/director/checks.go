package director

import (
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/health"
	"github.com/zklvs/zklvs/internal/spec"
)

// setChecks hands every target that the documents ask for to the checks. All
// directors check, so that a new holder knows who is alive.
func (d *Director) setChecks(sp *spec.Spec) {
	targets := checkTargets(sp, d.cfg.Interface)
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = fmt.Sprintf("%+v", t)
	}
	slices.Sort(names)
	key := strings.Join(names, "\n")
	if key == d.targets {
		return
	}
	if err := d.cfg.Checks.Set(targets); err != nil {
		d.log.Error("the checks are refused; the earlier ones go on", zap.Error(err))
	}
	d.targets = key
}

func checkTargets(sp *spec.Spec, iface string) []health.Target {
	var out []health.Target
	for _, s := range sp.Services {
		if s.Check == nil {
			continue
		}
		for _, rs := range s.RealServers {
			if t, err := checkTarget(*s.Check, rs); err == nil {
				out = append(out, t)
			}
		}
	}
	for _, g := range sp.Groups {
		for _, t := range fitnessTargets(g, iface) {
			out = append(out, t)
		}
	}
	return out
}

// checkTarget is what a service's check means for one of its real servers.
func checkTarget(c spec.Check, rs spec.RealServer) (health.Target, error) {
	t := health.Target{
		Kind: health.TCP, Address: c.Target(rs.Address), Interval: c.Interval, Timeout: c.Timeout,
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
