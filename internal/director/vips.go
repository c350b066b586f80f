package director

import (
	"maps"
	"slices"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/spec"
)

// vips are a group's addresses, as they are bound here.
func (d *Director) vips(g spec.Group) []fence.VIP {
	out := make([]fence.VIP, len(g.VIPs))
	for i, v := range g.VIPs {
		out[i] = fence.VIP{Address: v.Address, Interface: g.InterfaceOf(v, d.cfg.Interface), Label: g.LabelOf(v)}
	}
	return out
}

// watch has every VIP of the documents gated before one can be held. Where that
// fails no group is fit.
func (d *Director) watch(sp *spec.Spec) {
	reason := ""
	if err := d.cfg.Fencer.Watch(d.allVIPs(sp)); err != nil {
		reason = err.Error()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unwatched = reason
}

func (d *Director) allVIPs(sp *spec.Spec) []fence.VIP {
	var vips []fence.VIP
	for _, name := range slices.Sorted(maps.Keys(sp.Groups)) {
		vips = append(vips, d.vips(sp.Groups[name])...)
	}
	return vips
}

// removeForeign makes sure that this host does not answer for VIPs that it does
// not hold, whoever bound them.
func (d *Director) removeForeign(sp *spec.Spec) {
	vips := d.allVIPs(sp)
	if len(vips) == 0 {
		return
	}
	removed, _, err := d.cfg.Fencer.RemoveForeign(vips)
	for _, a := range removed {
		d.log.Warn("removed a VIP that this director does not hold", zap.String(logfield.VIP, a.String()))
	}
	if err != nil {
		d.log.Error("a VIP that this director does not hold is bound here", zap.Error(err))
	}
}
