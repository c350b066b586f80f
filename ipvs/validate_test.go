package ipvs

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	const web = "TCP 10.0.0.1:80"
	for _, tt := range []struct {
		name   string
		change func(*Service)
		want   string
	}{
		{"good", func(*Service) {}, "<nil>"},
		{"nat may change the port", func(s *Service) {
			s.Destinations = []Destination{dest("10.0.0.2:8080", NAT, 0), dest("10.0.0.2:8081", NAT, 65535)}
		}, "<nil>"},
		{"protocol", func(s *Service) { s.Protocol = 1 },
			"service protocol-1 10.0.0.1:80: protocol-1: expected TCP, UDP or SCTP"},
		{"sctp", func(s *Service) { s.Protocol = SCTP }, "<nil>"},
		{"mark", func(s *Service) {
			s.Key, s.Destinations = Key{Mark: 5}, []Destination{dest("10.0.0.2:0", DR, 1), dest("10.0.0.3:8080", NAT, 1), dest("10.0.0.4:0", NAT, 1)}
		}, "<nil>"},
		{"mark with a port of dr", func(s *Service) { s.Key = Key{Mark: 5} },
			"service FWM 5: destination 10.0.0.2:80: port 80 with dr: only nat can change the port, expected 0"},
		{"mark of IPv6", func(s *Service) { s.Key = Key{Mark: 5, IPv6: true}; s.Destinations[0] = dest("10.0.0.2:0", DR, 1) },
			"service FWM 5 IPv6: destination 10.0.0.2:0: dr from one address family to the other: only tun can do that"},
		{"mark and address", func(s *Service) { s.Mark, s.Destinations = 5, nil },
			"service FWM 5: a firewall mark has neither protocol nor address nor port"},
		{"family without a mark", func(s *Service) { s.IPv6 = true },
			"service TCP 10.0.0.1:80: only a firewall mark needs its family said"},
		{"all ports", func(s *Service) {
			s.Port, s.Persistence, s.Destinations = 0, time.Minute, []Destination{dest("10.0.0.2:0", DR, 1), dest("10.0.0.3:0", NAT, 1)}
		}, "<nil>"},
		{"nat to port 0", func(s *Service) { s.Destinations[0] = dest("10.0.0.2:0", NAT, 1) },
			"service TCP 10.0.0.1:80: destination 10.0.0.2:0: port 0: expected 1 to 65535"},
		{"scheduler flags", func(s *Service) { s.Scheduler, s.SchedulerFlags = "mh", Fallback|HashPort|Flag3 }, "<nil>"},
		{"flags of rr", func(s *Service) { s.SchedulerFlags = Fallback | Flag3 },
			"service TCP 10.0.0.1:80: scheduler flags [flag-1 flag-3]: only sh and mh have any, not rr"},
		{"unknown flags", func(s *Service) { s.Scheduler, s.SchedulerFlags = "sh", 8 },
			"service TCP 10.0.0.1:80: scheduler flags 0x8: expected those of Fallback, HashPort and Flag3"},
		{"prefix", func(s *Service) { s.Persistence, s.PersistencePrefix = time.Minute, 24 }, "<nil>"},
		{"prefix too long", func(s *Service) { s.Persistence, s.PersistencePrefix = time.Minute, 33 },
			"service TCP 10.0.0.1:80: persistence prefix 33: expected 1 to 32, or 0 for the whole address"},
		{"prefix without persistence", func(s *Service) { s.PersistencePrefix = 24 },
			"service TCP 10.0.0.1:80: persistence prefix 24: has no meaning without persistence"},
		{"engine", func(s *Service) { s.Protocol, s.Persistence, s.Engine = UDP, time.Minute, "sip" }, "<nil>"},
		{"engine of TCP", func(s *Service) { s.Persistence, s.Engine = time.Minute, "sip" },
			"service TCP 10.0.0.1:80: persistence engine sip: works with UDP only, not with TCP"},
		{"another engine", func(s *Service) { s.Protocol, s.Persistence, s.Engine = UDP, time.Minute, "rtp" },
			`service UDP 10.0.0.1:80: persistence engine "rtp": expected sip`},
		{"engine without persistence", func(s *Service) { s.Protocol, s.Engine = UDP, "sip" },
			`service UDP 10.0.0.1:80: persistence engine "sip": has no meaning without persistence`},
		{"one packet", func(s *Service) { s.Protocol, s.OnePacket = UDP, true }, "<nil>"},
		{"one packet of TCP", func(s *Service) { s.OnePacket = true },
			"service TCP 10.0.0.1:80: one packet: works with UDP only, not with TCP"},
		{"one packet with nat", func(s *Service) { s.Protocol, s.OnePacket, s.Destinations[0].Forward = UDP, true, NAT },
			"service UDP 10.0.0.1:80: one packet: does not work with nat, as destination 10.0.0.2:80 has it"},
		{"thresholds", func(s *Service) { s.Destinations[0].Upper, s.Destinations[0].Lower = 9, 9 }, "<nil>"},
		{"thresholds the wrong way round", func(s *Service) { s.Destinations[0].Upper, s.Destinations[0].Lower = 8, 9 },
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: lower threshold 9: expected at most the upper one, 8"},
		{"tunnels", func(s *Service) {
			s.Destinations = nil
			for i, tun := range []Tunnel{{}, {GUE, 5555, NoChecksum}, {GUE, 5555, Checksum}, {GUE, 5555, RemoteChecksum}, {Type: GRE}, {GRE, 0, Checksum}} {
				d := dest(fmt.Sprintf("10.0.0.%d:80", i+2), TUN, 1)
				d.Tunnel = tun
				s.Destinations = append(s.Destinations, d)
			}
		}, "<nil>"},
		{"tunnel without tun", func(s *Service) { s.Destinations[0].Tunnel.Type = GRE },
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: tunnel settings with dr: they are of tun"},
		{"gue without a port", tunnel(Tunnel{Type: GUE}),
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: tunnel port 0: gue needs the port of the receiver, 1 to 65535"},
		{"gre with a port", tunnel(Tunnel{Type: GRE, Port: 5}),
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: tunnel port 5: only gue has one"},
		{"ipip with a port", tunnel(Tunnel{Port: 5}),
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: tunnel port 5: only gue has one"},
		{"ipip with a checksum", tunnel(Tunnel{Checksum: Checksum}),
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: tunnel checksum: ipip has none"},
		{"gre with a remote checksum", tunnel(Tunnel{Type: GRE, Checksum: RemoteChecksum}),
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: tunnel checksum remote: only gue can leave it to the receiver"},
		{"tunnel type", tunnel(Tunnel{Type: 3}),
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: tunnel type 3: expected ipip, gue or gre"},
		{"tunnel checksum", tunnel(Tunnel{Type: GUE, Port: 1, Checksum: 3}),
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: tunnel checksum 3: expected none, full or remote"},
		{"local is read only", func(s *Service) { s.Destinations[0].Forward = Local },
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: no forwarding method: expected dr, tun or nat"},
		{"IPv6", func(s *Service) {
			*s = service(t, "TCP [2001:db8::1]:80", "rr", dest("[fd00::2]:80", DR, 1), dest("[2001:db8::3]:8080", NAT, 1))
		}, "<nil>"},
		{"IPv6 destination of IPv4", func(s *Service) { s.Destinations[0] = dest("[2001:db8::2]:80", TUN, 1) }, "<nil>"},
		{"IPv6 destination of IPv4 with nat", func(s *Service) { s.Destinations[0] = dest("[2001:db8::2]:80", NAT, 1) },
			"service TCP 10.0.0.1:80: destination [2001:db8::2]:80: nat from one address family to the other: only tun can do that"},
		{"IPv4 destination of IPv6", func(s *Service) { s.Address = netip.MustParseAddr("2001:db8::1") },
			"service TCP [2001:db8::1]:80: destination 10.0.0.2:80: dr from one address family to the other: only tun can do that"},
		{"zone", func(s *Service) { s.Address, s.Destinations = netip.MustParseAddr("fd00::1%eth0"), nil },
			"service TCP [fd00::1%eth0]:80: address fd00::1%eth0: expected an IPv4 address, or an IPv6 one without a zone that is not IPv4-mapped"},
		{"link-local", func(s *Service) { s.Address, s.Destinations = netip.MustParseAddr("fe80::1"), nil },
			"service TCP [fe80::1]:80: address fe80::1: link-local: expected a global or unique local address"},
		{"IPv6 multicast", func(s *Service) { s.Address, s.Destinations = netip.MustParseAddr("ff02::1"), nil },
			"service TCP [ff02::1]:80: address ff02::1: expected a unicast address"},
		{"IPv6 unspecified", func(s *Service) { s.Address, s.Destinations = netip.IPv6Unspecified(), nil },
			"service TCP [::]:80: address ::: expected a unicast address"},
		{"multicast", func(s *Service) { s.Address = netip.MustParseAddr("224.0.0.1") },
			"service TCP 224.0.0.1:80: address 224.0.0.1: expected a unicast address"},
		{"no address", func(s *Service) { s.Address = netip.Addr{} },
			"service TCP invalid AddrPort: address invalid IP: expected an IPv4 address, or an IPv6 one without a zone that is not IPv4-mapped"},
		{"port", func(s *Service) { s.Port = 0; s.Destinations = nil },
			"service TCP 10.0.0.1:0: port 0: all ports are one service with persistence only, expected 1 to 65535"},
		{"scheduler", func(s *Service) { s.Scheduler = "" },
			`service TCP 10.0.0.1:80: scheduler "": expected one of [dh fo lblc lblcr lc mh nq ovf rr sed sh twos wlc wrr]`},
		{"persistence", func(s *Service) { s.Persistence = 1500 * time.Millisecond },
			"service TCP 10.0.0.1:80: persistence 1.5s: expected whole seconds, 0s to 744h0m0s"},
		{"extras", func(s *Service) { s.Extras = "-o" },
			`service TCP 10.0.0.1:80: extras "-o": these come from the kernel only`},
		{"destination twice", func(s *Service) { s.Destinations = append(s.Destinations, s.Destinations[0]) },
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: stands there twice"},
		{"dr with another port", func(s *Service) { s.Destinations[0].Port = 8080 },
			"service TCP 10.0.0.1:80: destination 10.0.0.2:8080: port 8080 with dr: only nat can change the port, expected 80"},
		{"IPv4-mapped", func(s *Service) { s.Destinations[0].Address = netip.MustParseAddr("::ffff:10.0.0.2") },
			"service TCP 10.0.0.1:80: destination [::ffff:10.0.0.2]:80: expected an IPv4 address, or an IPv6 one without a zone that is not IPv4-mapped"},
		{"no method", func(s *Service) { s.Destinations[0].Forward = 0 },
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: no forwarding method: expected dr, tun or nat"},
		{"weight", func(s *Service) { s.Destinations[0].Weight = 65536 },
			"service TCP 10.0.0.1:80: destination 10.0.0.2:80: weight 65536: expected 0 to 65535"},
		{"several at once", func(s *Service) { s.Destinations[0].Weight = -1; s.Scheduler = "rrr" },
			"service TCP 10.0.0.1:80: scheduler \"rrr\": expected one of [dh fo lblc lblcr lc mh nq ovf rr sed sh twos wlc wrr]\n" +
				"destination 10.0.0.2:80: weight -1: expected 0 to 65535"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := service(t, web, "rr", dest("10.0.0.2:80", DR, 1))
			tt.change(&s)
			noDiff(t, "error", tt.want, fmt.Sprint(s.Validate()))
		})
	}
	double := service(t, web, "rr")
	noDiff(t, "twice", "service TCP 10.0.0.1:80: stands there twice", fmt.Sprint(ValidateAll([]Service{double, double})))
}

// tunnel gives the first destination a tunnel.
func tunnel(to Tunnel) func(*Service) {
	return func(s *Service) { s.Destinations[0].Forward, s.Destinations[0].Tunnel = TUN, to }
}

func TestWords(t *testing.T) {
	for _, p := range []Protocol{TCP, UDP, SCTP} {
		if got, err := ParseProtocol(p.String()); got != p || err != nil {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
	for f, flag := range map[Forward]string{DR: "-g", TUN: "-i", NAT: "-m"} {
		if got, err := ParseForward(f.String()); got != f || err != nil || f.Flag() != flag {
			t.Errorf("%v: %v, %v, %v", f, got, f.Flag(), err)
		}
	}
	_, perr := ParseProtocol("icmp")
	_, ferr := ParseForward("gre")
	noDiff(t, "errors", `protocol "icmp": expected tcp, udp or sctp; forwarding method "gre": expected dr, tun or nat`,
		fmt.Sprintf("%v; %v", perr, ferr))
}
