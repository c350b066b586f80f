package watchdog

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

// feedings is how many feedings fit into a timeout: so many minus one may fail.
const feedings = 4

// Run feeds every quarter of the timeout, at once for the first time, while
// healthy says so of the time on CLOCK_BOOTTIME; else the machine resets, one
// timeout after the last feeding. It logs when it stops feeding and when it
// goes on. It returns nil when ctx is done and leaves the watchdog counting:
// Close stops it. Where it is not active, Run only waits.
//
// healthy is called from this goroutine and must not block.
func (w *Watchdog) Run(ctx context.Context, healthy func(now time.Duration) bool) error {
	if !w.Active() {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(w.granted / feedings)
	defer tick.Stop()
	for last := (outcome{fed: true}); ; {
		now := w.attempt(healthy)
		w.report(last, now)
		last = now
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// outcome is how one attempt to feed ended.
type outcome struct {
	fed bool
	why string
}

func (w *Watchdog) attempt(healthy func(time.Duration) bool) (o outcome) {
	if !healthy(w.config.Now()) {
		o.why = "not healthy"
	} else if err := w.Feed(); err != nil {
		o.why = err.Error()
	} else {
		o.fed = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fed = o.fed
	return o
}

// report logs news only.
func (w *Watchdog) report(before, now outcome) {
	device := zap.String("device", w.config.Device)
	switch {
	case now == before:
	case now.fed:
		w.config.Logger.Info("the watchdog is fed again", device)
	default:
		w.config.Logger.Error("the watchdog is not fed: this machine resets unless that changes",
			device, zap.String(logfield.Reason, now.why), zap.Duration("within", w.granted))
	}
}
