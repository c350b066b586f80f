package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
)

// The views of the kernel's table agree with ipvsadm's, tell where to look on hosts
// that have nothing to show, and a real server that lost its VIP is named in the
// status of every host until it has it again.
//
//	go test -exec "$PWD/deploy/kernel/with-ipvs" -count=1 -v -timeout 5m -run '^TestKernelViews$' ./cmd/zklvs
func TestKernelViews(t *testing.T) {
	requireIPVS(t)
	k := startCluster(t, demo.Options{})
	k.apply(demo.Web())
	k.waitAnyHolder()
	h := k.holder()
	k.until("the VIP is served", func() error {
		_, err := k.Curl(k.ctx, lab.VIP)
		return err
	})
	for range 5 {
		k.must1(k.Curl(k.ctx, lab.VIP))
	}
	k.agreesWithIPVSAdm(h)
	k.wants(h, []string{"--connections"}, "PRO  EXPIRE", "192.168.150.100:80", "FIN_WAIT", " connections on "+h)
	k.wants(h, []string{"--connections", "--limit", "1"}, "1 connections on "+h+"; there are more")
	k.wants(h, []string{"--timeout"}, "TCPFIN", "120s")
	k.wants(h, []string{"--rate"}, "CPS", "-> 192.168.150.12:80")
	k.wants(h, nil, "KERNEL  ACTIVECONN  INACTCONN  PERSISTCONN", "THIS DIRECTOR")
	other := standbyOf(h)
	k.waitStandby(other)
	k.wants(other, []string{"--stats"}, "No service of the cluster's documents is in the table of "+other+"; web is held by "+h+".")
	_, err := k.Zklvs(k.ctx, demo.Client, "status", "--stats", "--cluster", "web", "--zookeeper", strings.Join(k.ZooKeeper.Servers(), ","))
	if err == nil || !strings.Contains(err.Error(), "no director of cluster web runs on this host") || !strings.Contains(err.Error(), "run this on a director: web is held by "+h) {
		t.Errorf("on the client: %v", err)
	}
	k.lostVIP(h, other)
}

// wants looks for texts in what status prints on a host.
func (k *cluster) wants(host string, args []string, texts ...string) {
	k.Helper()
	out, err := k.Zklvs(k.ctx, host, append([]string{"status"}, args...)...)
	k.must(err)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			k.Errorf("status %s on %s lacks %q:\n%s", strings.Join(args, " "), host, text, out)
		}
	}
}

// agreesWithIPVSAdm compares the counters, which the kernel estimates every 2 s.
func (k *cluster) agreesWithIPVSAdm(host string) {
	k.Helper()
	k.until("status --stats agrees with ipvsadm", func() error {
		theirs, err := k.Lab.Host(host).Run(k.ctx, "ipvsadm", "-Ln", "--stats", "--exact")
		if err != nil {
			return err
		}
		out, err := k.Zklvs(k.ctx, host, "status", "--stats", "-o", "json")
		if err != nil {
			return err
		}
		var ours shownTable
		if err := json.Unmarshal([]byte(out), &ours); err != nil {
			return err
		}
		if len(ours.Services) != 1 || ours.Services[0].Service != "web-http" || len(ours.Services[0].RealServers) != 2 || ours.Services[0].Total.Connections < 6 {
			return fmt.Errorf("status says %s", out)
		}
		line := func(name string, n totals) string {
			return strings.Join(strings.Fields(fmt.Sprint(name, " ", n.Connections, " ", n.InPackets, " ", n.OutPackets, " ", n.InBytes, " ", n.OutBytes)), " ")
		}
		want := []string{line("TCP 192.168.150.100:80", ours.Services[0].Total)}
		for _, r := range ours.Services[0].RealServers {
			want = append(want, line("-> "+r.Address, r.Total))
		}
		plain := strings.Join(strings.Fields(theirs), " ")
		for _, w := range want {
			if !strings.Contains(plain, w) {
				return fmt.Errorf("ipvsadm lacks %q:\n%s", w, theirs)
			}
		}
		return nil
	})
}

// lostVIP takes the VIP off a real server, which its check does not see: the check
// asks the real server's own address.
func (k *cluster) lostVIP(holder, other string) {
	requester, err := lab.NewRequester(k.Lab.Host(demo.Client), lab.RequesterOptions{Target: netip.AddrPortFrom(lab.VIP, 80), Interval: 100 * time.Millisecond, Timeout: time.Second})
	k.must(err)
	stop := (&holding{k, holder}).background(requester.Run)
	defer stop()
	k.must(k.Lab.Host(demo.RealServer2).RemoveAddress("lo", lab.VIP.String()+"/32"))
	const named = "connections to real server 192.168.150.13:80 of service web-http (TCP 192.168.150.100:80) hang in SYN_RECV: this real server's network"
	shown := func(host string, want bool) error {
		out, err := k.Zklvs(k.ctx, host, "status")
		if err == nil && strings.Contains(strings.ReplaceAll(out, "\n", " "), named) != want {
			err = errors.New("status says\n" + out)
		}
		return err
	}
	for _, host := range []string{holder, other} {
		k.until(host+" shows the real server that lost its VIP", func() error { return shown(host, true) })
	}
	k.wants(holder, nil, "sampled connections in SYN_RECV for over 3s")
	k.wants(holder, []string{"--connections"}, "SYN_RECV")
	if log := k.Director(holder).Log(); !strings.Contains(log, "connections hang in SYN_RECV") || !strings.Contains(log, "zklvs realserver up") {
		k.Errorf("the log does not tell of it:\n%s", log)
	}
	k.must(k.Lab.Host(demo.RealServer2).BindAddress("lo", netip.PrefixFrom(lab.VIP, 32)))
	k.until("it is over", func() error { return shown(other, false) })
	if log := k.Director(holder).Log(); !strings.Contains(log, "connections no longer hang in SYN_RECV") {
		k.Errorf("the log does not tell of the end:\n%s", log)
	}
}
