package spec

import (
	"fmt"
	"net/netip"
	"slices"
)

// rule checks what needs more than one field; the zero value of a field means
// that it is missing or was at fault already. What it refuses the kernel would
// refuse too, or worse, take and store as something else.
func (s *Service) rule(v value, flagsWritten bool) {
	s.listenRule(v)
	s.persistenceRule(v)
	s.packetRule(v)
	s.flagsRule(v, flagsWritten)
	if s.Tunnel != nil && s.Forward != Tun && !slices.ContainsFunc(s.RealServers, func(rs RealServer) bool { return rs.Forward == Tun }) {
		v.failAt(v.lineOf("tunnel", -1), "tunnel is of forward: tun, but forward is %s; expected no tunnel, or forward: tun", s.Forward)
	}
	s.serversRule(v)
	hashes := s.Scheduler == "sh" || s.Scheduler == "mh"
	if s.Stateful && s.Persistence == 0 && !hashes {
		v.warnAt(v.lineOf("stateful", -1), "the service is stateful but persistence is off: the next connection of a client may reach another real server; set persistence (such as 300s), or scheduler sh or mh")
	}
}

func (s *Service) listenRule(v value) {
	for i, l := range s.Listen {
		line := v.lineOf("listen", i)
		if l.Address.IsValid() && l.AnyPort() && s.Persistence == 0 {
			v.failAt(line, "listens on all ports of %s without persistence, where the kernel serves none of them; expected persistence, such as 300s, or a port", l.Address)
		}
		for _, other := range s.Listen[:i] {
			if l.valid() && l.overlaps(other) {
				v.failAt(line, "listens on %s twice, also as %s; expected it once", l, other)
				break
			}
		}
	}
}

func (s *Service) persistenceRule(v value) {
	if s.PersistencePrefix > 0 {
		line := v.lineOf("persistence_prefix", -1)
		if s.Persistence == 0 {
			v.failAt(line, "persistence_prefix has no effect without persistence; expected persistence, such as 300s")
		}
		short := func(l Listen) bool { return l.valid() && !l.Is6() }
		if i := slices.IndexFunc(s.Listen, short); i >= 0 && s.PersistencePrefix > 32 {
			v.failAt(line, "persistence_prefix %d is longer than an IPv4 address, and the service listens on %s; expected 1 to 32", s.PersistencePrefix, s.Listen[i])
		}
	}
	if s.PersistenceEngine == "" {
		return
	}
	line := v.lineOf("persistence_engine", -1)
	if s.Persistence == 0 {
		v.failAt(line, "persistence_engine has no effect without persistence; expected persistence, such as 300s")
	}
	if i := slices.IndexFunc(s.Listen, func(l Listen) bool { return l.valid() && l.Protocol != UDP }); i >= 0 {
		v.failAt(line, "persistence_engine sip reads UDP only, but the service listens on %s; expected udp", s.Listen[i])
	}
}

// packetRule: ip_vs_core.c, ip_vs_schedule looks at the flag for UDP alone, and
// with nat answers find no connection.
func (s *Service) packetRule(v value) {
	if !s.OnePacket {
		return
	}
	line := v.lineOf("one_packet", -1)
	for _, l := range s.Listen {
		if l.Protocol == TCP || l.Protocol == SCTP {
			v.failAt(line, "one_packet is of UDP, but the service listens on %s; expected udp, or no one_packet", l)
			break
		}
	}
	if s.Forward == NAT {
		v.failAt(line, "with nat the answers to one_packet would not be translated back; expected forward: dr or tun")
	} else if i := slices.IndexFunc(s.RealServers, func(rs RealServer) bool { return rs.Forward == NAT }); i >= 0 {
		v.failAt(v.lineOf("real_servers", i), "with nat the answers to one_packet would not be translated back; expected forward: dr or tun of real server %s", s.RealServers[i])
	}
}

func (s *Service) serversRule(v value) {
	seen := servers{lines: map[netip.AddrPort]int{}, listened: map[netip.Addr]int{}}
	for i, rs := range s.RealServers {
		if !rs.Address.IsValid() {
			continue
		}
		line := v.lineOf("real_servers", i)
		if first, twice := seen.add(rs.Address, s.listensOn(rs.Address.Port()), line); twice {
			v.failAt(line, "real server %s is listed twice, first in line %d; expected it once", rs, first)
			continue
		}
		if text := s.serverFault(rs); text != "" {
			v.failAt(line, "real server %s %s", rs, text)
		}
	}
}

func (s *Service) listensOn(port uint16) bool {
	return port != 0 && slices.ContainsFunc(s.Listen, func(l Listen) bool { return !l.AnyPort() && l.Has(port) })
}

// servers are real servers with the lines where they stand. One without a port
// is, at a port that its service listens on, the same as one with that port.
type servers struct {
	lines    map[netip.AddrPort]int
	listened map[netip.Addr]int // the first with a port that its service listens on
}

// add returns the line of the one that is the same already, if there is one.
func (m servers) add(server netip.AddrPort, listened bool, line int) (first int, twice bool) {
	if first, twice = m.lines[server]; twice {
		return first, true
	}
	bare := netip.AddrPortFrom(server.Addr(), 0)
	switch {
	case server == bare:
		first, twice = m.listened[server.Addr()]
	case listened:
		first, twice = m.lines[bare]
	}
	if twice {
		return first, true
	}
	m.lines[server] = line
	if _, known := m.listened[server.Addr()]; listened && !known {
		m.listened[server.Addr()] = line
	}
	return 0, false
}

// serverFault says what is wrong with a real server, "" if nothing is.
func (s *Service) serverFault(rs RealServer) string {
	forward := s.ForwardOf(rs)
	for _, l := range s.Listen {
		if !l.valid() {
			continue
		}
		if text := familyFault(rs, forward, l); text != "" {
			return text
		}
		if text := portFault(rs, forward, l, len(s.Listen)); text != "" {
			return text
		}
	}
	switch {
	case rs.Tunnel != nil && forward != Tun:
		return fmt.Sprintf("has a tunnel, but is reached by %s; expected no tunnel, or forward: tun", forward)
	case rs.LowerThreshold > rs.UpperThreshold:
		return fmt.Sprintf("has lower_threshold %d above upper_threshold %d; expected it not above", rs.LowerThreshold, rs.UpperThreshold)
	case s.Check != nil && len(s.Listen) > 0 && s.Listen[0].valid() && s.CheckAddress(rs).Port() == 0:
		return fmt.Sprintf("cannot be checked: listen %s says no port; expected a port under check, such as check: {port: 80}", s.Listen[0])
	}
	return ""
}

// familyFault: ip_vs_ctl.c, ip_vs_add_dest.
func familyFault(rs RealServer, forward Forward, l Listen) string {
	own := rs.Address.Addr()
	if own.Is6() == l.Is6() || forward == Tun {
		return ""
	}
	listens := familyName(l.Is6())
	return fmt.Sprintf("is %s but listen %s is %s; expected an %s real server, or forward: tun", family(own), l, listens, listens)
}

// portFault looks at one of several entries of listen.
func portFault(rs RealServer, forward Forward, l Listen, several int) string {
	port := rs.Address.Port()
	if port == 0 || forward == NAT {
		return ""
	}
	switch {
	case l.AnyPort():
		return fmt.Sprintf("has port %d but listen %s says none, and %s cannot change the port; expected no port, or forward: nat", port, l, forward)
	case l.Count() > 1:
		return fmt.Sprintf("has port %d but listen has %d-%d, and %s cannot change the port; expected no port, or forward: nat", port, l.Port, l.High(), forward)
	case port != l.Port && several > 1:
		return fmt.Sprintf("has port %d but listen also has %d, and %s cannot change the port; expected no port, or forward: nat", port, l.Port, forward)
	case port != l.Port:
		return fmt.Sprintf("has port %d but listen has %d, and %s cannot change the port; expected port %d, or forward: nat", port, l.Port, forward, l.Port)
	}
	return ""
}
