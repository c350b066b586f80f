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

func millis(lo, hi int) *rapid.Generator[time.Duration] {
	return rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.IntRange(lo, hi).Draw(t, "ms")) * time.Millisecond
	})
}

func ipv4() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		b := rapid.Byte()
		return netip.AddrFrom4([4]byte{byte(rapid.IntRange(1, 126).Draw(t, "a")), b.Draw(t, "b"), b.Draw(t, "c"), b.Draw(t, "d")})
	})
}

// ipv6 draws global and unique local addresses, many of them with runs of zeros.
func ipv6() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		a := [16]byte{0: rapid.SampledFrom([]byte{0x20, 0x26, 0x3f, 0xfc, 0xfd}).Draw(t, "first")}
		for i := 1; i < len(a); i++ {
			a[i] = rapid.OneOf(rapid.Just(byte(0)), rapid.Byte()).Draw(t, "byte")
		}
		return netip.AddrFrom16(a)
	})
}

var (
	names   = rapid.StringMatching(`[a-z0-9][a-z0-9.-]{0,10}`)
	ifaces  = rapid.StringMatching(`[!-.0-9;-~]{3,7}`)
	counts1 = rapid.IntRange(1, 100)
)

func clusters() *rapid.Generator[Cluster] {
	return rapid.Custom(func(t *rapid.T) Cluster {
		lease := millis(1000, 10_000).Draw(t, "lease")
		c := Cluster{
			Lease:             lease,
			Drift:             float64(rapid.IntRange(0, 50_000).Draw(t, "drift")) / 100_000,
			GARPRefresh:       millis(1000, 3_600_000).Draw(t, "garp"),
			OnZooKeeperLoss:   rapid.SampledFrom([]LossPolicy{Automatic, Hold, Fence}).Draw(t, "loss"),
			IPVSCheckInterval: millis(100, 3_600_000).Draw(t, "ipvs"),
			IPVS:              IPVS{Sync: DefaultSync()},
		}
		if rapid.Bool().Draw(t, "renewed") {
			c.Renew = millis(10, int(lease.Milliseconds()-1)/3).Draw(t, "renew")
		}
		return c
	})
}

func groups() *rapid.Generator[Group] {
	return rapid.Custom(func(t *rapid.T) Group {
		g := Group{
			Preempt:      rapid.Bool().Draw(t, "preempt"),
			PreemptDelay: millis(0, 10_000).Draw(t, "delay"),
			Fitness:      Fitness{Backoff: millis(0, 100_000).Draw(t, "backoff")},
		}
		for _, a := range rapid.SliceOfNDistinct(rapid.OneOf(ipv4(), ipv6()), 1, 4, rapid.ID).Draw(t, "vips") {
			g.VIPs = append(g.VIPs, VIP{Address: a})
		}
		if rapid.Bool().Draw(t, "interfaced") {
			g.Interface = ifaces.Draw(t, "interface")
			g.Label = g.Interface + ":" + ifaces.Draw(t, "label")
		}
		if p := rapid.MapOfN(names, rapid.IntRange(1, 254), 0, 3).Draw(t, "priority"); len(p) > 0 {
			g.Priority = p
		}
		if l := rapid.SliceOfN(ifaces, 0, 3).Draw(t, "tracked"); len(l) > 0 {
			g.Fitness.TrackInterfaces = l
		}
		if rapid.Bool().Draw(t, "gateway") {
			g.Fitness.Gateway = &Gateway{ipv4().Draw(t, "addr"), millis(100, 9000).Draw(t, "i"), millis(10, 9000).Draw(t, "t"), counts1.Draw(t, "f"), counts1.Draw(t, "r")}
		}
		if rapid.Bool().Draw(t, "script") {
			g.Fitness.Script = &Script{rapid.StringMatching(`[a-z0-9_-][a-z0-9_.-]{0,9}`).Draw(t, "exec"), millis(100, 9000).Draw(t, "i"), millis(10, 9000).Draw(t, "t"), counts1.Draw(t, "f"), counts1.Draw(t, "r")}
		}
		return g
	})
}

func services() *rapid.Generator[Service] {
	return rapid.Custom(func(t *rapid.T) Service {
		port := rapid.Uint16Range(1, 65535)
		ips := rapid.SampledFrom([]*rapid.Generator[netip.Addr]{ipv4(), ipv6()}).Draw(t, "family")
		s := Service{
			Group:       names.Draw(t, "group"),
			Listen:      []Listen{{Address: ips.Draw(t, "vip"), Port: port.Draw(t, "port"), Protocol: rapid.SampledFrom([]Protocol{TCP, UDP}).Draw(t, "protocol")}},
			Scheduler:   rapid.SampledFrom(Schedulers()).Draw(t, "scheduler"),
			Forward:     rapid.SampledFrom([]Forward{DR, Tun, NAT}).Draw(t, "forward"),
			Persistence: time.Duration(rapid.IntRange(0, 31*24*3600).Draw(t, "persistence")) * time.Second,
			Stateful:    rapid.Bool().Draw(t, "stateful"),
			OnFailure:   rapid.SampledFrom([]OnFailure{Remove, WeightZero}).Draw(t, "on_failure"),
		}
		s.SchedulerFlags = defaultFlags(s.Scheduler)
		if rapid.Bool().Draw(t, "checked") {
			s.Check = checks().Draw(t, "check")
		}
		for _, a := range rapid.SliceOfNDistinct(ips, 0, 4, rapid.ID).Draw(t, "servers") {
			p := s.Listen[0].Port
			if s.Forward == NAT {
				p = port.Draw(t, "rport")
			}
			s.RealServers = append(s.RealServers, RealServer{Address: netip.AddrPortFrom(a, p), Weight: rapid.IntRange(0, 65535).Draw(t, "weight")})
		}
		return s
	})
}

func checks() *rapid.Generator[*Check] {
	return rapid.Custom(func(t *rapid.T) *Check {
		c := &Check{
			Port:       rapid.IntRange(0, 65535).Draw(t, "port"),
			Interval:   millis(100, 100_000).Draw(t, "interval"),
			Timeout:    millis(10, 10_000).Draw(t, "timeout"),
			Retries:    rapid.IntRange(0, 100).Draw(t, "retries"),
			RetryDelay: millis(0, 10_000).Draw(t, "delay"),
			Rise:       counts1.Draw(t, "rise"),
			Fall:       counts1.Draw(t, "fall"),
		}
		if rapid.Bool().Draw(t, "tcp") {
			c.TCP = &TCPCheck{}
			return c
		}
		c.HTTP = &HTTPCheck{Path: "/" + rapid.StringMatching(`[!-~]{0,20}`).Draw(t, "path")}
		if rapid.Bool().Draw(t, "hosted") {
			c.HTTP.Host = rapid.StringMatching(`[a-zA-Z0-9._-]{1,10}`).Draw(t, "host")
		}
		for range rapid.IntRange(1, 3).Draw(t, "ranges") {
			low := rapid.IntRange(100, 599).Draw(t, "low")
			c.HTTP.Status = append(c.HTTP.Status, StatusRange{low, rapid.IntRange(low, 599).Draw(t, "high")})
		}
		return c
	})
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
