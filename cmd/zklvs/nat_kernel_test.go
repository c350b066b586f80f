package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
)

// The directors have a card for the VIP and one for the real servers, whose way
// back is an address that moves with the VIP (the notes' NAT).
const natDocuments = `
groups:
  web:
    vips: [192.168.150.100, {address: 10.99.0.254, interface: eth1}]
services:
  web-http:
    group: web
    listen: 192.168.150.100:80/tcp
    scheduler: rr
    forward: nat
    real_servers: [{address: 10.99.0.41:8080}, {address: 10.99.0.42:8080}]
`

var natGateway = netip.MustParseAddr("10.99.0.254")

// nat is a cluster with real servers that can answer through the holder alone.
type nat struct {
	*cluster
	inside *lab.Prober // asks from a real server who has the gateway's address
}

func TestKernelNATGateway(t *testing.T) {
	requireIPVS(t)
	n := startNAT(t)
	_, err := n.Apply(n.ctx, natDocuments)
	n.must(err)
	first := n.waitAnyHolder()
	n.served(first, boottime.Now())
	n.waitStandby(standbyOf(first))

	killed := boottime.Now()
	n.must(n.Director(first).Kill())
	second := standbyOf(first)
	n.served(second, killed)
	n.must(n.StartDirector(first))
	n.waitStandby(first)

	released := boottime.Now()
	ctx, cancel := demo.Within(n.ctx, patience)
	defer cancel()
	n.must(n.Director(second).Stop(ctx))
	n.served(first, released)
	if c := n.inside.Conflicts(); len(c) > 0 {
		n.Errorf("%d requests for %s were answered by two directors: %v", len(c), natGateway, c)
	}
}

func startNAT(t *testing.T) *nat {
	t.Helper()
	n := &nat{cluster: startCluster(t, demo.Options{NoRealServers: true, Progress: t.Logf})}
	ctx, cancel := context.WithCancel(context.Background())
	running, ctx := errgroup.WithContext(ctx)
	t.Cleanup(func() {
		cancel()
		if err := running.Wait(); err != nil {
			t.Error(err)
		}
	})
	for i := range 2 {
		h, err := n.Lab.AddHost(fmt.Sprintf("nat%d", i+1), lab.NIC{Name: "eth0", LAN: lab.Mgmt,
			Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, 0, byte(41 + i)}), 24)})
		n.must(err)
		n.must(h.BecomeRealServer(n.ctx, lab.RealServer{Method: lab.NAT, Gateways: []netip.Addr{natGateway}}))
		names, err := lab.NewNameServer(h, 8080)
		n.must(err)
		running.Go(func() error { return names.Run(ctx) })
	}
	var err error
	n.inside, err = lab.NewARPProber(n.Lab.Host("nat1"), "eth0", natGateway, 0)
	n.must(err)
	running.Go(func() error { return n.inside.Run(ctx) })
	return n
}

// served waits until a director has the VIP and the gateway's address since a
// time, and both real servers serve through it.
func (n *nat) served(director string, since time.Duration) {
	n.Helper()
	ctx, cancel := demo.Within(n.ctx, patience)
	defer cancel()
	n.must(n.WaitAnswerer(ctx, lab.VIP, director))
	mac, err := n.Lab.Host(director).MAC("eth1")
	n.must(err)
	n.until(director+" claims the gateway's address", func() error {
		at, claimed := n.inside.FirstClaim(mac.String(), since)
		if !claimed {
			return errors.New("it does not")
		}
		n.Logf("%s has the gateway's address after %v", director, at-since)
		return nil
	})
	n.until("both real servers serve", func() error {
		got := map[lab.Reply]int{}
		for range 4 {
			call, err := n.Lab.Host(demo.Client).Call(lab.CallOptions{Network: "tcp", To: netip.AddrPortFrom(lab.VIP, 80)})
			if err != nil {
				return err
			}
			reply, err := call.Ask()
			call.Close()
			if err != nil {
				return err
			}
			got[reply]++
		}
		if len(got) != 2 {
			return fmt.Errorf("answers came from %v", got)
		}
		return nil
	})
	n.Logf("served through %s after %v", director, boottime.Now()-since)
}
