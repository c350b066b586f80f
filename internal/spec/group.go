package spec

import (
	"fmt"
	"net/netip"
	"time"
)

// Group is the document spec/groups/<group>: VIPs that move together.
type Group struct {
	VIPs         []VIP          // at least one
	Label        string         // of the IPv4 addresses on the interface, such as eth0:2; may be ""
	Interface    string         // "" for the director's own
	Priority     map[string]int // by node, 1 to 254; see PriorityOf
	Preempt      bool           // hand over to a ready standby of higher priority
	PreemptDelay time.Duration  // after it has been ready for so long
	WarmStandby  bool           // the IPVS rules stand on standbys, too
	Fitness      Fitness
}

// VIP is one address of a group. It is bound as a /32, IPv6 as a /128. See
// Group.InterfaceOf and Group.LabelOf.
type VIP struct {
	Address   netip.Addr
	Interface string // "" for the group's
	Label     string // "" for the group's, where the interface is the group's, too
}

// Fitness is what a director must have to hold the group, besides the VIPs'
// interface.
type Fitness struct {
	TrackInterfaces []string // must be up, with carrier
	Gateway         *Gateway // must answer; nil: not checked
	Script          *Script  // must succeed; nil: none
	Backoff         time.Duration
}

// Gateway is an IPv4 address on the link that must answer to ARP.
type Gateway struct {
	Address           netip.Addr
	Interval, Timeout time.Duration
	Fall, Rise        int
}

// Script is a program that must exit with 0. Exec is the name of an entry of
// Local.ExecDir, never a path.
type Script struct {
	Exec              string
	Interval, Timeout time.Duration
	Fall, Rise        int
}

const vipsMore = ". {address: 10.0.0.254, interface: eth1} is on another interface, such as the inside gateway of real servers with nat"

func (g *Group) schema() schema {
	return schema{
		what: "a mapping of the group's settings, such as {vips: [192.168.150.100]}",
		fields: []field{
			{name: "vips", codec: nonEmpty(listOf(&g.VIPs, "IP addresses", true, fresh[VIP], vip), "address"), need: required, meaning: "the addresses, [192.168.150.100, ...]; each is bound as a /32, IPv6 as a /128", more: vipsMore},
			{name: "label", codec: text(&g.Label, "a label", func(s string) error { return CheckLabel(s, "") }), meaning: "label of the IPv4 addresses on the interface, such as \"eth0:2\""},
			{name: "interface", codec: text(&g.Interface, "an interface", CheckInterface), shown: "the director's", meaning: "interface that gets the addresses"},
			{name: "priority", codec: mapOf(&g.Priority, "a mapping from directors to 1..254, such as {node01: 150}", func(p *int) codec { return integer(p, 1, 254) }), shown: "100 each", meaning: "which director should hold, {node: 1 to 254}, higher first"},
			{name: "preempt", codec: boolean(&g.Preempt), meaning: "hand over to a ready standby of higher priority"},
			{name: "preempt_delay", codec: duration(&g.PreemptDelay, 0, time.Hour), meaning: "how long that standby must have been ready"},
			{name: "warm_standby", codec: boolean(&g.WarmStandby), meaning: "the IPVS rules stand on the standbys as well; refused on a director that is itself a real server of the group, where packets would loop"},
			{name: "fitness", codec: sub(g.Fitness.schema, func() schema { f := DefaultGroup().Fitness; return f.schema() }), meaning: "what a director needs to hold the group, besides the VIPs' interface"},
		},
		rule: g.rule,
	}
}

func (v *VIP) schema() schema {
	return schema{
		what: "an address, or a mapping such as {address: 10.0.0.254, interface: eth1}",
		fields: []field{
			{name: "address", codec: vipAddress(&v.Address), need: required, meaning: "the address"},
			{name: "interface", codec: text(&v.Interface, "an interface", CheckInterface), shown: "the group's", meaning: "interface that gets it; each must be up, with carrier"},
			{name: "label", codec: text(&v.Label, "a label", func(s string) error { return CheckLabel(s, "") }), shown: "the group's, on the group's interface", meaning: "its label, such as \"eth1:1\" (IPv4)"},
		},
	}
}

func (g *Group) rule(v value) {
	seen := map[netip.Addr]bool{}
	labeled := false
	for i, vip := range g.VIPs {
		if !vip.Address.IsValid() {
			continue
		}
		line := v.lineOf("vips", i)
		if seen[vip.Address] {
			v.failAt(line, "VIP %s is listed twice; expected it once", vip.Address)
		}
		seen[vip.Address] = true
		labeled = labeled || !vip.Address.Is6() && g.LabelOf(vip) == g.Label
		g.labelRule(v, line, vip)
	}
	if g.PreemptDelay > 0 && !g.Preempt {
		v.warnAt(v.lineOf("preempt_delay", -1), "preempt_delay has no effect without preempt: true")
	}
	if g.Label == "" {
		return
	}
	if g.Interface != "" {
		if err := CheckLabel(g.Label, g.Interface); err != nil {
			v.failAt(v.lineOf("label", -1), "label: %s", err)
		}
	}
	if len(seen) > 0 && !labeled {
		v.warnAt(v.lineOf("label", -1), "label has no effect: the group has no IPv4 address for it, and the kernel labels no others")
	}
}

// labelRule checks the label that a VIP has of its own.
func (g *Group) labelRule(v value, line int, vip VIP) {
	if vip.Label == "" {
		return
	}
	if iface := g.InterfaceOf(vip, ""); iface != "" {
		if err := CheckLabel(vip.Label, iface); err != nil {
			v.failAt(line, "label of VIP %s: %s", vip.Address, err)
		}
	}
	if vip.Address.Is6() {
		v.warnAt(line, "label of VIP %s has no effect: the kernel labels IPv4 addresses only", vip.Address)
	}
}

func (f *Fitness) schema() schema {
	return schema{
		what: "a mapping such as {gateway: {address: 192.168.150.1}}",
		fields: []field{
			{name: "track_interfaces", codec: listOf(&f.TrackInterfaces, "interfaces", true, fresh[string], func(s *string) codec { return text(s, "an interface", CheckInterface) }), meaning: "further interfaces that must be up, with carrier, [eth1, ...]"},
			{name: "gateway", codec: maybe(&f.Gateway, DefaultGateway, (*Gateway).schema), meaning: "an IPv4 address on the link that must answer to ARP"},
			{name: "script", codec: maybe(&f.Script, DefaultScript, (*Script).schema), meaning: "a program that must exit with 0"},
			{name: "backoff", codec: duration(&f.Backoff, 0, time.Hour), meaning: "how long, at least, a director that became unfit stays out of the queue"},
		},
	}
}

func (g *Gateway) schema() schema {
	return schema{
		what: "a mapping such as {address: 192.168.150.1}",
		fields: []field{
			{name: "address", codec: gatewayAddr(&g.Address), need: required, meaning: "IPv4 address of the gateway"},
			{name: "interval", codec: duration(&g.Interval, 100*time.Millisecond, time.Hour), meaning: "between the beginnings of two checks"},
			{name: "timeout", codec: duration(&g.Timeout, 10*time.Millisecond, time.Hour), meaning: "how long to wait for the answer"},
			{name: "fall", codec: integer(&g.Fall, 1, 100), meaning: "failures in a row that make unfit"},
			{name: "rise", codec: integer(&g.Rise, 1, 100), meaning: "successes in a row that make fit again"},
		},
	}
}

func (s *Script) schema() schema {
	return schema{
		what: "a mapping such as {exec: check-disk}",
		fields: []field{
			{name: "exec", codec: text(&s.Exec, "a name", checkScript), need: required, meaning: "name of a program in the director's exec_dir, never a path"},
			{name: "interval", codec: duration(&s.Interval, 100*time.Millisecond, time.Hour), meaning: "between the beginnings of two runs"},
			{name: "timeout", codec: duration(&s.Timeout, 10*time.Millisecond, time.Hour), meaning: "after which a run is killed and counts as failed"},
			{name: "fall", codec: integer(&s.Fall, 1, 100), meaning: "failures in a row that make unfit"},
			{name: "rise", codec: integer(&s.Rise, 1, 100), meaning: "successes in a row that make fit again"},
		},
	}
}

func checkScript(s string) error {
	if !scriptPattern.MatchString(s) {
		return fmt.Errorf("%q is no script; expected the name of a program in the director's exec_dir, of a-z, 0-9, '_', '.', '-', never a path", printable(s))
	}
	return nil
}
