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
		{"protocol", func(s *Service) { s.Protocol = 132 },
			"service protocol-132 10.0.0.1:80: protocol-132: expected TCP or UDP"},
		{"IPv6", func(s *Service) {
			*s = service(t, "TCP [2001:db8::1]:80", "rr", dest("[fd00::2]:80", DR, 1), dest("[2001:db8::3]:8080", NAT, 1))
		}, "<nil>"},
		{"IPv6 destination of IPv4", func(s *Service) { s.Destinations[0] = dest("[2001:db8::2]:80", TUN, 1) },
			"service TCP 10.0.0.1:80: destination [2001:db8::2]:80: expected an address of the service's family, as 10.0.0.1 is"},
		{"IPv4 destination of IPv6", func(s *Service) { s.Address = netip.MustParseAddr("2001:db8::1") },
			"service TCP [2001:db8::1]:80: destination 10.0.0.2:80: expected an address of the service's family, as 2001:db8::1 is"},
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
			"service TCP 10.0.0.1:0: port 0: expected 1 to 65535"},
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

func TestWords(t *testing.T) {
	for _, p := range []Protocol{TCP, UDP} {
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
	noDiff(t, "errors", `protocol "icmp": expected tcp or udp; forwarding method "gre": expected dr, tun or nat`,
		fmt.Sprintf("%v; %v", perr, ferr))
}
