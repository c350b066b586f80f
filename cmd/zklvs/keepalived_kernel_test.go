package main

import (
	"net/netip"
	"strings"
	"time"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
)

// peer is keepalived as the exercise's notes configure it, on two hosts of its
// own in the same kernel as the directors.
type peer struct {
	master, backup *lab.Host
	vip            netip.Prefix
}

// startPeer starts it; the VRRP election takes its time meanwhile.
func (k *cluster) startPeer() *peer {
	k.Helper()
	p := &peer{vip: netip.MustParsePrefix("192.168.150.110/24")}
	for i, c := range []struct {
		host     **lab.Host
		name     string
		state    string
		priority int
	}{{&p.master, "peer1", "MASTER", 100}, {&p.backup, "peer2", "BACKUP", 50}} {
		address := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 150, byte(31 + i)}), 24)
		h, err := k.Lab.AddHost(c.name, lab.NIC{Name: "eth0", LAN: lab.LAN, Address: address})
		k.must(err)
		*c.host = h
		ctx, cancel := demo.Within(k.ctx, patience)
		_, err = lab.StartKeepalived(ctx, h, lab.KeepalivedConfig{State: c.state, Priority: c.priority, VIP: p.vip, RealServers: []netip.Addr{
			k.Lab.Host(demo.RealServer1).Addr("eth0"), k.Lab.Host(demo.RealServer2).Addr("eth0"),
		}})
		cancel()
		k.must(err)
	}
	return p
}

// kill kills every process of keepalived on the master and returns how long the
// take-over took, as a witness defines it. It is the notes' second experiment:
// the master's kernel goes on answering, and forwarding.
func (k *cluster) kill(p *peer) time.Duration {
	w := newWitness(k.T, k.Lab.Host(demo.Client), p.vip.Addr(), 0, p.master, p.backup)
	w.waitAnswered(p.master, 5)
	at := boottime.Now()
	k.must(p.master.Crash())
	took := w.waitClaim(p.backup, at) - at
	w.waitAnswered(p.backup, 20)
	w.waitAnswered(p.master, 20)
	w.stop()
	k.Logf("keepalived killed: taken over after %v; %d requests answered by two hosts\n%s", took, len(w.Conflicts()), w.BoundText())
	rules, err := k.Rules(k.ctx, p.master.Name())
	k.must(err)
	if len(w.Conflicts()) == 0 || !strings.Contains(rules, p.vip.Addr().String()) {
		k.Errorf("keepalived does better than the notes say: %d conflicts; rules of the dead master:\n%s", len(w.Conflicts()), rules)
	}
	return took
}
