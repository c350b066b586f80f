package lab

import (
	"context"
	"fmt"
	"time"
)

// pollInterval is how often a condition is looked at. It is short next to any
// figure that is measured here (milliseconds) and cheap next to a process start.
const pollInterval = 10 * time.Millisecond

// WaitUntil calls condition until it returns nil, and gives up with ctx: the
// error then names what was waited for and why it was not so at last.
func WaitUntil(ctx context.Context, what string, condition func() error) error {
	return waitEvery(ctx, pollInterval, what, condition)
}

func waitEvery(ctx context.Context, interval time.Duration, what string, condition func() error) error {
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w; at last: %w", what, context.Cause(ctx), err)
		case <-time.After(interval):
		}
	}
}
