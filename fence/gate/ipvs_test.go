package gate_test

import (
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/zklvs/zklvs/internal/boottime"
)

// cluster is a client, a director (the test's namespace) and a real server on
// one switch.
type cluster struct {
	lan
	real      netns.NsHandle
	directors string // the director's MAC
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	needGate(t)
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		t.Skip("SKIP: this kernel has no ip_vs: run through deploy/kernel/with-ipvs")
	}
	c := &cluster{lan: lan{t: t, client: newNamespace(t)}}
	c.real = newNamespace(t)
	c.server = newNamespace(t)
	newNamespace(t) // of the switch
	run(t, "ip link add br0 type bridge\nip link set br0 up")
	for port, ns := range map[string]netns.NsHandle{"c0": c.client, "s0": c.server, "r0": c.real} {
		run(t, "ip link add "+port+" type veth peer name p"+port)
		must(netlink.LinkSetNsFd(c.link(port), int(ns)))
		run(t, "ip link set p"+port+" master br0 up")
	}
	must(netns.Set(c.client))
	run(t, "ip address add 10.0.0.7/16 dev c0\nip link set c0 up")
	must(netns.Set(c.real))
	for _, name := range []string{"all", "r0"} {
		must(os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/arp_ignore", []byte("1"), 0))
		must(os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/arp_announce", []byte("2"), 0))
	}
	run(t, `ip address add 10.0.0.2/16 dev r0
		ip link set r0 up
		ip address add 10.0.0.100/32 dev lo`)
	listen(t)
	must(netns.Set(c.server))
	run(t, `ip address add 10.0.0.1/16 dev s0
		ip link set s0 up
		ip address add 10.0.0.100/32 dev s0
		ipvsadm -A -t 10.0.0.100:8080 -s rr
		ipvsadm -a -t 10.0.0.100:8080 -r 10.0.0.2:8080 -g`)
	c.directors = c.link("s0").Attrs().HardwareAddr.String()
	c.inClient("ip neighbor replace 10.0.0.100 dev c0 lladdr " + c.directors)
	return c
}

// IPVS direct routing passes both hooks, each of which gates it.
func TestKernelGateIPVS(t *testing.T) {
	c := newCluster(t)
	eventually(t, "the service answers before it is gated", func() bool { return c.dial(vip4) })
	g := newGate(t)
	must(g.Add(vip4))
	must(g.Ensure())
	if c.dial(vip4) {
		t.Error("served while shut")
	}
	must(g.Set(vip4, boottime.Now()+time.Hour))
	if !c.reaches(vip4) {
		t.Error("not served while open")
	}
	must(g.Shut(vip4))
	run(t, "tc filter del dev s0 ingress")
	before := g.Dropped(vip4)
	if c.dial(vip4) || g.Dropped(vip4) == before {
		t.Error("forwarded through egress while shut")
	}
	run(t, "tc filter del dev s0 egress")
	if !c.reaches(vip4) {
		t.Error("not served without filters: the test lacks its premise")
	}
}

// A standby director that is also a real server serves what the active director
// forwards, and answers no one else.
func TestKernelGateRealServer(t *testing.T) {
	c := newCluster(t)
	eventually(t, "the service answers before it is gated", func() bool { return c.dial(vip4) })
	c.in(c.real, func() {
		g := newGate(t)
		must(g.Add(vip4))
		must(g.Ensure())
		if c.dial(vip4) {
			t.Error("the standby serves without exemption")
		}
		exempt(t, g, c.directors)
		if !c.reaches(vip4) {
			t.Error("the standby does not serve what the director forwards")
		}
		mac := c.link("r0").Attrs().HardwareAddr.String()
		c.inClient("ip neighbor replace 10.0.0.100 dev c0 lladdr " + mac)
		if c.dial(vip4) {
			t.Error("the standby serves a client that came to it directly")
		}
	})
	c.inClient("ip neighbor flush dev c0 nud permanent")
	var p *prober
	c.in(c.client, func() { p = newProber(t, "c0") })
	run(t, "ip link set s0 down")
	c.in(c.real, func() {
		for _, name := range []string{"all", "r0"} { // it would answer if the gate let it
			must(os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/arp_ignore", []byte("0"), 0))
		}
	})
	if p.asked() {
		t.Error("the exempted standby answers ARP for the VIP")
	}
}
