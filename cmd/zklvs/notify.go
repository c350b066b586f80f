package main

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// notifier tells systemd how the daemon is (sd_notify(3)). Without systemd it
// does nothing.
type notifier struct {
	log   *zap.Logger
	alive func() bool // the same proof that feeds the machine's watchdog
}

// run tells that the daemon is ready, and keeps its watchdog fed (WatchdogSec=)
// while it is alive, until ctx ends.
func (n notifier) run(ctx context.Context) error {
	n.tell(daemon.SdNotifyReady)
	defer n.tell(daemon.SdNotifyStopping)
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("systemd's watchdog is not fed", zap.Error(err))
	}
	if every == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	for fed := true; ; {
		alive := n.alive()
		if alive {
			n.tell(daemon.SdNotifyWatchdog)
		}
		if fed && !alive {
			n.log.Error("systemd's watchdog is not fed any more: something may be bound beyond its lease, or the loop is stuck")
		}
		fed = alive
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (n notifier) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("systemd cannot be told", zap.String("state", state), zap.Error(err))
	}
}
