package director

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/internal/drain"
	"github.com/zklvs/zklvs/ipvs"
)

// drainOf is what this director publishes about a real server.
func (b *bench) drainOf(service, server string) string {
	b.t.Helper()
	b.publisher.mu.Lock()
	defer b.publisher.mu.Unlock()
	var h ServiceHealth
	text, said := b.publisher.now["health/node01/"+service]
	if !said { // without a check and drains there is nothing to say
		return ""
	}
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		b.t.Fatal(err)
	}
	for _, rs := range h.RealServers {
		if rs.Address == server && rs.Drain != nil {
			return fmt.Sprintf("%s %d %d %d %v", rs.Drain.State, rs.Drain.Active, rs.Drain.Inactive, rs.Drain.Persistent, rs.Drain.Drains)
		}
	}
	return ""
}

func (b *bench) wantTable(want string) {
	b.t.Helper()
	if got := b.table.services(); got != " TCP 192.0.2.100:80 ->"+want {
		b.t.Errorf("rules%s, want%s", got, want)
	}
}

const first, second = "192.0.2.11:80", "192.0.2.12:80"

// The whole life of a drain: weight 0, connections go, out of the table, back.
func TestDrain(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.grant(hold("web", 1), time.Minute)
		b.views.set(first, Counts{Active: 2, Inactive: 3, Persistent: 4})
		target := b.drains.write(t, first, "", 0)
		b.wantTable(" " + first + "=0 " + second + "=2")
		if got, want := b.drainOf("http", first), "draining 0 0 0 [id of "+first+"]"; got != want {
			t.Errorf("published at once: %q, want %q", got, want)
		}
		b.pass(10 * time.Second)
		if got, want := b.drainOf("http", first), "draining 2 3 4 [id of "+first+"]"; got != want {
			t.Errorf("published: %q, want %q", got, want)
		}
		if ends := b.drains.ends(t, target); len(ends) > 0 {
			t.Fatalf("ended with connections: %v", ends)
		}
		b.views.set(first, Counts{Inactive: 3, Persistent: 4})
		b.pass(3 * time.Second)
		if diff := cmp.Diff(map[string]drain.End{"web": {Reason: drain.Empty, Node: "node01"}}, b.drains.ends(t, target)); diff != "" {
			t.Errorf("end (-want +got):\n%s", diff)
		}
		b.wantTable(" " + second + "=2")
		if got, want := b.drainOf("http", first), "drained 0 0 0 [id of "+first+"]"; got != want {
			t.Errorf("published at the end: %q, want %q", got, want)
		}
		b.drains.remove(target.Name())
		b.wantTable(" " + first + "=1 " + second + "=2")
		if got := b.drainOf("http", first); got != "" {
			t.Errorf("published after undrain: %q", got)
		}
		reads := b.views.reads
		if b.pass(time.Minute); b.views.reads != reads {
			t.Error("connections are counted though nothing drains")
		}
	})
}

// Nothing counts as empty before the destination had weight 0 for a while.
func TestDrainSettles(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.grant(hold("web", 1), time.Minute)
		target := b.drains.write(t, first, "", 0)
		b.pass(drainSettle)
		if ends := b.drains.ends(t, target); len(ends) > 0 {
			t.Errorf("ended %v after it began: %v", drainSettle, ends)
		}
		b.pass(3 * time.Second)
		if ends := b.drains.ends(t, target); len(ends) != 1 {
			t.Errorf("ends: %v", ends)
		}
	})
}

// A connection that comes between two looks: once empty is not enough.
func TestDrainSeesEmptyTwice(t *testing.T) {
	e := drain.Entry{}
	p := progress{since: 0}
	var got []outcome
	for i, left := range []int{0, 1, 0, 0, 1, 0, 0, 0} {
		got = append(got, p.look(drainSettle+time.Duration(i)*time.Second, time.Time{}, e, left))
	}
	want := []outcome{goOn, goOn, goOn, confirm, goOn, goOn, confirm, confirm}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDrainDeadline(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.grant(hold("web", 1), time.Minute)
		b.views.set(first, Counts{Active: 2, Persistent: 7})
		b.views.templates = true
		one := Connection{ipvs.TCP, netip.MustParseAddrPort("192.0.2.100:80"), netip.MustParseAddrPort(first)}
		b.views.list(one, one, one) // the kernel cuts those only that it counts
		target := b.drains.write(t, "192.0.2.11", "http", 20*time.Second)
		b.pass(19 * time.Second)
		b.wantTable(" " + first + "=0 " + second + "=2")
		b.pass(3 * time.Second)
		if diff := cmp.Diff(map[string]drain.End{"web": {Reason: drain.Deadline, Node: "node01", Cut: 2, Kept: 1}}, b.drains.ends(t, target)); diff != "" {
			t.Errorf("end (-want +got):\n%s", diff)
		}
		b.wantTable(" " + second + "=2")
	})
}

// What keeps a destination from being empty.
func TestWhatIsLeft(t *testing.T) {
	vip := netip.MustParseAddrPort("192.0.2.100:80")
	conn := func(p ipvs.Protocol, virtual netip.AddrPort, destination string) Connection {
		return Connection{p, virtual, netip.MustParseAddrPort(destination)}
	}
	udp := "group: web\nlisten: 192.0.2.100:80/udp\nscheduler: rr\nforward: dr\nreal_servers: [{address: 192.0.2.11:80}, {address: 192.0.2.12:80}]\n"
	for name, c := range map[string]struct {
		service   string
		counts    Counts
		templates bool
		listed    []Connection
		over      bool
	}{
		"nothing":                         {over: true},
		"an active one":                   {counts: Counts{Active: 1}},
		"closing ones":                    {counts: Counts{Inactive: 5}, over: true},
		"a flow of UDP":                   {service: udp, counts: Counts{Inactive: 5}},
		"templates that bring nobody":     {counts: Counts{Persistent: 5}, over: true},
		"templates that bring clients":    {counts: Counts{Persistent: 5}, templates: true},
		"one that belongs to no counter":  {listed: []Connection{conn(ipvs.TCP, vip, first)}},
		"one to another real server":      {listed: []Connection{conn(ipvs.TCP, vip, second)}, over: true},
		"one to another port":             {listed: []Connection{conn(ipvs.TCP, vip, "192.0.2.11:81")}, over: true},
		"one of another protocol":         {listed: []Connection{conn(ipvs.UDP, vip, first)}, over: true},
		"one to another virtual address":  {listed: []Connection{conn(ipvs.TCP, netip.MustParseAddrPort("192.0.2.101:80"), first)}, over: true},
		"one to another port of the VIP":  {listed: []Connection{conn(ipvs.TCP, netip.MustParseAddrPort("192.0.2.100:81"), first)}, over: true},
		"one of UDP that has no counters": {service: udp, listed: []Connection{conn(ipvs.UDP, vip, first)}},
	} {
		t.Run(name, func(t *testing.T) {
			docs := webDocs()
			if c.service != "" {
				docs = with(docs, "spec/services/http", c.service)
			}
			play(t, docs, nil, func(b *bench) {
				b.views.templates = c.templates
				b.views.set(first, c.counts)
				b.views.list(c.listed...)
				b.grant(hold("web", 1), time.Minute)
				target := b.drains.write(t, first, "", 0)
				b.pass(20 * time.Second)
				if over := len(b.drains.ends(t, target)) > 0; over != c.over {
					t.Errorf("over: %v, want %v", over, c.over)
				}
				if len(c.listed) > 0 && !c.over {
					if got, want := b.drainOf("http", first), "draining 1 0 0 [id of "+first+"]"; got != want {
						t.Errorf("published: %q, want %q", got, want)
					}
				}
			})
		})
	}
}

// Only who answers counts and ends; a new holder begins anew.
func TestDrainOverAFailOver(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		target := b.drains.write(t, first, "", 0)
		b.pass(time.Minute)
		if ends := b.drains.ends(t, target); len(ends) > 0 {
			t.Fatalf("a standby ended it: %v", ends)
		}
		if got := b.drainOf("http", first); got != "" {
			t.Errorf("a standby publishes %q", got)
		}
		b.grant(hold("web", 1), time.Minute)
		b.wantTable(" " + first + "=0 " + second + "=2")
		b.pass(2 * time.Second)
		b.fence(hold("web", 1))
		b.pass(time.Minute)
		b.grant(hold("web", 2), time.Minute)
		b.pass(drainSettle)
		if ends := b.drains.ends(t, target); len(ends) > 0 {
			t.Errorf("the new holder did not count anew: %v", ends)
		}
		b.pass(3 * time.Second)
		if ends := b.drains.ends(t, target); len(ends) != 1 {
			t.Errorf("ends: %v", ends)
		}
	})
}

// A director that has lost its lock does not end a drain, and one whose write
// failed tries again.
func TestDrainIsEndedByTheHolderOnly(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		h := hold("web", 1)
		b.grant(h, time.Minute)
		b.drains.locks[h.Lock] = true
		target := b.drains.write(t, first, "", 0)
		b.pass(10 * time.Second)
		if ends := b.drains.ends(t, target); len(ends) > 0 || len(b.drains.refused) == 0 {
			t.Errorf("ends %v, refused %v", ends, b.drains.refused)
		}
		b.wantTable(" " + first + "=0 " + second + "=2")
		b.drains.mu.Lock()
		b.drains.locks, b.drains.fail = nil, errors.New("no connection")
		b.drains.mu.Unlock()
		b.pass(3 * time.Second)
		if ends := b.drains.ends(t, target); len(ends) != 1 {
			t.Errorf("ends: %v", ends)
		}
	})
}

// Two groups have the real server: each is over by itself.
func TestDrainIsOverGroupByGroup(t *testing.T) {
	docs := with(webDocs(), "spec/groups/mail", "vips: [192.0.2.101]\n")
	docs["spec/services/smtp"] = "group: mail\nlisten: 192.0.2.101:80/tcp\nscheduler: rr\nforward: dr\nreal_servers: [{address: 192.0.2.11:80}, {address: 192.0.2.12:80}]\n"
	play(t, docs, nil, func(b *bench) {
		target := b.drains.write(t, "192.0.2.11", "", 0)
		b.grant(hold("web", 1), time.Minute)
		b.pass(10 * time.Second)
		if diff := cmp.Diff(map[string]drain.End{"web": {Reason: drain.Empty, Node: "node01"}}, b.drains.ends(t, target)); diff != "" {
			t.Errorf("ends (-want +got):\n%s", diff)
		}
		b.grant(hold("mail", 1), time.Minute)
		want := " TCP 192.0.2.100:80 -> 192.0.2.12:80=2 TCP 192.0.2.101:80 -> 192.0.2.11:80=0 192.0.2.12:80=1"
		if got := b.table.services(); got != want {
			t.Errorf("rules%s, want%s", got, want)
		}
		b.pass(10 * time.Second)
		if ends := b.drains.ends(t, target); len(ends) != 2 {
			t.Errorf("ends: %v", ends)
		}
	})
}

// What stands in ZooKeeper is not trusted.
func TestMalformedDrainHasNoEffect(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.grant(hold("web", 1), time.Minute)
		b.drains.mu.Lock()
		b.drains.put(first, []byte(`{"format":1}`))
		b.drains.mu.Unlock()
		b.pass(10 * time.Second)
		b.wantTable(" " + first + "=1 " + second + "=2")
		if n := b.logged("a drain is not understood"); n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}

// Before the entries are known nobody is sent to a drained real server, but not
// for ever.
func TestDrainsAreReadFirst(t *testing.T) {
	prepare := func(b *bench) { b.drains.unread = true }
	play(t, webDocs(), prepare, func(b *bench) {
		b.pass(drainWait - 2*time.Second)
		if len(b.elector.groupNames()) != 0 {
			t.Error("the election was told of groups before the drains were known")
		}
		b.pass(4 * time.Second)
		if len(b.elector.groupNames()) == 0 {
			t.Error("the director waits for ever")
		}
	})
}

// A real server whose check has failed drains as well: nothing is left of it.
func TestDrainOfWhatIsDown(t *testing.T) {
	play(t, checked("{tcp: {}}"), nil, func(b *bench) {
		b.grant(hold("web", 1), time.Minute)
		target := b.drains.write(t, first, "", 0)
		b.pass(10 * time.Second)
		if ends := b.drains.ends(t, target); len(ends) != 1 {
			t.Errorf("ends: %v", ends)
		}
	})
}

// A warm standby's table shows what the holder's does; it counts, ends and
// publishes nothing.
func TestDrainOnAWarmStandby(t *testing.T) {
	docs := with(webDocs(), "spec/groups/web", webGroup+"warm_standby: true\n")
	play(t, docs, nil, func(b *bench) {
		target := b.drains.write(t, first, "", 0)
		b.pass(20 * time.Second)
		b.wantTable(" " + first + "=0 " + second + "=2")
		if ends := b.drains.ends(t, target); len(ends) > 0 || len(b.drains.refused) > 0 || b.views.reads > 0 {
			t.Errorf("ends %v, refused %v, %d readings", ends, b.drains.refused, b.views.reads)
		}
		if got := b.drainOf("http", first); got != "" {
			t.Errorf("published %q", got)
		}
	})
}
