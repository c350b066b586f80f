package ipvs

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Protocol is the transport protocol of a virtual service, by its IANA number
// (which is what the kernel stores).
type Protocol uint8

// The protocols a virtual service may have.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// ParseProtocol reads "tcp" or "udp", in any case.
func ParseProtocol(s string) (Protocol, error) {
	switch strings.ToLower(s) {
	case "tcp":
		return TCP, nil
	case "udp":
		return UDP, nil
	}
	return 0, fmt.Errorf("protocol %q: expected tcp or udp", s)
}

// String is the protocol as `ipvsadm -L` prints it.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	}
	return fmt.Sprintf("protocol-%d", uint8(p))
}

// Flag is ipvsadm's option for a service of this protocol.
func (p Protocol) Flag() string {
	switch p {
	case TCP:
		return "-t"
	case UDP:
		return "-u"
	}
	return "-?"
}

// Forward is the way a packet reaches a destination. The zero value is not a
// method: Validate refuses it.
type Forward uint8

// The forwarding methods.
const (
	DR  Forward = iota + 1 // direct routing: only the MAC address changes
	TUN                    // ipip tunnel
	NAT                    // masquerading: address and port are rewritten
)

// ParseForward reads "dr", "tun" or "nat", in any case.
func ParseForward(s string) (Forward, error) {
	switch strings.ToLower(s) {
	case "dr":
		return DR, nil
	case "tun":
		return TUN, nil
	case "nat":
		return NAT, nil
	}
	return 0, fmt.Errorf("forwarding method %q: expected dr, tun or nat", s)
}

// String is the method's word in our documents.
func (f Forward) String() string {
	switch f {
	case DR:
		return "dr"
	case TUN:
		return "tun"
	case NAT:
		return "nat"
	}
	return "unknown"
}

// Flag is ipvsadm's option for a destination with this method.
func (f Forward) Flag() string {
	switch f {
	case DR:
		return "-g"
	case TUN:
		return "-i"
	case NAT:
		return "-m"
	}
	return "-?"
}

// Key names a virtual service. The kernel keeps at most one service for a key.
type Key struct {
	Protocol Protocol
	Address  netip.Addr
	Port     uint16
}

// String is the key as `ipvsadm -Ln` prints it: "TCP 10.0.0.1:80",
// "TCP [2001:db8::1]:80".
func (k Key) String() string { return k.Protocol.String() + " " + k.addrPort() }

// Args is the key as an option of ipvsadm: "-t 10.0.0.1:80".
func (k Key) Args() string { return k.Protocol.Flag() + " " + k.addrPort() }

func (k Key) addrPort() string { return netip.AddrPortFrom(k.Address, k.Port).String() }

// Compare orders keys by protocol, address and port.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Protocol, o.Protocol), k.Address.Compare(o.Address), cmp.Compare(k.Port, o.Port))
}

// Service is a virtual service with its destinations.
type Service struct {
	Key
	// Scheduler is the kernel's name for it: rr, wlc, ... (see Schedulers).
	Scheduler string
	// Persistence binds a client to its destination for this long after its
	// last connection, in whole seconds; 0 is off.
	Persistence time.Duration
	// Extras is what the kernel's entry has beyond this model, in ipvsadm's
	// words ("-o", "-M 255.255.255.0", "-M 64"). Only a read sets it; a desired
	// service has none, so an entry with extras is put right by an edit.
	Extras string
	// Destinations are the real servers, at most one for an address and port.
	Destinations []Destination
}

// Destination is a real server of a virtual service.
type Destination struct {
	Address netip.Addr
	Port    uint16
	Forward Forward
	// Weight is its share of new connections, 0 to 65535; 0 gets none, and
	// keeps those it has.
	Weight int
	// Extras is like Service.Extras ("-x 100": connection thresholds).
	Extras string
}

// AddrPort names the destination within its service.
func (d Destination) AddrPort() netip.AddrPort { return netip.AddrPortFrom(d.Address, d.Port) }

// head is the service without its destinations.
func (s Service) head() Service {
	s.Destinations = nil
	return s
}

// sameHead tells whether an edit of s to o would change nothing.
func (s Service) sameHead(o Service) bool {
	return s.Key == o.Key && s.Scheduler == o.Scheduler && s.Persistence == o.Persistence && s.Extras == o.Extras
}

// options are the service's settings in ipvsadm's words: "-s rr -p 300".
func (s Service) options() string {
	out := "-s " + s.Scheduler
	if s.Persistence > 0 {
		out += fmt.Sprintf(" -p %d", s.Persistence/time.Second)
	}
	return withExtras(out, s.Extras)
}

// options are the destination's settings in ipvsadm's words: "-g -w 1".
func (d Destination) options() string {
	return withExtras(fmt.Sprintf("%s -w %d", d.Forward.Flag(), d.Weight), d.Extras)
}

func withExtras(options, extras string) string {
	if extras == "" {
		return options
	}
	return options + " " + extras
}
