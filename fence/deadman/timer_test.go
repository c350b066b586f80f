package deadman_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/deadman"
	"github.com/zklvs/zklvs/internal/boottime"
)

// tooLate is no promise of the kernel: only that the signal is the timer's.
const tooLate = 5 * time.Second

func TestTimer(t *testing.T)       { everyBehavior(t) }
func TestKernelTimer(t *testing.T) { everyBehavior(t) }

func everyBehavior(t *testing.T) {
	for name := range behaviors {
		t.Run(name, func(t *testing.T) {
			c := start(t, name)
			status, late := c.end()
			if c.at == 0 {
				if status.ExitStatus() != survived {
					t.Errorf("it ended with %v, want exit status %d", status, survived)
				}
				return
			}
			checkKilled(t, status, late)
		})
	}
}

func checkKilled(t *testing.T, status syscall.WaitStatus, late time.Duration) {
	t.Helper()
	if status.Signal() != unix.SIGKILL {
		t.Fatalf("it ended with status %#x, want SIGKILL", status)
	}
	if late < 0 || late > tooLate {
		t.Errorf("killed %v after its time", late)
	}
}

func TestTimerKillsAStoppedProcess(t *testing.T)       { stopped(t) }
func TestKernelTimerKillsAStoppedProcess(t *testing.T) { stopped(t) }

func stopped(t *testing.T) {
	const runs = 20
	var all []time.Duration
	for i := range runs {
		name := "armed"
		if i%4 == 3 {
			name = "threads busy and blocked"
		}
		c := start(t, name)
		c.stop()
		status, late := c.end()
		checkKilled(t, status, late)
		all = append(all, late)
	}
	slices.Sort(all)
	t.Logf("killed after its time, %d runs: min %v, median %v, max %v", runs, all[0], all[runs/2], all[runs-1])
}

func TestFirstProcessIsImmune(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP: a PID namespace needs root")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=pid 1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	out, err := cmd.Output()
	if want := deadman.ErrImmune.Error() + "\n"; string(out) != want {
		t.Errorf("it said %q, want %q", out, want)
	}
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) || exit.ExitCode() != survived {
		t.Errorf("it ended with %v; if a timer kills it, New need not refuse", err)
	}
}

func TestClosedTimer(t *testing.T) {
	timer, err := deadman.New()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := timer.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := timer.Arm(boottime.Now() + time.Hour); !errors.Is(err, deadman.ErrClosed) {
		t.Errorf("arm after close: %v", err)
	}
	if err := timer.Disarm(); !errors.Is(err, deadman.ErrClosed) {
		t.Errorf("disarm after close: %v", err)
	}
}

func TestNoSignalLeft(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_SIGPENDING, &old); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_SIGPENDING, &old)
	if err := unix.Setrlimit(unix.RLIMIT_SIGPENDING, &unix.Rlimit{Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	timer, err := deadman.New()
	if err == nil {
		timer.Close()
		t.Skip("SKIP: this kernel or user knows no limit of pending signals")
	}
	if !errors.Is(err, unix.EAGAIN) || !strings.Contains(err.Error(), "ulimit -i") {
		t.Errorf("got %v, want EAGAIN with a remedy", err)
	}
}
