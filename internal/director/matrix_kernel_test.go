package director_test

import (
	"slices"
	"strings"
	"testing"
)

// Each row is one combination of what the kernel can do. To add one: a service as
// it would stand in a document, and who is to serve the calls to it.
func TestKernelMatrix(t *testing.T) {
	m := newMatrix(t)
	for _, r := range slices.Concat(methodRows(), mixedRows, listenRows, markRows, stickyRows, limitRows) {
		t.Run(r.name, func(t *testing.T) { m.play(t, r) })
	}
}

// methodRows are every forwarding method with every protocol, over both families.
func methodRows() (all []row) {
	for _, r := range []struct{ name, listen, service, want string }{
		{"dr", "$VIP:80", "forward: dr, real_servers: [{address: $dr1}, {address: $dr2}]", "dr1=2 dr2=2"},
		{"dr IPv6", "[$VIPv6]:80", "forward: dr, real_servers: [{address: $dr1v6}, {address: $dr2v6}]", "dr1=2 dr2=2"},
		{"ipip", "$VIP:80", "forward: tun, real_servers: [{address: $ipip1}, {address: $ipip2}]", "ipip1=2 ipip2=2"},
		{"ipip IPv6", "[$VIPv6]:80", "forward: tun, real_servers: [{address: $ipip1v6}, {address: $ipip2v6}]", "ipip1=2 ipip2=2"},
		{"gue", "$VIP:80", "forward: tun, tunnel: {type: gue, port: 5555}, real_servers: [{address: $gue1}, {address: $gue2}]", "gue1=2 gue2=2"},
		{"gue IPv6", "[$VIPv6]:80", "forward: tun, tunnel: {type: gue, port: 5555}, real_servers: [{address: $gue1v6}, {address: $gue2v6}]", "gue1=2 gue2=2"},
		{"gue, checksums", "$VIP:80", "forward: tun, real_servers: [{address: $gue1, tunnel: {type: gue, port: 5555, checksum: full}}, {address: $gue2, tunnel: {type: gue, port: 5555, checksum: remote}}]", "gue1=2 gue2=2"},
		{"gue IPv6, checksums", "[$VIPv6]:80", "forward: tun, real_servers: [{address: $gue1v6, tunnel: {type: gue, port: 5555, checksum: full}}, {address: $gue2v6, tunnel: {type: gue, port: 5555, checksum: remote}}]", "gue1=2 gue2=2"},
		{"gre", "$VIP:80", "forward: tun, tunnel: {type: gre}, real_servers: [{address: $gre1}, {address: $gre2, tunnel: {type: gre, checksum: full}}]", "gre1=2 gre2=2"},
		{"gre IPv6", "[$VIPv6]:80", "forward: tun, tunnel: {type: gre}, real_servers: [{address: $gre1v6}, {address: $gre2v6, tunnel: {type: gre, checksum: full}}]", "gre1=2 gre2=2"},
		{"nat through the inside VIP", "$VIP:80", "forward: nat, real_servers: [{address: $nat1}, {address: $nat2}]", "nat1=2 nat2=2"},
		{"nat to another port", "$VIP:80", "forward: nat, real_servers: [{address: '$nat1:8080'}, {address: '$nat2:443'}]", "nat1=2 nat2=2"},
		{"nat IPv6 to another port", "[$VIPv6]:80", "forward: nat, real_servers: [{address: '[$nat1v6]:8080'}, {address: '[$nat2v6]:443'}]", "nat1=2 nat2=2"},
		{"dr, tun and nat in one", "$VIP:80", "forward: dr, tunnel: {type: gre}, real_servers: [{address: $dr1}, {address: $gre1, forward: tun}, {address: $ipip1, forward: tun, tunnel: {type: ipip}}, {address: $gue1, forward: tun, tunnel: {type: gue, port: 5555}}, {address: '$nat1:8080', forward: nat}]", "dr1=2 gre1=2 ipip1=2 gue1=2 nat1=2"},
		{"dr, tun and nat in one IPv6", "[$VIPv6]:80", "forward: dr, tunnel: {type: gre}, real_servers: [{address: $dr1v6}, {address: $gre1v6, forward: tun}, {address: $ipip1v6, forward: tun, tunnel: {type: ipip}}, {address: $gue1v6, forward: tun, tunnel: {type: gue, port: 5555}}, {address: '[$nat1v6]:8080', forward: nat}]", "dr1=2 gre1=2 ipip1=2 gue1=2 nat1=2"},
		{"IPv6 tunnels of an IPv4 service", "$VIP:80", "forward: tun, real_servers: [{address: $ipip2v6}, {address: $gue2v6, tunnel: {type: gue, port: 5555}}, {address: $gre1v6, tunnel: {type: gre}}]", "ipip2=2 gue2=2 gre1=2"},
		{"IPv4 tunnels of an IPv6 service", "[$VIPv6]:80", "forward: tun, real_servers: [{address: $ipip1}, {address: $gue1, tunnel: {type: gue, port: 5555}}, {address: $gre1, tunnel: {type: gre}}]", "ipip1=2 gue1=2 gre1=2"},
		{"dr of its own family beside tunnels of the other", "$VIP:80", "forward: tun, real_servers: [{address: $dr1, forward: dr}, {address: $ipip2v6}]", "dr1=2 ipip2=2"},
	} {
		for _, protocol := range []string{"tcp", "udp", "sctp"} {
			all = append(all, row{
				name: r.name + "/" + protocol, service: "listen: '" + r.listen + "/" + protocol + "', scheduler: rr, " + r.service,
				visits: []visit{{to: protocol + " " + r.listen, want: r.want}},
			})
		}
	}
	return all
}

// mixedRows: the director is a real server itself.
var mixedRows = []row{
	{
		name:    "the director is a real server, dr",
		service: "listen: $VIP:80/tcp, scheduler: rr, forward: dr, real_servers: [{address: $director}, {address: $dr1}]",
		visits:  []visit{{to: "tcp $VIP:80", want: "director=2 dr1=2"}},
	},
	{
		name:    "the director is a real server, dr IPv6 and udp",
		service: "listen: '[$VIPv6]:80/udp', scheduler: rr, forward: dr, real_servers: [{address: $directorv6}, {address: $dr1v6}]",
		visits:  []visit{{to: "udp [$VIPv6]:80", want: "director=2 dr1=2"}},
	},
	{
		name:    "the director is a real server, tun",
		service: "listen: $VIP:80/tcp, scheduler: rr, forward: tun, real_servers: [{address: $director}, {address: $ipip1}]",
		visits:  []visit{{to: "tcp $VIP:80", want: "director=2 ipip1=2"}},
	},
	{
		name:    "the director is a real server, nat to another port",
		service: "listen: $VIP:80/tcp, scheduler: rr, forward: nat, real_servers: [{address: '$director:8080'}, {address: '$nat1:8080'}]",
		visits:  []visit{{to: "tcp $VIP:80", want: "director=2 nat1=2"}},
	},
}

// listenRows: what a service listens on.
var listenRows = []row{
	{
		name:    "a list of ports, protocols, VIPs and families shares real servers",
		service: "listen: [$VIP:80/tcp, $VIP:80/udp, $SECOND:443/tcp], scheduler: rr, forward: dr, real_servers: [{address: $dr1}, {address: $dr2}]",
		visits: []visit{
			{to: "tcp $VIP:80", want: "dr1=2 dr2=2"}, {to: "udp $VIP:80", want: "dr1=1 dr2=1"}, {to: "tcp $SECOND:443", want: "dr1=1 dr2=1"},
		},
	},
	{
		name:    "a range of ports",
		service: "listen: $VIP:8000-8002/tcp, scheduler: rr, forward: dr, real_servers: [{address: $dr1}, {address: $dr2}]",
		visits: []visit{
			{to: "tcp $VIP:8000", want: "dr1=1 dr2=1"}, {to: "tcp $VIP:8001", want: "dr1=1 dr2=1"}, {to: "tcp $VIP:8002", want: "dr1=1 dr2=1"},
			{to: "tcp $VIP:8080", want: "director=1"}, // not in the range: the director's own server answers
		},
	},
	{
		name:    "a range of ports, all to one port by nat",
		service: "listen: $VIP:8000-8002/udp, scheduler: rr, forward: nat, real_servers: [{address: '$nat1:5060'}]",
		visits:  []visit{{to: "udp $VIP:8000", want: "nat1=1"}, {to: "udp $VIP:8002", want: "nat1=1"}},
	},
	{
		name:    "two services on one VIP, with other real servers",
		service: "listen: $VIP:80/tcp, scheduler: rr, forward: dr, real_servers: [{address: $dr1}]",
		other:   "listen: $VIP:443/tcp, scheduler: rr, forward: nat, real_servers: [{address: '$nat1:8080'}]",
		visits:  []visit{{to: "tcp $VIP:80", want: "dr1=1"}, {to: "tcp $VIP:443", want: "nat1=1"}},
	},
	{
		name:    "all ports, with persistence: a client is with one server on all of them",
		service: "listen: $VIP:0/tcp, scheduler: rr, forward: dr, persistence: 60s, real_servers: [{address: $dr1}, {address: $dr2}]",
		visits: []visit{
			{to: "tcp $VIP:80", want: "one=2"}, {to: "tcp $VIP:443", want: "same=2"},
			{to: "tcp $VIP:8080", from: "$C2", want: "other=2"}, {to: "tcp $VIP:80", from: "$C2", want: "same=1"},
		},
	},
	{
		name:    "all ports, nat: each port goes to the same one",
		service: "listen: '[$VIPv6]:0/udp', scheduler: rr, forward: nat, persistence: 60s, real_servers: [{address: $nat1v6}, {address: $nat2v6}]",
		visits:  []visit{{to: "udp [$VIPv6]:80", want: "one=2"}, {to: "udp [$VIPv6]:5060", want: "same=2"}, {to: "udp [$VIPv6]:80", from: "$C2", want: "other=2"}},
	},
}

// markRows: services of firewall marks, for VIPs that the director does not have.
var markRows = []row{
	{
		name:    "a mark, dr, all protocols and ports",
		service: "listen: fwmark:$MARK/ipv4, scheduler: rr, forward: dr, real_servers: [{address: $dr1}, {address: $dr2}]",
		marked:  true,
		visits: []visit{
			{to: "tcp $M1:80", want: "dr1=2 dr2=2"}, {to: "udp $M1:5060", want: "dr1=1 dr2=1"}, {to: "sctp $M1:443", want: "dr1=1 dr2=1"},
		},
	},
	{
		name:    "a mark of IPv6, dr",
		service: "listen: fwmark:$MARK/ipv6, scheduler: rr, forward: dr, real_servers: [{address: $dr1v6}, {address: $dr2v6}]",
		marked:  true,
		visits:  []visit{{to: "tcp [$M1v6]:80", want: "dr1=2 dr2=2"}, {to: "udp [$M1v6]:5060", want: "dr1=1 dr2=1"}},
	},
	{
		name:    "a mark, tun and nat",
		service: "listen: fwmark:$MARK/ipv4, scheduler: rr, forward: tun, real_servers: [{address: $ipip1}, {address: $nat1, forward: nat}]",
		marked:  true,
		visits:  []visit{{to: "tcp $M1:80", want: "ipip1=2 nat1=2"}, {to: "udp $M1:80", want: "ipip1=1 nat1=1"}},
	},
	{
		name:    "a mark, nat to one port",
		service: "listen: fwmark:$MARK/ipv6, scheduler: rr, forward: nat, real_servers: [{address: '[$nat1v6]:8080'}, {address: '[$nat2v6]:8080'}]",
		marked:  true,
		visits:  []visit{{to: "tcp [$M1v6]:80", want: "nat1=2 nat2=2"}},
	},
	{
		name:    "a mark with persistence: a client is with one server on all ports",
		service: "listen: fwmark:$MARK/ipv4, scheduler: rr, forward: dr, persistence: 60s, real_servers: [{address: $dr1}, {address: $dr2}]",
		marked:  true,
		visits: []visit{
			{to: "tcp $M1:80", want: "one=2"}, {to: "tcp $M1:443", want: "same=2"},
			{to: "tcp $M1:80", from: "$C2", want: "other=2"},
		},
	},
}

// stickyRows: who stays with a real server, and who does not.
var stickyRows = []row{
	{
		name:    "persistence",
		service: "listen: $VIP:80/tcp, scheduler: rr, forward: dr, persistence: 60s, real_servers: [{address: $dr1}, {address: $dr2}]",
		visits:  []visit{{to: "tcp $VIP:80", want: "one=3"}, {to: "tcp $VIP:80", from: "$C2", want: "other=3"}, {to: "tcp $VIP:80", want: "first=1"}},
	},
	{
		name:    "persistence, tun and udp",
		service: "listen: $VIP:80/udp, scheduler: rr, forward: tun, persistence: 60s, real_servers: [{address: $ipip1}, {address: $ipip2}]",
		visits:  []visit{{to: "udp $VIP:80", want: "one=3"}, {to: "udp $VIP:80", from: "$C2", want: "other=3"}},
	},
	{
		name:    "persistence, nat and sctp",
		service: "listen: $VIP:80/sctp, scheduler: rr, forward: nat, persistence: 60s, real_servers: [{address: $nat1}, {address: $nat2}]",
		visits:  []visit{{to: "sctp $VIP:80", want: "one=3"}, {to: "sctp $VIP:80", from: "$C2", want: "other=3"}},
	},
	{
		name:    "persistence of a /24",
		service: "listen: $VIP:80/tcp, scheduler: rr, forward: dr, persistence: 60s, persistence_prefix: 24, real_servers: [{address: $dr1}, {address: $dr2}]",
		visits: []visit{
			{to: "tcp $VIP:80", want: "one=2"}, {to: "tcp $VIP:80", from: "$C2", want: "same=2"}, {to: "tcp $VIP:80", from: "$FAR", want: "other=2"},
		},
	},
	{
		name:    "persistence of IPv6",
		service: "listen: '[$VIPv6]:80/tcp', scheduler: rr, forward: dr, persistence: 60s, real_servers: [{address: $dr1v6}, {address: $dr2v6}]",
		visits:  []visit{{to: "tcp [$VIPv6]:80", want: "one=3"}, {to: "tcp [$VIPv6]:80", from: "$C2", want: "other=3"}},
	},
	{
		name:    "persistence of a /64",
		service: "listen: '[$VIPv6]:80/tcp', scheduler: rr, forward: nat, persistence: 60s, persistence_prefix: 64, real_servers: [{address: $nat1v6}, {address: $nat2v6}]",
		visits: []visit{
			{to: "tcp [$VIPv6]:80", want: "one=2"}, {to: "tcp [$VIPv6]:80", from: "$C2", want: "same=2"}, {to: "tcp [$VIPv6]:80", from: "$FAR", want: "other=2"},
		},
	},
	{
		name:    "persistence engine sip: each call of a client goes by its Call-ID",
		service: "listen: $VIP:5060/udp, scheduler: rr, forward: dr, persistence: 60s, persistence_engine: sip, persistence_prefix: 24, one_packet: true, real_servers: [{address: $dr1}, {address: $dr2}]",
		visits: []visit{
			{to: "udp $VIP:5060", say: sip("one@example"), want: "one=3"}, {to: "udp $VIP:5060", say: sip("two@example"), want: "other=3"},
			{to: "udp $VIP:5060", from: "$C2", say: sip("one@example"), want: "first=3"}, {to: "udp $VIP:5060", say: sip("one@example"), want: "same=2"},
		},
	},
	{
		name:    "a flow of udp stays with its server",
		service: "listen: $VIP:80/udp, scheduler: rr, forward: dr, real_servers: [{address: $dr1}, {address: $dr2}]",
		visits:  []visit{{to: "udp $VIP:80", flow: true, want: "one=4"}},
	},
	{
		name:    "one packet: each datagram of a flow is scheduled by itself",
		service: "listen: $VIP:80/udp, scheduler: rr, forward: dr, one_packet: true, real_servers: [{address: $dr1}, {address: $dr2}]",
		visits:  []visit{{to: "udp $VIP:80", flow: true, want: "dr1=2 dr2=2"}},
	},
	{
		name:    "one packet, tun and IPv6",
		service: "listen: '[$VIPv6]:80/udp', scheduler: rr, forward: tun, one_packet: true, real_servers: [{address: $ipip1v6}, {address: $ipip2v6}]",
		visits:  []visit{{to: "udp [$VIPv6]:80", flow: true, want: "ipip1=2 ipip2=2"}},
	},
}

// sip is the least of a request (RFC 3261) that the kernel takes for one.
func sip(call string) string {
	return strings.ReplaceAll("OPTIONS sip:a@example SIP/2.0\nCall-ID: "+call+"\nCSeq: 1 OPTIONS\n\n", "\n", "\r\n")
}

// limitRows: real servers that get nothing, or only so much.
var limitRows = []row{
	{
		name:    "weight 0",
		service: "listen: $VIP:80/tcp, scheduler: rr, forward: dr, real_servers: [{address: $dr1}, {address: $dr2, weight: 0}]",
		visits:  []visit{{to: "tcp $VIP:80", want: "dr1=4"}},
	},
	{
		name:    "weight 0 for all",
		service: "listen: [$VIP:80/tcp, $VIP:80/udp], scheduler: rr, forward: dr, real_servers: [{address: $dr1, weight: 0}, {address: $dr2, weight: 0}]",
		visits:  []visit{{to: "tcp $VIP:80", want: "refused=1"}, {to: "udp $VIP:80", want: "refused=1"}},
	},
	{
		name:    "no real server",
		service: "listen: ['[$VIPv6]:80/tcp', '[$VIPv6]:80/udp'], scheduler: rr, forward: dr",
		visits:  []visit{{to: "tcp [$VIPv6]:80", want: "refused=1"}, {to: "udp [$VIPv6]:80", want: "refused=1"}},
	},
	{
		name:    "upper threshold: 2 connections, the others go elsewhere",
		service: "listen: $VIP:80/tcp, scheduler: rr, forward: dr, real_servers: [{address: $dr1, upper_threshold: 2, lower_threshold: 1}, {address: $dr2}]",
		visits:  []visit{{to: "tcp $VIP:80", hold: true, want: "dr1=2 dr2=6"}},
	},
	{
		name:    "upper thresholds of all: then clients are refused",
		service: "listen: '[$VIPv6]:80/tcp', scheduler: wlc, forward: nat, real_servers: [{address: $nat1v6, upper_threshold: 1}, {address: $nat2v6, upper_threshold: 2}]",
		visits:  []visit{{to: "tcp [$VIPv6]:80", hold: true, want: "nat1=1 nat2=2 refused=2"}},
	},
}
