package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// Method is a way in which a director's packets reach a real server.
type Method string

// The methods. A host is set up for one of them: a packet that comes in another
// way does not reach its servers.
const (
	DR   Method = "dr"   // direct routing
	IPIP Method = "ipip" // IP in IP: IPv4 and IPv6 in either
	GUE  Method = "gue"  // generic UDP encapsulation at GUEPort
	GRE  Method = "gre"
	NAT  Method = "nat" // the answers go back through the director
)

// GUEPort is the UDP port at which real servers of GUE take packets.
const GUEPort = 5555

// RealServer is what makes a host one.
type RealServer struct {
	Method Method
	// NIC is where its packets come in; default eth0.
	NIC string
	// Checksums makes a host of GRE take packets with checksums, and no others: the
	// kernel's plain gre0 drops such packets (net/ipv4/ip_tunnel.c, ip_tunnel_rcv).
	Checksums bool
	// IPv4InIPv6 makes a host of IPIP or GUE take IPv4 packets in IPv6 ones as well:
	// the kernel's plain ip6tnl0 drops them (net/ipv6/ip6_tunnel.c, ipxip6_rcv).
	IPv4InIPv6 bool
	// Gateways are the director's floating inside addresses, one a family. NAT
	// only.
	Gateways []netip.Addr
}

// BecomeRealServer sets the host up, once it has its addresses, with the kernel's own commands. What it does is
// what an operator of a real server must do; HideVIP is the rest.
func (h *Host) BecomeRealServer(ctx context.Context, r RealServer) error {
	if r.NIC == "" {
		r.NIC = "eth0"
	}
	own, err := h.addresses(r.NIC)
	if err != nil {
		return err
	}
	script, err := r.script(own)
	if err == nil {
		_, err = h.Run(ctx, "sh", "-c", script)
	}
	if err != nil {
		return fmt.Errorf("make %s a real server: %w", h.name, err)
	}
	return nil
}

// script is what the shell of a host with these addresses is to do.
func (r RealServer) script(own []netip.Addr) (string, error) {
	up := map[Method]string{DR: arpQuiet, IPIP: arpQuiet + ipipUp, GUE: arpQuiet + gueUp, GRE: arpQuiet + greUp, NAT: ""}
	commands, ok := up[r.Method]
	if !ok {
		return "", fmt.Errorf("no method %q", r.Method)
	}
	words := []string{"$NIC", r.NIC, "$PORT", fmt.Sprint(GUEPort)}
	for _, a := range own {
		words = append(words, map[bool]string{true: "$OWN4", false: "$OWN6"}[a.Is4()], a.String())
	}
	if r.IPv4InIPv6 {
		commands += bothInIPv6
	}
	if r.Checksums {
		commands += greChecksums
	}
	for _, gateway := range r.Gateways {
		commands += "ip route replace default via " + gateway.String() + "\n"
	}
	if r.Method != DR && r.Method != NAT {
		commands += "tc -batch - <<'EOF'\n" + r.onlyTunnels(own) + "EOF\n"
	}
	return "set -e\n" + strings.NewReplacer(words...).Replace(commands), nil
}

// arpQuiet: an address on lo is neither told nor used when others are asked
// (Documentation/networking/ip-sysctl.rst). IPv6 does so by itself.
const arpQuiet = `
for i in all $NIC; do
	sysctl -qw net.ipv4.conf.$i.arp_ignore=1 net.ipv4.conf.$i.arp_announce=2
done
`

// The tunnels' own devices take packets from any sender. A packet that comes out
// of one has no way back through it, hence rp_filter.
const (
	ipipUp = `
modprobe -a ipip ip6_tunnel sit
ip link set tunl0 up
ip link set ip6tnl0 up
ip link set sit0 up
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl0.rp_filter=0 net.ipv4.conf.ip6tnl0.rp_filter=0
`
	gueUp = `
modprobe -a fou fou6
ip fou add port $PORT gue
ip fou add port $PORT gue -6
` + ipipUp
	// one device for all that comes to the card's address, instead of ip6tnl0
	bothInIPv6 = `
ip -6 tunnel add any6 mode any local $OWN6
ip link set any6 up
sysctl -qw net.ipv4.conf.any6.rp_filter=0
`
	greUp = `
modprobe -a ip_gre ip6_gre
ip link set gre0 up
ip link set ip6gre0 up
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.gre0.rp_filter=0 net.ipv4.conf.ip6gre0.rp_filter=0
`
	// one device for all that comes to the card's address, instead of gre0
	greChecksums = `
ip tunnel add gre4sum mode gre local $OWN4 icsum
ip -6 tunnel add gre6sum mode ip6gre local $OWN6 icsum
ip link set gre4sum up
ip link set gre6sum up
sysctl -qw net.ipv4.conf.gre4sum.rp_filter=0 net.ipv4.conf.gre6sum.rp_filter=0
`
)

// onlyTunnels are tc's commands to drop what comes in by the card for another
// address than the card's, and on a host of GUE the tunnels without it: what is
// served has come through the tunnel that is tested.
func (r RealServer) onlyTunnels(own []netip.Addr) string {
	var b strings.Builder
	add := func(protocol, priority, match, action string) {
		fmt.Fprintf(&b, "filter add dev %s ingress protocol %s prio %s u32 match %s action %s\n", r.NIC, protocol, priority, match, action)
	}
	fmt.Fprintf(&b, "qdisc add dev %s clsact\n", r.NIC)
	if r.Method == GUE {
		for _, number := range []string{"4", "41", "47"} { // IP in IP, IPv6 in IP, GRE
			add("ip", "1", "ip protocol "+number+" 0xff", "drop")
			add("ipv6", "2", "ip6 protocol "+number+" 0xff", "drop")
		}
	}
	for _, a := range own {
		if a.Is4() {
			add("ip", "3", "ip dst "+a.String(), "pass")
		} else {
			add("ipv6", "4", "ip6 dst "+a.String()+"/128", "pass")
		}
	}
	for _, neighbors := range []string{"ff00::/8", "fe80::/10"} { // their discovery
		add("ipv6", "4", "ip6 dst "+neighbors, "pass")
	}
	add("ip", "5", "u32 0 0", "drop")
	add("ipv6", "6", "u32 0 0", "drop")
	return b.String()
}

// HideVIP gives a real server a VIP that it does not tell anybody: on lo, with
// the whole length of an address. NAT needs none.
func (h *Host) HideVIP(vip netip.Addr) error {
	return h.BindAddress("lo", netip.PrefixFrom(vip, vip.BitLen()))
}
