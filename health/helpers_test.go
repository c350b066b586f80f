package health

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/boottime"
)

func nopLog() *zap.Logger    { return zap.NewNop() }
func bootNow() time.Duration { return boottime.Now() }

// start runs e outside synctest; the function returned ends and awaits it.
func start(t *testing.T, e *Engine) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
