package nft

import (
	"fmt"

	"github.com/google/nftables"

	"github.com/zklvs/zklvs/fence/gate"
)

// Status reads from the kernel how far each interface but lo is gated. Of what
// runs before the chains it knows nothing.
func (g *Gate) Status() ([]gate.InterfaceStatus, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fmt.Errorf("status of the gate: %w", gate.ErrClosed)
	}
	chains, err := g.kernel.chains()
	if err != nil {
		return nil, fmt.Errorf("status of the gate: %w", err)
	}
	links, err := g.list()
	if err != nil {
		return nil, err
	}
	var out []gate.InterfaceStatus
	for _, l := range links {
		s := gate.InterfaceStatus{Name: l.Attrs().Name, Index: l.Attrs().Index}
		s.Egress, s.Ingress = chains[baseName(0, s.Index)], chains[baseName(1, s.Index)]
		out = append(out, s)
	}
	return out, nil
}

// Egress reports whether the kernel has the hook: without it not everything is
// gated, see the package's text.
func (g *Gate) Egress() bool { return g.egress }

// Remove takes the table off the calling thread's network namespace, whichever
// process made it. Every VIP passes from then on: only when none is bound. It is
// no error if there is none.
func Remove() error {
	c, err := dial()
	if err != nil {
		return fmt.Errorf("remove the gate: %w", err)
	}
	defer c.close()
	there, err := c.exists(tableName)
	if err != nil || !there {
		return wrap("remove the gate", err)
	}
	c.DelTable(table)
	if err := c.commit(); err != nil && !missing(err) {
		return fmt.Errorf("remove the gate: %w", err)
	}
	return nil
}

// Supported returns nil if this gate can be had here, by making a table with a
// chain on lo of the calling thread's network namespace for a moment. Whether
// egress can be gated too, Egress says later.
//
// Errors: gate.ErrNotSupported, with reason and remedy.
func Supported() error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	_, err = probe(c)
	return err
}

// probe tries what the gate needs, on lo, and whether there is an egress hook.
func probe(c *conn) (egress bool, err error) {
	if err := tryHook(c, nftables.ChainHookIngress); err != nil {
		return false, fmt.Errorf("%w: %w", gate.ErrNotSupported, explain(err))
	}
	return tryHook(c, nftables.ChainHookEgress) == nil, nil
}

func tryHook(c *conn, hook *nftables.ChainHook) error {
	t := &nftables.Table{Name: tableName + "_probe", Family: nftables.TableFamilyNetdev}
	c.AddTable(t)
	set := &nftables.Set{Table: t, ID: 1, Name: "s", KeyType: nftables.TypeIPAddr, HasTimeout: true}
	if err := c.AddSet(set, nil); err != nil {
		return err
	}
	c.AddChain(&nftables.Chain{
		Name: "c", Table: t, Type: nftables.ChainTypeFilter, Hooknum: hook,
		Priority: nftables.ChainPriorityFirst, Device: "lo",
	})
	if err := c.commit(); err != nil {
		return err
	}
	c.DelTable(t)
	if err := c.commit(); err != nil {
		return fmt.Errorf("remove table %s: %w", t.Name, err)
	}
	return nil
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
