package spec

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
)

// RealServer is a backend.
type RealServer struct {
	Address netip.AddrPort // port 0: the port listened on
	Weight  int            // 0 to 65535; 0: no new connections
	Forward Forward        // "": the service's
	Tunnel  *Tunnel        // nil: the service's
	// UpperThreshold is the number of connections from which on the real server
	// gets no more, until they are fewer than LowerThreshold (0: three quarters of
	// it); 0: no limit.
	UpperThreshold, LowerThreshold int
}

// String gives "192.168.150.12:80", or "192.168.150.12" if the port is that
// listened on. It names a real server within its service.
func (rs RealServer) String() string {
	if rs.Address.Port() == 0 && rs.Address.IsValid() {
		return rs.Address.Addr().String()
	}
	return rs.Address.String()
}

// Forward is the forwarding method of a service or of one real server.
type Forward string

// The forwarding methods.
const (
	DR  Forward = "dr"  // direct routing, ipvsadm -g
	Tun Forward = "tun" // encapsulation, ipvsadm -i
	NAT Forward = "nat" // masquerading, ipvsadm -m
)

func forwards() []Forward { return []Forward{DR, Tun, NAT} }

// Tunnel is the encapsulation of Tun.
type Tunnel struct {
	Type     TunnelType
	Port     int // UDP port of GUE on the real server; 0 with others
	Checksum Checksum
}

// TunnelType is an encapsulation.
type TunnelType string

// The encapsulations.
const (
	IPIP TunnelType = "ipip" // IP in IP (RFC 2003, RFC 2473)
	GUE  TunnelType = "gue"  // generic UDP encapsulation
	GRE  TunnelType = "gre"  // RFC 2784
)

// Checksum is what an encapsulation does for checksums.
type Checksum string

// The ways to deal with checksums.
const (
	ChecksumNone   Checksum = "none"
	ChecksumFull   Checksum = "full"   // of the outer packet
	ChecksumRemote Checksum = "remote" // GUE: left to the real server
)

// ForwardOf is the method by which packets reach a real server of s.
func (s Service) ForwardOf(rs RealServer) Forward {
	if rs.Forward != "" {
		return rs.Forward
	}
	return s.Forward
}

// TunnelOf is the encapsulation for a real server of s that is reached by Tun.
func (s Service) TunnelOf(rs RealServer) Tunnel {
	switch {
	case rs.Tunnel != nil:
		return *rs.Tunnel
	case s.Tunnel != nil:
		return *s.Tunnel
	}
	return DefaultTunnel()
}

// CheckAddress is where the check of s asks a real server: at the check's port,
// or else at its own, or else at the first that s listens on. Port 0: it says
// none.
func (s Service) CheckAddress(rs RealServer) netip.AddrPort {
	port := rs.Address.Port()
	for i := 0; port == 0 && i < len(s.Listen); i++ {
		port = s.Listen[i].Port
	}
	if s.Check != nil && s.Check.Port != 0 {
		port = uint16(s.Check.Port)
	}
	return netip.AddrPortFrom(rs.Address.Addr(), port)
}

func realServer(dst *RealServer) codec {
	return row(dst, DefaultRealServer, func(rs *RealServer) schema {
		return schema{
			what: "a mapping {address: IP:port, weight: 1}",
			fields: []field{
				{name: "address", codec: serverAddress(&rs.Address), need: required, meaning: "IP:port", more: "; without a port that listened on (the first of them is checked), and only nat can have another. An address of a director is one too: there the kernel delivers locally, whatever forward says"},
				{name: "weight", codec: integer(&rs.Weight, 0, 65535), need: always, meaning: "share of connections, 0 to 65535; 0 gets no new ones"},
				{name: "forward", codec: unset(&rs.Forward, choice(&rs.Forward, "forwarding method", forwards()...)), shown: "the service's", meaning: "how packets reach this one: dr, tun or nat"},
				{name: "tunnel", codec: maybe(&rs.Tunnel, DefaultTunnel, (*Tunnel).schema), shown: "the service's", meaning: "its encapsulation, with tun"},
				{name: "upper_threshold", codec: integer(&rs.UpperThreshold, 0, math.MaxInt32), meaning: "number of connections from which on it gets no new ones; 0 is no limit"},
				{name: "lower_threshold", codec: integer(&rs.LowerThreshold, 0, math.MaxInt32), meaning: "number of connections below which it gets some again; 0 is three quarters of upper_threshold"},
			},
		}
	})
}

func (t *Tunnel) schema() schema {
	return schema{
		what: "a mapping such as {type: gue, port: 5555}",
		fields: []field{
			{name: "type", codec: choice(&t.Type, "encapsulation", IPIP, GUE, GRE), need: always, meaning: "ipip, gue (over UDP) or gre"},
			{name: "port", codec: unset(&t.Port, integer(&t.Port, 1, 65535)), meaning: "UDP port at which the real server takes gue in; required with gue, refused with others"},
			{name: "checksum", codec: choice(&t.Checksum, "checksum", ChecksumNone, ChecksumFull, ChecksumRemote), meaning: "of the outer packet, with gue and gre: none, full, or remote (gue: the inner one is left to the real server)"},
		},
		rule: t.rule,
	}
}

func (t *Tunnel) rule(v value) {
	switch {
	case t.Type == GUE && t.Port == 0:
		v.failf("has no port; expected the UDP port at which the real servers take gue in, such as port: 5555")
	case t.Type != GUE && t.Port != 0:
		v.failf("%s has no port; expected no port, or type: gue", t.Type)
	case t.Checksum == ChecksumRemote && t.Type != GUE:
		v.failf("checksum remote is of gue alone; expected none or full with %s", t.Type)
	case t.Checksum != ChecksumNone && t.Type == IPIP:
		v.failf("ipip has no checksum; expected checksum: none, or type: gue or gre")
	}
}

// serverAddress is the codec of a real server's address, with or without port.
func serverAddress(dst *netip.AddrPort) codec {
	const expected = `IP:port or IP, such as 192.168.150.12:80 or "[2001:db8::12]:80"`
	return scalarOf(dst, expected, func(s scalar) (netip.AddrPort, error) {
		ap, err := netip.ParseAddrPort(s.text)
		if a, plain := netip.ParseAddr(s.text); plain == nil {
			ap, err = netip.AddrPortFrom(a, 0), nil
		} else if ap.Port() == 0 {
			err = strconv.ErrRange
		}
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q is no address with a port; expected %s", printable(s.text), expected)
		}
		if err := checkAddr(ap.Addr()); err != nil {
			return netip.AddrPort{}, err
		}
		return ap, nil
	}, func(ap netip.AddrPort) string { return addressText(ap.Addr(), RealServer{Address: ap}) })
}
