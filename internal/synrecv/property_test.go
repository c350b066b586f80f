package synrecv

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zklvs/zklvs/ipvs"
)

// Whatever the counters and the sample are: each finding begins, goes on and
// ends in this order, begins after two windows at the earliest, never stands
// beside one about all of its service, and nothing is kept of what has gone.
func TestFindingsAreWellFormed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := New()
		now := time.Hour
		stats := map[target]*ipvs.DestinationStats{}
		going := map[target]bool{}
		first := map[target]int{}
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += Interval
			table, sample := drawTable(t, stats)
			findings, err := d.Observe(now, table, func() ([]ipvs.Conn, error) { return sample, nil })
			if err != nil && len(sample) > 0 {
				t.Fatal(err)
			}
			check(t, findings, going)
			destinations := 0
			for _, s := range table {
				for _, ds := range s.Destinations {
					destinations++
					if _, ok := first[target{s.Key, ds.AddrPort}]; !ok {
						first[target{s.Key, ds.AddrPort}] = step
					}
				}
			}
			for _, f := range findings {
				if f.Phase == Begins && f.RealServer.IsValid() && step < first[target{f.Service, f.RealServer}]+toBegin {
					t.Fatalf("%v begins %d windows after its destination", f, step-first[target{f.Service, f.RealServer}])
				}
			}
			if len(d.seen) != destinations || len(d.found) > destinations {
				t.Fatalf("%d destinations, %d kept, %d findings kept", destinations, len(d.seen), len(d.found))
			}
		}
	})
}

func check(t *rapid.T, findings []Finding, going map[target]bool) {
	said := map[target]bool{}
	for _, f := range findings {
		subject := target{f.Service, f.RealServer}
		if said[subject] {
			t.Fatalf("%v is said twice", f)
		}
		said[subject] = true
		if going[subject] == (f.Phase == Begins) {
			t.Fatalf("%s %v, going on before: %v", f.Phase, f, going[subject])
		}
		if (f.Phase == Ends) == (f.Ended == "") || f.Cause == "" || f.Remedy == "" {
			t.Fatalf("%s: ended %q, cause %q, remedy %q", f.Phase, f.Ended, f.Cause, f.Remedy)
		}
		if going[subject] = f.Phase != Ends; !going[subject] {
			delete(going, subject)
		}
	}
	for subject := range going {
		if !said[subject] {
			t.Fatalf("nothing is said of %v, which goes on", subject)
		}
		if subject.server.IsValid() && going[target{service: subject.service}] {
			t.Fatalf("%v goes on beside all of its service", subject)
		}
	}
}

// drawTable lets counters grow at random, destinations come and go, and draws
// a sample.
func drawTable(t *rapid.T, counters map[target]*ipvs.DestinationStats) (table []ipvs.ServiceStats, sample []ipvs.Conn) {
	for port := range uint16(2) {
		s := ipvs.ServiceStats{Key: ipvs.Key{Protocol: ipvs.TCP, Address: netip.MustParseAddr("192.0.2.100"), Port: 80 + port}}
		if rapid.IntRange(0, 30).Draw(t, "no service") == 0 {
			continue
		}
		for i := range 3 {
			if rapid.IntRange(0, 30).Draw(t, "no destination") == 0 {
				continue
			}
			to := target{s.Key, server(i, s.Port)}
			c := counters[to]
			if c == nil || rapid.IntRange(0, 40).Draw(t, "anew") == 0 {
				c = &ipvs.DestinationStats{AddrPort: to.server, Forward: rapid.SampledFrom([]ipvs.Forward{ipvs.DR, ipvs.NAT}).Draw(t, "forward")}
				counters[to] = c
			}
			stuck := 0
			if rapid.Bool().Draw(t, "hangs") {
				stuck = rapid.IntRange(0, 6).Draw(t, "stuck")
			}
			added := rapid.Uint64Range(0, 8).Draw(t, "new")
			c.Connections, c.InPackets = c.Connections+added, c.InPackets+2*added
			c.ActiveConn = 2 * stuck
			for n := range 2 * stuck {
				sample = append(sample, ipvs.Conn{Protocol: ipvs.TCP, Client: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(1024+n)),
					Virtual: netip.AddrPortFrom(s.Address, s.Port), Destination: to.server, State: state, Expires: timeout - time.Duration(n%2*4)*time.Second})
			}
			s.Destinations = append(s.Destinations, *c)
		}
		table = append(table, s)
	}
	return table, sample
}

// Healthy services of any rate are never named, whatever share of the table is
// seen and up to one in twelve clients vanishing.
func TestHealthyIsNeverNamed(t *testing.T) {
	for seed := range uint64(30) {
		w := seededWorld(t, seed)
		for port := range uint16(1 + seed%3) {
			key := w.service(80+port, []ipvs.Forward{ipvs.DR, ipvs.NAT, ipvs.TUN}[seed%3], 3)
			for i := range 3 {
				every := time.Duration(20+w.random.IntN(500)) * ms
				w.drives(key, i, traffic{every, 200, works}, traffic{12 * every, 200, []kind{patient, impatient, flooded}[w.random.IntN(3)]})
			}
		}
		if said := w.steps(30); len(said) != 1 || said[0] != "" {
			t.Errorf("seed %d: %q", seed, said)
		}
	}
}

// Ten thousand services with two destinations each: the time and memory of a
// window.
func BenchmarkObserve(b *testing.B) {
	stats := make([]ipvs.ServiceStats, 10_000)
	for i := range stats {
		stats[i].Key = ipvs.Key{Protocol: ipvs.TCP, Address: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), Port: 80}
		for j := range 2 {
			stats[i].Destinations = append(stats[i].Destinations, ipvs.DestinationStats{AddrPort: server(j, 80), Forward: ipvs.DR, ActiveConn: 5})
		}
	}
	d := New()
	b.ReportAllocs()
	now := time.Hour
	for b.Loop() {
		now += Interval
		for i := range stats {
			for j := range stats[i].Destinations {
				stats[i].Destinations[j].Connections++
				stats[i].Destinations[j].InPackets += 6
			}
		}
		if _, err := d.Observe(now, stats, func() ([]ipvs.Conn, error) { return make([]ipvs.Conn, 1), nil }); err != nil {
			b.Fatal(err)
		}
	}
	if len(d.seen) != 20_000 {
		b.Fatal(fmt.Sprint(len(d.seen)))
	}
}
