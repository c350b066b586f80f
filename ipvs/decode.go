package ipvs

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
	"time"

	"github.com/zklvs/zklvs/ipvs/genl"
)

// rawService is a service as the kernel tells it.
type rawService struct {
	family    uint16
	protocol  uint16
	addr      [16]byte
	port      uint16
	mark      uint32
	scheduler string
	engine    string
	flags     uint32
	timeout   uint32
	netmask   uint32 // of IPv4
	prefix    uint32 // the same word, of IPv6
	counters  Counters
}

// rawDest is a destination as the kernel tells it.
type rawDest struct {
	family                 uint16
	addr                   [16]byte
	port                   uint16
	forward, weight        uint32
	upper, lower           uint32
	active, inact, persist uint32
	tunType                uint8
	tunPort, tunFlags      uint16
	counters               Counters
}

// decode reads one reply; the counters only if stats.
func (r *rawService) decode(d *genl.Decoder, stats bool) {
	for d.Next() {
		if d.Type() == attrService {
			d.Nested(func(d *genl.Decoder) { r.attributes(d, stats) })
		}
	}
}

func (r *rawService) attributes(d *genl.Decoder, stats bool) {
	for d.Next() {
		switch d.Type() {
		case svcFamily:
			r.family = d.Uint16()
		case svcProtocol:
			r.protocol = d.Uint16()
		case svcAddr:
			copy(r.addr[:], d.Raw())
		case svcPort:
			r.port = d.Uint16BE()
		case svcMark:
			r.mark = d.Uint32()
		case svcScheduler:
			r.scheduler = schedulerName(d.Text())
		case svcEngine:
			r.engine = string(d.Text())
		case svcFlags:
			r.flags, _ = d.Uint32Pair()
		case svcTimeout:
			r.timeout = d.Uint32()
		case svcNetmask:
			r.netmask, r.prefix = d.Uint32BE(), d.Uint32()
		case svcStats:
			if stats {
				d.Nested(r.counters.decode)
			}
		}
	}
}

func (r *rawDest) decode(d *genl.Decoder, stats bool) {
	for d.Next() {
		if d.Type() == attrDest {
			d.Nested(func(d *genl.Decoder) { r.attributes(d, stats) })
		}
	}
}

func (r *rawDest) attributes(d *genl.Decoder, stats bool) {
	for d.Next() {
		switch d.Type() {
		case destAddr:
			copy(r.addr[:], d.Raw())
		case destPort:
			r.port = d.Uint16BE()
		case destForward:
			r.forward = d.Uint32()
		case destWeight:
			r.weight = d.Uint32()
		case destUpper:
			r.upper = d.Uint32()
		case destLower:
			r.lower = d.Uint32()
		case destActive:
			r.active = d.Uint32()
		case destInact:
			r.inact = d.Uint32()
		case destPersist:
			r.persist = d.Uint32()
		case destFamily:
			r.family = d.Uint16()
		case destTunType:
			r.tunType = d.Uint8()
		case destTunPort:
			r.tunPort = d.Uint16BE()
		case destTunFlags:
			r.tunFlags = d.Uint16()
		case destStats:
			if stats {
				d.Nested(r.counters.decode)
			}
		}
	}
}

func (c *Counters) decode(d *genl.Decoder) {
	fields := [...]*uint64{
		statsConns: &c.Connections, statsInPkts: &c.InPackets, statsOutPkts: &c.OutPackets,
		statsInBytes: &c.InBytes, statsOutBytes: &c.OutBytes,
		statsCPS: &c.ConnectionRate, statsInPPS: &c.InPacketRate, statsOutPPS: &c.OutPacketRate,
		statsInBPS: &c.InByteRate, statsOutBPS: &c.OutByteRate,
	}
	for d.Next() {
		if t := int(d.Type()); t > 0 && t < len(fields) {
			*fields[t] = d.Uint64()
		}
	}
}

// address is the first bytes of a, as many as the family has.
func address(family uint16, a [16]byte) netip.Addr {
	if family == afINET {
		return netip.AddrFrom4([4]byte(a[:4]))
	}
	return netip.AddrFrom16(a)
}

func (r *rawService) key() Key {
	if r.mark != 0 {
		return Key{Mark: r.mark, IPv6: r.family == afINET6}
	}
	return Key{Protocol: Protocol(r.protocol), Address: address(r.family, r.addr), Port: r.port}
}

// service is the service in our words, with these destinations.
func (r *rawService) service(ds []rawDest) Service {
	s := Service{
		Key: r.key(), Scheduler: r.scheduler, Engine: r.engine, OnePacket: r.flags&flagOnePacket != 0,
		SchedulerFlags: SchedulerFlags(r.flags>>flagSched) & allSched,
	}
	var extras []string
	if r.flags&flagPersistent != 0 {
		s.Persistence = time.Duration(r.timeout) * time.Second
		if r.timeout == 0 {
			extras = append(extras, "-p 0")
		}
		extras = append(extras, r.readPrefix(&s)...)
	}
	if rest := r.flags &^ (flagPersistent | flagHashed | flagOnePacket | allSched<<flagSched); rest != 0 {
		extras = append(extras, fmt.Sprintf("flags %#x", rest))
	}
	s.Extras = strings.Join(extras, " ")
	if len(ds) > 0 {
		s.Destinations = make([]Destination, len(ds))
		for i := range ds {
			s.Destinations[i] = ds[i].destination()
		}
	}
	return s
}

// readPrefix reads the netmask of a persistent service. One that is no prefix,
// or of no length, is for Extras.
func (r *rawService) readPrefix(s *Service) (extras []string) {
	full, n := 32, bits.LeadingZeros32(^r.netmask)
	if s.Is6() {
		full, n = 128, int(min(r.prefix, 129))
	}
	switch {
	case n == full:
		return nil
	case n == 0 || n > full:
	case s.Is6() || r.netmask<<n == 0:
		s.PersistencePrefix = n
		return nil
	}
	if s.Is6() {
		return []string{fmt.Sprintf("-M %d", r.prefix)}
	}
	m := r.netmask
	return []string{"-M " + netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}).String()}
}

func (r *rawDest) destination() Destination {
	out := Destination{Address: address(r.family, r.addr), Port: r.port, Weight: int(int32(r.weight)), Upper: r.upper, Lower: r.lower}
	switch method := r.forward & fwdMask; method {
	case fwdRoute:
		out.Forward = DR
	case fwdMasq:
		out.Forward = NAT
	case fwdLocal:
		out.Forward = Local
	case fwdTun:
		out.Forward = TUN
		out.Tunnel, out.Extras = r.tunnel()
	default:
		out.Extras = fmt.Sprintf("method %d", method)
	}
	return out
}

// tunnel leaves out what the kernel stores with an encapsulation that does not
// look at it.
func (r *rawDest) tunnel() (t Tunnel, extras string) {
	t.Type = TunnelType(r.tunType)
	switch {
	case t.Type == IPIP:
		return t, ""
	case t.Type == GUE:
		t.Port = r.tunPort
	case t.Type != GRE:
		return t, fmt.Sprintf("tunnel type %d", r.tunType)
	}
	if r.tunFlags > uint16(RemoteChecksum) {
		return t, fmt.Sprintf("tunnel flags %#x", r.tunFlags)
	}
	t.Checksum = TunnelChecksum(r.tunFlags)
	return t, ""
}
