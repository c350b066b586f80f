package ipvsadm

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/zklvs/zklvs/internal/nearest"
	"github.com/zklvs/zklvs/ipvs"
)

// What ipvsadm 1.31 takes where a line does not say (measured; its manual says
// 300 seconds).
const (
	defaultScheduler   = "wlc"
	defaultPersistence = 360 * time.Second
	defaultWeight      = 1
)

// maxPersistence is ipvsadm's limit of 31 days, in seconds (MAX_TIMEOUT).
const maxPersistence = 31 * 24 * 3600

// key reads the service that a line is about; ok is false if it has none.
func (l *line) key() (k ipvs.Key, ok bool) {
	w, given := l.slots[slotService]
	if !given {
		return k, false
	}
	six := l.has("ipv6")
	if w.long == "fwmark-service" {
		mark, err := parseMark(w.value)
		l.check(w, err)
		return ipvs.Key{Mark: mark, IPv6: six}, err == nil
	}
	if six {
		l.fault(l.slots["ipv6"].text + " is for firewall marks only; expected it beside -f")
	}
	e, err := parseEndpoint(w.value)
	l.check(w, err)
	k = ipvs.Key{Protocol: ipvs.TCP, Address: e.address, Port: e.port}
	switch w.long {
	case "udp-service":
		k.Protocol = ipvs.UDP
	case "sctp-service":
		k.Protocol = ipvs.SCTP
	}
	return k, err == nil
}

// service reads the settings of -A and -E.
func (l *line) service(k ipvs.Key) ipvs.Service {
	s := ipvs.Service{Key: k, Scheduler: defaultScheduler, OnePacket: l.has("ops")}
	if w, ok := l.slots["scheduler"]; ok {
		s.Scheduler = w.value
		l.check(w, parseScheduler(w.value))
	}
	if w, ok := l.slots["sched-flags"]; ok {
		var err error
		s.SchedulerFlags, err = parseFlags(w.value, s.Scheduler)
		l.check(w, err)
	}
	if w, ok := l.slots["pe"]; ok {
		s.Engine = w.value
		if w.value != "sip" {
			l.check(w, fmt.Errorf("%s is no persistence engine; expected sip%s", quote(w.value), nearest.DidYouMean(w.value, []string{"sip"})))
		}
	}
	l.persistence(&s)
	if s.OnePacket && k.Mark == 0 && k.Protocol != ipvs.UDP {
		l.fault(l.slots["ops"].text + " is for datagrams; expected -u or -f beside it")
	}
	if k.Mark == 0 && k.Port == 0 && s.Persistence == 0 && len(l.faults) == 0 {
		l.fault(fmt.Sprintf("port 0 stands for all ports and needs persistence; expected a port or -p beside %s", k))
	}
	return s
}

func (l *line) persistence(s *ipvs.Service) {
	if w, ok := l.slots["persistent"]; ok {
		s.Persistence = defaultPersistence
		if w.given {
			n, err := number(w.value, 1, maxPersistence)
			l.check(w, err)
			s.Persistence = time.Duration(n) * time.Second
		}
	}
	w, ok := l.slots["netmask"]
	if !ok {
		return
	}
	prefix, err := parseMask(w.value, s.Is6())
	switch {
	case errors.Is(err, errNoPrefix):
		l.note(fmt.Sprintf("%s %s is left out: only masks of 1 to 32 leading bits have a place, such as 255.255.255.0", w.text, quote(w.value)))
	case err != nil:
		l.check(w, err)
	case s.Persistence == 0:
		l.note(fmt.Sprintf("%s %s is left out: without -p it has no effect", w.text, quote(w.value)))
	default:
		s.PersistencePrefix = prefix
	}
}

// destination reads the settings of -a, -e and -d.
func (l *line) destination(k ipvs.Key) (d ipvs.Destination, ok bool) {
	w, given := l.slots["real-server"]
	if !given {
		return d, false
	}
	e, err := parseEndpoint(w.value)
	if err != nil {
		l.check(w, err)
		return d, false
	}
	d = ipvs.Destination{Address: e.address, Port: e.port, Forward: ipvs.DR, Weight: defaultWeight}
	if !e.hasPort {
		d.Port = k.Port
	}
	if l.command == "delete-server" {
		return d, true
	}
	switch l.slots[slotForward].long {
	case "masquerading":
		d.Forward = ipvs.NAT
	case "ipip":
		d.Forward = ipvs.TUN
	}
	d.Weight = int(l.numberOf("weight", defaultWeight))
	d.Upper, d.Lower = uint32(l.numberOf("u-threshold", 0)), uint32(l.numberOf("l-threshold", 0))
	l.tunnel(&d)
	l.fits(k, d)
	return d, true
}

// numberOf reads weights and thresholds, which ipvsadm takes up to INT_MAX.
func (l *line) numberOf(slot string, otherwise int64) int64 {
	w, ok := l.slots[slot]
	if !ok {
		return otherwise
	}
	n, err := number(w.value, 0, math.MaxInt32)
	l.check(w, err)
	return n
}

// fits checks a destination against its service.
func (l *line) fits(k ipvs.Key, d ipvs.Destination) {
	if d.Address.Is6() != k.Is6() && d.Forward != ipvs.TUN {
		l.fault(fmt.Sprintf("real server %s and service %s are of different families, which only a tunnel carries; expected the service's family or -i", d.Address, k))
	}
	if k.Mark == 0 && d.Forward != ipvs.NAT && d.Port != k.Port {
		l.fault(fmt.Sprintf("real server %s has port %d, and ipvsadm would silently take %d: only -m can change the port; expected port %d or -m",
			d.AddrPort(), d.Port, k.Port, k.Port))
	}
	if d.Lower > d.Upper {
		l.fault(fmt.Sprintf("-y %d is above -x %d; expected a lower threshold up to the upper one", d.Lower, d.Upper))
	}
}

// tunnel reads the options of -i.
func (l *line) tunnel(d *ipvs.Destination) {
	for _, slot := range []string{"tun-type", "tun-port", slotChecksum} {
		if w, ok := l.slots[slot]; ok && d.Forward != ipvs.TUN {
			l.fault(w.text + " is for tunnels only; expected -i beside it")
			return
		}
	}
	if w, ok := l.slots["tun-type"]; ok {
		var err error
		if d.Tunnel.Type, err = parseTunnelType(w.value); err != nil {
			l.check(w, err)
			return
		}
	}
	port, hasPort := l.slots["tun-port"]
	switch {
	case hasPort && d.Tunnel.Type != ipvs.GUE:
		l.fault(port.text + " is for --tun-type gue only; expected it beside that")
	case hasPort:
		n, err := number(port.value, 1, 65535)
		l.check(port, err)
		d.Tunnel.Port = uint16(n)
	case d.Tunnel.Type == ipvs.GUE:
		l.fault("--tun-type gue has no port; expected --tun-port PORT")
	}
	sum, ok := l.slots[slotChecksum]
	switch {
	case !ok:
		return
	case d.Tunnel.Type == ipvs.IPIP, sum.long == "tun-remcsum" && d.Tunnel.Type != ipvs.GUE:
		l.fault(sum.text + " has no place in this type of tunnel; expected --tun-type gue, or gre without --tun-remcsum")
	case sum.long == "tun-csum":
		d.Tunnel.Checksum = ipvs.Checksum
	case sum.long == "tun-remcsum":
		d.Tunnel.Checksum = ipvs.RemoteChecksum
	}
}
