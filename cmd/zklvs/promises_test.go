package main

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

func TestOwnAddress(t *testing.T) {
	for name, c := range map[string]struct {
		addresses string
		want      string
	}{
		"none":                  {"", ""},
		"one":                   {"10.0.0.11/24", "10.0.0.11"},
		"a VIP before it":       {"10.0.0.100/32 10.0.0.11/24", "10.0.0.11"},
		"only a VIP":            {"10.0.0.100/32 2001:db8::100/128", ""},
		"loopback":              {"127.0.0.1/8 ::1/64", ""},
		"both families":         {"2001:db8::11/64 10.0.0.11/24", "10.0.0.11"},
		"IPv6":                  {"fe80::1/64 2001:db8::100/128 2001:db8::11/64 2001:db8::12/64", "2001:db8::11"},
		"link-local of IPv4":    {"169.254.1.1/16 10.0.0.11/24", "10.0.0.11"},
		"the first of its kind": {"10.0.0.12/24 10.0.0.11/24", "10.0.0.12"},
	} {
		t.Run(name, func(t *testing.T) {
			var addrs []net.Addr
			for _, text := range strings.Fields(c.addresses) {
				ip, n, err := net.ParseCIDR(text)
				if err != nil {
					t.Fatal(err)
				}
				addrs = append(addrs, &net.IPNet{IP: ip, Mask: n.Mask})
			}
			want := netip.Addr{}
			if c.want != "" {
				want = netip.MustParseAddr(c.want)
			}
			if got := ownAddress(addrs); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

// Where a director is asked: in its file, on its interface, or towards ZooKeeper.
func TestHostListenAt(t *testing.T) {
	requireHost(t)
	hosts, err := newLab(t).AddNodes(demo.First)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hosts[0].Run(t.Context(), "ip", "address", "add", "192.168.150.100/32", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file, want, problem string
	}{
		"in the file":        {"promise: {listen: 10.1.2.3:99}", "10.1.2.3:99", ""},
		"on the interface":   {"interface: eth0", "192.168.150.11:7363", ""},
		"another port":       {"interface: eth0\npromise: {listen: \":99\"}", "192.168.150.11:99", ""},
		"towards ZooKeeper":  {"", "10.99.0.11:7363", ""},
		"no such interface":  {"interface: eth7", "", "interface eth7: route ip+net: no such network interface: set promise.listen"},
		"no address on it":   {"interface: lo", "", "interface lo has no address of its own"},
		"no way there":       {"zookeeper: {servers: [203.0.113.1:1]}", "", "network is unreachable: set promise.listen"},
		"only through lo":    {"zookeeper: {servers: [127.0.0.1:1]}", "", "127.0.0.1:1 is reached from 127.0.0.1, where no other host could ask"},
		"the second of them": {"zookeeper: {servers: [127.0.0.1:1, 10.99.0.1:2181]}", "10.99.0.11:7363", ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := "cluster: web\nnode: node01\n" + c.file + "\n"
			if !strings.Contains(c.file, "zookeeper") {
				text += "zookeeper: {servers: [10.99.0.1:2181]}\n"
			}
			local, err := spec.ParseLocal("zklvs.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			var p *promises
			err = hosts[0].Do(func() error {
				p = newPromises(local, "machine", nil, zap.NewNop())
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if p.address != c.want || !strings.Contains(p.cannot(), c.problem) || (c.problem == "") != (p.cannot() == "") {
				t.Errorf("address %q, problem %q; want %q, %q", p.address, p.cannot(), c.want, c.problem)
			}
		})
	}
}

// A director whose machine has no identity cannot be told from another one. It
// works all the same, without promises.
func TestPromisesWithoutMachineID(t *testing.T) {
	local := spec.DefaultLocal()
	local.Cluster, local.Node, local.Promise.Listen = "web", "node01", netip.MustParseAddrPort("192.0.2.1:7363")
	p := newPromises(local, "", nil, zap.NewNop())
	if p.address != "" || p.cannot() == "" {
		t.Errorf("address %q, problem %q", p.address, p.cannot())
	}
	p.setKey(make([]byte, 32))
	p.ask(election.AskVoter{})
	p.run(t.Context())
}

// While the port is another program's the director says so, and tries again.
func TestPortTaken(t *testing.T) {
	other, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	local := spec.DefaultLocal()
	local.Cluster, local.Node, local.Promise.Listen = "web", "node01", netip.MustParseAddrPort(other.LocalAddr().String())
	p := newPromises(local, "machine", func() *zk.Elector { return nil }, zap.NewNop())
	if p.cannot() != "" {
		t.Fatalf("before it runs: %q", p.cannot())
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	ended := make(chan struct{})
	go func() { defer close(ended); p.run(ctx) }()
	defer func() { cancel(); <-ended }()
	wait := func(what string, ok func() bool) {
		t.Helper()
		err := lab.WaitUntil(ctx, what, func() error {
			if !ok() {
				return net.ErrClosed
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	wait("it says why", func() bool { return strings.Contains(p.cannot(), "address already in use") })
	other.Close()
	wait("it listens", func() bool { return p.cannot() == "" && p.service.Status().Listening != "" })
}
