package zk

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/election"
)

// settlePause is left between two tries while ZooKeeper cannot be asked.
const settlePause = 50 * time.Millisecond

// Settle settles a lock of a director that no longer answers under it, with a
// session of the caller's own, and returns how that ended. Until ctx ends it
// tries again what fails.
func Settle(ctx context.Context, s *Session, t Tree, log *zap.Logger, settle *election.Settle) (string, error) {
	q := newRequests(s, t, log)
	for {
		r, more := settle.Next()
		if !more {
			return settle.Outcome(), nil
		}
		if _, err := s.WaitConnected(ctx); err != nil {
			return "", err
		}
		reply := q.serve(s.State().ID, r)
		settle.Replied(reply)
		if reply.Outcome == election.OutcomeOK {
			continue
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(settlePause):
		}
	}
}
