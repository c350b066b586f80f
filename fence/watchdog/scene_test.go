package watchdog_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/watchdog"
	"github.com/zklvs/zklvs/internal/boottime"
)

const (
	sceneVariable  = "ZKLVS_WATCHDOG_TEST_SCENE"
	feederVariable = "ZKLVS_WATCHDOG_TEST_FEEDER"

	// softdog beside the watchdog of user-mode Linux itself.
	device  = "/dev/watchdog1"
	timeout = 2 * time.Second
)

// TestMain is also the main of what runs inside user-mode Linux.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(feederVariable) != "":
		feed()
	case os.Getenv(sceneVariable) != "":
		play(scenes[os.Getenv(sceneVariable)])
	}
	os.Exit(m.Run())
}

// A scene is what happens to a machine whose softdog a process feeds.
type scene struct {
	noWayOut int
	act      func(f *feeder)
	resets   bool
}

var scenes = map[string]scene{
	"goes on feeding": {0, func(*feeder) {}, false},
	"is closed":       {0, func(f *feeder) { f.say("close"); f.expect("closed <nil>") }, false},
	"is frozen":       {0, func(f *feeder) { must(f.cmd.Process.Signal(unix.SIGSTOP)) }, true},
	"is killed":       {0, func(f *feeder) { must(f.cmd.Process.Kill()); f.cmd.Wait() }, true},
	"is not healthy":  {0, func(f *feeder) { f.say("sick") }, true},
	"is closed in vain": {1, func(f *feeder) {
		f.say("close")
		f.expect("closed close " + device + ": " + watchdog.ErrStillRunning.Error())
	}, true},
}

// play runs inside the guest, and writes the time down until the end: in the
// first line when the act was over.
func play(s scene) {
	out, err := exec.Command("modprobe", "softdog", "soft_panic=1", fmt.Sprint("nowayout=", s.noWayOut)).CombinedOutput()
	if err != nil {
		panic(fmt.Sprintf("modprobe softdog: %v: %s", err, out))
	}
	f := startFeeder()
	waitUntil(boottime.Now() + timeout*5/4) // it would have reset without being fed
	s.act(f)
	acted := boottime.Now()
	log, err := os.OpenFile(filepath.Join(os.Getenv("ZKLVS_OUT"), "log"), os.O_CREATE|os.O_WRONLY, 0o600)
	must(err)
	for now := acted; now < acted+3*timeout; now = boottime.Now() {
		_, err := fmt.Fprintln(log, int64(now))
		must(err)
		must(log.Sync()) // a panic would take with it what only this kernel knows
		waitUntil(now + timeout/40)
	}
	os.Exit(0)
}

func waitUntil(at time.Duration) { <-time.After(at - boottime.Now()) }

// feed is the process that feeds softdog; it does what it is told.
func feed() {
	c := watchdog.Config{
		Mode: watchdog.Required, Device: device, Timeout: timeout, Logger: zap.NewNop(), Now: boottime.Now,
	}
	w, err := watchdog.Open(c)
	must(err)
	checkReal(c, w)
	sick := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- w.Run(ctx, func(time.Duration) bool {
			select {
			case <-sick:
				return false
			default:
				return true
			}
		})
	}()
	fmt.Println("feeding")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch lines.Text() {
		case "sick":
			close(sick)
		case "close":
			cancel()
			must(<-ended)
			fmt.Println("closed", w.Close())
		}
	}
	select {}
}

// checkReal compares what the real driver says with what is known of softdog.
func checkReal(c watchdog.Config, w *watchdog.Watchdog) {
	s := w.Status()
	if !s.Active || s.Driver != "Software Watchdog" || s.Timeout != timeout || !s.Lasting {
		panic(fmt.Sprintf("unexpected status: %+v", s))
	}
	if _, err := watchdog.Open(c); !errors.Is(err, unix.EBUSY) {
		panic(fmt.Sprintf("opened twice: %v", err))
	}
	c.Mode, c.Device = watchdog.Automatic, "/dev/watchdog7"
	if none, err := watchdog.Open(c); err != nil || none.Active() || !strings.Contains(none.Reason(), "modprobe") {
		panic(fmt.Sprintf("automatic without a device: %v", err))
	}
	c.Mode, c.Device, c.Timeout = watchdog.Required, device, 20*time.Hour // softdog's limit is 65535 s
	if _, err := watchdog.Open(c); err == nil || !strings.Contains(err.Error(), "allows 1 to 65535 s") && !errors.Is(err, unix.EBUSY) {
		panic(fmt.Sprintf("beyond the limit: %v", err))
	}
}

type feeder struct {
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Scanner
}

func startFeeder() *feeder {
	read, write, err := os.Pipe()
	must(err)
	f := &feeder{cmd: exec.Command(os.Args[0]), in: write}
	f.cmd.Env = append(os.Environ(), feederVariable+"=1")
	f.cmd.Stdin, f.cmd.Stderr = read, os.Stderr
	out, err := f.cmd.StdoutPipe()
	must(err)
	must(f.cmd.Start())
	f.out = bufio.NewScanner(out)
	f.expect("feeding")
	return f
}

func (f *feeder) say(word string) {
	_, err := fmt.Fprintln(f.in, word)
	must(err)
}

func (f *feeder) expect(line string) {
	if !f.out.Scan() || f.out.Text() != line {
		panic(fmt.Sprintf("the feeder said %q, want %q", f.out.Text(), line))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
