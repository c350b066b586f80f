// Package leaktest fails a test that leaves goroutines or descriptors behind.
// It is for tests only.
package leaktest

import (
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// patience is how long what was ended may take to go.
const patience = 30 * time.Second

// Check makes the test fail if, at its end and after the cleanups registered
// later, the process has more goroutines or descriptors than now. Tests that run
// beside it must have none that come and go.
func Check(t *testing.T) {
	t.Helper()
	openPoller(t)
	percent := debug.SetGCPercent(-1) // a collection would close what was forgotten
	goroutines, descriptors := runtime.NumGoroutine(), countDescriptors(t)
	t.Cleanup(func() {
		waitUntil(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= goroutines })
		waitUntil(t, "no descriptor left", func() bool { return countDescriptors(t) <= descriptors })
		debug.SetGCPercent(percent)
	})
}

// openPoller makes the runtime open its own descriptors before they are counted.
func openPoller(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func countDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func waitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline, again := time.NewTimer(patience), time.NewTicker(2*time.Millisecond)
	defer deadline.Stop()
	defer again.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("waited %v in vain: %s", patience, what)
		case <-again.C:
		}
	}
}
