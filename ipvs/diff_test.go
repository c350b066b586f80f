package ipvs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDiff(t *testing.T) {
	web := "TCP 192.168.150.100:80"
	a, b := "192.168.150.12:80", "192.168.150.13:80"
	persistent := service(t, web, "rr", dest(a, DR, 1))
	persistent.Persistence = 300 * time.Second
	marked := service(t, web, "rr", dest(a, DR, 1))
	marked.Extras = "-o"
	for _, tt := range []struct {
		name            string
		desired, actual []Service
		owned           string
		want            string
	}{
		{name: "nothing"},
		{
			name:    "a new service",
			desired: []Service{service(t, web, "rr", dest(b, NAT, 1), dest(a, DR, 0))},
			want: `
-A -t 192.168.150.100:80 -s rr
-a -t 192.168.150.100:80 -r 192.168.150.12:80 -g -w 0
-a -t 192.168.150.100:80 -r 192.168.150.13:80 -m -w 1`,
		},
		{
			name:    "what is right is adopted without a step",
			desired: []Service{service(t, web, "rr", dest(b, DR, 1), dest(a, DR, 1))},
			actual:  []Service{service(t, web, "rr", dest(a, DR, 1), dest(b, DR, 1))},
		},
		{
			name:    "a changed service is edited, its destinations stay",
			desired: []Service{persistent},
			actual:  []Service{service(t, web, "wlc", dest(a, DR, 1))},
			want:    `-E -t 192.168.150.100:80 -s rr -p 300`,
		},
		{
			name:    "what another program set beside the model is taken back",
			desired: []Service{service(t, web, "rr", dest(a, DR, 1))},
			actual:  []Service{marked},
			want:    `-E -t 192.168.150.100:80 -s rr`,
		},
		{
			name:    "destinations: added, edited, quiesced, removed",
			desired: []Service{service(t, web, "rr", dest(a, DR, 0), dest(b, TUN, 2), dest("192.168.150.14:80", DR, 1))},
			actual:  []Service{service(t, web, "rr", dest(a, DR, 1), dest(b, DR, 2), dest("192.168.150.11:80", DR, 1))},
			want: `
-a -t 192.168.150.100:80 -r 192.168.150.14:80 -g -w 1
-e -t 192.168.150.100:80 -r 192.168.150.13:80 -i -w 2 --tun-type ipip
-e -t 192.168.150.100:80 -r 192.168.150.12:80 -g -w 0
-d -t 192.168.150.100:80 -r 192.168.150.11:80`,
		},
		{
			name:   "a foreign service stays, an owned one goes in one step",
			actual: []Service{service(t, "UDP 10.0.0.1:53", "rr", dest("10.0.0.2:53", NAT, 1)), service(t, web, "rr", dest(a, DR, 1))},
			owned:  web,
			want:   `-D -t 192.168.150.100:80`,
		},
		{
			name:    "the same address and port for udp is another service",
			desired: []Service{service(t, "UDP 10.0.0.1:53", "sh")},
			actual:  []Service{service(t, "TCP 10.0.0.1:53", "sh")},
			want:    `-A -u 10.0.0.1:53 -s sh`,
		},
		{
			name:    "IPv6",
			desired: []Service{service(t, "TCP [2001:db8::1]:80", "wlc", dest("[2001:db8::2]:80", DR, 1))},
			actual:  []Service{service(t, "TCP [2001:db8::1]:80", "rr", dest("[2001:db8::3]:80", DR, 1))},
			want: `
-E -t [2001:db8::1]:80 -s wlc
-a -t [2001:db8::1]:80 -r [2001:db8::2]:80 -g -w 1
-d -t [2001:db8::1]:80 -r [2001:db8::3]:80`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan := Diff(tt.desired, tt.actual, func(k Key) bool { return k.String() == tt.owned })
			noDiff(t, "plan", strings.TrimPrefix(tt.want, "\n"), strings.TrimSuffix(plan.String(), "\n"))
			if plan.Empty() != (tt.want == "") || plan.Len() != len(plan) {
				t.Errorf("Empty is %v, Len is %d", plan.Empty(), plan.Len())
			}
		})
	}
}

// model is a table that a step must fit, or it is an error.
type model map[Key]Service

func newModel(table []Service) model {
	m := model{}
	for _, s := range table {
		s.Destinations = slices.Clone(s.Destinations)
		m[s.Key] = s
	}
	return m
}

func (m model) table() []Service {
	var out []Service
	for _, s := range m {
		out = append(out, s)
	}
	sortTable(out)
	return out
}

func (m model) apply(s Step) error {
	svc, ok := m[s.Service.Key]
	at := slices.IndexFunc(svc.Destinations, func(d Destination) bool { return s.Destination != nil && d.AddrPort() == s.Destination.AddrPort() })
	isAdd := s.Op == AddService || s.Op == AddDestination
	exists := ok
	if s.Op.onDestination() {
		if !ok {
			return fmt.Errorf("%v: no such service", s)
		}
		exists = at >= 0
	}
	if isAdd == exists {
		return fmt.Errorf("%v: does not fit the table", s)
	}
	switch s.Op {
	case AddService:
		svc = s.Service.head()
	case EditService:
		ds := svc.Destinations
		svc = s.Service.head()
		svc.Destinations = ds
	case DeleteService:
		delete(m, s.Service.Key)
		return nil
	case AddDestination:
		svc.Destinations = append(svc.Destinations, *s.Destination)
	case EditDestination:
		svc.Destinations[at] = *s.Destination
	case DeleteDestination:
		svc.Destinations = slices.Delete(svc.Destinations, at, at+1)
	}
	m[s.Service.Key] = svc
	return nil
}

// able counts the destinations of a service that get new connections.
func able(s Service) int {
	n := 0
	for _, d := range s.Destinations {
		if d.Weight > 0 {
			n++
		}
	}
	return n
}

// genTable draws tables from few names, so that two of them overlap.
func genTable() *rapid.Generator[[]Service] {
	destination := func(host func(byte) netip.Addr) *rapid.Generator[Destination] {
		return rapid.Custom(func(t *rapid.T) Destination {
			return Destination{
				Address: host(byte(rapid.IntRange(11, 14).Draw(t, "rs"))),
				Port:    80,
				Forward: rapid.SampledFrom([]Forward{DR, TUN, NAT}).Draw(t, "forward"),
				Weight:  rapid.IntRange(0, 2).Draw(t, "weight"),
			}
		})
	}
	svc := rapid.Custom(func(t *rapid.T) Service {
		host := rapid.SampledFrom([]func(byte) netip.Addr{host4, host6}).Draw(t, "family")
		return Service{
			Key: Key{
				Protocol: rapid.SampledFrom([]Protocol{TCP, UDP}).Draw(t, "protocol"),
				Address:  host(byte(rapid.IntRange(1, 2).Draw(t, "vip"))),
				Port:     80,
			},
			Scheduler:    rapid.SampledFrom([]string{"rr", "wlc", "mh"}).Draw(t, "scheduler"),
			Persistence:  time.Duration(rapid.IntRange(0, 2).Draw(t, "persistence")) * time.Minute,
			Destinations: rapid.SliceOfNDistinct(destination(host), 0, 4, Destination.AddrPort).Draw(t, "destinations"),
		}
	})
	return rapid.SliceOfNDistinct(svc, 0, 6, func(s Service) Key { return s.Key })
}

func host4(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }

func host6(n byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: n})
}

func genOwned(t *rapid.T, tables ...[]Service) func(Key) bool {
	owned := map[Key]bool{}
	for _, table := range tables {
		for _, s := range table {
			owned[s.Key] = rapid.Bool().Draw(t, "owned "+s.Key.String())
		}
	}
	return func(k Key) bool { return owned[k] }
}

// wanted is what the table must be in the end: what is desired, and what is
// foreign as it was.
func wanted(desired, actual []Service, owned func(Key) bool) []Service {
	out := slices.Clone(desired)
	for _, s := range actual {
		isDesired := slices.ContainsFunc(desired, func(d Service) bool { return d.Key == s.Key })
		if !isDesired && !owned(s.Key) {
			out = append(out, s)
		}
	}
	sortTable(out)
	return out
}

// differences counts, without Diff, the things that differ.
func differences(desired, actual []Service, owned func(Key) bool) int {
	n := 0
	have, want := newModel(actual), newModel(desired)
	for k, w := range want {
		h, ok := have[k]
		if !ok || h.Scheduler != w.Scheduler || h.Persistence != w.Persistence {
			n++
		}
		names := map[netip.AddrPort][2]Destination{}
		for _, d := range w.Destinations {
			names[d.AddrPort()] = [2]Destination{d, {}}
		}
		for _, d := range h.Destinations {
			names[d.AddrPort()] = [2]Destination{names[d.AddrPort()][0], d}
		}
		for _, pair := range names {
			if pair[0] != pair[1] {
				n++
			}
		}
	}
	for k := range have {
		if _, ok := want[k]; !ok && owned(k) {
			n++
		}
	}
	return n
}

func TestDiffProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		desired := genTable().Draw(t, "desired")
		actual := genTable().Draw(t, "actual")
		owned := genOwned(t, desired, actual)
		plan := Diff(desired, actual, owned)

		before, after, now := newModel(actual), newModel(desired), newModel(actual)
		for _, s := range plan {
			k := s.Service.Key
			_, isDesired := after[k]
			if !isDesired && !owned(k) {
				t.Fatalf("%v touches a foreign service", s)
			}
			if err := now.apply(s); err != nil {
				t.Fatal(err)
			}
			if _, was := before[k]; was && isDesired && able(now[k]) < min(able(before[k]), able(after[k])) {
				t.Fatalf("after %v only %d destinations are able, before %d, in the end %d",
					s, able(now[k]), able(before[k]), able(after[k]))
			}
		}
		want := wanted(desired, actual, owned)
		if got := now.table(); Diff(want, got, func(Key) bool { return true }).Len() != 0 || len(got) != len(want) {
			t.Fatalf("the plan leads to\n%v\nnot to\n%v", printed(got), printed(want))
		}
		if !slices.Equal(printed(now.table()), printed(want)) {
			t.Fatalf("the plan leads to\n%v\nnot to\n%v", printed(now.table()), printed(want))
		}
		if again := Diff(desired, now.table(), owned); !again.Empty() {
			t.Fatalf("a second diff is not empty:\n%v", again)
		}
		if n := differences(desired, actual, owned); n != plan.Len() {
			t.Fatalf("%d steps for %d differences:\n%v", plan.Len(), n, plan)
		}
	})
}
