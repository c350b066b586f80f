package director

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/spec"
)

// maxExempt is how many other directors the gate lets packets in from; see
// fence/gate.
const maxExempt = 3

// exemptions lets the packets of the active director through the gate of one
// that is also a real server of its VIP (direct routing and tunnels): to be
// served here is not to answer. It looks at everybody's presence once a second,
// on such hosts only.
func (d *Director) exemptions(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var was map[netip.Addr]spec.Group
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := d.servedHere()
		if len(now) == 0 && len(was) == 0 {
			continue
		}
		peers, err := d.cfg.Peers(ctx)
		if err != nil {
			continue // ZooKeeper is away: what was let through stays so
		}
		slices.SortFunc(peers, func(a, b Presence) int { return cmp.Compare(a.Node, b.Node) })
		for vip := range was {
			if _, still := now[vip]; !still {
				d.exempt(vip, nil)
			}
		}
		for vip, g := range now {
			d.exempt(vip, d.otherMACs(peers, g))
		}
		was = now
	}
}

func (d *Director) exempt(vip netip.Addr, macs []net.HardwareAddr) {
	if err := d.cfg.Fencer.Exempt(vip, macs); err != nil {
		d.log.Warn("this real server may get no packets from other directors", zap.Stringer(logfield.VIP, vip), zap.Error(err))
	}
}

// servedHere returns the VIPs of which this director is also a real server,
// with their groups.
func (d *Director) servedHere() map[netip.Addr]spec.Group {
	d.mu.Lock()
	sp := d.docs.spec
	d.mu.Unlock()
	out := map[netip.Addr]spec.Group{}
	if sp == nil {
		return out
	}
	for _, s := range sp.Services {
		if s.Forward != spec.NAT && slices.ContainsFunc(s.RealServers, d.isHere) {
			out[s.Listen.Address] = sp.Groups[s.Group]
		}
	}
	return out
}

func (d *Director) isHere(rs spec.RealServer) bool {
	return slices.Contains(d.cfg.Addresses, rs.Address.Addr().String())
}

// otherMACs returns the hardware addresses from which other directors forward
// for a group, those of the first by name if there are too many.
func (d *Director) otherMACs(peers []Presence, g spec.Group) []net.HardwareAddr {
	var out []net.HardwareAddr
	for _, p := range peers {
		mac, err := net.ParseMAC(p.MACs[g.InterfaceOr(p.Interface)])
		if p.Node != d.cfg.Node && err == nil && len(mac) == 6 {
			out = append(out, mac)
		}
	}
	return out[:min(len(out), maxExempt)]
}
