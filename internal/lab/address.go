package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// BindAddress gives a network card one more address, in use at once: IPv6 without
// duplicate address detection.
func (h *Host) BindAddress(nic string, address netip.Prefix) error {
	return h.bind(nic, address, nil)
}

// BindVIP gives a network card a VIP as a director does, /32 or /128. An IPv6 one
// is never the source of what the host itself begins (preferred_lft 0), such as
// the outer packets of a tunnel; the kernel takes a /32 for none either.
func (h *Host) BindVIP(nic string, vip netip.Addr) error {
	return h.bind(nic, netip.PrefixFrom(vip, vip.BitLen()), func(a *netlink.Addr) {
		a.ValidLft, a.PreferedLft = 1<<32-1, 0 // for ever, never: include/net/addrconf.h, INFINITY_LIFE_TIME
	})
}

func (h *Host) bind(nic string, address netip.Prefix, six func(*netlink.Addr)) error {
	a := &netlink.Addr{IPNet: &net.IPNet{
		IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), address.Addr().BitLen()),
	}}
	if address.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
		if six != nil {
			six(a)
		}
	}
	err := h.withLink(nic, func(card netlink.Link) error { return h.netlink.AddrReplace(card, a) })
	if err != nil {
		return fmt.Errorf("bind %s on %s of %s: %w", address, nic, h.name, err)
	}
	return nil
}

// addresses are the global addresses of a network card.
func (h *Host) addresses(nic string) (found []netip.Addr, err error) {
	err = h.withLink(nic, func(card netlink.Link) error {
		table, err := h.netlink.AddrList(card, netlink.FAMILY_ALL)
		for _, a := range table {
			if address, ok := netip.AddrFromSlice(a.IP); ok && a.Scope == unix.RT_SCOPE_UNIVERSE {
				found = append(found, address.Unmap())
			}
		}
		return err
	})
	return found, err
}
