package synrecv

import (
	"net/netip"
	"time"

	"github.com/zklvs/zklvs/ipvs"
)

const (
	// state is the kernel's word (ip_vs_proto_tcp.c, tcp_state_name_table).
	state = "SYN_RECV"
	// timeout is the kernel's for it (ip_vs_proto_tcp.c, tcp_timeouts): each
	// packet of the connection winds it up again.
	timeout = 60 * time.Second
	// old is from when on without a packet an entry counts as stuck: the second
	// and third SYN of a client come after 1 s and 2 s more (RFC 6298).
	old = 3 * time.Second
)

// tally is what a sample says of a destination.
type tally struct {
	entries int                     // in any state
	young   int                     // in SYN_RECV with a packet within the window
	waiting int                     // in SYN_RECV
	stuck   int                     // in SYN_RECV without one for over old
	clients map[netip.Addr]struct{} // in SYN_RECV
}

// index finds the destination of an entry. Entries know the address and port
// that the client meant, not the service: that may be for all ports, or a mark.
type index struct {
	exact   map[target]*tally
	anyPort map[target]*tally // with port 0 on both sides
	marked  map[netip.AddrPort]*tally
}

func newIndex() *index {
	return &index{exact: map[target]*tally{}, anyPort: map[target]*tally{}, marked: map[netip.AddrPort]*tally{}}
}

// add makes the tally of a destination.
func (x *index) add(t target) *tally {
	n := &tally{}
	switch {
	case t.service.Mark != 0:
		x.marked[t.server] = n
	case t.service.Port == 0:
		t.server = netip.AddrPortFrom(t.server.Addr(), 0)
		x.anyPort[t] = n
	default:
		x.exact[t] = n
	}
	return n
}

func (x *index) find(c ipvs.Conn) *tally {
	t := target{service: ipvs.Key{Protocol: c.Protocol, Address: c.Virtual.Addr(), Port: c.Virtual.Port()}, server: c.Destination}
	if n := x.exact[t]; n != nil {
		return n
	}
	t.service.Port, t.server = 0, netip.AddrPortFrom(t.server.Addr(), 0)
	if n := x.anyPort[t]; n != nil {
		return n
	}
	if n := x.marked[c.Destination]; n != nil {
		return n
	}
	return x.marked[t.server] // a destination of a mark may have port 0
}

// count files the entries of a sample. Templates of persistence, which have no
// client's port, are no connections.
func (x *index) count(sample []ipvs.Conn, window time.Duration) {
	for _, c := range sample {
		if c.Protocol != ipvs.TCP || c.Client.Port() == 0 {
			continue
		}
		n := x.find(c)
		if n == nil {
			continue
		}
		n.entries++
		if c.State != state {
			continue
		}
		n.waiting++
		if n.clients == nil {
			n.clients = map[netip.Addr]struct{}{}
		}
		n.clients[c.Client.Addr()] = struct{}{}
		age := timeout - c.Expires // since its last packet; of a synced entry below 0
		if age >= 0 && age <= window {
			n.young++
		}
		if age > old {
			n.stuck++
		}
	}
}
