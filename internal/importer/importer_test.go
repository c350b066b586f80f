package importer

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/ipvs"
	"github.com/zklvs/zklvs/ipvs/ipvsadm"
)

func TestIpvsadm(t *testing.T) {
	rules := `# saved by hand
-A -t 10.0.0.1:80 -s sh -b sh-port
-a -t 10.0.0.1:80 -r 10.0.1.2:80 -g -w 1
-a -t 10.0.0.1:80 -r 10.0.1.3:80 -i -w 1 --tun-type gue --tun-port 5 --tun-csum
-a -t 10.0.0.1:80 -r 10.0.1.4:81 -m -w 7
-a -t 10.0.0.1:80 -r 10.0.1.5 -g -w 2
-A -f 5 -6 -s rr -b flag-1
-a -f 5 -6 -r [2001:db8::1]:80
-a -f 5 -6 -r 10.9.9.9:0 -i
-A -u [2001:db8::5]:0 -p 300 -M 64
-a -u [2001:db8::5]:0 -r [2001:db8::6]:0 -i --tun-type gre -x 9 -y 3
--set 1 2 3
`
	got, err := Ipvsadm("rules", strings.NewReader(rules), Options{Group: "web"})
	if err != nil {
		t.Fatal(err)
	}
	want := `groups:
  web:
    vips: [10.0.0.1, "2001:db8::5"]
services:
  fwmark-5-ipv6:
    group: web
    listen: fwmark:5/ipv6
    scheduler: rr
    forward: dr
    real_servers:
      - {address: "2001:db8::1", weight: 1}
      - {address: 10.9.9.9, weight: 1, forward: tun}
  tcp-10-0-0-1-80:
    group: web
    listen: 10.0.0.1:80/tcp
    scheduler: sh
    scheduler_flags: [sh-port]
    forward: dr
    real_servers:
      - {address: 10.0.1.2:80, weight: 1}
      - {address: 10.0.1.3:80, weight: 1, forward: tun, tunnel: {type: gue, port: 5, checksum: full}}
      - {address: 10.0.1.4:81, weight: 7, forward: nat}
      - {address: 10.0.1.5:80, weight: 2}
  udp-2001-db8--5-0:
    group: web
    listen: "[2001:db8::5]:0/udp"
    scheduler: wlc
    forward: tun
    tunnel:
      type: gre
    persistence: 5m
    persistence_prefix: 64
    real_servers:
      - {address: "2001:db8::6", weight: 1, upper_threshold: 9, lower_threshold: 3}
`
	if d := cmp.Diff(want, got.Text); d != "" {
		t.Errorf("documents (-want +got):\n%s", d)
	}
	var notes []string
	for _, n := range got.Notes {
		notes = append(notes, n.String())
	}
	if d := cmp.Diff([]string{
		`rules:7: -b flag-1 is left out: scheduler rr looks at no flags`,
		`rules:8: port 80 of real server [2001:db8::1]:80 is left out: with a firewall mark dr leaves the port as it comes`,
		`rules:9: service fwmark-5-ipv6: real server 10.9.9.9 is IPv4 but listen fwmark:5/ipv6 is IPv6, which the kernel refuses beside connection synchronization; expected one family, or ipvs: {sync: {enabled: false}} in the cluster's document`,
		`rules:12: --set is left out: timeouts of connections are no part of a service (cluster.ipvs.timeouts in the documents)`,
	}, notes); d != "" {
		t.Errorf("notes (-want +got):\n%s", d)
	}
}

// Whatever apply would refuse is told with the line that says it.
func TestIpvsadmFaults(t *testing.T) {
	const web = "-A -t 10.0.0.1:80 -s rr\n"
	for name, c := range map[string]struct{ in, want string }{
		"nothing":          {"# no rules\n", "rules:1: there is no service; expected what ipvsadm -S -n prints"},
		"marks only":       {"\n-A -f 5\n", "rules:2: all services are of firewall marks, which do not say for which addresses; expected --vip ADDRESS"},
		"names":            {"-A -t www.example.org:80\n", `rules:1: -t "www.example.org" is the name of a host; expected an address: save the table with ipvsadm -S -n, which prints numbers`},
		"other port":       {web + "-a -t 10.0.0.1:80 -r 10.0.1.2:81", "rules:2: real server 10.0.1.2:81 has port 81, and ipvsadm would silently take 80: only -m can change the port; expected port 80 or -m"},
		"weight":           {web + "-a -t 10.0.0.1:80 -r 10.0.1.2\n-a -t 10.0.0.1:80 -r 10.0.1.3 -w 65536", "rules:3: services.tcp-10-0-0-1-80.real_servers[1].weight: 65536 is out of range; expected a whole number from 0 to 65535"},
		"one packet, nat":  {"-A -u 10.0.0.1:53 -o\n-a -u 10.0.0.1:53 -r 10.0.1.2 -g\n-a -u 10.0.0.1:53 -r 10.0.1.3 -g\n-a -u 10.0.0.1:53 -r 10.0.1.4 -m", "rules:4: services.udp-10-0-0-1-53: with nat the answers to one_packet would not be translated back; expected forward: dr or tun of real server 10.0.1.4:53"},
		"VIP of all hosts": {"-A -t 0.0.0.0:80\n", "rules:1: "},
		"loopback":         {web + "-a -t 10.0.0.1:80 -r 127.0.0.1", "rules:2: services.tcp-10-0-0-1-80.real_servers[0].address: 127.0.0.1 is no address of one host; expected a unicast IPv4 address"},
		"VIP as server":    {web + "-A -t 10.0.0.2:80\n-a -t 10.0.0.1:80 -r 10.0.0.2", "rules:3: service tcp-10-0-0-1-80: real server 10.0.0.2:80 is a VIP of group web; expected the server's own address"},
		"no scheduler":     {web + "-A -t 10.0.0.2:80 -s none", `rules:2: services.tcp-10-0-0-2-80.scheduler: "none" is no scheduler; expected one of rr, `},
		"engine":           {"-A -u 10.0.0.1:80 --pe sip", "rules:1: services.udp-10-0-0-1-80: persistence_engine has no effect without persistence; expected persistence, such as 300s"},
		"refused clients":  {"-A -t 10.0.0.1:80 -s sh\n-a -t 10.0.0.1:80 -r 10.0.1.2 -w 0", "rules:2: services.tcp-10-0-0-1-80: without sh-fallback scheduler sh refuses the clients that it hashes to real server 10.0.1.2:80 of weight 0; expected sh-fallback among scheduler_flags, or no scheduler_flags"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Ipvsadm("rules", strings.NewReader(c.in), Options{Group: "web"})
			var faults spec.Errors
			if !errors.As(err, &faults) || got.Text != "" {
				t.Fatalf("error %v, text %q", err, got.Text)
			}
			if !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("error (-want +got):\n%s", cmp.Diff(c.want, err.Error()))
			}
		})
	}
	broken := errors.New("broken pipe")
	if _, err := Ipvsadm("rules", iotest.ErrReader(broken), Options{Group: "web"}); !errors.Is(err, broken) {
		t.Errorf("read error: %v", err)
	}
}

func TestMarksWithTheirVIPs(t *testing.T) {
	vip := netip.MustParseAddr("10.0.0.9")
	got, err := Ipvsadm("rules", strings.NewReader("-A -f 5 -s rr\n-A -f 5 -6 -s rr\n"), Options{Group: "web", VIPs: []netip.Addr{vip, vip}})
	if err != nil || !strings.Contains(got.Text, "vips: [10.0.0.9]\n") || !strings.Contains(got.Text, "  fwmark-5-ipv4:\n") || !strings.Contains(got.Text, "  fwmark-5-ipv6:\n") {
		t.Errorf("error %v, documents:\n%s", err, got.Text)
	}
}

// Import, then export: the same text, for all that documents accept.
func TestImportThenExport(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := drawTable(t)
		var want, got bytes.Buffer
		if err := ipvsadm.Format(&want, table); err != nil {
			t.Fatal(err)
		}
		made, err := Ipvsadm("rules", bytes.NewReader(want.Bytes()), Options{Group: "web"})
		if err != nil {
			t.Fatal(want.String(), err)
		}
		docs, err := spec.ParseFile("made", []byte(made.Text))
		if err != nil {
			t.Fatal(err)
		}
		all := director.Rules(docs.Spec(), map[string]bool{"web": true}, func(spec.Service, spec.RealServer) bool { return true })
		if err := ipvsadm.Format(&got, all); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want.String(), got.String()); d != "" {
			t.Fatalf("export (-before import +after):\n%s\n%s", d, made.Text)
		}
	})
}

// drawTable draws what documents accept.
func drawTable(t *rapid.T) []ipvs.Service {
	var out []ipvs.Service
	seen := map[ipvs.Key]bool{}
	for i := range rapid.IntRange(1, 6).Draw(t, "services") {
		k := ipvs.Key{Protocol: rapid.SampledFrom([]ipvs.Protocol{ipvs.TCP, ipvs.UDP, ipvs.SCTP}).Draw(t, "protocol"),
			Address: drawAddress(t, "vip", rapid.Bool().Draw(t, "six")), Port: rapid.Uint16Range(0, 3).Draw(t, "port")}
		if i > 0 && rapid.Bool().Draw(t, "mark?") {
			k = ipvs.Key{Mark: rapid.Uint32Range(1, 3).Draw(t, "mark"), IPv6: rapid.Bool().Draw(t, "IPv6")}
		}
		if !seen[k] {
			seen[k] = true
			out = append(out, drawService(t, k))
		}
	}
	return out
}

func drawAddress(t *rapid.T, what string, six bool) netip.Addr {
	last := rapid.ByteRange(1, 4).Draw(t, what)
	net := map[string]byte{"vip": 0, "real server": 1}[what]
	if six {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: net, 15: last})
	}
	return netip.AddrFrom4([4]byte{10, 0, net, last})
}

func drawService(t *rapid.T, k ipvs.Key) ipvs.Service {
	s := ipvs.Service{Key: k, Scheduler: rapid.SampledFrom(ipvs.Schedulers()).Draw(t, "scheduler")}
	if s.Scheduler == "sh" || s.Scheduler == "mh" {
		s.SchedulerFlags = ipvs.SchedulerFlags(rapid.IntRange(0, 7).Draw(t, "flags"))
	}
	if k.Mark == 0 && k.Port == 0 || rapid.Bool().Draw(t, "persistent") {
		s.Persistence = time.Duration(rapid.IntRange(1, 31*24*3600).Draw(t, "persistence")) * time.Second
		s.PersistencePrefix = rapid.IntRange(0, 31).Draw(t, "prefix")
		if k.Protocol == ipvs.UDP && rapid.Bool().Draw(t, "sip") {
			s.Engine = "sip"
		}
	}
	s.OnePacket = (k.Mark != 0 || k.Protocol == ipvs.UDP) && rapid.Bool().Draw(t, "one packet")
	mayRefuse := s.SchedulerFlags&ipvs.Fallback != 0 || s.Scheduler != "sh" && s.Scheduler != "mh"
	seen := map[netip.AddrPort]bool{}
	for range rapid.IntRange(0, 5).Draw(t, "real servers") {
		d := drawDestination(t, s)
		if mayRefuse {
			d.Weight = rapid.IntRange(0, 65535).Draw(t, "weight")
			d.Upper = rapid.Uint32Range(0, 1<<31-1).Draw(t, "upper")
			d.Lower = rapid.Uint32Range(0, d.Upper).Draw(t, "lower")
		}
		if !seen[d.AddrPort()] {
			seen[d.AddrPort()] = true
			s.Destinations = append(s.Destinations, d)
		}
	}
	return s
}

func drawDestination(t *rapid.T, s ipvs.Service) ipvs.Destination {
	methods := []ipvs.Forward{ipvs.DR, ipvs.TUN, ipvs.NAT}
	if s.OnePacket {
		methods = methods[:2]
	}
	d := ipvs.Destination{Forward: rapid.SampledFrom(methods).Draw(t, "forward"), Weight: 1, Port: s.Port}
	six := s.Is6()
	switch d.Forward {
	case ipvs.NAT:
		if d.Port = rapid.Uint16Range(1, 3).Draw(t, "own port"); s.Port == 0 && rapid.Bool().Draw(t, "as it comes") {
			d.Port = 0
		}
	case ipvs.TUN:
		six = rapid.Bool().Draw(t, "either family")
		d.Tunnel = rapid.SampledFrom([]ipvs.Tunnel{{}, {Type: ipvs.GRE}, {Type: ipvs.GRE, Checksum: ipvs.Checksum}, {Type: ipvs.GUE, Port: 5555},
			{Type: ipvs.GUE, Port: 5555, Checksum: ipvs.RemoteChecksum}}).Draw(t, "tunnel")
	}
	d.Address = drawAddress(t, "real server", six)
	return d
}

// Names are names, and no two services share one.
func TestServiceNames(t *testing.T) {
	seen := map[string]ipvs.Key{}
	for _, a := range []string{"10.0.0.1", "1.0.0.10", "2001:db8::1", "2001:db8::", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "1:2:3:4:5:6:7:8"} {
		for _, p := range []ipvs.Protocol{ipvs.TCP, ipvs.UDP, ipvs.SCTP} {
			for _, port := range []uint16{0, 1, 80, 65535} {
				k := ipvs.Key{Protocol: p, Address: netip.MustParseAddr(a), Port: port}
				name := serviceName(k)
				if err := spec.CheckName(name); err != nil {
					t.Error(err)
				}
				if other, taken := seen[name]; taken {
					t.Errorf("%s and %s are both %s", k, other, name)
				}
				seen[name] = k
			}
		}
	}
}
