package ipvsadm

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/zklvs/zklvs/internal/nearest"
	"github.com/zklvs/zklvs/ipvs"
)

const numericRemedy = "save the table with ipvsadm -S -n, which prints numbers"

// number reads a decimal number.
func number(s string, lo, hi int64) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is no number; expected %d to %d", quote(s), lo, hi)
	}
	if n < lo || n > hi {
		return 0, fmt.Errorf("%d is out of range; expected %d to %d", n, lo, hi)
	}
	return n, nil
}

// endpoint is ADDRESS[:PORT] or [ADDRESS]:PORT; IPv6 without a port has no
// brackets (ipvsadm.c, parse_service).
type endpoint struct {
	address netip.Addr
	port    uint16
	hasPort bool
}

func parseEndpoint(s string) (endpoint, error) {
	host, port, hasPort := s, "", false
	if inner, bracketed := strings.CutPrefix(s, "["); bracketed {
		if host, port, hasPort = strings.Cut(inner, "]:"); !hasPort {
			return endpoint{}, fmt.Errorf("%s is no address with a port; expected [ADDRESS]:PORT", quote(s))
		}
	} else if a, err := netip.ParseAddr(s); err != nil || a.Is4() {
		if i := strings.LastIndexByte(s, ':'); i >= 0 {
			host, port, hasPort = s[:i], s[i+1:], true
		}
	}
	a, err := parseAddress(host)
	if err != nil {
		return endpoint{}, err
	}
	if a.Is6() != (s != "" && (s[0] == '[' || !hasPort && strings.Contains(s, ":"))) {
		return endpoint{}, fmt.Errorf("%s has its brackets wrong; expected %s:PORT", quote(s), bracketed(a))
	}
	e := endpoint{address: a, hasPort: hasPort}
	if hasPort {
		e.port, err = parsePort(port)
	}
	return e, err
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

func parseAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil && strings.Trim(s, "0123456789.") != "" && !strings.ContainsAny(s, ":[]%"):
		return a, fmt.Errorf("%s is the name of a host; expected an address: %s", quote(s), numericRemedy)
	case err != nil, a.Zone() != "":
		return a, fmt.Errorf("%s is no address; expected one such as 192.0.2.1 or 2001:db8::1", quote(s))
	case a.Is4In6():
		return a, fmt.Errorf("%s is an IPv4 address in IPv6 form; expected %s", a, a.Unmap())
	}
	return a, nil
}

func parsePort(s string) (uint16, error) {
	n, err := number(s, 0, 65535)
	if err != nil && s != "" && strings.Trim(s, "+-0123456789") != "" {
		return 0, fmt.Errorf("%s is the name of a port; expected 0 to 65535: %s", quote(s), numericRemedy)
	}
	if err != nil {
		return 0, fmt.Errorf("port %w", err)
	}
	return uint16(n), nil
}

// parseMark reads a firewall mark. ipvsadm -S prints the upper half of them as
// negative numbers.
func parseMark(s string) (uint32, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n == 0 || n < -1<<31 || n > 1<<32-1 {
		return 0, fmt.Errorf("%s is no firewall mark; expected 1 to 4294967295", quote(s))
	}
	return uint32(n), nil
}

// errNoPrefix is about a mask that the model has no place for.
var errNoPrefix = errors.New("is no prefix")

// parseMask reads a netmask: 255.255.255.0, for IPv6 the prefix's length. The
// whole address is 0, as in ipvs.Service.
func parseMask(s string, is6 bool) (int, error) {
	if is6 {
		n, err := number(s, 1, 128)
		return int(n) % 128, err
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return 0, fmt.Errorf("%s is no netmask; expected one such as 255.255.255.0", quote(s))
	}
	b := a.As4()
	mask := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	ones := bits.LeadingZeros32(^mask)
	if mask<<ones != 0 || ones == 0 {
		return 0, fmt.Errorf("%s %w", quote(s), errNoPrefix)
	}
	return ones % 32, nil
}

// parseScheduler takes "none", too: ipvsadm -S prints it of a service that has
// no scheduler, and hence refuses all (ip_vs_ctl.c, ip_vs_add_service).
func parseScheduler(s string) error {
	if s == "none" {
		return nil
	}
	if all := ipvs.Schedulers(); !slices.Contains(all, s) {
		return fmt.Errorf("%s is no scheduler; expected one of %s%s", quote(s), strings.Join(all, ", "), nearest.DidYouMean(s, all))
	}
	return nil
}

// parseFlags reads the flags of a scheduler. No flags at all is how ipvsadm -S
// prints flag-3 of sh and mh.
func parseFlags(s, scheduler string) (flags ipvs.SchedulerFlags, err error) {
	named := (ipvs.Fallback | ipvs.HashPort | ipvs.Flag3).Words(scheduler)
	if s == "" && named[0] != "flag-1" {
		return ipvs.Flag3, nil
	}
	names := append([]string{"flag-1", "flag-2", "flag-3"}, named[:2]...)
	for f := range strings.SplitSeq(s, ",") {
		switch i := slices.Index(names, f); {
		case f == "":
		case i >= 0:
			flags |= 1 << (i % 3)
		default:
			slices.Sort(names)
			expected := slices.Compact(names)
			return 0, fmt.Errorf("%s is no flag of scheduler %s; expected some of %s%s", quote(f), scheduler, strings.Join(expected, ","), nearest.DidYouMean(f, expected))
		}
	}
	if flags == 0 {
		return 0, errors.New("names no flag; expected flags with commas between them, such as sh-port,sh-fallback")
	}
	return flags, nil
}

func parseTunnelType(s string) (ipvs.TunnelType, error) {
	types := []string{ipvs.IPIP: "ipip", ipvs.GUE: "gue", ipvs.GRE: "gre"}
	i := slices.Index(types, s)
	if i < 0 {
		return 0, fmt.Errorf("%s is no type of tunnel; expected ipip, gue or gre%s", quote(s), nearest.DidYouMean(s, types))
	}
	return ipvs.TunnelType(i), nil
}
