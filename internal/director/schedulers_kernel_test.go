package director_test

import (
	"fmt"
	"testing"
)

// Each scheduler does what its source says (net/netfilter/ipvs/ip_vs_*.c). Load is
// held by open connections: then the kernel's counts of them are known exactly.
func TestKernelSchedulers(t *testing.T) {
	m := newMatrix(t)
	for _, r := range schedulerRows {
		t.Run(r.name, func(t *testing.T) { m.play(t, r) })
	}
	for _, r := range hashRows {
		t.Run(r.name, func(t *testing.T) { m.spread(t, r) })
	}
}

const threeServers = "real_servers: [{address: $dr1}, {address: $dr2}, {address: $dr3}]"

var schedulerRows = []row{
	{
		name:       "rr",
		definition: "each real server in turn",
		service:    "listen: $VIP:80/tcp, scheduler: rr, forward: dr, real_servers: [{address: $dr1, weight: 9}, {address: $dr2}, {address: $dr3}]",
		visits: []visit{
			{to: "tcp $VIP:80", want: "dr1=1 dr2=1 dr3=1"}, {to: "tcp $VIP:80", want: "dr1=1 dr2=1 dr3=1"}, {to: "tcp $VIP:80", want: "dr1=3 dr2=3 dr3=3"},
		},
	},
	{
		name:       "wrr",
		definition: "in a round of sum(weights)/gcd(weights) connections each real server gets weight/gcd of them",
		service:    "listen: $VIP:80/tcp, scheduler: wrr, forward: dr, real_servers: [{address: $dr1, weight: 6}, {address: $dr2, weight: 4}, {address: $dr3, weight: 2}]",
		visits:     []visit{{to: "tcp $VIP:80", want: "dr1=3 dr2=2 dr3=1"}, {to: "tcp $VIP:80", want: "dr1=3 dr2=2 dr3=1"}},
	},
	{
		name:       "lc",
		definition: "the fewest connections, whatever the weights",
		service:    "listen: $VIP:80/tcp, scheduler: lc, forward: dr, real_servers: [{address: $dr1, weight: 9}, {address: $dr2}, {address: $dr3}]",
		visits: []visit{
			{to: "tcp $VIP:80", hold: true, want: "one=1"}, {to: "tcp $VIP:80", want: "rest=6"}, // in turn, the first would be met again
		},
	},
	{
		name:       "lc, all open",
		definition: "the fewest connections, whatever the weights",
		service:    "listen: $VIP:80/tcp, scheduler: lc, forward: dr, real_servers: [{address: $dr1, weight: 9}, {address: $dr2}, {address: $dr3}]",
		visits: []visit{
			{to: "tcp $VIP:80", hold: true, want: "dr1=1 dr2=1 dr3=1"}, {to: "tcp $VIP:80", hold: true, want: "dr1=1 dr2=1 dr3=1"},
		},
	},
	{
		name:       "wlc",
		definition: "the least of connections/weight",
		service:    "listen: $VIP:80/tcp, scheduler: wlc, forward: dr, real_servers: [{address: $dr1, weight: 3}, {address: $dr2}]",
		visits:     []visit{{to: "tcp $VIP:80", hold: true, want: "dr1=3 dr2=1"}, {to: "tcp $VIP:80", hold: true, want: "dr1=3 dr2=1"}},
	},
	{
		name:       "sed",
		definition: "the least of (open connections + 1)/weight: the small ones wait until the large ones are that busy",
		service:    "listen: $VIP:80/tcp, scheduler: sed, forward: dr, real_servers: [{address: $dr1, weight: 3}, {address: $dr2}]",
		visits: []visit{
			{to: "tcp $VIP:80", hold: true, want: "dr1=2"}, {to: "tcp $VIP:80", hold: true, want: "dr1=1 dr2=1"}, {to: "tcp $VIP:80", hold: true, want: "dr1=3 dr2=1"},
		},
	},
	{
		name:       "nq",
		definition: "an idle real server at once, whatever its weight; then as sed",
		service:    "listen: $VIP:80/tcp, scheduler: nq, forward: dr, real_servers: [{address: $dr1, weight: 10}, {address: $dr2}, {address: $dr3}]",
		visits: []visit{
			{to: "tcp $VIP:80", hold: true, want: "dr1=1 dr2=1 dr3=1"}, {to: "tcp $VIP:80", hold: true, want: "dr1=8"},
			{to: "tcp $VIP:80", drop: true, hold: true, want: "dr1=1 dr2=1 dr3=1"},
		},
	},
	{
		name:       "fo",
		definition: "all to the highest weight; where that has its threshold, to the next",
		service:    "listen: $VIP:80/tcp, scheduler: fo, forward: dr, real_servers: [{address: $dr1}, {address: $dr2, weight: 3, upper_threshold: 3}, {address: $dr3, weight: 2}]",
		visits:     []visit{{to: "tcp $VIP:80", hold: true, want: "dr2=3"}, {to: "tcp $VIP:80", hold: true, want: "dr3=4"}},
	},
	{
		name:       "ovf",
		definition: "the highest weight while its open connections are not above its weight, then the next; then none",
		service:    "listen: $VIP:80/tcp, scheduler: ovf, forward: dr, real_servers: [{address: $dr1, weight: 1}, {address: $dr2, weight: 3}, {address: $dr3, weight: 2}]",
		visits: []visit{
			{to: "tcp $VIP:80", hold: true, want: "dr2=4"}, {to: "tcp $VIP:80", hold: true, want: "dr3=3"}, {to: "tcp $VIP:80", hold: true, want: "dr1=2"},
			{to: "tcp $VIP:80", want: "refused=2"}, {to: "tcp $VIP:80", drop: true, want: "dr2=2"},
		},
	},
	{
		name:       "lblc",
		definition: "a VIP stays with one real server until that has more open connections than its weight, and another one fewer than half of its own",
		service:    "listen: fwmark:$MARK/ipv4, scheduler: lblc, forward: dr, real_servers: [{address: $dr1, weight: 2}, {address: $dr2, weight: 2}, {address: $dr3, weight: 2}]",
		marked:     true,
		visits: []visit{
			{to: "tcp $M1:80", hold: true, want: "one=3"}, {to: "tcp $M1:80", hold: true, want: "other=1"},
			{to: "tcp $M2:80", hold: true, want: "other=3"}, {to: "tcp $M1:80", drop: true, hold: true, want: "one=3"}, {to: "tcp $M2:80", hold: true, want: "one=3"},
		},
	},
	{
		name:       "lblcr",
		definition: "as lblc, but the VIP keeps its earlier real servers, too: the least loaded of them serves",
		service:    "listen: $VIP:80/tcp, scheduler: lblcr, forward: dr, real_servers: [{address: $dr1, weight: 2}, {address: $dr2, weight: 2}, {address: $dr3, weight: 2}]",
		visits: []visit{
			{to: "tcp $VIP:80", hold: true, want: "one=3"}, {to: "tcp $VIP:80", hold: true, want: "other=1"},
			{to: "tcp $VIP:80", drop: true, hold: true, want: "met=4"},
		},
	},
	{
		name:       "dh",
		definition: "by the VIP alone, whoever calls; neighboring slots of its table are of real servers in turn",
		service:    "listen: fwmark:$MARK/ipv4, scheduler: dh, forward: dr, real_servers: [{address: $dr1}, {address: $dr2}]",
		marked:     true,
		visits: []visit{
			{to: "tcp $M1:80", want: "one=2"}, {to: "tcp $M1:443", from: "$C2", want: "same=2"}, {to: "udp $M1:80", from: "$FAR", want: "same=2"},
			{to: "tcp $M2:80", want: "one=2"}, {to: "tcp $M2:80", from: "$C2", want: "same=2"}, {to: "tcp $M2:80", from: "$FAR", want: "same=2"},
			{to: "tcp $M3:80", want: "one=2"}, {to: "tcp $M3:80", from: "$C3", want: "same=2"},
			{to: "tcp $M4:80", want: "one=2"}, {to: "tcp $M4:80", from: "$C4", want: "same=2"},
			{to: "tcp $M1:80", want: "first=2"},
		},
	},
}

// A hashRow is for the schedulers that go by the client: every client calls twice,
// and must meet the same.
type hashRow struct {
	name, definition, service string
	// want says how many of all 32 calls each server is to have.
	want map[string]share
	// ports lets one client call from many ports instead.
	ports bool
}

// share is a range: a hash is no lottery, but its parts are not equal either.
type share struct{ from, to int }

var hashRows = []hashRow{
	{
		name: "sh", definition: "by the client's address, in proportion to the weights",
		service: "scheduler: sh, " + threeServers,
		want:    map[string]share{"dr1": {8, 13}, "dr2": {8, 13}, "dr3": {8, 13}},
	},
	{
		name: "sh, weights", definition: "each real server has as many neighboring slots of the table as its weight",
		service: "scheduler: sh, real_servers: [{address: $dr1, weight: 3}, {address: $dr2}]",
		want:    map[string]share{"dr1": {20, 28}, "dr2": {4, 12}},
	},
	{
		name: "sh, a weight of 0", definition: "sh-fallback: who would meet it gets another one",
		service: "scheduler: sh, real_servers: [{address: $dr1}, {address: $dr2, weight: 0}, {address: $dr3}]",
		want:    map[string]share{"dr1": {8, 24}, "dr3": {8, 24}},
	},
	{
		name: "sh-port", definition: "by the client's address and port", ports: true,
		service: "scheduler: sh, scheduler_flags: [sh-fallback, sh-port], real_servers: [{address: $dr1}, {address: $dr2}]",
		want:    map[string]share{"dr1": {8, 24}, "dr2": {8, 24}},
	},
	{
		name: "mh", definition: "by the client's address, in proportion to the weights (Maglev)",
		service: "scheduler: mh, " + threeServers,
		want:    map[string]share{"dr1": {5, 16}, "dr2": {5, 16}, "dr3": {5, 16}},
	},
	{
		name: "mh, weights", definition: "the shares are as the weights",
		service: "scheduler: mh, real_servers: [{address: $dr1, weight: 3}, {address: $dr2}]",
		want:    map[string]share{"dr1": {18, 30}, "dr2": {2, 14}},
	},
	{
		name: "mh, a weight of 0", definition: "mh-fallback: who would meet it gets another one",
		service: "scheduler: mh, real_servers: [{address: $dr1}, {address: $dr2, weight: 0}, {address: $dr3}]",
		want:    map[string]share{"dr1": {6, 26}, "dr3": {6, 26}},
	},
	{
		name: "mh-port", definition: "by the client's address and port", ports: true,
		service: "scheduler: mh, scheduler_flags: [mh-fallback, mh-port], real_servers: [{address: $dr1}, {address: $dr2}]",
		want:    map[string]share{"dr1": {6, 26}, "dr2": {6, 26}},
	},
}

// spread lets 32 clients call twice each, or one of them from 32 ports.
func (m *matrix) spread(t *testing.T, r hashRow) {
	m.rows++
	p := &playing{T: t, matrix: m, met: map[string]bool{}}
	p.prepare(row{name: r.name, service: "listen: $VIP:80/tcp, forward: dr, " + r.service})
	p.must(p.apply(p.rules, nil))
	defer func() { p.must(p.apply(nil, p.rules)) }()
	got := map[string]int{}
	for i := range clients {
		from := fmt.Sprintf("$C%d", i+1)
		if r.ports {
			from = "$C1"
		}
		calls := p.callsOf(visit{to: "tcp $VIP:80", from: from})
		who, err := calls.next()
		p.must(err)
		got[who]++
		if again, err := calls.next(); !r.ports && (again != who || err != nil) {
			t.Errorf("%s met %s first, then %q: %v", from, who, again, err)
		}
	}
	total := 0
	for who, s := range r.want {
		if n := got[who]; n < s.from || n > s.to {
			t.Errorf("%s served %d, want %d to %d", who, n, s.from, s.to)
		}
		total += got[who]
	}
	if total != clients || t.Failed() {
		t.Errorf("%s: %d calls were served by %v, want %v", r.definition, clients, got, r.want)
	}
}
