package ipvshost

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/ipvs"
)

// ErrConflict says that a sync daemon runs that we did not start, with other
// settings than ours: it is left alone.
var ErrConflict = errors.New("another program started it")

// applyDaemons starts, restarts and stops sync daemons.
func (h *Host) applyDaemons(want []ipvs.Daemon) error {
	if h.table == nil {
		return nil
	}
	running, err := h.table.Daemons()
	if err != nil {
		return fmt.Errorf("list the sync daemons of IPVS: %w", err)
	}
	for _, which := range []ipvs.DaemonState{ipvs.Master, ipvs.Backup} {
		e := h.applyDaemon(which, pick(want, which), pick(running, which))
		if e != nil {
			err = errors.Join(err, fmt.Errorf("sync daemon (%v): %w", which, e))
		}
	}
	return err
}

// pick returns the daemon of a state, nil if there is none.
func pick(all []ipvs.Daemon, which ipvs.DaemonState) *ipvs.Daemon {
	i := slices.IndexFunc(all, func(d ipvs.Daemon) bool { return d.State == which })
	if i < 0 {
		return nil
	}
	return &all[i]
}

// applyDaemon does what one daemon needs. runs is what the kernel shows; ours is
// only what the state file names and the kernel shows as it was asked for.
func (h *Host) applyDaemon(which ipvs.DaemonState, want, runs *ipvs.Daemon) error {
	saved, named := h.found.daemon(which)
	ours := named && runs != nil && serves(saved.daemon(), *runs)
	switch {
	case want == nil && ours:
		return h.stopDaemon(which)
	case want == nil && named: // it is gone, or another program's by now
		return h.save(h.found.without(which))
	case want == nil:
		return nil
	case runs == nil:
		return h.startDaemon(*want)
	case ours && serves(*want, *runs):
		return h.keepDaemon(*want, saved)
	case serves(*want, *runs): // as it should be; whoever started it may stop it
		h.note(which.String(), true)
		return nil
	case ours:
		return h.restartDaemon(*want, "other settings are wanted")
	}
	h.note(which.String(), false)
	return fmt.Errorf("it runs with %s, not with %s: %w; stop it with `ipvsadm --stop-daemon %v`, and see that nothing starts it again",
		describe(*runs), describe(*want), ErrConflict, which)
}

// keepDaemon restarts a daemon of ours whose interface was made anew: it listens
// on the one that is gone.
func (h *Host) keepDaemon(want ipvs.Daemon, saved savedDaemon) error {
	link, err := h.c.Links(want.Interface)
	if err != nil {
		return noInterface(err)
	}
	if link.Index != saved.Index {
		return h.restartDaemon(want, "its interface was made anew")
	}
	h.note(want.State.String(), true)
	return nil
}

func noInterface(err error) error {
	return fmt.Errorf("%w: configure it, or name another one in ipvs.sync.interface of the cluster's document", err)
}

// startDaemon starts what does not run, and says so first in the state file.
func (h *Host) startDaemon(want ipvs.Daemon) error {
	if h.note(want.State.String(), false) {
		h.log.Warn("another program stopped a sync daemon: starting it again", zap.Stringer("daemon", want.State))
	}
	link, err := h.c.Links(want.Interface)
	if err != nil {
		return noInterface(err)
	}
	if !link.Up {
		return fmt.Errorf("interface %s is down: it is started when it is up", want.Interface)
	}
	next := h.found.without(want.State)
	next.Daemons = append(next.Daemons, saveDaemon(want, link.Index))
	if err := h.save(next); err != nil {
		return err
	}
	if err := h.table.StartDaemon(want); err != nil {
		return fmt.Errorf("start it with %s: %w", describe(want), err)
	}
	h.note(want.State.String(), true)
	h.log.Info("started a sync daemon", zap.Stringer("daemon", want.State), zap.String(logfield.Interface, want.Interface), zap.Uint8("id", want.ID))
	return nil
}

func (h *Host) stopDaemon(which ipvs.DaemonState) error {
	if err := h.table.StopDaemon(which); err != nil && !errors.Is(err, ipvs.ErrNoDaemon) {
		return fmt.Errorf("stop it: %w", err)
	}
	h.note(which.String(), false)
	h.log.Info("stopped a sync daemon", zap.Stringer("daemon", which))
	return h.save(h.found.without(which))
}

func (h *Host) restartDaemon(want ipvs.Daemon, reason string) error {
	h.log.Info("restarting a sync daemon", zap.Stringer("daemon", want.State), zap.String(logfield.Reason, reason))
	if err := h.stopDaemon(want.State); err != nil {
		return err
	}
	return h.startDaemon(want)
}

// minBackupMaxLen is the least buffer of a backup: the kernel takes no smaller one
// (start_sync_thread in net/netfilter/ipvs/ip_vs_sync.c).
const minBackupMaxLen = 1024

// serves reports whether a daemon runs as it was asked for. What was not asked
// for is the kernel's choice.
func serves(want, runs ipvs.Daemon) bool {
	if want.State == ipvs.Backup && want.MaxLen != 0 {
		want.MaxLen = max(want.MaxLen, minBackupMaxLen)
	}
	return want.State == runs.State && want.Interface == runs.Interface && want.ID == runs.ID &&
		(want.MaxLen == 0 || want.MaxLen == runs.MaxLen) && (want.Group == netip.Addr{} || want.Group == runs.Group) &&
		(want.Port == 0 || want.Port == runs.Port) && (want.TTL == 0 || want.TTL == runs.TTL)
}

// describe writes a daemon as ipvsadm's options do.
func describe(d ipvs.Daemon) string {
	s := fmt.Sprintf("--mcast-interface %s --syncid %d", d.Interface, d.ID)
	if d.MaxLen != 0 {
		s += fmt.Sprintf(" --sync-maxlen %d", d.MaxLen)
	}
	if d.Group.IsValid() {
		s += fmt.Sprintf(" --mcast-group %v", d.Group)
	}
	if d.Port != 0 {
		s += fmt.Sprintf(" --mcast-port %d", d.Port)
	}
	if d.TTL != 0 {
		s += fmt.Sprintf(" --mcast-ttl %d", d.TTL)
	}
	return s
}
