package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/zklvs/zklvs/internal/lab"
)

// keepalivedPair is two hosts with keepalived: a master of priority 100 and a backup
// of priority 50, as in the notes. The master takes back what it lost as soon as it
// can, so that every fault strikes the master.
type keepalivedPair struct {
	label  string
	config lab.KeepalivedConfig // what both share

	hosts   [2]*lab.Host // master, backup
	daemons [2]*lab.Process
}

func (p *keepalivedPair) start(ctx context.Context, n *network, last byte, sysctls []string) (err error) {
	prefix := map[string]string{Notes: "peer", Tuned: "tuned", Synced: "synced"}[p.label]
	p.config.VIP = netip.PrefixFrom(vips[p.label], 24)
	for i := range p.hosts {
		if p.hosts[i], err = n.addDirector(fmt.Sprintf("%s%d", prefix, i+1), last+byte(i), sysctls); err != nil {
			return err
		}
		if err := p.run(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// run starts the daemon of the master (0) or backup (1).
func (p *keepalivedPair) run(ctx context.Context, i int) (err error) {
	c := p.config
	c.State, c.Priority = "MASTER", 100
	if i == 1 {
		c.State, c.Priority = "BACKUP", 50
	}
	ctx, cancel := within(ctx, patience)
	defer cancel()
	p.daemons[i], err = lab.StartKeepalived(ctx, p.hosts[i], c)
	return err
}

func (p *keepalivedPair) name() string    { return p.label }
func (p *keepalivedPair) vip() netip.Addr { return p.config.VIP.Addr() }

func (p *keepalivedPair) suffers(f fault) bool { return f != killedBoth && f != frozenBoth }

func (p *keepalivedPair) ready(ctx context.Context) (holder, heir *lab.Host, err error) {
	ctx, cancel := within(ctx, patience)
	defer cancel()
	err = lab.WaitUntil(ctx, p.label+" is ready", func() error {
		for i, want := range []bool{true, false} {
			if bound, err := p.hosts[i].Bound("eth0", p.vip()); err != nil || bound != want {
				return errors.Join(err, fmt.Errorf("on %s the VIP is bound: %t", p.hosts[i].Name(), bound))
			}
			if !p.daemons[i].Running() {
				return fmt.Errorf("on %s it does not run", p.hosts[i].Name())
			}
		}
		return nil
	})
	return p.hosts[0], p.hosts[1], err
}

func (p *keepalivedPair) strike(f fault, holder *lab.Host) error {
	switch f {
	case killed:
		return holder.Crash()
	case frozen:
		return holder.Freeze()
	case cutOff:
		return holder.Cut("eth0")
	case stopped:
		return p.daemons[0].Signal(syscall.SIGTERM)
	}
	return fmt.Errorf("%s does not suffer %s", p.label, f)
}

func (p *keepalivedPair) repair(ctx context.Context, f fault, holder *lab.Host) error {
	switch f {
	case frozen:
		return holder.Thaw()
	case cutOff:
		return holder.Heal("eth0")
	case stopped:
		ending, cancel := within(ctx, patience)
		defer cancel()
		if _, err := p.daemons[0].Wait(ending); err != nil {
			return err
		}
	}
	return p.run(ctx, 0)
}
