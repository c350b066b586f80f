package synrecv_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/internal/synrecv"
	"github.com/zklvs/zklvs/ipvs"
)

// site is a director with services, real servers and clients. Each service is broken
// in its own way.
type site struct {
	*testing.T
	lab      *lab.Lab
	hosts    map[string]*lab.Host
	table    *ipvs.Table
	detector *synrecv.Detector
	said     map[string][]synrecv.Finding // by VIP: what was said of it, in order
}

const outside = "out" // a LAN from which NAT's clients come

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func newSite(t *testing.T) *site {
	l, err := lab.New(lab.Options{LANs: map[string]netip.Prefix{
		lab.LAN: netip.MustParsePrefix("192.168.150.0/24"), outside: netip.MustParsePrefix("10.50.0.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &site{T: t, lab: l, hosts: map[string]*lab.Host{}, detector: synrecv.New(), said: map[string][]synrecv.Finding{}}
	card := func(name, lan, address string) lab.NIC {
		return lab.NIC{Name: name, LAN: lan, Address: netip.MustParsePrefix(address + "/24")}
	}
	for name, cards := range map[string][]lab.NIC{
		"director": {card("eth0", lab.LAN, "192.168.150.11"), card("eth1", outside, "10.50.0.11")},
		"good":     {card("eth0", lab.LAN, "192.168.150.12")},
		"bad":      {card("eth0", lab.LAN, "192.168.150.13")}, // has not all VIPs, and no default route
		"shut":     {card("eth0", lab.LAN, "192.168.150.14")}, // drops what it would answer
		"client":   {card("eth0", lab.LAN, "192.168.150.20")},
		"lost":     {card("eth0", lab.LAN, "192.168.150.21")}, // nobody's answers reach it
		"far":      {card("eth0", outside, "10.50.0.20")},
	} {
		s.hosts[name], err = l.AddHost(name, cards...)
		s.must(err)
	}
	s.must(s.hosts["director"].Do(func() (err error) {
		s.table, err = ipvs.Open()
		return err
	}))
	t.Cleanup(s.table.Close)
	return s
}

func (s *site) shell(host, script string) {
	s.Helper()
	_, err := s.hosts[host].Run(s.Context(), "sh", "-ec", script)
	s.must(err)
}

// The services, by their VIPs.
const (
	healthy   = "192.168.150.100"
	missing   = "192.168.150.101" // not on the lo of one real server
	dropped   = "192.168.150.102" // one real server drops
	flooded   = "192.168.150.103"
	noWayBack = "192.168.150.104" // to this client
	natted    = "10.50.0.100"     // one real server has no way back through the director
	natFine   = "10.50.0.101"
)

// build sets everything up as said in newSite.
func (s *site) build() {
	for _, name := range []string{"good", "bad", "shut"} {
		s.must(s.hosts[name].BecomeRealServer(s.Context(), lab.RealServer{Method: lab.DR}))
		for _, vip := range []string{healthy, missing, dropped, flooded, noWayBack} {
			if name != "bad" || vip != missing {
				s.must(s.hosts[name].HideVIP(netip.MustParseAddr(vip)))
			}
		}
		_, err := lab.StartNginx(s.Context(), s.hosts[name], name)
		s.must(err)
		s.shell(name, "ip route add blackhole 192.168.150.21/32")
	}
	s.shell("shut", "ip route add blackhole 192.168.150.20/32; ip route add default via 192.168.150.11")
	s.shell("good", "ip route add default via 192.168.150.11")
	s.shell("director", "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0")
	var services []ipvs.Service
	for vip, servers := range map[string][]string{
		healthy: {"good", "bad"}, missing: {"good", "bad"}, dropped: {"good", "shut"}, flooded: {"good", "bad"}, noWayBack: {"good", "bad"},
		natted: {"good", "bad"}, natFine: {"good", "shut"},
	} {
		address, forward, card := netip.MustParseAddr(vip), ipvs.DR, "eth0"
		if strings.HasPrefix(vip, "10.") {
			forward, card = ipvs.NAT, "eth1"
		}
		s.must(s.hosts["director"].BindVIP(card, address))
		one := ipvs.Service{Key: ipvs.Key{Protocol: ipvs.TCP, Address: address, Port: 80}, Scheduler: "rr"}
		for _, name := range servers {
			one.Destinations = append(one.Destinations, ipvs.Destination{Address: s.hosts[name].Addr("eth0"), Port: 80, Forward: forward, Weight: 1})
		}
		services = append(services, one)
	}
	_, err := s.table.Apply(s.Context(), ipvs.Diff(services, nil, nil))
	s.must(err)
}

// background runs until the test ends.
func (s *site) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(s.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	s.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			s.Error(err)
		}
	})
}

// asks sends steady requests.
func (s *site) asks(client, vip string, every, patience time.Duration) *lab.Requester {
	r, err := lab.NewRequester(s.hosts[client], lab.RequesterOptions{Target: netip.AddrPortFrom(netip.MustParseAddr(vip), 80), Interval: every, Timeout: patience})
	s.must(err)
	s.background(r.Run)
	return r
}

// look is one window of the detector.
func (s *site) look() {
	s.Helper()
	stats, err := s.table.Stats()
	s.must(err)
	findings, err := s.detector.Observe(boottime.Now(), stats, s.sample)
	s.must(err)
	for _, f := range findings {
		vip := f.Service.Address.String()
		s.said[vip] = append(s.said[vip], f)
		if f.Phase != synrecv.GoesOn {
			s.Logf("%s: %s; %s; %s", f.Phase, f, f.Ended, f.Evidence)
		}
	}
}

func (s *site) sample() (conns []ipvs.Conn, err error) {
	err = s.hosts["director"].Do(func() error {
		f, err := os.Open("/proc/thread-self/net/ip_vs_conn")
		if err != nil {
			return err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, 64<<10))
		if err != nil {
			return err
		}
		conns, err = ipvs.Connections(strings.NewReader(string(data[:strings.LastIndexByte(string(data), '\n')+1])), 0)
		return err
	})
	return conns, err
}

// windows looks until done, at most so often.
func (s *site) windows(most int, done func() bool) {
	s.Helper()
	tick := time.NewTicker(synrecv.Interval)
	defer tick.Stop()
	for range most {
		<-tick.C
		if s.look(); done() {
			return
		}
	}
}

// last is what was said last of a service, "" if nothing.
func (s *site) last(vip string) string {
	said := s.said[vip]
	if len(said) == 0 {
		return ""
	}
	f := said[len(said)-1]
	server := "all"
	if f.RealServer.IsValid() {
		server = f.RealServer.String()
	}
	return fmt.Sprintf("%s %s: %s", f.Phase, server, f.Cause)
}

// Every way in which the network behind a director can be broken is named rightly,
// in one table with services that work; and what is mended ends.
//
//	go test -exec "$PWD/deploy/kernel/with-ipvs" -count=1 -v -timeout 5m -run '^TestKernel' ./internal/synrecv
func TestKernelFindings(t *testing.T) {
	lab.RequireIPVS(t)
	s := newSite(t)
	s.build()
	s.look()
	busy := s.asks("client", healthy, 20*time.Millisecond, 10*time.Second)
	s.asks("client", missing, 100*time.Millisecond, time.Second)
	s.asks("client", dropped, 100*time.Millisecond, 30*time.Second) // repeats its SYN
	s.asks("lost", noWayBack, 100*time.Millisecond, 5*time.Second)
	s.asks("far", natted, 100*time.Millisecond, 3*time.Second)
	far := s.asks("far", natFine, 100*time.Millisecond, 10*time.Second)
	s.background(func(ctx context.Context) error { return flood(ctx, s.hosts["client"], netip.MustParseAddr(flooded)) })
	want := map[string]string{
		missing:   "goes on 192.168.150.13:80: this real server's network: it does not take packets for 192.168.150.101",
		dropped:   "goes on 192.168.150.14:80: this real server's network: it does not take packets for 192.168.150.102",
		flooded:   "goes on all: a SYN flood",
		noWayBack: "goes on all: the way back to the clients",
		natted:    "goes on 192.168.150.13:80: nothing comes back from this real server through this director",
	}
	s.windows(14, func() bool {
		for vip, said := range want {
			if !strings.HasPrefix(s.last(vip), said) {
				return false
			}
		}
		return true
	})
	for vip, said := range want {
		if got := s.last(vip); !strings.HasPrefix(got, said) {
			t.Errorf("%s: %q, want %q", vip, got, said)
		}
		for _, f := range s.said[vip] {
			if f.Phase == synrecv.Ends {
				t.Errorf("%s: %v has ended while it was broken: %s", vip, f, f.Ended)
			}
		}
	}
	s.must(s.hosts["bad"].HideVIP(netip.MustParseAddr(missing)))
	s.shell("bad", "ip route add default via 192.168.150.11")
	s.windows(12, func() bool {
		return strings.HasPrefix(s.last(missing), "ends") && strings.HasPrefix(s.last(natted), "ends")
	})
	for _, vip := range []string{missing, natted} {
		if said := s.said[vip]; len(said) == 0 || said[len(said)-1].Ended != "connections get through again" {
			t.Errorf("%s is mended, and last was said %q", vip, s.last(vip))
		}
	}
	for _, vip := range []string{healthy, natFine} {
		if len(s.said[vip]) > 0 {
			t.Errorf("%s works, and is named: %v", vip, s.said[vip])
		}
	}
	for name, r := range map[string]*lab.Requester{"dr": busy, "nat": far} {
		if n := r.Tally(); n.Lost > 0 || n.Answered < 300 {
			t.Errorf("the test lacks its premise: requests that should work, %s: %+v", name, n)
		}
	}
}

// flood sends a hundred SYNs a second to a VIP, from addresses that nobody has.
func flood(ctx context.Context, from *lab.Host, vip netip.Addr) error {
	var fd int
	err := from.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := uint16(0); ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		source := netip.AddrFrom4([4]byte{192, 168, 150, byte(130 + n%120)})
		if err := unix.Sendto(fd, syn(source, vip, 1024+n), 0, &unix.SockaddrInet4{Addr: vip.As4()}); err != nil {
			return fmt.Errorf("send a SYN: %w", err)
		}
	}
}

// syn is an IPv4 packet (RFC 791) with a TCP SYN (RFC 9293) to port 80.
func syn(source, to netip.Addr, port uint16) []byte {
	p := make([]byte, 40)
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(p[2:], 40)
	copy(p[12:], source.AsSlice())
	copy(p[16:], to.AsSlice())
	tcp := p[20:]
	binary.BigEndian.PutUint16(tcp, port)
	binary.BigEndian.PutUint16(tcp[2:], 80)
	binary.BigEndian.PutUint32(tcp[4:], uint32(port)<<16)
	tcp[12], tcp[13] = 5<<4, 2
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	sum := uint32(unix.IPPROTO_TCP + 20) // the pseudo header; the kernel fills in the IP one's
	for i := 12; i < 40; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
	return p
}
