package gate

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// InterfaceStatus is how far one interface is gated.
type InterfaceStatus struct {
	Name  string
	Index int
	// Ingress and Egress say whether this Gate's filter is in place.
	Ingress, Egress bool
	// Ahead names what runs before our filters and may let packets pass unasked.
	Ahead []string
}

// Status reads from the kernel how far each interface but lo is gated. Of TCX
// programs it knows only when called in the Gate's own network namespace.
func (g *Gate) Status() ([]InterfaceStatus, error) {
	g.attaching.Lock()
	defer g.attaching.Unlock()
	if g.vips.Load() == nil {
		return nil, fmt.Errorf("status of the gate: %w", ErrClosed)
	}
	all, err := links(g.netlink)
	if err != nil {
		return nil, err
	}
	var out []InterfaceStatus
	for _, l := range all {
		s, err := g.statusOf(l)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("status of the gate on %s: %w", l.Attrs().Name, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func (g *Gate) statusOf(l netlink.Link) (InterfaceStatus, error) {
	s := InterfaceStatus{Name: l.Attrs().Name, Index: l.Attrs().Index}
	for _, p := range parents {
		h, err := filters(g.netlink, l, p.parent)
		if err != nil {
			return s, err
		}
		in := h.ours != nil && h.ours.Id == g.kernel.ids[p.direction][framingOf(l)]
		if p.direction == egress {
			s.Egress = in
		} else {
			s.Ingress = in
		}
		for _, a := range append(h.ahead, tcx(s.Index, p.direction)...) {
			s.Ahead = append(s.Ahead, p.name+": "+a)
		}
	}
	return s, nil
}

// tcx names the TCX programs of an interface, which run before clsact (Linux
// 6.6 and later; without rights to ask there is no answer).
func tcx(index int, d direction) []string {
	attach := ebpf.AttachTCXIngress
	if d == egress {
		attach = ebpf.AttachTCXEgress
	}
	found, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: attach})
	if err != nil {
		return nil
	}
	var out []string
	for _, p := range found.Programs {
		out = append(out, fmt.Sprintf("TCX program %d", p.ID))
	}
	return out
}

// Remove takes the gate's filters off every interface of the calling thread's
// network namespace, whichever process attached them, and a clsact qdisc that
// then holds no filter. Every VIP passes from then on: only when none is bound.
//
// It goes on after an error with one interface and returns all of them.
func Remove() error {
	h, err := netlink.NewHandle(netlinkRoute)
	if err != nil {
		return fmt.Errorf("remove the gate: open netlink: %w", err)
	}
	defer h.Close()
	all, err := links(h)
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range all {
		if err := removeFrom(h, l); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("remove the gate from %s: %w", l.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

func removeFrom(h *netlink.Handle, l netlink.Link) error {
	had, others := false, 0
	for _, p := range parents {
		before, err := filters(h, l, p.parent)
		if err != nil {
			return err
		}
		others += before.others
		if before.ours == nil {
			continue
		}
		had = true
		delErr := h.FilterDel(filter(l, p.parent, -1))
		after, err := filters(h, l, p.parent)
		if err != nil {
			return err
		}
		if after.ours != nil { // else it is gone, whoever removed it
			return fmt.Errorf("%s filter is still there: %w", p.name, delErr)
		}
	}
	if !had || others > 0 {
		return nil
	}
	return removeClsact(h, l)
}

// removeClsact removes an empty clsact. Someone who adds a filter at this very
// moment loses it: the kernel knows no "remove if empty".
func removeClsact(h *netlink.Handle, l netlink.Link) error {
	kind, err := clsactKind(h, l)
	if err != nil || kind != "clsact" {
		return err
	}
	return wrap("remove qdisc clsact", h.QdiscDel(clsact(l)))
}
