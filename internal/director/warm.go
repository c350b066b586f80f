package director

import (
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/spec"
)

// warm is which groups' rules stand here whether they are held or not: a
// connection that was heard of is bound to its real server early then.
type warm struct {
	groups  map[string]bool
	refused []string // why not, of others that ask for it
}

// warmGroups goes through the documents. A director that is itself a real server
// takes packets in that another one forwarded; with rules it would forward them
// once more. NAT sends it packets for its own address, which no rule is about.
func (d *Director) warmGroups(sp *spec.Spec) warm {
	here := map[string]string{} // by group
	for _, name := range slices.Sorted(maps.Keys(sp.Services)) {
		s := sp.Services[name]
		for _, rs := range s.RealServers {
			if sp.Groups[s.Group].WarmStandby && s.ForwardOf(rs) != spec.NAT && d.isHere(rs) {
				here[s.Group] = fmt.Sprintf("%v of service %s", rs, name)
			}
		}
	}
	w := warm{groups: map[string]bool{}}
	for _, name := range slices.Sorted(maps.Keys(sp.Groups)) {
		switch {
		case !sp.Groups[name].WarmStandby:
		case here[name] != "":
			w.refused = append(w.refused, fmt.Sprintf("group %s: warm_standby is refused on this director, which is the real server %s: packets would be forwarded twice; its rules stand here only while it holds", name, here[name]))
		default:
			w.groups[name] = true
		}
	}
	return w
}

// logWarm tells of what is refused now and was not before.
func (d *Director) logWarm(before, now warm) {
	for _, reason := range now.refused {
		if !slices.Contains(before.refused, reason) {
			d.log.Warn("no rules on this standby", zap.String(logfield.Reason, reason))
		}
	}
}

// rulesHere returns the groups whose rules are to stand: those held and those
// kept warm.
func (d *Director) rulesHere(held map[string]bool) map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := maps.Clone(d.warm.groups)
	if out == nil {
		out = map[string]bool{}
	}
	maps.Copy(out, held)
	return out
}
