package spec

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxRange is the longest range of ports, each of which is a service of the
// kernel's.
const maxRange = 1024

// maxListens is how many entries the listen of a service may have.
const maxListens = 256

// Listen is one address and port, one address and a range of ports, or one
// firewall mark of a family.
type Listen struct {
	Address  netip.Addr // not valid with a Mark
	Port     uint16     // 0: all ports, and with a Mark
	PortHigh uint16     // the last of a range that begins with Port; 0 or Port: none
	Protocol Protocol
	Mark     uint32 // 0: none
	IPv6     bool   // the family of the packets with the Mark
}

// Protocol is tcp, udp or sctp.
type Protocol string

// The protocols of a virtual service.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// valid says that something has been decoded.
func (l Listen) valid() bool { return l.Address.IsValid() || l.Mark != 0 }

// Is6 tells the family of the packets.
func (l Listen) Is6() bool {
	if l.Mark != 0 {
		return l.IPv6
	}
	return l.Address.Is6()
}

// High is the last port.
func (l Listen) High() uint16 { return max(l.Port, l.PortHigh) }

// Count is the number of the kernel's services.
func (l Listen) Count() int { return int(l.High()) - int(l.Port) + 1 }

// AnyPort says that the ports are not known: all of an address, or a mark.
func (l Listen) AnyPort() bool { return l.Port == 0 }

// Has says whether port is among those of l.
func (l Listen) Has(port uint16) bool { return l.AnyPort() || l.Port <= port && port <= l.High() }

// overlaps says that some service of the kernel's would be both.
func (l Listen) overlaps(o Listen) bool {
	same := l.Address == o.Address && l.Protocol == o.Protocol && l.Mark == o.Mark && l.IPv6 == o.IPv6
	return same && l.Port <= o.High() && o.Port <= l.High()
}

// String gives "192.168.150.100:80/tcp", "[2001:db8::100]:8000-8100/tcp" or
// "fwmark:5/ipv4".
func (l Listen) String() string {
	if l.Mark != 0 {
		return fmt.Sprintf("fwmark:%d/%s", l.Mark, strings.ToLower(familyName(l.IPv6)))
	}
	text := netip.AddrPortFrom(l.Address, l.Port).String()
	if l.High() > l.Port {
		text += "-" + strconv.Itoa(int(l.High()))
	}
	return text + "/" + string(l.Protocol)
}

// ListenText is what the service listens on, for people.
func (s Service) ListenText() string {
	words := make([]string, len(s.Listen))
	for i, l := range s.Listen {
		words[i] = l.String()
	}
	return strings.Join(words, ", ")
}

const (
	listenMeaning = "VIP:port/protocol, such as 192.168.150.100:80/tcp or \"[2001:db8::100]:80/tcp\""
	listenMore    = ", or a list of them; protocols are tcp, udp and sctp. " +
		"VIP:8000-8100/tcp is a range of up to 1024 ports, VIP:0/tcp all ports (with persistence), fwmark:5/ipv4 and fwmark:5/ipv6 whatever bears a firewall mark: " +
		"you mark those packets on the directors (nft or iptables, in prerouting), and they must be addressed to a VIP, or a local route must bring them to lo"
	listenExpected = "VIP:port/tcp, VIP:low-high/tcp, VIP:0/tcp (or udp, sctp), fwmark:N/ipv4 or fwmark:N/ipv6, such as 192.168.150.100:80/tcp or \"[2001:db8::100]:80/tcp\""
)

// listens is the codec of one Listen or a list of them; one is written without
// the list.
func listens(dst *[]Listen) codec {
	list := nonEmpty(listOf(dst, listenExpected, false, fresh[Listen], listen), "address")
	return codec{
		decode: func(v value) {
			if !v.isList() {
				var l Listen
				listen(&l).decode(v)
				*dst = []Listen{l}
				return
			}
			if list.decode(v); len(*dst) > maxListens {
				v.failf("has %d entries; expected at most %d, or a range of ports", len(*dst), maxListens)
				*dst = nil
			}
		},
		encode: func() element {
			if len(*dst) == 1 {
				return listen(&(*dst)[0]).encode()
			}
			return list.encode()
		},
	}
}

func listen(dst *Listen) codec {
	return scalarOf(dst, listenExpected, func(s scalar) (Listen, error) { return parseListen(s.text) },
		func(l Listen) string { return addressText(l.Address, l) })
}

func parseListen(s string) (Listen, error) {
	if mark, ok := strings.CutPrefix(s, "fwmark:"); ok {
		return parseMark(s, mark)
	}
	address, protocol, found := strings.Cut(s, "/")
	host, ports, _ := cutLast(address, ":")
	low, high, ranged := strings.Cut(ports, "-")
	ap, err := netip.ParseAddrPort(host + ":" + low)
	l := Listen{Address: ap.Addr(), Port: ap.Port()}
	p, known := protocols[protocol]
	switch {
	case err != nil:
		return Listen{}, fmt.Errorf("%q is no address to listen on; expected %s", printable(s), listenExpected)
	case !found:
		return Listen{}, fmt.Errorf("%q has no protocol; expected %s/tcp, %s/udp or %s/sctp", printable(s), printable(address), printable(address), printable(address))
	case !known:
		return Listen{}, fmt.Errorf("%q is no protocol; expected tcp, udp or sctp", printable(protocol))
	}
	l.Protocol = p
	if ranged {
		if l.PortHigh, err = parseHigh(high, l.Port); err != nil {
			return Listen{}, err
		}
	}
	if err := checkAddr(l.Address); err != nil {
		return Listen{}, err
	}
	return l, nil
}

// protocols holds constants, so that a document keeps no text of its own.
var protocols = map[string]Protocol{"tcp": TCP, "udp": UDP, "sctp": SCTP}

// parseHigh reads the last port of a range that begins with low.
func parseHigh(s string, low uint16) (uint16, error) {
	high, err := strconv.ParseUint(s, 10, 16)
	switch {
	case err != nil || strconv.FormatUint(high, 10) != s || low == 0 || high <= uint64(low):
		return 0, fmt.Errorf("\"%d-%s\" is no range of ports; expected low-high, from 1 to 65535, the second larger than the first", low, printable(s))
	case high-uint64(low) >= maxRange:
		return 0, fmt.Errorf("%d-%s are %d ports, each a service of the kernel's; expected at most %d, or port 0 (all ports) with persistence, or a mark",
			low, printable(s), high-uint64(low)+1, maxRange)
	}
	return uint16(high), nil
}

// parseMark reads what stands behind "fwmark:" in s.
func parseMark(s, mark string) (Listen, error) {
	number, fam, _ := strings.Cut(mark, "/")
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != number || fam != "ipv4" && fam != "ipv6" {
		return Listen{}, fmt.Errorf("%q is no firewall mark; expected fwmark:N/ipv4 or fwmark:N/ipv6, N from 1 to 4294967295", printable(s))
	}
	return Listen{Mark: uint32(n), IPv6: fam == "ipv6"}, nil
}

// cutLast cuts s around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
