package ipvs

import (
	"net/netip"
	"time"

	"github.com/zklvs/zklvs/ipvs/genl"
)

// family is the address family of a in the kernel's words.
func family(a netip.Addr) uint16 {
	if a.Is4() {
		return afINET
	}
	return afINET6
}

// encode adds the message for a step to a batch.
func (s *Step) encode(b *genl.Batch, f genl.Family) {
	e := b.Add(f, s.Op.command())
	if s.Op == AddService || s.Op == EditService {
		s.Service.encode(e)
		return
	}
	end := s.Service.encodeKey(e)
	e.End(end)
	if s.Op.onDestination() {
		s.Destination.encode(e, s.Op != DeleteDestination)
	}
}

// command is the operation's number, 0 for none.
func (o Op) command() uint8 {
	switch o {
	case AddService:
		return cmdNewService
	case EditService:
		return cmdSetService
	case DeleteService:
		return cmdDelService
	case AddDestination:
		return cmdNewDest
	case EditDestination:
		return cmdSetDest
	case DeleteDestination:
		return cmdDelDest
	}
	return 0
}

// encodeKey begins the attribute of a service with its name.
func (k *Key) encodeKey(e *genl.Encoder) (end int) {
	end = e.Nest(attrService)
	if k.Mark != 0 {
		af := uint16(afINET)
		if k.IPv6 {
			af = afINET6
		}
		e.Uint16(svcFamily, af)
		e.Uint32(svcMark, k.Mark)
		return end
	}
	e.Uint16(svcFamily, family(k.Address))
	e.Uint16(svcProtocol, uint16(k.Protocol))
	encodeAddr(e, svcAddr, k.Address)
	e.Uint16BE(svcPort, k.Port)
	return end
}

func encodeAddr(e *genl.Encoder, typ uint16, a netip.Addr) {
	if a.Is4() {
		b := a.As4()
		e.Raw(typ, b[:])
		return
	}
	b := a.As16()
	e.Raw(typ, b[:])
}

// encode adds the whole service without its destinations.
func (s *Service) encode(e *genl.Encoder) {
	end := s.encodeKey(e)
	e.String(svcScheduler, s.Scheduler)
	if s.Engine != "" {
		e.String(svcEngine, s.Engine)
	}
	flags := uint32(s.SchedulerFlags&allSched) << flagSched
	if s.OnePacket {
		flags |= flagOnePacket
	}
	if s.Persistence > 0 {
		flags |= flagPersistent
	}
	e.Uint32Pair(svcFlags, flags, 0xFFFFFFFF)
	e.Uint32(svcTimeout, uint32(s.Persistence/time.Second))
	if bits := s.prefix(); s.Is6() {
		e.Uint32(svcNetmask, uint32(bits))
	} else {
		e.Uint32BE(svcNetmask, uint32(0xFFFFFFFF<<(32-bits)))
	}
	e.End(end)
}

// prefix is how many bits of an address make one client. It counts with
// persistence only, but for IPv6 the kernel wants 1 to 128 in any case
// (ip_vs_ctl.c, ip_vs_add_service).
func (s *Service) prefix() int {
	switch {
	case s.PersistencePrefix != 0:
		return s.PersistencePrefix
	case s.Is6():
		return 128
	}
	return 32
}

// encode adds the destination; without its settings where only its name counts.
func (d *Destination) encode(e *genl.Encoder, settings bool) {
	end := e.Nest(attrDest)
	encodeAddr(e, destAddr, d.Address)
	e.Uint16BE(destPort, d.Port)
	e.Uint16(destFamily, family(d.Address))
	if settings {
		e.Uint32(destForward, d.Forward.number())
		e.Uint32(destWeight, uint32(d.Weight))
		e.Uint32(destUpper, d.Upper)
		e.Uint32(destLower, d.Lower)
		e.Uint8(destTunType, uint8(d.Tunnel.Type))
		e.Uint16BE(destTunPort, d.Tunnel.Port)
		e.Uint16(destTunFlags, uint16(d.Tunnel.Checksum))
	}
	e.End(end)
}

func (f Forward) number() uint32 {
	switch f {
	case DR:
		return fwdRoute
	case TUN:
		return fwdTun
	case Local:
		return fwdLocal
	}
	return fwdMasq
}
