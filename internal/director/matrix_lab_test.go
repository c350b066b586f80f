package director_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/ipvs"
)

// matrix is the lab of all rows: a client, a director with a card for the VIPs and
// one for the inside LAN of NAT, and two or more real servers for each method.
type matrix struct {
	*testing.T
	lab              *lab.Lab
	client, director *lab.Host
	table            *ipvs.Table           // the director's
	hosts            map[netip.Addr]string // real servers by their addresses
	names            []string              // pairs of $word and what stands for it, for all rows
	rows             int
}

// The networks, of IPv4 and IPv6. VIPs and clients have parts of the LAN to
// themselves, so that each row has VIPs that the kernel has never seen: it
// remembers connections longer than a row lasts.
const (
	lan, lan6       = "192.168.%d.%d/16", "2001:db8:150:%d::%d/48"
	inside, inside6 = "10.0.%d.%d/16", "2001:db8:10:%d::%d/48"
	marked, marked6 = "172.16.%d.%d/28", "2001:db8:172:%d::%d/124" // of the rows that are marked, each its own
)

// The thirds of IPv4 addresses.
const (
	hostsNet   = 150 // hosts in general
	clientsNet = 20
	farNet     = 21  // of a client with another prefix
	vipNet     = 151 // and one more: VIPs
)

func address(network string, third, last int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf(network, third, last))
}

func newMatrix(t *testing.T) *matrix {
	t.Helper()
	lab.RequireIPVS(t)
	l, err := lab.New(lab.Options{LANs: map[string]netip.Prefix{
		lab.LAN: address(lan, 0, 0), "inside": address(inside, 0, 0)}})
	if err != nil {
		t.Fatal(err)
	}
	m := &matrix{T: t, lab: l, hosts: map[netip.Addr]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	servers, ctx := errgroup.WithContext(ctx)
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(servers.Wait(), l.Close()); err != nil {
			t.Error(err)
		}
	})
	m.addClient()
	m.addDirector()
	for i, r := range []struct {
		name string
		lab.RealServer
	}{
		{"dr1", lab.RealServer{Method: lab.DR}}, {"dr2", lab.RealServer{Method: lab.DR}}, {"dr3", lab.RealServer{Method: lab.DR}},
		{"ipip1", lab.RealServer{Method: lab.IPIP}}, {"ipip2", lab.RealServer{Method: lab.IPIP, IPv4InIPv6: true}},
		{"gue1", lab.RealServer{Method: lab.GUE}}, {"gue2", lab.RealServer{Method: lab.GUE, IPv4InIPv6: true}},
		{"gre1", lab.RealServer{Method: lab.GRE}}, {"gre2", lab.RealServer{Method: lab.GRE, Checksums: true}},
		{"nat1", lab.RealServer{Method: lab.NAT}}, {"nat2", lab.RealServer{Method: lab.NAT}},
	} {
		m.addRealServer(r.name, 31+i, r.RealServer)
	}
	for _, h := range l.Hosts() {
		if h != m.client {
			names, err := lab.NewNameServer(h, 80, 443, 5060, 8000, 8001, 8002, 8080)
			m.must(err)
			servers.Go(func() error { return names.Run(ctx) })
		}
	}
	return m
}

func (m *matrix) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *matrix) addHost(name string, nics ...lab.NIC) *lab.Host {
	m.Helper()
	h, err := m.lab.AddHost(name, nics...)
	m.must(err)
	return h
}

// name lets rows write $word for an address.
func (m *matrix) name(word string, a netip.Addr) {
	if a.Is6() {
		word += "v6"
	}
	m.names = append(m.names, "$"+word, a.String())
}

// addClient gives the client 32 addresses of one /24, and one of another; of IPv6
// each in a /64 of its own.
func (m *matrix) addClient() {
	m.client = m.addHost("client", lab.NIC{Name: "eth0", LAN: lab.LAN, Address: address(lan, hostsNet, 20)})
	bind := func(word string, a netip.Prefix) {
		m.must(m.client.BindAddress("eth0", a))
		m.name(word, a.Addr())
	}
	for i := 1; i <= clients; i++ {
		bind(fmt.Sprintf("C%d", i), address(lan, clientsNet, i))
		bind(fmt.Sprintf("C%d", i), address(lan6, clientsNet, i))
	}
	bind("FAR", address(lan, farNet, 1))
	bind("FAR", address(lan6, farNet, 1))
}

// clients is how many addresses of one network the client has.
const clients = 32

// addDirector makes one with its floating inside addresses, the real servers' way
// back, bound by hand.
func (m *matrix) addDirector() {
	m.director = m.addHost("director",
		lab.NIC{Name: "eth0", LAN: lab.LAN, Address: address(lan, hostsNet, 11)},
		lab.NIC{Name: "eth1", LAN: "inside", Address: address(inside, 0, 11)})
	m.must(m.director.BindAddress("eth0", address(lan6, hostsNet, 11)))
	m.must(m.director.BindAddress("eth1", address(inside6, 0, 11)))
	m.must(m.director.BindVIP("eth1", gateway))
	m.must(m.director.BindVIP("eth1", gateway6))
	for _, a := range []netip.Prefix{address(lan, hostsNet, 11), address(lan6, hostsNet, 11)} {
		m.name("director", a.Addr())
		m.hosts[a.Addr()] = "director"
	}
	_, err := m.director.Run(m.Context(), "sh", "-c",
		"sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 && tc qdisc add dev eth0 clsact")
	m.must(err)
	m.must(m.director.Do(func() (err error) {
		m.table, err = ipvs.Open()
		return err
	}))
	m.Cleanup(m.table.Close)
}

// The director's floating inside addresses.
var (
	gateway  = address(inside, 0, 254).Addr()
	gateway6 = address(inside6, 0, 254).Addr()
)

func (m *matrix) addRealServer(name string, last int, r lab.RealServer) {
	m.Helper()
	four, six := address(lan, hostsNet, last), address(lan6, hostsNet, last)
	nic := lab.NIC{Name: "eth0", LAN: lab.LAN, Address: four}
	if r.Method == lab.NAT {
		four, six = address(inside, 0, last), address(inside6, 0, last)
		nic = lab.NIC{Name: "eth0", LAN: "inside", Address: four}
		r.Gateways = []netip.Addr{gateway, gateway6}
	}
	h := m.addHost(name, nic)
	m.must(h.BindAddress("eth0", six))
	m.must(h.BecomeRealServer(m.Context(), r))
	for _, a := range []netip.Addr{four.Addr(), six.Addr()} {
		m.name(name, a)
		m.hosts[a] = name
	}
}
