package gate

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Ours among the filters of an interface. The priority is the first there is,
// for a filter ahead of ours may end the list; the handle and the name tell ours
// from others' at the same priority.
const (
	filterPriority = 1
	filterHandle   = 0x7a6b6c76 // "zklv"
	filterName     = "zklvs-gate"
)

// parents are the hooks of clsact. Egress comes first: it alone stops every answer.
var parents = [...]struct {
	direction direction
	parent    uint32
	name      string
}{
	{egress, netlink.HANDLE_MIN_EGRESS, "egress"},
	{ingress, netlink.HANDLE_MIN_INGRESS, "ingress"},
}

// links returns all interfaces but lo.
func links(h *netlink.Handle) ([]netlink.Link, error) {
	all, err := h.LinkList()
	for tries := 0; errors.Is(err, netlink.ErrDumpInterrupted) && tries < 10; tries++ {
		all, err = h.LinkList()
	}
	if err != nil {
		return nil, fmt.Errorf("gate: list interfaces: %w", err)
	}
	var out []netlink.Link
	for _, l := range all {
		if !isLoopback(l) {
			out = append(out, l)
		}
	}
	return out, nil
}

func isLoopback(l netlink.Link) bool { return l.Attrs().Flags&net.FlagLoopback != 0 }

// hook is what one clsact hook of an interface holds.
type hook struct {
	ours   *netlink.BpfFilter
	ahead  []string // filters of others that come before ours, or before all if ours is missing
	others int
}

func filters(h *netlink.Handle, l netlink.Link, parent uint32) (hook, error) {
	var out hook
	list, err := h.FilterList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: l.Attrs().Index}}, parent)
	if err != nil {
		return out, fmt.Errorf("list filters: %w", err)
	}
	for _, f := range list {
		if b, ok := f.(*netlink.BpfFilter); ok && isOurs(b) {
			out.ours = b
			continue
		}
		out.others++
		if out.ours == nil && f.Attrs().Priority <= filterPriority {
			out.ahead = append(out.ahead, describe(f))
		}
	}
	return out, nil
}

func isOurs(b *netlink.BpfFilter) bool {
	return b.Handle == filterHandle && b.Priority == filterPriority && strings.HasPrefix(b.Name, filterName)
}

func describe(f netlink.Filter) string {
	s := fmt.Sprintf("%s filter, priority %d, handle %#x", f.Type(), f.Attrs().Priority, f.Attrs().Handle)
	if b, ok := f.(*netlink.BpfFilter); ok && b.Name != "" {
		s += ", " + b.Name
	}
	return s
}

// framingOf says how frames on an interface begin.
func framingOf(l netlink.Link) framing {
	if l.Attrs().EncapType == "ether" { // ARPHRD_ETHER
		return ethernet
	}
	return network
}

// Ensure attaches to every interface but lo that lacks our filters. It goes on
// after an error with one interface and returns all of them: an interface that
// it names is not, or not fully, gated.
func (g *Gate) Ensure() error {
	_, err := g.ensureAll()
	return err
}

// ensureAll also returns the outcome by interface.
func (g *Gate) ensureAll() (map[int]error, error) {
	g.attaching.Lock()
	defer g.attaching.Unlock()
	if g.vips.Load() == nil {
		return nil, fmt.Errorf("attach the gate: %w", ErrClosed)
	}
	all, err := links(g.netlink)
	if err != nil {
		return nil, err
	}
	outcome := map[int]error{}
	var errs []error
	for _, l := range all {
		_, err := g.ensure(l)
		outcome[l.Attrs().Index] = err
		errs = append(errs, err)
	}
	return outcome, errors.Join(errs...)
}

// errNoEgress says that an interface has a qdisc ingress, which occupies the
// place of clsact and has no egress hook.
var errNoEgress = errors.New("someone's qdisc ingress is where clsact should be: replace it with clsact")

// ensure attaches what an interface lacks, and says whether it lacked something.
func (g *Gate) ensure(l netlink.Link) (changed bool, err error) {
	var errs []error
	for _, p := range parents {
		did, err := g.ensureHook(l, p.direction, p.parent)
		if gone(err) {
			return false, nil
		}
		changed = changed || did
		if err != nil {
			errs = append(errs, fmt.Errorf("gate %s %s: %w", l.Attrs().Name, p.name, err))
		}
	}
	return changed, errors.Join(errs...)
}

func (g *Gate) ensureHook(l netlink.Link, d direction, parent uint32) (bool, error) {
	want := framingOf(l)
	h, err := filters(g.netlink, l, parent)
	if err != nil {
		return false, err
	}
	if h.ours != nil && h.ours.Id == g.kernel.ids[d][want] {
		return false, nil
	}
	if err := addClsact(g.netlink, l, d); err != nil {
		return false, err
	}
	err = g.netlink.FilterReplace(filter(l, parent, g.kernel.programs[d][want].FD()))
	if err != nil {
		return false, explainFilter(err, h)
	}
	return true, nil
}

// addClsact makes sure that the hook exists.
func addClsact(h *netlink.Handle, l netlink.Link, d direction) error {
	err := h.QdiscAdd(clsact(l))
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: add qdisc clsact: %w: this kernel is built without CONFIG_NET_SCH_INGRESS", ErrNotSupported, err)
	}
	if !errors.Is(err, unix.EEXIST) {
		return wrap("add qdisc clsact", err)
	}
	kind, err := clsactKind(h, l)
	if err == nil && kind != "clsact" && d == egress {
		return errNoEgress
	}
	return err
}

// clsactKind returns the kind of the qdisc in the place of clsact, "" for none.
func clsactKind(h *netlink.Handle, l netlink.Link) (string, error) {
	all, err := h.QdiscList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: l.Attrs().Index}})
	if err != nil {
		return "", fmt.Errorf("list qdiscs: %w", err)
	}
	for _, q := range all {
		if q.Attrs().Parent == netlink.HANDLE_CLSACT {
			return q.Type(), nil
		}
	}
	return "", nil
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// explainFilter says why the kernel refused our filter beside those of h.
func explainFilter(err error, h hook) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: add filter: %w: this kernel is built without CONFIG_NET_CLS_BPF", ErrNotSupported, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: add filter: %w: needs CAP_NET_ADMIN", ErrNotSupported, err)
	case len(h.ahead) > 0:
		return fmt.Errorf("add filter: %w: priority %d is taken (%s): move that to a later one",
			err, filterPriority, strings.Join(h.ahead, "; "))
	}
	return fmt.Errorf("add filter: %w", err)
}

// gone reports whether err says that the interface is no more.
func gone(err error) bool { return errors.Is(err, unix.ENODEV) }

// filter is ours on one hook. fd is -1 to name it without a program.
func filter(l netlink.Link, parent uint32, fd int) *netlink.BpfFilter {
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: l.Attrs().Index, Parent: parent,
			Handle: filterHandle, Priority: filterPriority, Protocol: unix.ETH_P_ALL,
		},
		Fd: fd, Name: filterName, DirectAction: true,
	}
}

func clsact(l netlink.Link) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}
