package drain

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/zklvs/zklvs/internal/spec"
)

// Target names what is drained: the destinations of one address.
type Target struct {
	Address netip.Addr
	Port    uint16 // 0: all ports
	Service string // "": in all services
}

// ParseTarget reads a real server as documents name it, IP or IP:port, and the
// service that it is limited to, "" for all.
func ParseTarget(realServer, service string) (Target, error) {
	t := Target{Service: service}
	ap, err := netip.ParseAddrPort(realServer)
	switch {
	case err == nil && ap.Port() == 0:
		return Target{}, fmt.Errorf("%q has port 0; expected another, or the address alone for all ports", cut(realServer))
	case err == nil:
		t.Address, t.Port = ap.Addr(), ap.Port()
	default:
		if t.Address, err = netip.ParseAddr(realServer); err != nil {
			return Target{}, fmt.Errorf("%q is no real server; expected IP or IP:port, such as 192.168.150.12 or \"[2001:db8::12]:80\"", cut(realServer))
		}
	}
	if t.Address.Zone() != "" || t.Address.Is4In6() {
		return Target{}, fmt.Errorf("%q is no real server; expected an address without a zone, and IPv4 as such", cut(realServer))
	}
	if service != "" {
		if err := spec.CheckName(service); err != nil {
			return Target{}, fmt.Errorf("service: %w", err)
		}
	}
	return t, nil
}

// cut keeps messages short, whatever was given.
func cut(s string) string {
	const limit = 80
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}

// RealServer is the address, and the port if there is one.
func (t Target) RealServer() string {
	if t.Port == 0 {
		return t.Address.String()
	}
	return netip.AddrPortFrom(t.Address, t.Port).String()
}

// String is for people: "192.168.150.12:80 in service web-http".
func (t Target) String() string {
	if t.Service == "" {
		return t.RealServer()
	}
	return t.RealServer() + " in service " + t.Service
}

// Name is the name of the target's znode: "192.168.150.12:80", or
// "192.168.150.12:80_web-http". No address and no service has an underscore.
func (t Target) Name() string {
	if t.Service == "" {
		return t.RealServer()
	}
	return t.RealServer() + "_" + t.Service
}

// Matches tells whether a destination of a service is meant. A destination with
// port 0 takes every port, so one port of it cannot be drained.
func (t Target) Matches(service string, destination netip.AddrPort) bool {
	return t.Address == destination.Addr() && (t.Port == 0 || t.Port == destination.Port()) && (t.Service == "" || t.Service == service)
}

// Compare orders targets by address, port and service.
func (t Target) Compare(o Target) int {
	return cmp.Or(t.Address.Compare(o.Address), cmp.Compare(t.Port, o.Port), cmp.Compare(t.Service, o.Service))
}
