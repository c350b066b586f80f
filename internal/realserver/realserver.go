// Package realserver prepares a host to be a real server behind LVS direct
// routing (DR), IPv4: the director sends packets for the VIP to this host's
// MAC address unchanged, so the host must accept them, and must never answer
// ARP for the VIP itself.
//
// # Guaranteed
//
//   - What was there is written to a state file before anything is changed.
//   - The VIP appears on lo only after arp_ignore and arp_announce were set for
//     `all` and for the interface, and were read back.
//   - Down removes what Up added, nothing else, and restores the values that were
//     there before the first Up. A repeated Up never takes its own values for those.
//   - An Up that fails undoes what it changed; one that was killed half-way is
//     finished by the next Up or undone by Down.
//
// # Not guaranteed
//
//   - Other interfaces of the host are not changed. With arp_ignore=1 on `all`
//     they are quiet too, unless they carry a value of their own between 3 and 7
//     (the kernel takes the larger one); Check reports that.
//   - Run looks once an interval; what another program changes stands until then.
//   - The end of Run leaves everything up, for the connections' sake.
package realserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/sysctl"
)

// DefaultInterval is how often Run looks for drift.
const DefaultInterval = time.Second

// ErrTakenDown ends Run when someone ran Down meanwhile.
var ErrTakenDown = errors.New("the real server was taken down by another command")

// Config says what to prepare. Interval and ProcSys have defaults. Down needs
// neither VIPs nor Interface: it goes by the state file.
type Config struct {
	Logger *zap.Logger
	Kernel fence.Kernel
	// VIPs are put on lo as /32.
	VIPs []netip.Addr
	// Label is shown for them by `ip address` (lo:1), at most 15 bytes; may be empty.
	Label string
	// Interface is the one on which the director's packets arrive.
	Interface string
	// StatePath is the file for what was found; /run/zklvs is the place.
	StatePath string
	// Interval is the time between two looks of Run.
	Interval time.Duration
	// ProcSys is /proc/sys, or a stand-in for tests.
	ProcSys string
}

// Agent does it. Its methods may be called by several processes at once: a lock
// file beside the state file keeps them apart.
type Agent struct {
	c       Config
	log     *zap.Logger
	sysctls *sysctl.Tree
	boot    string
}

// New checks the configuration and changes nothing. Close releases the agent.
func New(c Config) (*Agent, error) {
	if c.Logger == nil || c.Kernel == nil || c.StatePath == "" {
		return nil, errors.New("realserver: Logger, Kernel and StatePath must be set")
	}
	if c.Interval <= 0 {
		c.Interval = DefaultInterval
	}
	if c.ProcSys == "" {
		c.ProcSys = "/proc/sys"
	}
	boot, err := os.ReadFile(filepath.Join(c.ProcSys, "kernel/random/boot_id"))
	if err != nil {
		return nil, fmt.Errorf("read this boot's id: %w", err)
	}
	s, err := sysctl.Open(c.ProcSys)
	if err != nil {
		return nil, err
	}
	return &Agent{c: c, log: c.Logger, sysctls: s, boot: strings.TrimSpace(string(boot))}, nil
}

// Close releases what New opened.
func (a *Agent) Close() error { return a.sysctls.Close() }

// Up prepares the host. Repeated, it finishes what is missing and drops VIPs
// that are no longer configured; otherwise it changes nothing.
func (a *Agent) Up() error {
	err := a.validate()
	if err == nil {
		err = a.locked(a.up)
	}
	if err != nil {
		return fmt.Errorf("real server up: %w", err)
	}
	return nil
}

// validate checks what Up needs.
func (a *Agent) validate() error {
	if len(a.c.VIPs) == 0 {
		return errors.New("expected at least one VIP")
	}
	if a.c.Interface == "lo" {
		return errors.New("interface lo: expected the interface on which the director's packets arrive")
	}
	for i, v := range a.c.VIPs {
		if !v.Is4() {
			return fmt.Errorf("VIP %v: expected an IPv4 address; hide an IPv6 one with `ip -6 address add %v/128 dev lo nodad`, which is all it needs", v, v)
		}
		if err := (fence.VIP{Address: v, Interface: a.c.Interface, Label: a.c.Label}).Validate(); err != nil {
			return err
		}
		if slices.Contains(a.c.VIPs[:i], v) {
			return fmt.Errorf("VIP %v is given twice", v)
		}
	}
	return nil
}

func (a *Agent) up() error {
	if err := a.preflight(); err != nil {
		return err
	}
	old, err := a.load()
	if err != nil {
		return err
	}
	next, err := a.plan(old)
	if err != nil {
		return err
	}
	// Both, until what is no longer wanted is undone.
	if err := a.save(old.union(next)); err != nil {
		return err
	}
	if _, err := a.apply(next); err != nil {
		return errors.Join(err, a.undo(next.minus(old), old))
	}
	if err := a.undo(old.minus(next), next); err != nil {
		return err
	}
	a.log.Info("real server is up", zap.Stringers(logfield.VIP, a.c.VIPs), zap.String(logfield.Interface, a.c.Interface))
	return nil
}

// preflight refuses what cannot work before anything is changed.
func (a *Agent) preflight() error {
	if _, err := a.c.Kernel.Link(a.c.Interface); err != nil {
		return err
	}
	lo, err := a.c.Kernel.Link("lo")
	if err != nil {
		return err
	}
	if !lo.Up {
		return errors.New("interface lo is down: run `ip link set lo up`")
	}
	return nil
}

// plan returns what is wanted, with what was there before: as saved, else as found now.
func (a *Agent) plan(old state) (state, error) {
	next := state{Format: stateFormat, Boot: a.boot}
	for _, name := range sysctlNames(a.c.Interface) {
		s, ok := old.sysctl(name)
		if !ok {
			found, err := a.readSysctl(name)
			if err != nil {
				return state{}, err
			}
			s = savedSysctl{Name: name, Found: found}
		}
		next.Sysctls = append(next.Sysctls, s)
	}
	table, err := a.c.Kernel.Addresses()
	if err != nil {
		return state{}, err
	}
	for _, v := range a.c.VIPs {
		s, ok := old.address(v)
		if !ok {
			s = savedAddress{Address: v, Label: a.c.Label, Found: onLo(table, v)}
		}
		next.Addresses = append(next.Addresses, s)
	}
	return next, nil
}

// apply sets the sysctls, reads them back, and then binds the VIPs on lo. It
// returns what it had to change.
func (a *Agent) apply(s state) (changed []string, err error) {
	for _, saved := range s.Sysctls {
		did, err := a.ensure(saved.Name)
		if err != nil {
			return changed, err
		}
		if did {
			changed = append(changed, saved.Name)
		}
	}
	table, err := a.c.Kernel.Addresses()
	if err != nil {
		return changed, err
	}
	for _, saved := range s.Addresses {
		if onLo(table, saved.Address) {
			continue
		}
		if err := a.c.Kernel.Replace(hidden(saved.Address, saved.Label)); err != nil {
			return changed, err
		}
		changed = append(changed, saved.Address.String())
	}
	return changed, a.verify(s.Addresses, true)
}

// verify asks the kernel's dump whether the addresses are on lo, or gone.
func (a *Agent) verify(all []savedAddress, want bool) error {
	table, err := a.c.Kernel.Addresses()
	if err != nil {
		return err
	}
	for _, s := range all {
		if onLo(table, s.Address) != want {
			return fmt.Errorf("verify: VIP %v on lo: %v, expected %v: someone else changes it", s.Address, !want, want)
		}
	}
	return nil
}

// undo takes back what s says was added or changed, then makes rest the state
// that is saved. If it fails the saved state stays, for another try.
func (a *Agent) undo(s, rest state) error {
	added := slices.DeleteFunc(slices.Clone(s.Addresses), func(s savedAddress) bool { return s.Found })
	if err := a.remove(added); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	for _, saved := range slices.Backward(s.Sysctls) {
		if err := a.sysctls.Restore(below4(saved.Name), saved.Found); err != nil {
			return fmt.Errorf("undo: %w", err)
		}
	}
	return a.save(rest)
}

// remove removes those of the addresses that are on lo, verified.
func (a *Agent) remove(all []savedAddress) error {
	table, err := a.c.Kernel.Addresses()
	if err != nil {
		return err
	}
	for _, s := range all {
		if !onLo(table, s.Address) {
			continue
		}
		if err := a.c.Kernel.Remove(hidden(s.Address, "")); err != nil {
			return err
		}
	}
	return a.verify(all, false)
}

// Down undoes every Up, by what the state file says. Without one it does nothing.
func (a *Agent) Down() error {
	err := a.locked(func() error {
		old, err := a.load()
		if err != nil {
			return err
		}
		if err := a.undo(old, state{}); err != nil {
			return err
		}
		if !old.empty() {
			a.log.Info("real server is down: what was there before is restored")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("real server down: %w", err)
	}
	return nil
}

// Run calls Up and keeps its result against drift until ctx is done; then it
// returns nil and leaves everything up. It returns ErrTakenDown after a Down.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.Up(); err != nil {
		return err
	}
	tick := time.NewTicker(a.c.Interval)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := a.locked(a.keep)
		switch {
		case errors.Is(err, ErrTakenDown):
			return err
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			a.log.Warn("cannot keep the real server up", zap.Error(err))
		}
	}
}

// keep puts back what drifted.
func (a *Agent) keep() error {
	s, err := a.load()
	if err != nil {
		return err
	}
	if s.empty() {
		return ErrTakenDown
	}
	changed, err := a.apply(s)
	if len(changed) > 0 {
		a.log.Warn("put back what someone else changed", zap.Strings("what", changed))
	}
	return err
}

// locked keeps other processes out while f runs.
func (a *Agent) locked(f func() error) error {
	if err := os.MkdirAll(filepath.Dir(a.c.StatePath), 0o755); err != nil {
		return explain(err)
	}
	l, err := os.OpenFile(a.c.StatePath+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return explain(err)
	}
	defer l.Close() // releases the lock
	if err := unix.Flock(int(l.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", l.Name(), err)
	}
	return f()
}

// hidden is a VIP as it is bound on a real server.
func hidden(vip netip.Addr, label string) fence.Address {
	return fence.Address{Prefix: netip.PrefixFrom(vip, 32), Interface: "lo", Label: label, Valid: fence.Forever}
}

// onLo reports whether a VIP is bound as a /32 on lo.
func onLo(table []fence.Address, vip netip.Addr) bool {
	return slices.ContainsFunc(table, func(a fence.Address) bool {
		return a.Interface == "lo" && a.Prefix == netip.PrefixFrom(vip, 32)
	})
}
