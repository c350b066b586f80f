package ipvs

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Protocol is the transport protocol of a virtual service, by its IANA number
// (which is what the kernel stores).
type Protocol uint8

// The protocols a virtual service may have. A firewall mark has none.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// ParseProtocol reads "tcp", "udp" or "sctp", in any case.
func ParseProtocol(s string) (Protocol, error) {
	switch strings.ToLower(s) {
	case "tcp":
		return TCP, nil
	case "udp":
		return UDP, nil
	case "sctp":
		return SCTP, nil
	}
	return 0, fmt.Errorf("protocol %q: expected tcp, udp or sctp", s)
}

// String is the protocol as `ipvsadm -L` prints it.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprintf("protocol-%d", uint8(p))
}

// Forward is the way a packet reaches a destination. The zero value is not a
// method: Validate refuses it.
type Forward uint8

// The forwarding methods. Local is the kernel's own word for a destination on
// this host, whatever method it was added with (ip_vs_ctl.c,
// __ip_vs_update_dest): it is read, and never written.
const (
	DR    Forward = iota + 1 // direct routing: only the MAC address changes
	TUN                      // a tunnel, see Tunnel
	NAT                      // masquerading: address and port are rewritten
	Local                    // delivered on this host
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
	case Local:
		return "local"
	}
	return "unknown"
}

// Tunnel is how a destination with TUN gets its packets: the zero value is IP in
// IP. With other methods it is the zero value.
type Tunnel struct {
	Type TunnelType
	// Port is the UDP port of GUE on the destination, 0 otherwise.
	Port uint16
	// Checksum is of GUE and GRE.
	Checksum TunnelChecksum
}

// TunnelType is the kernel's number for an encapsulation (linux/ip_vs.h,
// IP_VS_CONN_F_TUNNEL_TYPE_*).
type TunnelType uint8

// The encapsulations.
const (
	IPIP TunnelType = iota // RFC 2003, RFC 2473 for IPv6
	GUE                    // generic UDP encapsulation, draft-ietf-intarea-gue
	GRE                    // RFC 2784
)

// TunnelChecksum is what the encapsulation does for checksums (linux/ip_vs.h,
// IP_VS_TUNNEL_ENCAP_FLAG_*).
type TunnelChecksum uint8

// The ways to deal with checksums.
const (
	NoChecksum     TunnelChecksum = iota
	Checksum                      // of the outer packet
	RemoteChecksum                // GUE only: the inner one is left to the receiver
)

// Key names a virtual service. The kernel keeps at most one service for a key.
// It is either protocol, address and port, or a firewall mark with a family.
type Key struct {
	Protocol Protocol
	Address  netip.Addr
	// Port may be 0 with persistence: then all ports of the address are one
	// service.
	Port uint16
	// Mark is the firewall mark, 0 for none.
	Mark uint32
	// IPv6 is the family of a mark's packets; false without a mark.
	IPv6 bool
}

// Is6 tells the family of the service's packets.
func (k Key) Is6() bool {
	if k.Mark != 0 {
		return k.IPv6
	}
	return k.Address.Is6()
}

// String is the key as `ipvsadm -Ln` prints it: "TCP 10.0.0.1:80",
// "TCP [2001:db8::1]:80", "FWM 5", "FWM 5 IPv6".
func (k Key) String() string { return string(k.appendTo(nil)) }

func (k Key) appendTo(b []byte) []byte {
	if k.Mark != 0 {
		b = strconv.AppendUint(append(b, "FWM "...), uint64(k.Mark), 10)
		if k.IPv6 {
			b = append(b, " IPv6"...)
		}
		return b
	}
	b = append(append(b, k.Protocol.String()...), ' ')
	if !k.Address.IsValid() {
		return append(b, k.addrPort()...)
	}
	return netip.AddrPortFrom(k.Address, k.Port).AppendTo(b)
}

func (k Key) addrPort() string { return netip.AddrPortFrom(k.Address, k.Port).String() }

// Compare orders keys by protocol, address and port; marks come first.
func (k Key) Compare(o Key) int {
	six := func(k Key) int {
		if k.IPv6 {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(k.Protocol, o.Protocol), k.Address.Compare(o.Address), cmp.Compare(k.Port, o.Port),
		cmp.Compare(k.Mark, o.Mark), cmp.Compare(six(k), six(o)))
}

// SchedulerFlags are settings of a scheduler, by the kernel's bits for them
// (linux/ip_vs.h, IP_VS_SVC_F_SCHED1 and up, here from bit 0). Only sh and mh
// look at them.
type SchedulerFlags uint8

// The flags: what they mean is up to the scheduler.
const (
	// Fallback, of sh and mh: a client that hashes to a destination of weight
	// 0 or above its threshold gets another one, instead of a refusal.
	Fallback SchedulerFlags = 1 << iota
	// HashPort, of sh and mh: the client's port is part of the hash.
	HashPort
	// Flag3 means nothing to any scheduler.
	Flag3
)

// Service is a virtual service with its destinations.
type Service struct {
	Key
	// Scheduler is the kernel's name for it: rr, wlc, ... (see Schedulers).
	Scheduler string
	// SchedulerFlags are of the scheduler.
	SchedulerFlags SchedulerFlags
	// OnePacket schedules every datagram of UDP by itself.
	OnePacket bool
	// Persistence binds a client to its destination for this long after its
	// last connection, in whole seconds; 0 is off.
	Persistence time.Duration
	// PersistencePrefix is how many bits of an address make one client, 1 to 32,
	// for IPv6 to 128; 0 is the whole address. 0 without Persistence.
	PersistencePrefix int
	// Engine is the persistence engine, "sip" or "" for none (UDP only).
	Engine string
	// Extras is what the kernel's entry has beyond this model, in ipvsadm's
	// words. Only a read sets it; a desired service has none, so an entry with
	// extras is put right by an edit.
	Extras string
	// Destinations are the real servers, at most one for an address and port.
	Destinations []Destination
}

// Destination is a real server of a virtual service.
type Destination struct {
	Address netip.Addr
	// Port is that of the service, but for NAT; with a mark it may be 0.
	Port    uint16
	Forward Forward
	Tunnel  Tunnel // of TUN
	// Weight is its share of new connections, 0 to 65535; 0 gets none, and
	// keeps those it has.
	Weight int
	// Upper is the number of connections from which on it gets no more, until
	// they are fewer than Lower (0: three quarters of Upper). 0 is no limit.
	Upper, Lower uint32
	// Extras is like Service.Extras.
	Extras string
}

// AddrPort names the destination within its service.
func (d Destination) AddrPort() netip.AddrPort { return netip.AddrPortFrom(d.Address, d.Port) }

// head is the service without its destinations.
func (s Service) head() Service {
	s.Destinations = nil
	return s
}
