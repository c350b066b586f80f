package spec

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

const twoGroups = `groups:
  a: {vips: [10.0.0.1]}
  b:
    vips:
      - 10.0.0.2
      - 10.0.0.3
`

func TestCheck(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"right", twoGroups + "services:\n  s: {group: a, listen: 10.0.0.1:80/tcp}\n  u: {group: a, listen: 10.0.0.1:80/udp}\n  v: {group: b, listen: 10.0.0.3:80/tcp}\n", ""},
		{"missing group", twoGroups + "services:\n  s:\n    group: aa\n    listen: 10.0.0.1:80/tcp\n",
			`f.yaml:9: service s: group "aa" does not exist; expected a group of the cluster (did you mean "a"?)`},
		{"missing group, none at all", "services:\n  s:\n    group: web\n    listen: 10.0.0.1:80/tcp\n",
			`f.yaml:3: service s: group "web" does not exist; expected a group of the cluster`},
		{"listen on another group's VIP", twoGroups + "services:\n  s:\n    group: b\n    listen: 10.0.0.1:80/tcp\n",
			"f.yaml:10: service s: listens on 10.0.0.1:80/tcp, which is no VIP of group b; expected one of 10.0.0.2, 10.0.0.3"},
		{"VIP in two groups", "groups:\n  a: {vips: [10.0.0.1]}\n  b:\n    vips:\n      - 10.0.0.2\n      - 10.0.0.1/24\n",
			"f.yaml:6: group b: VIP 10.0.0.1 is also in group a (f.yaml:2); expected each VIP in one group"},
		{"duplicate VIP:port", twoGroups + "services:\n  s:\n    group: a\n    listen: 10.0.0.1:80/tcp\n  t:\n    group: a\n    listen: 10.0.0.1:80/tcp\n",
			"f.yaml:13: service t: listens on 10.0.0.1:80/tcp, as service s does (f.yaml:10); expected each VIP:port/protocol once"},
		{"IPv6", "groups:\n  a: {vips: [fd00::1]}\n  b: {vips: [\"fd00:0::1\", 10.0.0.1]}\nservices:\n  s:\n    group: b\n    listen: \"[fd00::3]:80/tcp\"\n    real_servers: [{address: \"[fd00:0:0::1]:80\"}]\n",
			"f.yaml:3: group b: VIP fd00::1 is also in group a (f.yaml:2); expected each VIP in one group\n" +
				"f.yaml:7: service s: listens on [fd00::3]:80/tcp, which is no VIP of group b; expected one of fd00::1, 10.0.0.1\n" +
				"f.yaml:8: service s: real server [fd00::1]:80 is a VIP of group a; expected the server's own address"},
		{"a list, one of another group", twoGroups + "services:\n  s:\n    group: b\n    listen:\n      - 10.0.0.2:80/tcp\n      - 10.0.0.1:80/tcp\n",
			"f.yaml:12: service s: listens on 10.0.0.1:80/tcp, which is no VIP of group b; expected one of 10.0.0.2, 10.0.0.3"},
		{"within a range", twoGroups + "services:\n  s:\n    group: a\n    listen: [10.0.0.1:80/udp, 10.0.0.1:80-90/tcp]\n  t:\n    group: a\n    listen:\n      - 10.0.0.1:443/tcp\n      - 10.0.0.1:90-95/tcp\n      - 10.0.0.1:91/udp\n",
			"f.yaml:15: service t: listens on 10.0.0.1:90/tcp, as service s does (f.yaml:10); expected each VIP:port/protocol once"},
		{"all ports beside one", twoGroups + "services:\n  s: {group: a, listen: 10.0.0.1:0/tcp, persistence: 1s}\n  t: {group: a, listen: 10.0.0.1:443/tcp}\n", ""},
		{"all ports twice", twoGroups + "services:\n  s: {group: a, listen: 10.0.0.1:0/tcp, persistence: 1s}\n  t: {group: a, listen: 10.0.0.1:0/tcp, persistence: 1s}\n",
			"f.yaml:9: service t: listens on 10.0.0.1:0/tcp, as service s does (f.yaml:8); expected each VIP:port/protocol once"},
		{"marks", twoGroups + "services:\n  s: {group: a, listen: fwmark:5/ipv4}\n  t: {group: a, listen: fwmark:5/ipv6}\n  u: {group: b, listen: [fwmark:5/ipv4, fwmark:6/ipv4]}\n  v: {group: c, listen: fwmark:7/ipv4}\n",
			"f.yaml:10: service u: listens on fwmark:5/ipv4, as service s does (f.yaml:8); expected each VIP:port/protocol once\n" +
				"f.yaml:11: service v: group \"c\" does not exist; expected a group of the cluster"},
		{"another VIP's interface", "groups:\n  a: {vips: [{address: 10.0.0.1, interface: eth1}]}\nservices:\n  s: {group: a, listen: 10.0.0.1:80/tcp}\n", ""},
		{"families mixed beside sync", twoGroups + "services:\n  s:\n    group: a\n    listen: 10.0.0.1:80/tcp\n    forward: tun\n    real_servers:\n      - {address: 10.0.1.1}\n      - {address: \"fd00::1\"}\n",
			"f.yaml:14: service s: real server fd00::1 is IPv6 but listen 10.0.0.1:80/tcp is IPv4, which the kernel refuses beside connection synchronization; expected one family, or ipvs: {sync: {enabled: false}} in the cluster's document"},
		{"families mixed without sync", "cluster: {ipvs: {sync: {enabled: false}}}\n" + twoGroups + "services:\n  s:\n    group: a\n    listen: [10.0.0.1:80/tcp, fwmark:1/ipv6]\n    forward: tun\n    real_servers: [{address: 10.0.1.1}, {address: \"fd00::1\"}]\n", ""},
		{"real server is a VIP", twoGroups + "services:\n  s:\n    group: a\n    listen: 10.0.0.1:80/tcp\n    real_servers:\n      - {address: 10.0.1.1:80}\n      - {address: 10.0.0.3:80}\n",
			"f.yaml:13: service s: real server 10.0.0.3:80 is a VIP of group b; expected the server's own address"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := ParseFile("f.yaml", []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, test.want, d.Spec().Check())
		})
	}
}

// Lists and ranges multiply: what they come to is bounded.
func TestCheckBounds(t *testing.T) {
	many := func(services, servers int) string {
		var b strings.Builder
		b.WriteString("groups:\n  g: {vips: [10.0.0.1, 10.0.0.2]}\nservices:\n")
		list := make([]string, servers)
		for j := range servers {
			list[j] = fmt.Sprintf("{address: 10.1.0.%d}", j+1)
		}
		for i := range services {
			fmt.Fprintf(&b, "  s%03d: {group: g, listen: 10.0.0.%d:%d-%d/tcp, real_servers: [%s]}\n", i, 1+i/60, 1+i%60*1000, (i%60+1)*1000, strings.Join(list, ", "))
		}
		return b.String()
	}
	tests := []struct {
		name, text, want string
	}{
		{"as many as there may be", many(100, 4), ""},
		{"a service too many", many(100, 0) + "  t: {group: g, listen: 10.0.0.2:60000/tcp}\n  u: {group: g, listen: 10.0.0.2:60001/tcp}\n",
			"f.yaml:104: service t: with this document the services come to more than 100000 ports; expected fewer, or port 0 (all ports) with persistence, or marks"},
		{"a real server too many", many(80, 5) + "  t: {group: g, listen: 10.0.0.2:60000/tcp, real_servers: [{address: 10.1.0.1}]}\n",
			"f.yaml:84: service t: with this document the services come to more than 400000 real servers, one for each port; expected fewer, or port 0 (all ports) with persistence, or marks"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := ParseFile("f.yaml", []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, test.want, d.Spec().Check())
		})
	}
}

// The faults of a file and those between its documents come at once, and no
// fault is reported for what follows from another.
func TestCheckAfterErrors(t *testing.T) {
	d, err := ParseFile("f.yaml", []byte(`groups:
  a: {vips: [10.0.0.1x]}
services:
  s: {group: a, listen: 10.0.0.1:80/tcp}
  t: {group: a, listen: 10.0.0.1:80/tcp, forward: x}
  u: {group: c, listen: 10.0.0.1:x}
`))
	wantError(t, `f.yaml:2: groups.a.vips[0]: "10.0.0.1x" is no address; expected an IPv4 or IPv6 address, such as 192.168.150.100 or 2001:db8::100
f.yaml:5: services.t.forward: "x" is no forwarding method; expected one of dr, tun, nat
f.yaml:5: service t: listens on 10.0.0.1:80/tcp, as service s does (f.yaml:4); expected each VIP:port/protocol once
f.yaml:6: services.u.listen: "10.0.0.1:x" is no address to listen on; expected `+listenExpected+`
f.yaml:6: service u: group "c" does not exist; expected a group of the cluster`,
		JoinErrors(err, d.Spec().Check()))
}

func TestCheckWithoutPositions(t *testing.T) {
	s := &Spec{Services: map[string]Service{"s": {
		Group:  "a",
		Listen: []Listen{{Address: netip.MustParseAddr("10.0.0.1"), Port: 80, Protocol: TCP}},
	}}}
	wantError(t, `spec/services/s: service s: group "a" does not exist; expected a group of the cluster`, s.Check())
}

func TestWarnings(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"prefix", "groups:\n  a:\n    vips: [10.0.0.1/24]\n", "f.yaml:3: groups.a.vips[0]: the prefix of 10.0.0.1/24 is ignored: a VIP is bound as 10.0.0.1/32"},
		{"prefix, IPv6", "groups:\n  a:\n    vips: [2001:db8::1/64, fd00::1/128]\n", "f.yaml:3: groups.a.vips[0]: the prefix of 2001:db8::1/64 is ignored: a VIP is bound as 2001:db8::1/128"},
		{"label and IPv6", "groups:\n  a:\n    vips: [2001:db8::1]\n    label: eth0:2\n", "f.yaml:4: groups.a: label has no effect: the group has no IPv4 address for it, and the kernel labels no others"},
		{"label and both families", "groups:\n  a:\n    vips: [2001:db8::1, 10.0.0.1]\n    label: eth0:2\n", ""},
		{"preempt_delay alone", "groups:\n  a:\n    vips: [10.0.0.1]\n    preempt_delay: 5s\n", "f.yaml:4: groups.a: preempt_delay has no effect without preempt: true"},
		{"stateful without persistence", in("    stateful: true\n"), "f.yaml:7: services.s: the service is stateful but persistence is off: the next connection of a client may reach another real server; set persistence (such as 300s), or scheduler sh or mh"},
		{"stateful, persistence", in("    stateful: true\n    persistence: 60s\n"), ""},
		{"stateful, source hashing", in("    stateful: true\n    scheduler: mh\n"), ""},
		{"persistence off, no hint", in("    persistence: 0s\n"), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := ParseFile("f.yaml", []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, test.want, problems(d.Warnings))
		})
	}
}

func mustParse(t *testing.T, file, text string) *Documents {
	t.Helper()
	d, err := ParseFile(file, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMerge(t *testing.T) {
	a := mustParse(t, "a.yaml", "cluster: {}\ngroups:\n  a: {vips: [10.0.0.1/8]}\n")
	b := mustParse(t, "b.yaml", "services:\n  s: {group: a, listen: 10.0.0.1:80/tcp}\n")
	d, err := Merge(a, b)
	if err != nil {
		t.Fatal(err)
	}
	diffValues(t, []string{"spec/cluster", "spec/groups/a", "spec/services/s"}, d.Paths())
	diffValues(t, a.Warnings, d.Warnings)
	diffValues(t, Pos{"b.yaml", 2}, d.Pos("spec/services/s"))
	if err := d.Spec().Check(); err != nil {
		t.Error(err)
	}
}

func TestMergeRefusesDuplicates(t *testing.T) {
	a := mustParse(t, "a.yaml", "cluster: {}\ngroups:\n  a: {vips: [10.0.0.1]}\n")
	b := mustParse(t, "b.yaml", "groups:\n  b: {vips: [10.0.0.2]}\n  a: {vips: [10.0.0.1]}\ncluster: {lease: 2s}\n")
	_, err := Merge(a, b)
	wantError(t, `b.yaml:3: group a is also in a.yaml:3; expected it once
b.yaml:4: the cluster's document is also in a.yaml:1; expected it once`, err)
}

func TestOverlay(t *testing.T) {
	stored := map[string]string{
		"spec/cluster":    "lease: 4s\n",
		"spec/groups/a":   "vips: [10.0.0.1/8]\n",
		"spec/services/s": "group: a\nlisten: 10.0.0.1:80/tcp\n",
		"spec/services/t": "group: a\n\nlisten: 10.0.0.1:81/tcp\n",
	}
	var sets []*Documents
	for path, text := range stored {
		d, err := Decode(path, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		sets = append(sets, d)
	}
	all, err := Merge(sets...)
	if err != nil {
		t.Fatal(err)
	}
	applied := mustParse(t, "f.yaml", "groups:\n  a: {vips: [10.0.0.2/8]}\nservices:\n  s: {group: a, listen: 10.0.0.2:80/tcp}\n")
	after := Overlay(all, applied)
	diffValues(t, []string{"spec/cluster", "spec/groups/a", "spec/services/s", "spec/services/t"}, after.Paths())
	diffValues(t, applied.Warnings, after.Warnings)
	wantError(t, "spec/services/t:3: service t: listens on 10.0.0.1:81/tcp, which is no VIP of group a; expected one of 10.0.0.2", after.Spec().Check())
	if err := all.Spec().Check(); err != nil {
		t.Errorf("stored was changed: %v", err)
	}
}
