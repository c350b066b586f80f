package synrecv

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/ipvs"
)

const ms = time.Millisecond

// fine and broken are usual streams: 10 and 5 connections a second.
var fine = traffic{100 * ms, 50, works}

func failing(k kind) traffic { return traffic{200 * ms, 30, k} }

func TestWhatIsNamed(t *testing.T) {
	few := func(k kind) traffic { return traffic{time.Second, 1, k} } // a person with curl
	type flows = []traffic
	for name, c := range map[string]struct {
		forward      ipvs.Forward
		destinations []flows // nil: no traffic
		want         string  // what goes on in the end
		cause        string  // is in its cause
	}{
		"dr, all well":                         {ipvs.DR, []flows{{fine}, {fine}}, "", ""},
		"nat, all well":                        {ipvs.NAT, []flows{{fine}, {fine}}, "", ""},
		"dr, one in ten clients vanishes":      {ipvs.DR, []flows{{fine, {time.Second, 30, patient}}, {fine}}, "", ""},
		"dr, one of two, clients repeat":       {ipvs.DR, []flows{{fine}, {failing(patient)}}, "goes on 10.0.0.12", "it does not take packets for 192.0.2.100"},
		"dr, one of two, clients give up":      {ipvs.DR, []flows{{fine}, {failing(impatient)}}, "goes on 10.0.0.12", "it does not take packets for 192.0.2.100"},
		"dr, one of two, by hand":              {ipvs.DR, []flows{{few(works)}, {few(impatient)}}, "goes on 10.0.0.12", "it does not take packets for 192.0.2.100"},
		"dr, two of three":                     {ipvs.DR, []flows{{fine}, {failing(patient)}, {failing(patient)}}, "goes on 10.0.0.12, goes on 10.0.0.13", "it does not take packets"},
		"dr, one of two, the other unused":     {ipvs.DR, []flows{nil, {failing(patient)}}, "goes on 10.0.0.12", "no other real server of the service is in use"},
		"tun, one of two":                      {ipvs.TUN, []flows{{fine}, {failing(patient)}}, "goes on 10.0.0.12", "out of the tunnel"},
		"local, one of two":                    {ipvs.Local, []flows{{fine}, {failing(patient)}}, "goes on 10.0.0.12", "on this host"},
		"nat, one of two":                      {ipvs.NAT, []flows{{fine}, {failing(patient)}}, "goes on 10.0.0.12", "nothing comes back from this real server"},
		"nat, the only one":                    {ipvs.NAT, []flows{{failing(patient)}}, "goes on 10.0.0.11", "nothing comes back from this real server"},
		"nat, one of two is flooded":           {ipvs.NAT, []flows{{fine}, {{10 * ms, 5000, flooded}}}, "goes on 10.0.0.12", "its answers pass this director"},
		"nat, all":                             {ipvs.NAT, []flows{{failing(patient)}, {failing(impatient)}}, "goes on all", "nothing comes back from any real server"},
		"dr, all, clients repeat":              {ipvs.DR, []flows{{failing(patient)}, {failing(patient)}}, "goes on all", "the way back to the clients"},
		"dr, all, a few impatient clients":     {ipvs.DR, []flows{{few(impatient)}, {few(impatient)}}, "goes on all", "the way back to the clients"},
		"dr, flood":                            {ipvs.DR, []flows{{{10 * ms, 5000, flooded}}, {{10 * ms, 5000, flooded}}}, "goes on all", "a SYN flood"},
		"dr, flood of the only one":            {ipvs.DR, []flows{{{10 * ms, 5000, flooded}}}, "goes on 10.0.0.11", "a SYN flood"},
		"nat, flood":                           {ipvs.NAT, []flows{{{10 * ms, 5000, flooded}}, {{10 * ms, 5000, flooded}}}, "goes on all", "a SYN flood"},
		"dr, flood beside as many that work":   {ipvs.DR, []flows{{{20 * ms, 5000, flooded}, {100 * ms, 50, works}}, {{20 * ms, 5000, flooded}, {100 * ms, 50, works}}}, "goes on all", "a SYN flood"},
		"dr, an established service is quiet":  {ipvs.DR, []flows{nil, nil}, "", ""},
		"nat, answers pass, clients repeat":    {ipvs.NAT, []flows{{failing(patient), {time.Second, 50, flooded}}, {failing(patient), {time.Second, 50, flooded}}}, "goes on all", "the way back to the clients: answers pass"},
		"dr, one of two, few among many works": {ipvs.DR, []flows{{{10 * ms, 500, works}}, {{100 * ms, 500, patient}}}, "goes on 10.0.0.12", "it does not take packets"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			key := w.service(80, c.forward, len(c.destinations))
			for i, f := range c.destinations {
				w.drives(key, i, f...)
			}
			said := w.steps(24)
			if got := said[len(said)-1]; got != c.want {
				t.Errorf("in the end %q is said, want %q; in all %q", got, c.want, said)
			}
			for _, f := range w.detector.found {
				if !strings.Contains(f.Cause, c.cause) {
					t.Errorf("cause %q, want one with %q (%s)", f.Cause, c.cause, f.Evidence)
				}
			}
			if len(said) > 3 {
				t.Errorf("it flaps: %q", said)
			}
		})
	}
}

// A real server breaks and works again.
func TestBeginsAndEnds(t *testing.T) {
	for name, c := range map[string]struct {
		kind
		within time.Duration
	}{"impatient": {impatient, 15 * time.Second}, "patient": {patient, 45 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			key := w.service(80, ipvs.DR, 2)
			w.drives(key, 0, fine)
			w.drives(key, 1, fine)
			if said := w.steps(20); !cmp.Equal(said, []string{""}) {
				t.Fatalf("before: %q", said)
			}
			w.drives(key, 1, failing(c.kind))
			for broken := w.now; w.step() == ""; {
				if w.now-broken >= c.within {
					t.Fatalf("not found within %v", c.within)
				}
			}
			if said := w.steps(10); !cmp.Equal(said, []string{"goes on 10.0.0.12"}) {
				t.Errorf("while it lasts: %q", said)
			}
			w.drives(key, 1, fine)
			// The first window holds SYNs that clients of before repeat.
			if said := w.steps(30); !cmp.Equal(said, []string{"goes on 10.0.0.12", "ends 10.0.0.12", ""}) {
				t.Errorf("after: %q", said)
			}
		})
	}
}

// What hangs in a table of which the sample shows little goes on without a break,
// and ends soon after it is mended.
func TestLargeTable(t *testing.T) {
	for name, c := range map[string]struct {
		forward ipvs.Forward
		kind    kind
		ended   int // windows
	}{"dr": {ipvs.DR, impatient, 8}, "nat": {ipvs.NAT, impatient, 8}, "dr, clients repeat": {ipvs.DR, patient, 30}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			busy := w.service(443, ipvs.DR, 2)
			w.drives(busy, 0, traffic{10 * ms, 5000, works})
			w.drives(busy, 1, traffic{10 * ms, 5000, works})
			key := w.service(80, c.forward, 2)
			w.drives(key, 0, fine)
			w.drives(key, 1, failing(c.kind))
			said := w.steps(40)
			if want := []string{"", "begins 10.0.0.12", "goes on 10.0.0.12"}; !cmp.Equal(said, want) {
				t.Fatalf("said %q", said)
			}
			w.drives(key, 1, traffic{200 * ms, 30, works})
			if got, want := w.ended(c.ended), "connections get through again"; got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// ended is why the only finding ends within n windows.
func (w *world) ended(n int) string {
	for range n {
		w.now += Interval
		for t, flows := range w.traffic {
			for _, f := range flows {
				for at := w.now - Interval; at < w.now; at += f.every {
					w.begin(t, f, at)
				}
			}
		}
		findings, _ := w.detector.Observe(w.now, w.count(), w.sample)
		for _, f := range findings {
			if f.Phase == Ends {
				return f.Ended
			}
		}
	}
	return "it does not end"
}

func TestWhyItEnded(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world, key ipvs.Key)
		want   string
	}{
		"mended":              {func(w *world, key ipvs.Key) { w.drives(key, 1, fine) }, "connections get through again"},
		"nobody comes":        {func(w *world, key ipvs.Key) { w.drives(key, 1) }, "no new connections for 1m0s"},
		"real server removed": {func(w *world, _ ipvs.Key) { w.services[0].Destinations = w.services[0].Destinations[:1] }, "the real server is no longer in the table"},
		"service removed":     {func(w *world, _ ipvs.Key) { w.services = nil }, "the service is no longer in the table"},
		"all of them":         {func(w *world, key ipvs.Key) { w.drives(key, 0, failing(patient)) }, "all real servers of the service hang now"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			key := w.service(80, ipvs.DR, 2)
			w.drives(key, 0, fine)
			w.drives(key, 1, failing(patient))
			w.steps(10)
			c.change(w, key)
			if got := w.ended(30); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	t.Run("one of all is mended", func(t *testing.T) {
		w := newWorld(t)
		key := w.service(80, ipvs.DR, 2)
		w.drives(key, 0, failing(patient))
		w.drives(key, 1, failing(patient))
		w.steps(10)
		w.drives(key, 0, fine)
		if got, want := w.ended(30), "not all real servers of the service hang any more"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if said := w.steps(3); !cmp.Equal(said, []string{"goes on 10.0.0.12"}) {
			t.Errorf("then %q", said)
		}
	})
}

// A service for a mark, and one for all ports, whose entries name other ports.
func TestServicesWithoutPort(t *testing.T) {
	for name, key := range map[string]ipvs.Key{
		"mark":      {Mark: 5},
		"all ports": {Protocol: ipvs.TCP, Address: netip.MustParseAddr("192.0.2.100")},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.add(key, ipvs.DR, 2)
			w.drives(key, 0, fine)
			w.drives(key, 1, failing(patient))
			said := w.steps(10)
			if got := said[len(said)-1]; got != "goes on 10.0.0.12" {
				t.Errorf("%q", said)
			}
		})
	}
}

// Where no connection can be hanging, the list of connections is not read.
func TestSampleIsReadWhenItMatters(t *testing.T) {
	w := newWorld(t)
	key := w.service(80, ipvs.DR, 2)
	w.drives(key, 0, fine)
	w.steps(5)
	if w.sampled != 0 {
		t.Errorf("read %d times for a service whose connections have all ended", w.sampled)
	}
	w.drives(key, 1, failing(patient))
	w.steps(5)
	if w.sampled != 5 {
		t.Errorf("read %d times in 5 windows", w.sampled)
	}
}

// Without the list nothing begins, nothing ends, and the error is told.
func TestSampleThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	key := w.service(80, ipvs.DR, 2)
	w.drives(key, 0, fine)
	w.drives(key, 1, failing(patient))
	w.steps(6)
	w.broken = errors.New("no such file")
	if said := w.steps(20); !cmp.Equal(said, []string{"goes on 10.0.0.12"}) {
		t.Errorf("said %q", said)
	}
	if _, err := w.detector.Observe(w.now+Interval, w.count(), w.sample); err != nil {
		t.Errorf("without new connections there is nothing to read: %v", err)
	}
	w.begin(target{key, server(1, 80)}, failing(patient), w.now+1)
	w.now += 2 * Interval
	if _, err := w.detector.Observe(w.now, w.count(), w.sample); !errors.Is(err, w.broken) {
		t.Errorf("error %v", err)
	}
}

// A destination that is deleted and added again counts from zero.
func TestCountersThatGoBack(t *testing.T) {
	d := New()
	s := []ipvs.ServiceStats{{Key: ipvs.Key{Protocol: ipvs.TCP, Address: netip.MustParseAddr("192.0.2.100"), Port: 80}, Destinations: []ipvs.DestinationStats{
		{AddrPort: server(0, 80), Forward: ipvs.NAT, ActiveConn: 10, Counters: ipvs.Counters{Connections: 1000, InPackets: 9000, OutPackets: 9000}},
	}}}
	for i, c := range []uint64{1000, 5, 5, 1005} {
		s[0].Destinations[0].Connections = c
		asked := false
		_, err := d.Observe(time.Duration(i)*Interval, s, func() ([]ipvs.Conn, error) { asked = true; return make([]ipvs.Conn, 1), nil })
		if err != nil || asked != (i == 3) {
			t.Errorf("window %d: asked %v, %v", i, asked, err)
		}
	}
}

func TestText(t *testing.T) {
	w := newWorld(t)
	key := w.service(80, ipvs.DR, 2)
	w.drives(key, 0, fine)
	w.drives(key, 1, failing(impatient))
	w.steps(5)
	f := *w.detector.found[target{key, server(1, 80)}]
	if want := "connections to real server 10.0.0.12:80 of TCP 192.0.2.100:80 hang in SYN_RECV: this real server's network: it does not take packets for 192.0.2.100: " +
		"192.0.2.100 must be on its lo, with arp_ignore=1 and arp_announce=2 (`zklvs realserver up`); then a firewall on it, its own way back to the clients, whether it is up"; f.String() != want {
		t.Errorf("got  %s\nwant %s", f, want)
	}
	if got := f.Evidence.String(); !strings.Contains(got, "sampled connections in SYN_RECV for over 3s, from ") || !strings.Contains(got, "in 5s 25 new connections, 5") {
		t.Errorf("evidence %s", got)
	}
}

// The hysteresis, window by window: b is a bad one, g a good one, f one with fewer
// than three stuck entries in the sample, - one without new connections.
func TestHysteresis(t *testing.T) {
	for windows, want := range map[string]string{
		"b":              ".",
		"bb":             ".B",
		"bgb":            "...",
		"b-b":            "..B",
		"ffffff":         "......",
		"bbb":            ".B+",
		"bbggb":          ".B+++",
		"bbgggb":         ".B++E.",
		"bbgg-g":         ".B+++E",
		"bbfff":          ".B++E",
		"bb-----------":  ".B+++++++++++",
		"bb------------": ".B+++++++++++E",
		"bbgggbb":        ".B++E.B",
	} {
		t.Run(windows, func(t *testing.T) {
			d, now := New(), time.Hour
			s := []ipvs.ServiceStats{{Key: ipvs.Key{Protocol: ipvs.TCP, Address: netip.MustParseAddr("192.0.2.100"), Port: 80}, Destinations: []ipvs.DestinationStats{
				{AddrPort: server(0, 80), Forward: ipvs.DR, ActiveConn: 20},
			}}}
			one := &s[0].Destinations[0]
			if _, err := d.Observe(now, s, nil); err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, w := range windows {
				now += Interval
				stuck := map[rune]int{'b': 20, 'f': 4}[w]
				if w != '-' {
					one.Connections, one.InPackets = one.Connections+10, one.InPackets+20
				}
				findings, err := d.Observe(now, s, func() ([]ipvs.Conn, error) { return entries(s[0].Key, one.AddrPort, stuck), nil })
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case len(findings) == 0:
					got += "."
				default:
					got += map[Phase]string{Begins: "B", GoesOn: "+", Ends: "E"}[findings[0].Phase]
				}
			}
			if got != want {
				t.Errorf("%s\n%s, want\n%s", windows, got, want)
			}
		})
	}
}

// entries are twenty, so many in SYN_RECV, every second one of them for long.
func entries(service ipvs.Key, to netip.AddrPort, waiting int) []ipvs.Conn {
	var out []ipvs.Conn
	for i := range 20 {
		c := ipvs.Conn{Protocol: ipvs.TCP, Client: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(1024+i)),
			Virtual: netip.AddrPortFrom(service.Address, service.Port), Destination: to, State: "ESTABLISHED", Expires: 15 * time.Minute}
		if i < waiting {
			c.State, c.Expires = state, timeout-time.Duration(i%2*4)*time.Second
		}
		out = append(out, c)
	}
	return out
}
