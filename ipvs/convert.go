package ipvs

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/ipvs"
)

// Flags of a service (linux/ip_vs.h, IP_VS_SVC_F_*). HASHED is the kernel's
// own mark of a service in the table.
const (
	flagPersistent = 0x0001
	flagHashed     = 0x0002
	flagOnePacket  = 0x0004
	flagSched1     = 0x0008
	flagSched2     = 0x0010
	flagSched3     = 0x0020
)

// With these masks one client is one address. For IPv4 the kernel keeps a word
// in network byte order; this one is the same in either. For IPv6 it keeps the
// length of a prefix, which must be 1 to 128 even without persistence
// (ip_vs_ctl.c, ip_vs_add_service).
const (
	fullMask  = 0xFFFFFFFF
	fullMask6 = 128
)

// family is the address family of a in the kernel's words.
func family(a netip.Addr) uint16 {
	if a.Is4() {
		return syscall.AF_INET
	}
	return syscall.AF_INET6
}

// mask is the netmask that makes an address of this family one client.
func mask(family uint16) uint32 {
	if family == syscall.AF_INET {
		return fullMask
	}
	return fullMask6
}

// toKernel is the service without its destinations.
func (s Service) toKernel() *ipvs.Service {
	out := &ipvs.Service{
		AddressFamily: family(s.Address),
		Protocol:      uint16(s.Protocol),
		Address:       s.Address.AsSlice(),
		Port:          s.Port,
		SchedName:     s.Scheduler,
		Netmask:       mask(family(s.Address)),
	}
	if s.Persistence > 0 {
		out.Flags = flagPersistent
		out.Timeout = uint32(s.Persistence / time.Second)
	}
	return out
}

func (d Destination) toKernel() *ipvs.Destination {
	return &ipvs.Destination{
		AddressFamily:   family(d.Address),
		Address:         d.Address.AsSlice(),
		Port:            d.Port,
		Weight:          d.Weight,
		ConnectionFlags: d.Forward.toKernel(),
	}
}

func (f Forward) toKernel() uint32 {
	switch f {
	case DR:
		return ipvs.ConnFwdDirectRoute
	case TUN:
		return ipvs.ConnFwdTunnel
	}
	return ipvs.ConnFwdMasq
}

// keyFromKernel names a service, if the model can. An IPv6 service on an
// IPv4-mapped address is nameless too: the netlink library would send its
// address as four bytes, and the kernel would look for another service.
func keyFromKernel(s *ipvs.Service) (Key, bool) {
	p := Protocol(s.Protocol)
	addr, ok := netip.AddrFromSlice(s.Address)
	ok = ok && s.FWMark == 0 && s.AddressFamily == family(addr) && !addr.Is4In6() && (p == TCP || p == UDP)
	return Key{Protocol: p, Address: addr, Port: s.Port}, ok
}

// fromKernel is the service that keyFromKernel could name.
func fromKernel(s *ipvs.Service, ds []*ipvs.Destination) Service {
	key, _ := keyFromKernel(s)
	out := Service{Key: key, Scheduler: s.SchedName, Extras: serviceExtras(s)}
	if s.Flags&flagPersistent != 0 {
		out.Persistence = time.Duration(s.Timeout) * time.Second
	}
	for _, d := range ds {
		out.Destinations = append(out.Destinations, destinationFromKernel(d))
	}
	return out
}

// serviceExtras puts into ipvsadm's words what Service has no field for. The
// netmask counts with persistence only; without it the kernel never looks.
func serviceExtras(s *ipvs.Service) string {
	var words []string
	persistent := s.Flags&flagPersistent != 0
	if persistent && s.Timeout == 0 {
		words = append(words, "-p 0")
	}
	if persistent && s.Netmask != mask(s.AddressFamily) {
		words = append(words, "-M "+maskText(s.AddressFamily, s.Netmask))
	}
	if s.Flags&flagOnePacket != 0 {
		words = append(words, "-o")
	}
	var sched []string
	for i, f := range []uint32{flagSched1, flagSched2, flagSched3} {
		if s.Flags&f != 0 {
			sched = append(sched, fmt.Sprintf("flag-%d", i+1))
		}
	}
	if sched != nil {
		words = append(words, "-b "+strings.Join(sched, ","))
	}
	known := uint32(flagPersistent | flagHashed | flagOnePacket | flagSched1 | flagSched2 | flagSched3)
	if rest := s.Flags &^ known; rest != 0 {
		words = append(words, fmt.Sprintf("flags %#x", rest))
	}
	return strings.Join(words, " ")
}

// maskText is a netmask as ipvsadm reads it: 255.255.255.0, or 64 for IPv6.
func maskText(family uint16, netmask uint32) string {
	if family == syscall.AF_INET6 {
		return strconv.FormatUint(uint64(netmask), 10)
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], netmask)
	return netip.AddrFrom4(b).String()
}

func destinationFromKernel(d *ipvs.Destination) Destination {
	addr, _ := netip.AddrFromSlice(d.Address)
	out := Destination{Address: addr, Port: d.Port, Weight: d.Weight}
	var words []string
	switch method := d.ConnectionFlags & ipvs.ConnFwdMask; method {
	case ipvs.ConnFwdDirectRoute:
		out.Forward = DR
	case ipvs.ConnFwdTunnel:
		out.Forward = TUN
	case ipvs.ConnFwdMasq:
		out.Forward = NAT
	default:
		words = append(words, fmt.Sprintf("method %d", method))
	}
	if d.UpperThreshold != 0 {
		words = append(words, fmt.Sprintf("-x %d", d.UpperThreshold))
	}
	if d.LowerThreshold != 0 {
		words = append(words, fmt.Sprintf("-y %d", d.LowerThreshold))
	}
	out.Extras = strings.Join(words, " ")
	return out
}
