package deadman_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/deadman"
	"github.com/zklvs/zklvs/internal/boottime"
)

const childVariable = "ZKLVS_DEADMAN_TEST_CHILD"

// survived is the exit status of a child that nothing killed.
const survived = 7

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		behave(name)
	}
	os.Exit(m.Run())
}

// soon is long enough to see a child stopped before its time comes.
const soon = 300 * time.Millisecond

// A behavior is what a child does with its timer. It returns when the child is
// to be killed, 0 for never; then the child waits, or spins.
type behavior func(t *deadman.Timer) (at time.Duration)

var behaviors = map[string]behavior{
	"armed": arm,
	"disarmed": func(t *deadman.Timer) time.Duration {
		arm(t)
		must(t.Disarm())
		return 0
	},
	"closed": func(t *deadman.Timer) time.Duration {
		arm(t)
		must(t.Close())
		return 0
	},
	"replaced by another program": func(t *deadman.Timer) time.Duration {
		arm(t)
		fmt.Println(0)
		must(syscall.Exec("/bin/sh", []string{"sh", "-c", fmt.Sprintf("sleep 0.6; exit %d", survived)}, os.Environ()))
		return 0
	},
	"moved back": func(t *deadman.Timer) time.Duration {
		must(t.Arm(boottime.Now() + time.Hour))
		return arm(t)
	},
	"moved on": func(t *deadman.Timer) time.Duration {
		at := arm(t) + soon
		must(t.Arm(at))
		return at
	},
	"long past": func(t *deadman.Timer) time.Duration { return announced(t, boottime.Now()-time.Second) },
	"zero":      func(t *deadman.Timer) time.Duration { return announced(t, 0) },
	"negative":  func(t *deadman.Timer) time.Duration { return announced(t, -1) },
	"made by a thread that ended": func(*deadman.Timer) time.Duration {
		at := make(chan time.Duration)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			t, err := deadman.New()
			must(err)
			at <- arm(t)
		}()
		return <-at
	},
	"threads busy and blocked": func(t *deadman.Timer) time.Duration {
		occupy()
		return arm(t)
	},
	"the earliest of three": func(t *deadman.Timer) time.Duration {
		at, tr := boottime.Now()+soon, deadman.NewTracker(t)
		must(tr.Set("b", at+time.Hour))
		must(tr.Set("a", at+deadman.Margin))
		must(tr.Set("c", at+2*time.Hour))
		return at
	},
	"the earliest cleared": func(t *deadman.Timer) time.Duration {
		at, tr := boottime.Now()+soon, deadman.NewTracker(t)
		must(tr.Set("a", at+deadman.Margin))
		must(tr.Set("b", at+soon+deadman.Margin))
		must(tr.Clear("a"))
		return at + soon
	},
	"all cleared": func(t *deadman.Timer) time.Duration {
		at, tr := boottime.Now()+soon, deadman.NewTracker(t)
		must(tr.Set("a", at))
		must(tr.Set("b", at))
		must(tr.Clear("a"))
		must(tr.Clear("b"))
		return 0
	},
}

func arm(t *deadman.Timer) time.Duration {
	at := boottime.Now() + soon
	must(t.Arm(at))
	return at
}

// announced says when it is to die before it arms: there is no time afterwards.
func announced(t *deadman.Timer, at time.Duration) time.Duration {
	now := boottime.Now()
	fmt.Println(int64(now))
	must(t.Arm(at))
	return now
}

// occupy keeps some threads busy and blocks others in the kernel.
func occupy() {
	for range 3 {
		go func() {
			for spins := 1; spins != 0; spins++ {
				runtime.KeepAlive(spins)
			}
		}()
	}
	var pipe [2]int
	must(unix.Pipe(pipe[:]))
	for range 3 {
		go func() { _, _ = unix.Read(pipe[0], make([]byte, 1)) }()
	}
}

// behave is the child's main: it tells when it is to be killed, and ends with
// survived some time after it should have been.
func behave(name string) {
	if name == "pid 1" {
		behaveAsFirst()
	}
	t, err := deadman.New()
	must(err)
	at := behaviors[name](t)
	fmt.Println(int64(at))
	<-time.After(3 * soon)
	if at != 0 {
		<-time.After(20 * time.Second)
	}
	os.Exit(survived)
}

// behaveAsFirst shows that what New refuses would not work.
func behaveAsFirst() {
	_, err := deadman.New()
	fmt.Println(err)
	t, err := deadman.NewUnchecked()
	must(err)
	must(t.Arm(boottime.Now() + soon/10))
	<-time.After(soon)
	os.Exit(survived)
}

// child is another process that is to be killed at a time.
type child struct {
	t   testing.TB
	cmd *exec.Cmd
	at  time.Duration
}

func start(t testing.TB, name string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childVariable+"="+name)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	must(err)
	must(c.cmd.Start())
	t.Cleanup(func() { c.cmd.Process.Kill(); c.cmd.Wait() })
	var at int64
	if _, err := fmt.Fscan(out, &at); err != nil {
		t.Fatalf("%s: the child ended without a word: %v", name, err)
	}
	c.at = time.Duration(at)
	return c
}

const cldStopped = 5 // CLD_STOPPED of include/uapi/asm-generic/siginfo.h

// stop sends SIGSTOP and returns when all of the child has stopped.
func (c *child) stop() {
	c.t.Helper()
	must(c.cmd.Process.Signal(unix.SIGSTOP))
	var info unix.Siginfo
	must(unix.Waitid(unix.P_PID, c.cmd.Process.Pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil))
	if info.Code != cldStopped {
		c.t.Fatalf("not stopped before its time (code %d): this machine is too slow for the test", info.Code)
	}
}

// end waits for the child's end, and returns how, and how long after its time.
func (c *child) end() (syscall.WaitStatus, time.Duration) {
	c.cmd.Wait()
	late := boottime.Now() - c.at
	return c.cmd.ProcessState.Sys().(syscall.WaitStatus), late
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
