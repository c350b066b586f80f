package watchdog_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const wrapper = "../../deploy/kernel/with-ipvs"

// panicked is what with-ipvs returns when the guest ended without a status.
const panicked = 125

// TestWatchdogResetsTheMachine boots a user-mode Linux for each scene and looks
// from outside whether, and when, softdog ended it.
func TestWatchdogResetsTheMachine(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP: with-ipvs needs root: run make test as root")
	}
	if _, err := exec.LookPath("linux.uml"); err != nil {
		t.Skip("SKIP: user-mode-linux is not installed, and no other machine here may be reset: apt-get install user-mode-linux")
	}
	program := buildWithoutRace(t)
	for name, s := range scenes {
		t.Run("it "+name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command(wrapper, program)
			cmd.Env = append(os.Environ(), "ZKLVS_KERNEL=uml", "ZKLVS_MEM=512M", "ZKLVS_OUT="+dir, sceneVariable+"="+name)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			err := cmd.Run()
			exit := (*exec.ExitError)(nil)
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			lived := readLog(t, filepath.Join(dir, "log"), stderr.String())
			checkScene(t, s, cmd.ProcessState.ExitCode(), stderr.String(), lived)
		})
	}
}

// checkScene: fed up to a quarter of the timeout before the act, the machine
// ends a timeout after that; a panic and a busy host take their time.
func checkScene(t *testing.T, s scene, status int, stderr string, lived time.Duration) {
	t.Helper()
	t.Logf("the machine lived %v after the act, with a timeout of %v", lived, timeout)
	if !s.resets {
		if status != 0 || lived < 2*timeout {
			t.Errorf("status %d, stderr: %s", status, stderr)
		}
		return
	}
	// The wrapper shows the console's end: the message, or the stack.
	byDog := strings.Contains(stderr, "Software Watchdog Timer expired") || strings.Contains(stderr, "softdog_fire")
	if status != panicked || !byDog {
		t.Fatalf("status %d, stderr: %s", status, stderr)
	}
	if lived < timeout/2 || lived > timeout+3*time.Second {
		t.Errorf("the machine ended %v after the act, want about %v", lived, timeout)
	}
}

// readLog returns how long after the act the guest still wrote.
func readLog(t *testing.T, path, stderr string) time.Duration {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("the guest came to no act: %v; stderr: %s", err, stderr)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	var first, last int64
	if _, err := fmt.Sscan(lines[0]+" "+lines[len(lines)-1], &first, &last); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
	return time.Duration(last - first)
}

// buildWithoutRace builds this test program once more: with the race detector it
// would not run in the guest.
func buildWithoutRace(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "scene")
	cmd := exec.Command("go", "test", "-c", "-race=false", "-o", program, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the test program: %v\n%s", err, out)
	}
	return program
}
