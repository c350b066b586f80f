package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/internal/logfield"
)

// inherit reads what an earlier life's table gates.
func (g *Gate) inherit() error {
	there, err := g.kernel.exists(tableName)
	if err != nil || !there {
		return err
	}
	for _, f := range families {
		g.kernel.expect()
		elements, err := g.kernel.GetSetElements(copyOf(setGated[f]))
		if missing(err) {
			continue // of another version, or half removed
		}
		if err != nil {
			g.kernel.drain()
			return fmt.Errorf("take over from an earlier life: %w", err)
		}
		for _, e := range elements {
			if a, ok := netip.AddrFromSlice(e.Key); ok {
				g.vips[a] = &vip{}
			}
		}
	}
	return nil
}

// rebuild puts the whole table in place of whatever is there in one
// transaction, with what is gated, shut. What was open is to be opened again.
func (g *Gate) rebuild() error {
	there, err := g.kernel.exists(tableName)
	if err != nil {
		return err
	}
	for range attempts { // an interface may vanish between list and commit
		links, listErr := g.list()
		if listErr != nil {
			return listErr
		}
		if err = g.put(there, links); err == nil {
			return nil
		}
	}
	if there {
		return fmt.Errorf("replace the table: %w", err)
	}
	return g.put(false, nil) // Ensure names the interface that is at fault
}

func (g *Gate) put(replace bool, links []netlink.Link) error {
	if replace {
		g.kernel.DelTable(table)
	}
	g.kernel.AddTable(table)
	for _, s := range sets() {
		if err := g.kernel.AddSet(s, nil); err != nil {
			return fmt.Errorf("describe set %s: %w", s.Name, err)
		}
	}
	b := builder{g.kernel}
	b.shared()
	var addrs []netip.Addr
	for a, v := range g.vips {
		addrs = append(addrs, a)
		g.queueExempt(a, nil, v.macs)
	}
	g.queueGated(addrs)
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
		for h := range hooks {
			if g.has(h) {
				b.base(h, l.Attrs().Index, l.Attrs().Name)
			}
		}
	}
	if err := g.kernel.commit(); err != nil {
		return fmt.Errorf("%w: make table %s: %w", gate.ErrNotSupported, tableName, err)
	}
	g.names = names
	for _, v := range g.vips {
		v.open = false
	}
	return nil
}

// has reports whether the kernel has a hook.
func (g *Gate) has(h int) bool { return g.egress || hooks[h].hook != nftables.ChainHookEgress }

// list returns all interfaces but lo.
func (g *Gate) list() ([]netlink.Link, error) {
	all, err := g.links.LinkList()
	for tries := 0; errors.Is(err, netlink.ErrDumpInterrupted) && tries < 10; tries++ {
		all, err = g.links.LinkList()
	}
	if err != nil {
		return nil, fmt.Errorf("nft gate: list interfaces: %w", err)
	}
	var out []netlink.Link
	for _, l := range all {
		if l.Attrs().Flags&net.FlagLoopback == 0 {
			out = append(out, l)
		}
	}
	return out, nil
}

// Ensure puts chains on every interface but lo that lacks them, and the whole
// table back if someone removed it or a part of it. It goes on after an error
// with one interface and returns all of them: an interface that it names is not,
// or not fully, gated.
func (g *Gate) Ensure() error {
	_, err := g.ensure()
	return err
}

// ensure also returns the outcome by interface.
func (g *Gate) ensure() (map[int]error, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fmt.Errorf("attach the gate: %w", gate.ErrClosed)
	}
	chains, err := g.kernel.chains()
	if err != nil {
		return nil, fmt.Errorf("attach the gate: %w", err)
	}
	if !whole(chains) {
		return nil, g.restore()
	}
	links, err := g.list()
	if err != nil {
		return nil, err
	}
	outcome := map[int]error{}
	var errs []error
	for _, l := range links {
		err := g.cover(l, chains)
		outcome[l.Attrs().Index] = err
		errs = append(errs, err)
	}
	g.sweep(chains, outcome)
	return outcome, errors.Join(errs...)
}

// whole reports whether the chains that all interfaces share are there.
func whole(chains map[string]bool) bool {
	for _, s := range sides {
		if !chains[s.direction+s.tagged] || !chains[s.direction+"_nd"+s.tagged] {
			return false
		}
	}
	return true
}

// restore makes the table anew and opens what is to be open.
func (g *Gate) restore() error {
	if err := g.rebuild(); err != nil {
		return err
	}
	g.log.Error("someone removed the gate's table: it is back", zap.String("table", "netdev "+tableName))
	var errs []error
	for a, v := range g.vips {
		if err := g.apply(a, v); err != nil {
			errs = append(errs, fmt.Errorf("open %v again: %w", a, err))
		}
	}
	return errors.Join(errs...)
}

// cover puts base chains on one interface. Those of an interface that changed
// its name are made anew: from Linux 6.16 on they stay with the name.
func (g *Gate) cover(l netlink.Link, chains map[string]bool) error {
	index, name := l.Attrs().Index, l.Attrs().Name
	renamed := g.names[index] != name
	var errs []error
	for h := range hooks {
		chain := baseName(h, index)
		if !g.has(h) || chains[chain] && !renamed {
			continue
		}
		b := builder{g.kernel}
		if chains[chain] {
			g.kernel.DelChain(b.chain(chain))
		}
		b.base(h, index, name)
		if err := g.kernel.commit(); err != nil && !g.vanished(index) {
			errs = append(errs, fmt.Errorf("gate %s %s: %w", name, strings.TrimSuffix(hooks[h].prefix, "_"), err))
		}
	}
	if len(errs) == 0 {
		g.names[index] = name
	}
	return errors.Join(errs...)
}

func (g *Gate) vanished(index int) bool {
	_, err := g.links.LinkByIndex(index)
	return errors.As(err, &netlink.LinkNotFoundError{}) || errors.Is(err, unix.ENODEV)
}

// sweep removes chains of interfaces that are no more. Kernels before 6.16 do.
func (g *Gate) sweep(chains map[string]bool, there map[int]error) {
	for name := range chains {
		index, ok := indexOf(name)
		if _, live := there[index]; !ok || live {
			continue
		}
		delete(g.names, index)
		g.kernel.DelChain(builder{}.chain(name))
		if err := g.kernel.commit(); err != nil && !missing(err) {
			g.log.Warn("cannot remove the chain of an interface that is gone", zap.String("chain", name), zap.Error(err))
		}
	}
}

// indexOf returns the interface of a base chain of ours.
func indexOf(chain string) (int, bool) {
	for _, h := range hooks {
		if number, ok := strings.CutPrefix(chain, h.prefix); ok {
			index, err := strconv.Atoi(number)
			return index, err == nil
		}
	}
	return 0, false
}

// complain logs an error of an interface when it is news.
func (g *Gate) complain(index int, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	g.mu.Lock()
	news := g.failing[index] != text
	g.failing[index] = text
	g.mu.Unlock()
	if news && err != nil {
		g.log.Error("an interface is not fully gated: it may answer for a VIP", zap.Int(logfield.Interface, index), zap.Error(err))
	}
}
