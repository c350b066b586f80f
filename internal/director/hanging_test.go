package director

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/synrecv"
	"github.com/zklvs/zklvs/ipvs"
)

// fakeTraffic is a table through which connections pass: each read finds ten new
// ones more for each destination, which hang if it is broken.
type fakeTraffic struct {
	mu       sync.Mutex
	services []ipvs.ServiceStats
	broken   map[netip.AddrPort]bool
	err      error
	takes    time.Duration // a read
	reads    int
}

func (f *fakeTraffic) Stats() ([]ipvs.ServiceStats, error) {
	time.Sleep(f.takes)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	var out []ipvs.ServiceStats
	for _, s := range f.services {
		for i := range s.Destinations {
			d := &s.Destinations[i]
			d.Connections += 10
			d.ActiveConn, d.InPackets = 20, d.InPackets+60
			if f.broken[d.AddrPort] {
				d.InPackets -= 40
			}
		}
		s.Destinations = append([]ipvs.DestinationStats(nil), s.Destinations...)
		out = append(out, s)
	}
	return out, f.err
}

func (f *fakeTraffic) Sample() ([]ipvs.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []ipvs.Conn{{Protocol: ipvs.TCP, State: "ESTABLISHED"}}
	for _, s := range f.services {
		for _, d := range s.Destinations {
			for i := range 20 {
				c := ipvs.Conn{Protocol: ipvs.TCP, Client: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(1024+i)),
					Virtual: netip.AddrPortFrom(s.Address, s.Port), Destination: d.AddrPort, State: "ESTABLISHED", Expires: time.Minute}
				if f.broken[d.AddrPort] {
					c.State, c.Expires = "SYN_RECV", time.Duration(58-i%2*10)*time.Second
				}
				out = append(out, c)
			}
		}
	}
	return out, nil
}

func (f *fakeTraffic) breaks(broken ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = map[netip.AddrPort]bool{}
	for _, b := range broken {
		f.broken[netip.MustParseAddrPort(b)] = true
	}
}

// carries gives the table services on ports of 192.0.2.100, each with two
// destinations.
func (f *fakeTraffic) carries(ports ...uint16) {
	for _, port := range ports {
		s := ipvs.ServiceStats{Key: ipvs.Key{Protocol: ipvs.TCP, Address: netip.MustParseAddr("192.0.2.100"), Port: port}}
		for _, last := range []byte{11, 12} {
			s.Destinations = append(s.Destinations, ipvs.DestinationStats{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, last}), port), Forward: ipvs.DR})
		}
		f.services = append(f.services, s)
	}
}

// A real server of a held service breaks: log, status and presence name it, with
// the same words as long as it lasts; a foreign service is not looked at.
func TestHangingConnectionsAreTold(t *testing.T) {
	play(t, webDocs(), func(b *bench) { b.traffic.carries(80, 25) }, func(b *bench) {
		b.grant(hold("web", 1), time.Hour)
		b.pass(30 * time.Second)
		b.publisher.take()
		b.traffic.breaks("192.0.2.12:80", "192.0.2.12:25")
		b.pass(3 * synrecv.Interval)
		if b.logged("connections hang in SYN_RECV") != 1 {
			t.Errorf("logged %d times", b.logged("connections hang in SYN_RECV"))
		}
		const want = "connections to real server 192.0.2.12:80 of service http (TCP 192.0.2.100:80) hang in SYN_RECV: this real server's network"
		lines := b.d.Status().HangingConnections
		if len(lines) != 1 || !strings.HasPrefix(lines[0], want) {
			t.Errorf("presence says %q", lines)
		}
		got := b.d.Status().Hanging
		if len(got) != 1 || got[0].Service != "http" || got[0].RealServer != "192.0.2.12:80" || !strings.Contains(got[0].Evidence, "10 new connections") {
			t.Errorf("status says %+v", got)
		}
		b.pass(time.Minute)
		if n := len(b.publisher.take()); n != 1 {
			t.Errorf("published %d times while it lasts", n)
		}
		b.traffic.breaks()
		b.pass(time.Minute)
		if s := b.d.Status(); b.logged("connections no longer hang in SYN_RECV") != 1 || s.Hanging != nil || s.HangingConnections != nil {
			t.Errorf("it has not ended: %+v", s)
		}
	})
}

// A director that holds nothing reads nothing; one that gives up ends what it found.
func TestHangingOnlyWhileHeld(t *testing.T) {
	play(t, webDocs(), func(b *bench) { b.traffic.carries(80) }, func(b *bench) {
		b.pass(time.Minute)
		if b.traffic.reads != 0 {
			t.Errorf("a standby has read %d times", b.traffic.reads)
		}
		b.grant(hold("web", 1), time.Hour)
		b.traffic.breaks("192.0.2.12:80")
		b.pass(30 * time.Second)
		b.fence(hold("web", 1))
		b.pass(30 * time.Second)
		ends := b.logs.FilterMessage("connections no longer hang in SYN_RECV").All()
		if len(ends) != 1 || ends[0].ContextMap()["service"] != "http" || ends[0].ContextMap()["reason"] != "the service is no longer in the table" {
			t.Errorf("logged %v", ends)
		}
		reads := b.traffic.reads
		b.pass(time.Minute)
		if b.traffic.reads != reads || len(b.d.Status().Hanging) > 0 {
			t.Errorf("%d reads after, hanging %v", b.traffic.reads-reads, b.d.Status().Hanging)
		}
	})
}

// A table that is slow to read is read seldom, and nothing waits for it.
func TestHangingCostsLittle(t *testing.T) {
	play(t, webDocs(), func(b *bench) {
		b.traffic.carries(80)
		b.traffic.takes = 3 * time.Second
	}, func(b *bench) {
		b.grant(hold("web", 1), time.Hour)
		b.pass(10 * time.Minute)
		if b.traffic.reads < 8 || b.traffic.reads > 10 {
			t.Errorf("%d reads of 3 s in ten minutes", b.traffic.reads)
		}
	})
}

func TestHangingCannotBeRead(t *testing.T) {
	play(t, webDocs(), func(b *bench) { b.traffic.err = errors.New("no ip_vs") }, func(b *bench) {
		b.grant(hold("web", 1), time.Hour)
		b.pass(time.Minute)
		if n := b.logged("cannot be watched"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
}

// A hundred services at once fill neither log nor znode.
func TestHangingIsBounded(t *testing.T) {
	docs := webDocs()
	var ports []uint16
	var broken []string
	for port := uint16(1000); port < 1100; port++ {
		docs[fmt.Sprintf("spec/services/s%d", port)] = strings.ReplaceAll(webService, ":80", fmt.Sprintf(":%d", port))
		ports = append(ports, port)
		broken = append(broken, fmt.Sprintf("192.0.2.11:%d", port), fmt.Sprintf("192.0.2.12:%d", port))
	}
	play(t, docs, func(b *bench) { b.traffic.carries(ports...) }, func(b *bench) {
		b.grant(hold("web", 1), time.Hour)
		b.traffic.breaks(broken...)
		b.pass(30 * time.Second)
		s := b.d.Status()
		if len(s.Hanging) != 100 || len(s.HangingConnections) != maxHanging+1 || b.logged("connections hang in SYN_RECV") != maxHanging || b.logged("... and so do others") != 1 {
			t.Errorf("%d in status, %d lines, %d logged", len(s.Hanging), len(s.HangingConnections), b.logged("connections hang in SYN_RECV"))
		}
		if got := s.HangingConnections[maxHanging]; got != "... and connections to 80 more hang in SYN_RECV" {
			t.Error(got)
		}
	})
}

// Every port of a list and a range belongs to its service.
func TestServiceOf(t *testing.T) {
	docs := with(webDocs(), "spec/services/http", "group: web\nlisten: [192.0.2.100:80-81/tcp, 192.0.2.100:8080/udp]\nreal_servers: [{address: 192.0.2.11}]\n")
	play(t, docs, nil, func(b *bench) {
		got := map[string]string{}
		for k, name := range b.d.ServiceOf() {
			got[k.String()] = name
		}
		want := map[string]string{"TCP 192.0.2.100:80": "http", "TCP 192.0.2.100:81": "http", "UDP 192.0.2.100:8080": "http"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		var none *spec.Spec
		if keysOf(none, nil) != nil {
			t.Error("services of no documents")
		}
	})
}
