package spec

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/goccy/go-yaml/ast"
)

// gatewayAddr accepts an IPv4 address that a host can have; an unset one is not
// written.
func gatewayAddr(dst *netip.Addr) codec {
	const expected = "an IPv4 address, such as 192.168.150.1"
	c := scalarOf(dst, expected, func(s scalar) (netip.Addr, error) {
		a, err := netip.ParseAddr(s.text)
		switch {
		case err != nil:
			return netip.Addr{}, fmt.Errorf("%q is no address; expected %s", printable(s.text), expected)
		case a.Is6():
			return netip.Addr{}, fmt.Errorf("%s is IPv6, but the gateway is asked by ARP; expected an IPv4 address", printable(a.String()))
		}
		return a, checkAddr(a)
	}, netip.Addr.String)
	encode := c.encode
	c.encode = func() element {
		if !dst.IsValid() {
			return element{}
		}
		return encode()
	}
	return c
}

// vip is the codec of an address, or of a mapping that also has an interface and
// a label for it; without them the address alone is written.
func vip(dst *VIP) codec {
	address := vipAddress(&dst.Address)
	full := row(dst, fresh[VIP], (*VIP).schema)
	return codec{
		decode: func(v value) {
			if _, ok := v.node.(*ast.MappingNode); ok {
				full.decode(v)
				return
			}
			address.decode(v)
		},
		encode: func() element {
			if dst.Interface == "" && dst.Label == "" {
				return address.encode()
			}
			return full.encode()
		},
		nested: full.nested,
	}
}

// vipAddress is the codec of an address with an optional prefix, which is
// ignored.
func vipAddress(dst *netip.Addr) codec {
	return codec{
		decode: func(v value) {
			s, ok := v.scalar(vipExpected)
			if !ok {
				return
			}
			a, prefixed, err := parseVIP(s.text)
			if err != nil {
				v.failf("%s", err)
				return
			}
			if prefixed {
				v.warnAt(v.line, "the prefix of %s is ignored: a VIP is bound as %s/%d", s.text, a, a.BitLen())
			}
			*dst = a
		},
		encode: func() element { return scalarElement(addressText(*dst, *dst)) },
	}
}

const vipExpected = "an IPv4 or IPv6 address, such as 192.168.150.100 or 2001:db8::100"

func parseVIP(s string) (a netip.Addr, prefixed bool, err error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Addr(), p.Bits() != p.Addr().BitLen(), checkAddr(p.Addr())
	}
	a, err = netip.ParseAddr(s)
	if err != nil {
		return a, false, fmt.Errorf("%q is no address; expected %s", printable(s), vipExpected)
	}
	return a, false, checkAddr(a)
}

// checkAddr says why a cannot be a VIP, a real server or a gateway. A zone and
// a link-local address mean nothing beyond one link of one host, and the kernel
// takes no such real server; an IPv4-mapped address has a second spelling, as
// IPv4, that would count as another one.
func checkAddr(a netip.Addr) error {
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch {
	case a.Zone() != "":
		return fmt.Errorf("%s has a zone; expected a global or unique local IPv6 address", printable(a.String()))
	case a.Is4In6():
		return fmt.Errorf("%s is an IPv4 address in IPv6; expected %s", a, a.Unmap())
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == broadcast || a.Is4() && a.As4()[0] == 0:
		return fmt.Errorf("%s is no address of one host; expected a unicast %s address", a, family(a))
	case a.Is6() && a.IsLinkLocalUnicast():
		return fmt.Errorf("%s is link-local; expected a global or unique local IPv6 address", a)
	}
	return nil
}

// family names the address family of a for messages.
func family(a netip.Addr) string { return familyName(!a.Is4()) }

func familyName(is6 bool) string {
	if is6 {
		return "IPv6"
	}
	return "IPv4"
}

// addressText writes what holds a; with IPv6 in quotes, because of the brackets
// and of colons in lists.
func addressText(a netip.Addr, what fmt.Stringer) string {
	if a.Is6() {
		return strconv.Quote(what.String())
	}
	return what.String()
}
