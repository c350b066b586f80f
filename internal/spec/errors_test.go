package spec

import (
	"strings"
	"testing"
)

// in puts lines into a service whose other settings are right. The service
// begins in line 4, the lines in line 7.
func in(lines string) string {
	return "groups:\n  web: {vips: [10.0.0.100]}\nservices:\n  s:\n    group: web\n    listen: 10.0.0.100:80/tcp\n" + lines
}

// parseFileErrors are files with the exact text of their errors.
var parseFileErrors = []struct{ name, text, want string }{
	// YAML
	{"tab", "groups:\n\tweb: 1\n", "f.yaml:2: a tab is not accepted; expected spaces"},
	{"indentation", "groups:\n  web: {}\n   x: {}\n", "f.yaml:3: is not YAML: value is not allowed in this context; expected `key: value` with the same indentation as its neighbors"},
	{"open list", "groups:\n  web: {vips: [10.0.0.1\n", "f.yaml:2: is not YAML: sequence end token ']' not found; expected the list or mapping to be closed"},
	{"open quote", "cluster: {lease: \"3s}\n", "f.yaml:1: is not YAML: could not find end character of double-quoted text; expected a closing quote"},
	{"no text", "groups: \x00\n", "f.yaml:1: byte 0x00 is no text; expected YAML in UTF-8 without control characters"},
	{"latin 1", "# \xfcber\n", "f.yaml:1: byte 0xfc is no text; expected YAML in UTF-8 without control characters"},
	{"anchor", "groups: &a {}\n", "f.yaml:1: an anchor (&) is not accepted; expected the value written out where it is used"},
	{"alias", "groups:\n  web: *a\n", "f.yaml:2: an alias (*) is not accepted; expected the value written out, in quotes if it begins with *"},
	{"tag", "groups: !!map {}\n", "f.yaml:1: a tag (!) is not accepted; expected the plain value, in quotes if it begins with !"},
	{"merge", "groups:\n  <<: {}\n", "f.yaml:2: a merge (<<) is not accepted; expected the keys written out"},
	{"two documents", "groups: {}\n---\nservices: {}\n", "f.yaml:2: a second document (---) is not accepted; expected one YAML document, all groups under one `groups:` and all services under one `services:`"},
	{"list at the top", "- a\n", "f.yaml:1: is a list; expected cluster:, groups: and services:, as the manual shows them"},
	{"empty", "# nothing\n", "f.yaml:1: is empty; expected cluster:, groups: and services:, as the manual shows them"},
	{"deep", "groups:\n  web: " + strings.Repeat("[", 20) + "\n", "f.yaml:2: is nested more than 16 deep; expected a document as the manual shows it"},

	// keys
	{"unknown key, near", in("    sheduler: rr\n"), `f.yaml:7: services.s: unknown key "sheduler"; expected one of group, listen, scheduler, scheduler_flags, one_packet, forward, tunnel, persistence, persistence_prefix, persistence_engine, stateful, on_failure, check, real_servers (did you mean "scheduler"?)`},
	{"unknown key, far", in("    color: red\n"), `f.yaml:7: services.s: unknown key "color"; expected one of group, listen, scheduler, scheduler_flags, one_packet, forward, tunnel, persistence, persistence_prefix, persistence_engine, stateful, on_failure, check, real_servers`},
	{"local file", "zookeeper: {servers: [a]}\n", "f.yaml:1: unknown key \"zookeeper\"; expected one of cluster, groups, services (zookeeper belongs into the director's own file, /etc/zklvs/zklvs.yaml)"},
	{"key twice", in("    forward: dr\n    forward: nat\n"), `f.yaml:8: services.s: key "forward" is written twice, first in line 7; expected it once`},
	{"service twice", in("  s: {}\n"), `f.yaml:7: services: key "s" is written twice, first in line 4; expected it once`},
	{"empty value", in("    forward:\n"), "f.yaml:7: services.s.forward: is empty; expected a value, or no forward at all"},
	{"missing", "groups:\n  web: {}\nservices:\n  s: {}\n", "f.yaml:2: groups.web: has no vips; expected vips: the addresses, [192.168.150.100, ...]; each is bound as a /32, IPv6 as a /128\n" +
		"f.yaml:4: services.s: has no group; expected group: the group that has the VIP\n" +
		`f.yaml:4: services.s: has no listen; expected listen: VIP:port/protocol, such as 192.168.150.100:80/tcp or "[2001:db8::100]:80/tcp"`},
	{"bad name", "groups:\n  ../etc: {vips: [10.0.0.100]}\n", `f.yaml:2: groups.../etc: "../etc" is no name; expected 1 to 63 of a-z, 0-9, '.', '-', beginning with a letter or digit`},
	{"name of a cluster", "cluster: web\n", "f.yaml:1: cluster: is \"web\"; expected a mapping of the cluster's settings, such as {lease: 3s}"},

	{"zone", "groups: {web: {vips: [\"fe80::1%\\nx\"]}}\n", "f.yaml:1: groups.web.vips[0]: fe80::1%·x has a zone; expected a global or unique local IPv6 address"},
	{"zone and no protocol", "services:\n  s:\n    group: web\n    listen: \"[fe80::1%\\nx]:80\"\n", `f.yaml:4: services.s.listen: "[fe80::1%·x]:80" has no protocol; expected [fe80::1%·x]:80/tcp, [fe80::1%·x]:80/udp or [fe80::1%·x]:80/sctp`},

	// scalars
	{"wrong type", in("    real_servers: 10.0.0.1:80\n"), `f.yaml:7: services.s.real_servers: is "10.0.0.1:80"; expected a list of real servers, each {address: IP:port, weight: 1}`},
	{"list for text", in("    scheduler: [rr]\n"), "f.yaml:7: services.s.scheduler: is a list; expected one of rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos"},
	{"scheduler", in("    scheduler: wrl\n"), `f.yaml:7: services.s.scheduler: "wrl" is no scheduler; expected one of rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos (did you mean "wrr"?)`},
	{"forward", in("    forward: masq\n"), `f.yaml:7: services.s.forward: "masq" is no forwarding method; expected one of dr, tun, nat`},
	{"duration without unit", in("    check: {tcp: {}, interval: 5}\n"), "f.yaml:7: services.s.check.interval: 5 is a bare number; expected a duration with its unit from 100ms to 1h, such as 5s"},
	{"bad duration", in("    check: {tcp: {}, interval: 5 s}\n"), `f.yaml:7: services.s.check.interval: "5 s" is no duration; expected a duration with its unit from 100ms to 1h, such as 5s or 500ms`},
	{"negative duration", in("    persistence: -1s\n"), "f.yaml:7: services.s.persistence: -1s is out of range; expected a duration with its unit from 0s to 744h"},
	{"persistence in ms", in("    persistence: 1500ms\n"), "f.yaml:7: services.s.persistence: 1.5s is no whole number of seconds; expected one, such as 2s"},
	{"boolean", in("    stateful: yes\n"), `f.yaml:7: services.s.stateful: "yes" is neither true nor false; expected true or false`},
	{"weight in quotes", in("    real_servers:\n      - {address: 10.0.0.1:80, weight: \"1\"}\n"), `f.yaml:8: services.s.real_servers[0].weight: "1" is no whole number; expected a whole number from 0 to 65535 without quotes`},
	{"weight too large", in("    real_servers:\n      - {address: 10.0.0.1:80, weight: 65536}\n"), "f.yaml:8: services.s.real_servers[0].weight: 65536 is out of range; expected a whole number from 0 to 65535"},
	{"octal", in("    check: {tcp: {}, rise: 010}\n"), `f.yaml:7: services.s.check.rise: "010" is no whole number; expected a whole number from 1 to 100`},
	{"drift", "cluster: {drift: 0.6}\n", "f.yaml:1: cluster.drift: 0.6 is out of range; expected a number from 0 to 0.5"},
	{"drift NaN", "cluster: {drift: .nan}\n", `f.yaml:1: cluster.drift: ".nan" is no number; expected a number from 0 to 0.5`},

	// cluster
	{"lease too short", "cluster: {lease: 900ms}\n", "f.yaml:1: cluster.lease: 900ms is out of range; expected a duration with its unit from 1s to 10s"},
	{"lease too long", "cluster: {lease: 11s}\n", "f.yaml:1: cluster.lease: 11s is out of range; expected a duration with its unit from 1s to 10s"},
	{"renew", "cluster:\n  lease: 3s\n  renew: 1s\n", "f.yaml:3: cluster: renew 1s is not below a third of the lease of 3s; expected less than 1s, or no renew at all"},
	{"holt", "cluster: {on_zookeeper_loss: holt}\n", `f.yaml:1: cluster.on_zookeeper_loss: "holt" is no policy; expected one of hold, fence (did you mean "hold"?)`},
	{"no policy", "cluster: {on_zookeeper_loss: \"\"}\n", `f.yaml:1: cluster.on_zookeeper_loss: "" is no policy; expected one of hold, fence`},
	{"empty policy", "cluster: {on_zookeeper_loss: }\n", "f.yaml:1: cluster.on_zookeeper_loss: is empty; expected a value, or no on_zookeeper_loss at all"},

	// groups
	{"no VIPs", "groups: {web: {vips: []}}\n", "f.yaml:1: groups.web.vips: is an empty list; expected at least one address"},
	{"VIP twice", "groups: {web: {vips: [10.0.0.1, 10.0.0.1/24]}}\n", "f.yaml:1: groups.web: VIP 10.0.0.1 is listed twice; expected it once"},
	{"VIP twice, two spellings", "groups: {web: {vips: [\"fd00:0::1\", \"fd00::1/64\"]}}\n", "f.yaml:1: groups.web: VIP fd00::1 is listed twice; expected it once"},
	{"VIP link-local", "groups: {web: {vips: [fe80::1/64]}}\n", "f.yaml:1: groups.web.vips[0]: fe80::1 is link-local; expected a global or unique local IPv6 address"},
	{"VIP IPv4-mapped", "groups: {web: {vips: [\"::ffff:10.0.0.1\"]}}\n", "f.yaml:1: groups.web.vips[0]: ::ffff:10.0.0.1 is an IPv4 address in IPv6; expected 10.0.0.1"},
	{"VIPs of no host, IPv6", "groups: {web: {vips: [\"::\", \"::1\", ff02::12]}}\n", "f.yaml:1: groups.web.vips[0]: :: is no address of one host; expected a unicast IPv6 address\n" +
		"f.yaml:1: groups.web.vips[1]: ::1 is no address of one host; expected a unicast IPv6 address\n" +
		"f.yaml:1: groups.web.vips[2]: ff02::12 is no address of one host; expected a unicast IPv6 address"},
	{"VIP IPv6", "groups: {web: {vips: [fd00::g]}}\n", `f.yaml:1: groups.web.vips[0]: "fd00::g" is no address; expected an IPv4 or IPv6 address, such as 192.168.150.100 or 2001:db8::100`},
	{"gateway", "groups: {web: {vips: [fd00::1], fitness: {gateway: {address: fd00::2}}}}\n", "f.yaml:1: groups.web.fitness.gateway.address: fd00::2 is IPv6, but the gateway is asked by ARP; expected an IPv4 address"},
	{"gateway with a zone", "groups: {web: {vips: [fd00::1], fitness: {gateway: {address: \"fe80::1%\\nx\"}}}}\n", "f.yaml:1: groups.web.fitness.gateway.address: fe80::1%·x is IPv6, but the gateway is asked by ARP; expected an IPv4 address"},
	{"gateway of no host", "groups: {web: {vips: [fd00::1], fitness: {gateway: {address: 127.0.0.1}}}}\n", "f.yaml:1: groups.web.fitness.gateway.address: 127.0.0.1 is no address of one host; expected a unicast IPv4 address"},
	{"VIP of no host", "groups: {web: {vips: [224.0.0.18]}}\n", "f.yaml:1: groups.web.vips[0]: 224.0.0.18 is no address of one host; expected a unicast IPv4 address"},
	{"VIP", "groups: {web: {vips: [10.0.0.256]}}\n", `f.yaml:1: groups.web.vips[0]: "10.0.0.256" is no address; expected an IPv4 or IPv6 address, such as 192.168.150.100 or 2001:db8::100`},
	{"label too long", "groups: {web: {vips: [10.0.0.1], label: \"enp0s31f6:webvip\"}}\n", `f.yaml:1: groups.web.label: "enp0s31f6:webvip" is no label; expected an interface, a colon and a word, 15 characters at most, such as "eth0:2"`},
	{"label of another interface", "groups: {web: {vips: [10.0.0.1], interface: eth1, label: \"eth0:2\"}}\n", `f.yaml:1: groups.web: label: "eth0:2" does not begin with the interface; expected "eth1:2"`},
	{"priority", "groups: {web: {vips: [10.0.0.1], priority: {node01: 255}}}\n", "f.yaml:1: groups.web.priority.node01: 255 is out of range; expected a whole number from 1 to 254"},
	{"script with a path", "groups: {web: {vips: [10.0.0.1], fitness: {script: {exec: ../sh}}}}\n", `f.yaml:1: groups.web.fitness.script.exec: "../sh" is no script; expected the name of a program in the director's exec_dir, of a-z, 0-9, '_', '.', '-', never a path`},
	{"hidden script", "groups: {web: {vips: [10.0.0.1], fitness: {script: {exec: ..}}}}\n", `f.yaml:1: groups.web.fitness.script.exec: ".." is no script; expected the name of a program in the director's exec_dir, of a-z, 0-9, '_', '.', '-', never a path`},
	{"tracked interface", "groups: {web: {vips: [10.0.0.1], fitness: {track_interfaces: [eth/1]}}}\n", `f.yaml:1: groups.web.fitness.track_interfaces[0]: "eth/1" is no interface; expected 1 to 15 characters without '/', ':' or blanks, such as eth0`},

	// services
	{"listen without protocol", "services:\n  s: {group: web, listen: 10.0.0.100:80}\n", `f.yaml:2: services.s.listen: "10.0.0.100:80" has no protocol; expected 10.0.0.100:80/tcp, 10.0.0.100:80/udp or 10.0.0.100:80/sctp`},
	{"listen without port", "services:\n  s: {group: web, listen: 10.0.0.100/tcp}\n", `f.yaml:2: services.s.listen: "10.0.0.100/tcp" is no address to listen on; expected ` + listenExpected + ``},
	{"listen on dccp", "services:\n  s: {group: web, listen: 10.0.0.100:80/dccp}\n", `f.yaml:2: services.s.listen: "dccp" is no protocol; expected tcp, udp or sctp`},
	{"listen on IPv6 without brackets", "services:\n  s: {group: web, listen: 'fd00::1:80/tcp'}\n", `f.yaml:2: services.s.listen: "fd00::1:80/tcp" is no address to listen on; expected ` + listenExpected + ``},
	{"listen on a zone", "services:\n  s: {group: web, listen: \"[fe80::1%eth0]:80/tcp\"}\n", `f.yaml:2: services.s.listen: fe80::1%eth0 has a zone; expected a global or unique local IPv6 address`},
	{"listen without quotes", "services:\n  s:\n    group: web\n    listen: [fd00::1]:80/tcp\n", `f.yaml:4: an IPv6 address in brackets is not in quotes; expected them around it and its port, such as "[2001:db8::100]:80/tcp"`},
	{"listen without quotes, in braces", "services:\n  s: {group: web, listen: [fd00::1]:80/tcp}\n", `f.yaml:2: an IPv6 address in brackets is not in quotes; expected them around it and its port, such as "[2001:db8::100]:80/tcp"`},
	{"real server without quotes", in("    real_servers:\n      - {address: [::2]:80}\n"), `f.yaml:8: an IPv6 address in brackets is not in quotes; expected them around it and its port, such as "[2001:db8::100]:80/tcp"`},
	{"DR with another port", in("    real_servers:\n      - {address: 10.0.0.1:8080}\n"), "f.yaml:8: services.s: real server 10.0.0.1:8080 has port 8080 but listen has 80, and dr cannot change the port; expected port 80, or forward: nat"},
	{"tun with another port", in("    forward: tun\n    real_servers:\n      - address: 10.0.0.1:8080\n        weight: 1\n"), "f.yaml:9: services.s: real server 10.0.0.1:8080 has port 8080 but listen has 80, and tun cannot change the port; expected port 80, or forward: nat"},
	{"other family", in("    real_servers:\n      - {address: \"[fd00::2]:80\"}\n"), "f.yaml:8: services.s: real server [fd00::2]:80 is IPv6 but listen 10.0.0.100:80/tcp is IPv4; expected an IPv4 real server, or forward: tun"},
	{"other family, IPv4", "services:\n  s:\n    group: web\n    listen: \"[fd00::1]:80/tcp\"\n    forward: nat\n    real_servers:\n      - {address: 10.0.0.2:80}\n", "f.yaml:7: services.s: real server 10.0.0.2:80 is IPv4 but listen [fd00::1]:80/tcp is IPv6; expected an IPv6 real server, or forward: tun"},
	{"real server link-local", in("    real_servers:\n      - {address: \"[fe80::2]:80\"}\n"), "f.yaml:8: services.s.real_servers[0].address: fe80::2 is link-local; expected a global or unique local IPv6 address"},
	{"real server IPv4-mapped", in("    real_servers:\n      - {address: \"[::ffff:10.0.0.2]:80\"}\n"), "f.yaml:8: services.s.real_servers[0].address: ::ffff:10.0.0.2 is an IPv4 address in IPv6; expected 10.0.0.2"},
	{"DR with another port, IPv6", "services:\n  s:\n    group: web\n    listen: \"[fd00::1]:80/tcp\"\n    real_servers:\n      - {address: \"[fd00::2]:81\"}\n", "f.yaml:6: services.s: real server [fd00::2]:81 has port 81 but listen has 80, and dr cannot change the port; expected port 80, or forward: nat"},
	{"real server twice", in("    real_servers:\n      - {address: 10.0.0.1:80}\n      - {address: 10.0.0.1:80, weight: 2}\n"), "f.yaml:9: services.s: real server 10.0.0.1:80 is listed twice, first in line 8; expected it once"},
	{"real server without port", in("    real_servers:\n      - {address: 10.0.0.1:0}\n"), `f.yaml:8: services.s.real_servers[0].address: "10.0.0.1:0" is no address with a port; expected IP:port or IP, such as 192.168.150.12:80 or "[2001:db8::12]:80"`},
	{"check of nothing", in("    check: {interval: 5s}\n"), "f.yaml:7: services.s.check: must say either tcp or http; expected one of them, such as tcp: {}"},
	{"check of both", in("    check: {tcp: {}, http: {}}\n"), "f.yaml:7: services.s.check: must say either tcp or http; expected one of them, such as tcp: {}"},
	{"status", in("    check: {http: {status: [299-200]}}\n"), `f.yaml:7: services.s.check.http.status[0]: "299-200" is no status; expected a status code or a range of them, from 100 to 599, such as 200 or 200-299`},
	{"no status", in("    check: {http: {status: []}}\n"), "f.yaml:7: services.s.check.http.status: is an empty list; expected at least one status code"},
	{"path", in("    check: {http: {path: \"/ HTTP/1.1\\nX: y\"}}\n"), `f.yaml:7: services.s.check.http.path: "/ HTTP/1.1·X: y" is no path; expected one that begins with / and has no blanks, such as /health`},

	// many at once, sorted
	{"many", "services:\n  s:\n    group: Web\n    forward: drr\n    listen: x\n    real_servers: [{address: 1, weight: -1}]\n    persistenc: 1\ngroups:\n  web:\n    vips: 1\n",
		`f.yaml:3: services.s.group: "Web" is no name; expected 1 to 63 of a-z, 0-9, '.', '-', beginning with a letter or digit
f.yaml:4: services.s.forward: "drr" is no forwarding method; expected one of dr, tun, nat (did you mean "dr"?)
f.yaml:5: services.s.listen: "x" is no address to listen on; expected ` + listenExpected + `
f.yaml:6: services.s.real_servers[0].address: "1" is no address with a port; expected IP:port or IP, such as 192.168.150.12:80 or "[2001:db8::12]:80"
f.yaml:6: services.s.real_servers[0].weight: -1 is out of range; expected a whole number from 0 to 65535
f.yaml:7: services.s: unknown key "persistenc"; expected one of group, listen, scheduler, scheduler_flags, one_packet, forward, tunnel, persistence, persistence_prefix, persistence_engine, stateful, on_failure, check, real_servers (did you mean "persistence"?)
f.yaml:10: groups.web.vips: is 1; expected a list of IP addresses`},
}

func TestParseFileErrors(t *testing.T) {
	for _, test := range parseFileErrors {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseFile("f.yaml", []byte(test.text))
			wantError(t, test.want, err)
		})
	}
}

func wantError(t *testing.T, want string, err error) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	diffValues(t, strings.Split(want, "\n"), strings.Split(got, "\n"))
}

func TestParseLocalErrors(t *testing.T) {
	const zk = "zookeeper: {servers: [a:1]}\n"
	tests := []struct{ name, text, want string }{
		{"empty", "", "l.yaml:1: is empty; expected the director's settings, such as `cluster: web`"},
		{"nothing needed", "interface: eth0\n", "l.yaml:1: has no cluster; expected cluster: name of the cluster\nl.yaml:1: has no zookeeper; expected zookeeper: how to reach ZooKeeper"},
		{"documents", "cluster: web\n" + zk + "groups: {}\n", "l.yaml:3: unknown key \"groups\"; expected one of cluster, node, zookeeper, interface, control_socket, run_dir, exec_dir, promise, gate, watchdog, watchdog_device (groups belong into a file for `zklvs apply`)"},
		{"no servers", "cluster: web\nzookeeper:\n  servers: []\n", "l.yaml:3: zookeeper.servers: is an empty list; expected at least one host:port"},
		{"server", "cluster: web\nzookeeper: {servers: [\"a:b\", a:0, 'a b:1', a:2181, a]}\n", `l.yaml:2: zookeeper.servers[0]: "a:b" is no server; expected host:port, such as 10.0.0.1:2181
l.yaml:2: zookeeper.servers[1]: "a:0" is no server; expected host:port, such as 10.0.0.1:2181
l.yaml:2: zookeeper.servers[2]: "a b:1" is no server; expected host:port, such as 10.0.0.1:2181
l.yaml:2: zookeeper: server a:2181 is listed twice; expected it once`},
		{"cluster with a path", "cluster: ../x\n" + zk, `l.yaml:1: cluster: "../x" is no name; expected 1 to 63 of a-z, 0-9, '.', '-', beginning with a letter or digit`},
		{"node", "cluster: web\nnode: Node_1\n" + zk, `l.yaml:2: node: "Node_1" is no name; expected 1 to 63 of a-z, 0-9, '.', '-', beginning with a letter or digit`},
		{"session", "cluster: web\nzookeeper: {servers: [a], session_timeout: 6000}\n", "l.yaml:2: zookeeper.session_timeout: 6000 is a bare number; expected a duration with its unit from 1s to 1m, such as 6000s"},
		{"world_read alone", "cluster: web\nzookeeper: {servers: [a], world_read: true}\n", "l.yaml:2: zookeeper: world_read is set without credentials, without which anybody may write as well; expected credentials, or no world_read"},
		{"certificate without key", "cluster: web\nzookeeper: {servers: [a], tls: {ca: /a, cert: /b}}\n", "l.yaml:2: zookeeper.tls: has only one of cert and key; expected both, or neither"},
		{"password in the file", "cluster: web\nzookeeper: {servers: [a], credentials: {user: u, password: x}}\n", "l.yaml:2: zookeeper.credentials: unknown key \"password\"; expected one of user, password_file (did you mean \"password_file\"?)\nl.yaml:2: zookeeper.credentials: has no password_file; expected password_file: absolute path of a file that holds the password"},
		{"relative path", "cluster: web\nrun_dir: run\n" + zk, `l.yaml:2: run_dir: "run" is no clean absolute path; expected one such as /etc/zklvs/password`},
		{"promise without a port", "cluster: web\n" + zk + "promise: {listen: 10.0.0.11}\n", `l.yaml:3: promise.listen: "10.0.0.11" is no address with a port; expected address:port, such as 10.0.0.11:7363, or :port`},
		{"promise at port 0", "cluster: web\n" + zk + "promise: {listen: 10.0.0.11:0}\n", `l.yaml:3: promise.listen: "10.0.0.11:0" is no address with a port; expected address:port, such as 10.0.0.11:7363, or :port`},
		{"promise at a high port", "cluster: web\n" + zk + "promise:\n  listen: \":65536\"\n", `l.yaml:4: promise.listen: ":65536" is no address with a port; expected address:port, such as 10.0.0.11:7363, or :port`},
		{"promise at port 07", "cluster: web\n" + zk + "promise:\n  listen: \":07\"\n", `l.yaml:4: promise.listen: ":07" is no address with a port; expected address:port, such as 10.0.0.11:7363, or :port`},
		{"promise everywhere", "cluster: web\n" + zk + "promise: {listen: 0.0.0.0:7363}\n", `l.yaml:3: promise.listen: 0.0.0.0 is no address of one host; expected a unicast IPv4 address`},
		{"promise on lo", "cluster: web\n" + zk + "promise:\n  listen: \"[::1]:7363\"\n", `l.yaml:4: promise.listen: ::1 is no address of one host; expected a unicast IPv6 address`},
		{"promise of what", "cluster: web\n" + zk + "promise: {port: 1}\n", `l.yaml:3: promise: unknown key "port"; expected one of listen`},
		{"socket too long", "cluster: web\ncontrol_socket: /" + strings.Repeat("a", 107) + "\n" + zk,
			`l.yaml:2: control_socket: "/` + strings.Repeat("a", 56) + `..." has 108 characters; expected at most 107, which is all that a unix socket's address holds`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseLocal("l.yaml", []byte(test.text))
			wantError(t, test.want, err)
		})
	}
}

func TestErrorsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 900 {
		b.WriteString("k" + strings.Repeat("x", i) + ": 1\n")
	}
	_, err := Decode(ClusterPath, []byte(b.String()))
	text := err.Error()
	if n := strings.Count(text, "\n"); n != shownErrors || !strings.HasSuffix(text, "... and 800 more") {
		t.Errorf("%d lines, the last of them %q", n+1, text[strings.LastIndex(text, "\n")+1:])
	}
	for _, line := range strings.Split(text, "\n") {
		if len(line) > 300 {
			t.Errorf("line of %d bytes: %s", len(line), line)
		}
	}
}
