package spec

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDecodeErrors(t *testing.T) {
	tests := []struct{ name, path, text, want string }{
		{"syntax", "spec/cluster", "lease: [3s", "spec/cluster:1: is not YAML: sequence end token ']' not found; expected the list or mapping to be closed"},
		{"empty", "spec/cluster", "", "spec/cluster:1: is empty; expected a mapping of the cluster's settings, such as {lease: 3s}"},
		{"unknown key", "spec/groups/web", "vips: [10.0.0.1]\nvip: 1\n", `spec/groups/web:2: unknown key "vip"; expected one of vips, label, interface, priority, preempt, preempt_delay, warm_standby, fitness (did you mean "vips"?)`},
		{"rule", "spec/services/s", "group: web\nlisten: 10.0.0.1:80/tcp\nreal_servers:\n  - {address: 10.0.0.2:81}\n", "spec/services/s:4: real server 10.0.0.2:81 has port 81 but listen has 80, and dr cannot change the port; expected port 80, or forward: nat"},
		{"path", "spec/services/../x", "", `spec/services/../x: "spec/services/../x" is no document; expected spec/cluster, spec/groups/<group> or spec/services/<service>`},
		{"too long", "spec/cluster", strings.Repeat(" ", 1<<20+1), "spec/cluster:1: is 1048577 bytes long; expected at most 1048576"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := Decode(test.path, []byte(test.text))
			wantError(t, test.want, err)
			if d != nil {
				t.Errorf("documents: %+v", d)
			}
			for _, p := range err.(Errors) {
				if p.Document != test.path {
					t.Errorf("document %q of problem %s", p.Document, p)
				}
			}
		})
	}
}

func TestDecodeDefaults(t *testing.T) {
	c, err := DecodeCluster([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	diffValues(t, DefaultCluster(), c)
	if got := string(c.Encode()); got != "{}\n" {
		t.Errorf("Encode: %q", got)
	}
}

func TestRenewal(t *testing.T) {
	tests := []struct{ lease, renew, want time.Duration }{
		{3 * time.Second, 0, 500 * time.Millisecond},
		{10 * time.Second, 0, 500 * time.Millisecond},
		{time.Second, 0, time.Second / 6},
		{3 * time.Second, 700 * time.Millisecond, 700 * time.Millisecond},
	}
	for _, test := range tests {
		if got := (Cluster{Lease: test.lease, Renew: test.renew}).Renewal(); got != test.want {
			t.Errorf("lease %s, renew %s: %s, want %s", test.lease, test.renew, got, test.want)
		}
	}
}

// The defaults of other documents are written only where they say what the
// thing is: see the package's documentation.
func TestEncodeLeavesDefaultsOut(t *testing.T) {
	s := DefaultService()
	s.Group = "1"
	s.Listen = []Listen{{Address: netip.MustParseAddr("10.0.0.1"), Port: 80, Protocol: TCP}}
	check := DefaultCheck()
	check.TCP = &TCPCheck{}
	s.Check = &check
	rs := DefaultRealServer()
	rs.Address = netip.MustParseAddrPort("10.0.0.2:80")
	s.RealServers = []RealServer{rs}
	const want = `group: "1"
listen: 10.0.0.1:80/tcp
scheduler: wlc
forward: dr
check:
  tcp: {}
real_servers:
  - {address: 10.0.0.2:80, weight: 1}
`
	diffValues(t, strings.Split(want, "\n"), strings.Split(string(s.Encode()), "\n"))
}

// IPv6 stands in quotes, so that every reader of YAML takes it for text.
func TestEncodeIPv6(t *testing.T) {
	d := mustParse(t, "f.yaml", `groups:
  g: {vips: [2001:DB8:0::100/64, 10.0.0.1]}
services:
  s:
    group: g
    listen: "[2001:db8:0:0::100]:80/tcp"
    real_servers: [{address: "[2001:db8::0:12]:80"}]
`)
	got := map[string]string{}
	for path, data := range d.Encode() {
		got[path] = string(data)
	}
	diffValues(t, map[string]string{
		"spec/groups/g": "vips: [\"2001:db8::100\", 10.0.0.1]\n",
		"spec/services/s": `group: g
listen: "[2001:db8::100]:80/tcp"
scheduler: wlc
forward: dr
real_servers:
  - {address: "[2001:db8::12]:80", weight: 1}
`}, got)
}

// Decode(Encode(v)) == v, and encoding the result again gives the same bytes.
func TestRoundTrip(t *testing.T) {
	t.Run("cluster", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) { roundTrip(t, clusters().Draw(t, "cluster"), Cluster.Encode, DecodeCluster) })
	})
	t.Run("group", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			roundTrip(t, groups().Draw(t, "group"), Group.Encode, func(b []byte) (Group, error) { return DecodeGroup("g", b) })
		})
	})
	t.Run("service", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			roundTrip(t, services().Draw(t, "service"), Service.Encode, func(b []byte) (Service, error) { return DecodeService("s", b) })
		})
	})
}

func roundTrip[T any](t *rapid.T, v T, encode func(T) []byte, decode func([]byte) (T, error)) {
	text := encode(v)
	got, err := decode(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if d := cmpDiff(v, got); d != "" {
		t.Fatalf("(-want +got):\n%s\n%s", d, text)
	}
	if again := encode(got); string(again) != string(text) {
		t.Fatalf("not stable:\n%s\n%s", text, again)
	}
}
