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
	var was map[netip.Addr]served
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
		for vip, s := range now {
			d.exempt(vip, d.otherMACs(peers, s))
		}
		was = now
	}
}

func (d *Director) exempt(vip netip.Addr, macs []net.HardwareAddr) {
	if err := d.cfg.Fencer.Exempt(vip, macs); err != nil {
		d.log.Warn("this real server may get no packets from other directors", zap.Stringer(logfield.VIP, vip), zap.Error(err))
	}
}

// served is a VIP of which this director is also a real server.
type served struct {
	group spec.Group
	vip   spec.VIP
}

// servedHere returns the VIPs of which this director is also a real server: for a
// firewall mark all those of the group.
func (d *Director) servedHere() map[netip.Addr]served {
	d.mu.Lock()
	sp := d.docs.spec
	d.mu.Unlock()
	out := map[netip.Addr]served{}
	if sp == nil {
		return out
	}
	for _, s := range sp.Services {
		here := func(rs spec.RealServer) bool { return s.ForwardOf(rs) != spec.NAT && d.isHere(rs) }
		if !slices.ContainsFunc(s.RealServers, here) {
			continue
		}
		for _, v := range sp.Groups[s.Group].VIPs {
			meant := func(l spec.Listen) bool { return l.Address == v.Address || l.Mark != 0 && l.IPv6 == v.Address.Is6() }
			if slices.ContainsFunc(s.Listen, meant) {
				out[v.Address] = served{sp.Groups[s.Group], v}
			}
		}
	}
	return out
}

func (d *Director) isHere(rs spec.RealServer) bool {
	return slices.Contains(d.cfg.Addresses, rs.Address.Addr().String())
}

// otherMACs returns the hardware addresses from which other directors forward
// for a VIP, those of the first by name if there are too many.
func (d *Director) otherMACs(peers []Presence, s served) []net.HardwareAddr {
	var out []net.HardwareAddr
	for _, p := range peers {
		mac, err := net.ParseMAC(p.MACs[s.group.InterfaceOf(s.vip, p.Interface)])
		if p.Node != d.cfg.Node && err == nil && len(mac) == 6 {
			out = append(out, mac)
		}
	}
	return out[:min(len(out), maxExempt)]
}
