package director

import (
	"context"
	"time"

	"github.com/zklvs/zklvs/internal/spec"
)

// beat has something done at an interval, and whenever it is asked for.
type beat struct {
	kicked chan struct{}
	every  chan time.Duration
}

func newBeat() beat {
	return beat{kicked: make(chan struct{}, 1), every: make(chan time.Duration, 1)}
}

// loop calls f until ctx ends.
func (b beat) loop(ctx context.Context, f func()) error {
	tick := time.NewTicker(spec.DefaultCluster().IPVSCheckInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case d := <-b.every:
			tick.Reset(d)
			continue
		case <-tick.C:
		case <-b.kicked:
		}
		f()
	}
}

// interval sets the time between two beats that nobody asks for.
func (b beat) interval(d time.Duration) {
	select {
	case <-b.every: // drop an older one
	default:
	}
	b.every <- d
}

func (b beat) kick() {
	select {
	case b.kicked <- struct{}{}:
	default:
	}
}
