package spec

import "testing"

// service puts lines into a service that has nothing but its group, which begins
// in line 4; they begin in line 6.
func service(lines string) string {
	return "groups:\n  web: {vips: [10.0.0.100, 10.0.0.101, fd00::100]}\nservices:\n  s:\n    group: web\n" + lines
}

// What the kernel would refuse, or take for something else than was meant.
var serviceRules = []struct{ name, text, want string }{
	// what to listen on
	{"range backwards", "    listen: 10.0.0.100:90-80/tcp\n", `f.yaml:6: services.s.listen: "90-80" is no range of ports; expected low-high, from 1 to 65535, the second larger than the first`},
	{"range of one", "    listen: 10.0.0.100:80-80/tcp\n", `f.yaml:6: services.s.listen: "80-80" is no range of ports; expected low-high, from 1 to 65535, the second larger than the first`},
	{"range from 0", "    listen: 10.0.0.100:0-80/tcp\n", `f.yaml:6: services.s.listen: "0-80" is no range of ports; expected low-high, from 1 to 65535, the second larger than the first`},
	{"range too high", "    listen: 10.0.0.100:80-65536/tcp\n", `f.yaml:6: services.s.listen: "80-65536" is no range of ports; expected low-high, from 1 to 65535, the second larger than the first`},
	{"range too long", "    listen: 10.0.0.100:1000-2024/tcp\n", `f.yaml:6: services.s.listen: 1000-2024 are 1025 ports, each a service of the kernel's; expected at most 1024, or port 0 (all ports) with persistence, or a mark`},
	{"the longest range", "    listen: 10.0.0.100:1000-2023/tcp\n", ``},
	{"a mark of nothing", "    listen: fwmark:0/ipv4\n", `f.yaml:6: services.s.listen: "fwmark:0/ipv4" is no firewall mark; expected fwmark:N/ipv4 or fwmark:N/ipv6, N from 1 to 4294967295`},
	{"a mark too large", "    listen: fwmark:4294967296/ipv4\n", `f.yaml:6: services.s.listen: "fwmark:4294967296/ipv4" is no firewall mark; expected fwmark:N/ipv4 or fwmark:N/ipv6, N from 1 to 4294967295`},
	{"a mark of no family", "    listen: fwmark:5\n", `f.yaml:6: services.s.listen: "fwmark:5" is no firewall mark; expected fwmark:N/ipv4 or fwmark:N/ipv6, N from 1 to 4294967295`},
	{"a mark of TCP", "    listen: fwmark:5/tcp\n", `f.yaml:6: services.s.listen: "fwmark:5/tcp" is no firewall mark; expected fwmark:N/ipv4 or fwmark:N/ipv6, N from 1 to 4294967295`},
	{"a mark in hex", "    listen: fwmark:0x5/ipv6\n", `f.yaml:6: services.s.listen: "fwmark:0x5/ipv6" is no firewall mark; expected fwmark:N/ipv4 or fwmark:N/ipv6, N from 1 to 4294967295`},
	{"an empty list", "    listen: []\n", `f.yaml:6: services.s.listen: is an empty list; expected at least one address`},
	{"a list with faults", "    listen:\n      - 10.0.0.100:80\n      - 10.0.0.100:80/tcp\n      - {}\n", `f.yaml:7: services.s.listen[0]: "10.0.0.100:80" has no protocol; expected 10.0.0.100:80/tcp, 10.0.0.100:80/udp or 10.0.0.100:80/sctp
f.yaml:9: services.s.listen[2]: is a mapping; expected VIP:port/tcp, VIP:low-high/tcp, VIP:0/tcp (or udp, sctp), fwmark:N/ipv4 or fwmark:N/ipv6, such as 192.168.150.100:80/tcp or "[2001:db8::100]:80/tcp"`},
	{"twice", "    listen: [10.0.0.100:80/tcp, 10.0.0.100:80/udp, 10.0.0.100:80/tcp]\n", `f.yaml:6: services.s: listens on 10.0.0.100:80/tcp twice, also as 10.0.0.100:80/tcp; expected it once`},
	{"twice, a range", "    listen:\n      - 10.0.0.100:80-90/tcp\n      - 10.0.0.100:90/tcp\n", `f.yaml:8: services.s: listens on 10.0.0.100:90/tcp twice, also as 10.0.0.100:80-90/tcp; expected it once`},
	{"twice, a mark", "    listen: [fwmark:5/ipv4, fwmark:5/ipv6, fwmark:5/ipv4]\n", `f.yaml:6: services.s: listens on fwmark:5/ipv4 twice, also as fwmark:5/ipv4; expected it once`},
	{"all ports", "    listen: 10.0.0.100:0/tcp\n", `f.yaml:6: services.s: listens on all ports of 10.0.0.100 without persistence, where the kernel serves none of them; expected persistence, such as 300s, or a port`},
	{"all ports, persistent", "    listen: 10.0.0.100:0/tcp\n    persistence: 300s\n", ``},
	{"a mapping", "    listen: {address: 10.0.0.100}\n", `f.yaml:6: services.s.listen: is a mapping; expected VIP:port/tcp, VIP:low-high/tcp, VIP:0/tcp (or udp, sctp), fwmark:N/ipv4 or fwmark:N/ipv6, such as 192.168.150.100:80/tcp or "[2001:db8::100]:80/tcp"`},

	// scheduler flags
	{"flags of another scheduler", "    listen: 10.0.0.100:80/tcp\n    scheduler: mh\n    scheduler_flags: [sh-port]\n", `f.yaml:8: services.s: sh-port is no flag of scheduler mh; expected some of mh-fallback, mh-port`},
	{"flags of none", "    listen: 10.0.0.100:80/tcp\n    scheduler: rr\n    scheduler_flags: [mh-port]\n", `f.yaml:8: services.s: scheduler rr has no flags; expected no scheduler_flags, or scheduler sh or mh`},
	{"unknown flag", "    listen: 10.0.0.100:80/tcp\n    scheduler: mh\n    scheduler_flags: [mh_port]\n", `f.yaml:8: services.s.scheduler_flags[0]: "mh_port" is no scheduler flag; expected one of sh-fallback, sh-port, mh-fallback, mh-port, flag-1, flag-2, flag-3 (did you mean "mh-port"?)`},
	{"flags that are no list", "    listen: 10.0.0.100:80/tcp\n    scheduler: mh\n    scheduler_flags: mh-port\n", `f.yaml:8: services.s.scheduler_flags: is "mh-port"; expected a list of flags, such as mh-port`},
	{"no fallback, weight_zero", "    listen: 10.0.0.100:80/tcp\n    scheduler: mh\n    scheduler_flags: [mh-port]\n    on_failure: weight_zero\n", `f.yaml:9: services.s: without mh-fallback scheduler mh refuses the clients that it hashes to a real server of weight 0, which on_failure: weight_zero makes; expected mh-fallback among scheduler_flags, or no scheduler_flags`},
	{"no fallback, weight 0", "    listen: 10.0.0.100:80/tcp\n    scheduler: sh\n    scheduler_flags: []\n    real_servers:\n      - {address: 10.0.1.1}\n      - {address: 10.0.1.2, weight: 0}\n", `f.yaml:11: services.s: without sh-fallback scheduler sh refuses the clients that it hashes to real server 10.0.1.2 of weight 0; expected sh-fallback among scheduler_flags, or no scheduler_flags`},
	{"no fallback, a threshold", "    listen: 10.0.0.100:80/tcp\n    scheduler: sh\n    scheduler_flags: [flag-2]\n    real_servers:\n      - {address: 10.0.1.1, upper_threshold: 10}\n", `f.yaml:10: services.s: without sh-fallback scheduler sh refuses the clients that it hashes to real server 10.0.1.1 above its upper_threshold; expected sh-fallback among scheduler_flags, or no scheduler_flags`},
	{"fallback, weight 0", "    listen: 10.0.0.100:80/tcp\n    scheduler: sh\n    on_failure: weight_zero\n    real_servers: [{address: 10.0.1.2, weight: 0, upper_threshold: 1}]\n", ``},

	// one packet
	{"one_packet and TCP", "    listen: [10.0.0.100:53/udp, 10.0.0.100:53/tcp]\n    one_packet: true\n", `f.yaml:7: services.s: one_packet is of UDP, but the service listens on 10.0.0.100:53/tcp; expected udp, or no one_packet`},
	{"one_packet and SCTP", "    listen: 10.0.0.100:53/sctp\n    one_packet: true\n", `f.yaml:7: services.s: one_packet is of UDP, but the service listens on 10.0.0.100:53/sctp; expected udp, or no one_packet`},
	{"one_packet and NAT", "    listen: 10.0.0.100:53/udp\n    one_packet: true\n    forward: nat\n", `f.yaml:7: services.s: with nat the answers to one_packet would not be translated back; expected forward: dr or tun`},
	{"one_packet and one with NAT", "    listen: 10.0.0.100:53/udp\n    one_packet: true\n    real_servers:\n      - {address: 10.0.1.1}\n      - {address: 10.0.1.2, forward: nat}\n", `f.yaml:10: services.s: with nat the answers to one_packet would not be translated back; expected forward: dr or tun of real server 10.0.1.2`},
	{"one_packet and a mark", "    listen: fwmark:5/ipv4\n    one_packet: true\n", ``},

	// persistence
	{"prefix without persistence", "    listen: 10.0.0.100:80/tcp\n    persistence_prefix: 24\n", `f.yaml:7: services.s: persistence_prefix has no effect without persistence; expected persistence, such as 300s`},
	{"engine without persistence", "    listen: 10.0.0.100:5060/udp\n    persistence_engine: sip\n", `f.yaml:7: services.s: persistence_engine has no effect without persistence; expected persistence, such as 300s`},
	{"prefix too long", "    listen: [\"[fd00::100]:80/tcp\", 10.0.0.100:80/tcp]\n    forward: tun\n    persistence: 300s\n    persistence_prefix: 33\n", `f.yaml:9: services.s: persistence_prefix 33 is longer than an IPv4 address, and the service listens on 10.0.0.100:80/tcp; expected 1 to 32`},
	{"prefix too long, IPv6", "    listen: \"[fd00::100]:80/tcp\"\n    persistence: 300s\n    persistence_prefix: 129\n", `f.yaml:8: services.s.persistence_prefix: 129 is out of range; expected a whole number from 1 to 128`},
	{"prefix, IPv6", "    listen: \"[fd00::100]:80/tcp\"\n    persistence: 300s\n    persistence_prefix: 128\n", ``},
	{"prefix of nothing", "    listen: 10.0.0.100:80/tcp\n    persistence: 300s\n    persistence_prefix: 0\n", `f.yaml:8: services.s.persistence_prefix: 0 is out of range; expected a whole number from 1 to 128`},
	{"engine and TCP", "    listen: 10.0.0.100:5060/tcp\n    persistence: 300s\n    persistence_engine: sip\n", `f.yaml:8: services.s: persistence_engine sip reads UDP only, but the service listens on 10.0.0.100:5060/tcp; expected udp`},
	{"engine and a mark", "    listen: fwmark:5/ipv4\n    persistence: 300s\n    persistence_engine: sip\n", `f.yaml:8: services.s: persistence_engine sip reads UDP only, but the service listens on fwmark:5/ipv4; expected udp`},
	{"unknown engine", "    listen: 10.0.0.100:5060/udp\n    persistence: 300s\n    persistence_engine: SIP\n", `f.yaml:8: services.s.persistence_engine: "SIP" is no engine; expected sip`},

	// tunnels
	{"tunnel without tun", "    listen: 10.0.0.100:80/tcp\n    tunnel: {type: gre}\n", `f.yaml:7: services.s: tunnel is of forward: tun, but forward is dr; expected no tunnel, or forward: tun`},
	{"tunnel of one without tun", "    listen: 10.0.0.100:80/tcp\n    forward: tun\n    real_servers:\n      - {address: 10.0.1.1, forward: dr, tunnel: {type: gre}}\n", `f.yaml:9: services.s: real server 10.0.1.1 has a tunnel, but is reached by dr; expected no tunnel, or forward: tun`},
	{"tunnel for one with tun", "    listen: 10.0.0.100:80/tcp\n    tunnel: {type: gre}\n    real_servers:\n      - {address: 10.0.1.1, forward: tun}\n", ``},
	{"gue without port", "    listen: 10.0.0.100:80/tcp\n    forward: tun\n    tunnel: {type: gue}\n", `f.yaml:8: services.s.tunnel: has no port; expected the UDP port at which the real servers take gue in, such as port: 5555`},
	{"gre with port", "    listen: 10.0.0.100:80/tcp\n    forward: tun\n    tunnel: {type: gre, port: 5555}\n", `f.yaml:8: services.s.tunnel: gre has no port; expected no port, or type: gue`},
	{"ipip with port", "    listen: 10.0.0.100:80/tcp\n    forward: tun\n    tunnel: {port: 5555}\n", `f.yaml:8: services.s.tunnel: ipip has no port; expected no port, or type: gue`},
	{"ipip with checksum", "    listen: 10.0.0.100:80/tcp\n    forward: tun\n    tunnel: {checksum: full}\n", `f.yaml:8: services.s.tunnel: ipip has no checksum; expected checksum: none, or type: gue or gre`},
	{"gre with a remote checksum", "    listen: 10.0.0.100:80/tcp\n    forward: tun\n    real_servers:\n      - address: 10.0.1.1\n        tunnel: {type: gre, checksum: remote}\n", `f.yaml:10: services.s.real_servers[0].tunnel: checksum remote is of gue alone; expected none or full with gre`},
	{"tunnel of words", "    listen: 10.0.0.100:80/tcp\n    forward: tun\n    tunnel: {type: vxlan, checksum: half, port: 0}\n", `f.yaml:8: services.s.tunnel.type: "vxlan" is no encapsulation; expected one of ipip, gue, gre
f.yaml:8: services.s.tunnel.checksum: "half" is no checksum; expected one of none, full, remote
f.yaml:8: services.s.tunnel.port: 0 is out of range; expected a whole number from 1 to 65535`},

	// real servers
	{"twice, one without port", "    listen: 10.0.0.100:80/tcp\n    real_servers:\n      - {address: 10.0.1.1:80}\n      - {address: 10.0.1.1}\n", `f.yaml:9: services.s: real server 10.0.1.1 is listed twice, first in line 8; expected it once`},
	{"twice, without port", "    listen: [10.0.0.100:80/tcp, 10.0.0.100:443/tcp]\n    real_servers:\n      - {address: 10.0.1.1}\n      - {address: 10.0.1.1}\n", `f.yaml:9: services.s: real server 10.0.1.1 is listed twice, first in line 8; expected it once`},
	{"twice at one of two ports", "    listen: [10.0.0.100:80/tcp, 10.0.0.100:443/tcp]\n    forward: nat\n    real_servers:\n      - {address: 10.0.1.1}\n      - {address: 10.0.1.1:443}\n", `f.yaml:10: services.s: real server 10.0.1.1:443 is listed twice, first in line 9; expected it once`},
	{"NAT, once at two ports", "    listen: [10.0.0.100:80/tcp, 10.0.0.100:443/tcp]\n    forward: nat\n    real_servers:\n      - {address: 10.0.1.1}\n      - {address: 10.0.1.1:444}\n", ``},
	{"twice, without port at last", "    listen: 10.0.0.100:80-90/tcp\n    forward: nat\n    real_servers:\n      - {address: 10.0.1.1:443}\n      - {address: 10.0.1.1:85}\n      - {address: 10.0.1.1}\n", `f.yaml:11: services.s: real server 10.0.1.1 is listed twice, first in line 10; expected it once`},
	{"NAT, at both ports of two", "    listen: [10.0.0.100:80/tcp, 10.0.0.100:443/tcp]\n    forward: nat\n    real_servers:\n      - {address: 10.0.1.1:80}\n      - {address: 10.0.1.1:443}\n", ``},
	{"NAT, a port and none behind all", "    listen: 10.0.0.100:0/tcp\n    persistence: 1s\n    forward: nat\n    real_servers: [{address: 10.0.1.1:80}, {address: 10.0.1.1}]\n", ``},
	{"a check behind a mark and a port", "    listen: [fwmark:5/ipv4, 10.0.0.100:80/tcp]\n    check: {tcp: {}}\n    real_servers: [{address: 10.0.1.1}]\n", ``},
	{"DR with one port of two", "    listen: [10.0.0.100:80/tcp, 10.0.0.100:443/tcp]\n    real_servers:\n      - {address: 10.0.1.1:80}\n", `f.yaml:8: services.s: real server 10.0.1.1:80 has port 80 but listen also has 443, and dr cannot change the port; expected no port, or forward: nat`},
	{"DR with a port of a range", "    listen: 10.0.0.100:80-90/tcp\n    real_servers:\n      - {address: 10.0.1.1:80}\n", `f.yaml:8: services.s: real server 10.0.1.1:80 has port 80 but listen has 80-90, and dr cannot change the port; expected no port, or forward: nat`},
	{"DR with a port behind a mark", "    listen: fwmark:5/ipv4\n    real_servers:\n      - {address: 10.0.1.1:80}\n", `f.yaml:8: services.s: real server 10.0.1.1:80 has port 80 but listen fwmark:5/ipv4 says none, and dr cannot change the port; expected no port, or forward: nat`},
	{"tun with a port behind all", "    listen: 10.0.0.100:0/tcp\n    persistence: 1s\n    forward: tun\n    real_servers:\n      - {address: 10.0.1.1:80}\n", `f.yaml:10: services.s: real server 10.0.1.1:80 has port 80 but listen 10.0.0.100:0/tcp says none, and tun cannot change the port; expected no port, or forward: nat`},
	{"NAT with a port behind a mark", "    listen: fwmark:5/ipv4\n    forward: nat\n    real_servers:\n      - {address: 10.0.1.1:80}\n", ``},
	{"own method with another port", "    listen: 10.0.0.100:80/tcp\n    real_servers:\n      - {address: 10.0.1.1:8080, forward: nat}\n      - {address: 10.0.1.2:8080}\n", `f.yaml:9: services.s: real server 10.0.1.2:8080 has port 8080 but listen has 80, and dr cannot change the port; expected port 80, or forward: nat`},
	{"other family behind a mark", "    listen: fwmark:5/ipv6\n    real_servers:\n      - {address: 10.0.1.1}\n", `f.yaml:8: services.s: real server 10.0.1.1 is IPv4 but listen fwmark:5/ipv6 is IPv6; expected an IPv6 real server, or forward: tun`},
	{"two families", "    listen: [10.0.0.100:80/tcp, \"[fd00::100]:80/tcp\"]\n    real_servers:\n      - {address: 10.0.1.1}\n", `f.yaml:8: services.s: real server 10.0.1.1 is IPv4 but listen [fd00::100]:80/tcp is IPv6; expected an IPv6 real server, or forward: tun`},
	{"thresholds", "    listen: 10.0.0.100:80/tcp\n    real_servers:\n      - {address: 10.0.1.1, upper_threshold: 10, lower_threshold: 11}\n      - {address: 10.0.1.2, lower_threshold: 1}\n      - {address: 10.0.1.3, upper_threshold: 10, lower_threshold: 10}\n      - {address: 10.0.1.4, upper_threshold: 2147483648}\n", `f.yaml:8: services.s: real server 10.0.1.1 has lower_threshold 11 above upper_threshold 10; expected it not above
f.yaml:9: services.s: real server 10.0.1.2 has lower_threshold 1 above upper_threshold 0; expected it not above
f.yaml:11: services.s.real_servers[3].upper_threshold: 2147483648 is out of range; expected a whole number from 0 to 2147483647`},
	{"a check behind a mark", "    listen: fwmark:5/ipv4\n    check: {tcp: {}}\n    real_servers:\n      - {address: 10.0.1.1}\n", `f.yaml:9: services.s: real server 10.0.1.1 cannot be checked: listen fwmark:5/ipv4 says no port; expected a port under check, such as check: {port: 80}`},
	{"a check behind a mark, with port", "    listen: fwmark:5/ipv4\n    check: {tcp: {}, port: 80}\n    real_servers:\n      - {address: 10.0.1.1}\n", ``},
	{"a check behind all ports", "    listen: 10.0.0.100:0/tcp\n    persistence: 1s\n    check: {tcp: {}}\n    real_servers:\n      - {address: 10.0.1.1}\n", `f.yaml:10: services.s: real server 10.0.1.1 cannot be checked: listen 10.0.0.100:0/tcp says no port; expected a port under check, such as check: {port: 80}`},
	{"IPv6 without brackets or port", "    listen: \"[fd00::100]:80/tcp\"\n    real_servers:\n      - {address: \"fd00::1\"}\n      - {address: \"fe80::1\"}\n      - {address: \"[fd00::1]\"}\n", `f.yaml:9: services.s.real_servers[1].address: fe80::1 is link-local; expected a global or unique local IPv6 address
f.yaml:10: services.s.real_servers[2].address: "[fd00::1]" is no address with a port; expected IP:port or IP, such as 192.168.150.12:80 or "[2001:db8::12]:80"`},
}

func TestServiceRules(t *testing.T) {
	for _, test := range serviceRules {
		t.Run(test.name, func(t *testing.T) {
			d, err := ParseFile("f.yaml", []byte(service(test.text)))
			if err == nil {
				err = d.Spec().Check()
			}
			wantError(t, test.want, err)
		})
	}
}
