package watchdog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/boottime"
)

func config(mode Mode) Config {
	return Config{Mode: mode, Timeout: 10 * time.Second, Logger: zap.NewNop(), Now: boottime.Now}
}

func TestParseMode(t *testing.T) {
	for _, word := range []string{"off", "automatic", "required"} {
		if m, err := ParseMode(word); err != nil || string(m) != word {
			t.Errorf("%s: got %q, %v", word, m, err)
		}
	}
	for _, word := range []string{"", "Off", "auto", "require", "on", "none", "false", "automatic "} {
		_, err := ParseMode(word)
		want := `: not a watchdog mode: expected off, automatic or required`
		if !errors.Is(err, ErrMode) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: got error %v", word, err)
		}
		if _, err := Open(config(Mode(word))); !errors.Is(err, ErrMode) {
			t.Errorf("open with %q: got error %v", word, err)
		}
	}
}

func TestOpenRefusesABadConfig(t *testing.T) {
	cases := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no logger", func(c *Config) { c.Logger = nil }, "watchdog: Logger and Now must be set"},
		{"no clock", func(c *Config) { c.Now = nil }, "watchdog: Logger and Now must be set"},
		{"half a second", func(c *Config) { c.Timeout = 1500 * time.Millisecond }, "watchdog timeout 1.5s: expected whole seconds, 1s to 24h0m0s"},
		{"negative", func(c *Config) { c.Timeout = -time.Second }, "watchdog timeout -1s: expected whole seconds, 1s to 24h0m0s"},
		{"a week", func(c *Config) { c.Timeout = 168 * time.Hour }, "watchdog timeout 168h0m0s: expected whole seconds, 1s to 24h0m0s"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f, bad := newFake(), config(Automatic)
			c.change(&bad)
			if _, err := open(bad, f.kernel()); err == nil || err.Error() != c.want {
				t.Errorf("got error %v, want %s", err, c.want)
			}
			if f.opened > 0 {
				t.Error("it opened the device")
			}
		})
	}
}

// What each driver makes of required and automatic.
func TestOpen(t *testing.T) {
	dev := "/dev/watchdog"
	cases := []struct {
		name   string
		change func(*fake)
		reason string // "" if it is used
		opened int
	}{
		{"fits", func(*fake) {}, "", 1},
		{"nowayout", func(f *fake) { f.noWayOut = true }, "", 1},
		{"says nothing in sysfs", func(f *fake) { f.sysfs = false }, "", 1},
		{"grants twice", func(f *fake) { f.grants = func(n int) int { return 2 * n } }, "", 1},
		{"grants half", func(f *fake) { f.grants = func(n int) int { return n / 2 } }, "", 1},
		{"a fixed timeout that fits", func(f *fake) { f.refuse, f.seconds = unix.EOPNOTSUPP, 12 }, "", 1},
		{"a fixed timeout", func(f *fake) { f.refuse = unix.EOPNOTSUPP },
			dev + ": asked for a timeout of 10 s, the driver grants 60 s: ask for one nearer to that", 1},
		{"grants more", func(f *fake) { f.grants = func(n int) int { return 2*n + 1 } },
			dev + ": asked for a timeout of 10 s, the driver grants 21 s: ask for one nearer to that", 1},
		{"grants less", func(f *fake) { f.grants = func(n int) int { return n/2 - 1 } },
			dev + ": asked for a timeout of 10 s, the driver grants 4 s: ask for one nearer to that", 1},
		{"refuses the timeout", func(f *fake) { f.refuse = unix.EINVAL },
			dev + ": timeout 10 s: invalid argument: ask for another one", 1},
		{"limits", func(f *fake) { f.min, f.max = 20, 30 },
			dev + ": timeout 10 s: the driver allows 20 to 30 s", 0},
		{"upper limit", func(f *fake) { f.min, f.max = 1, 9 },
			dev + ": timeout 10 s: the driver allows 1 to 9 s", 0},
		{"no watchdog", func(f *fake) { f.supportEr = unix.ENOTTY },
			dev + ": inappropriate ioctl for device: is it a watchdog?", 1},
		{"missing", func(f *fake) { f.openErr = unix.ENOENT },
			"open " + dev + ": no such file or directory: load a driver (modprobe softdog, or the hardware's), or name the right device", 0},
		{"busy", func(f *fake) { f.openErr = unix.EBUSY },
			"open " + dev + ": device or resource busy: another process has it open (systemd with RuntimeWatchdogSec=, watchdogd?): name another device, or stop that", 0},
		{"forbidden", func(f *fake) { f.openErr = unix.EACCES },
			"open " + dev + ": permission denied: run as root, and allow the device (DeviceAllow= of the unit)", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, mode := range []Mode{Required, Automatic} {
				f := newFake()
				c.change(f)
				w, err := open(config(mode), f.kernel())
				checkOpen(t, mode, w, err, c.reason)
				if f.opened != c.opened || (f.running || f.isOpen) != (c.reason == "") {
					t.Errorf("%s: opened %d times, running %v, open %v", mode, f.opened, f.running, f.isOpen)
				}
			}
		})
	}
}

func checkOpen(t *testing.T, mode Mode, w *Watchdog, err error, reason string) {
	t.Helper()
	if mode == Required && reason != "" {
		if want := "watchdog cannot be used: " + reason; !errors.Is(err, ErrUnusable) || err.Error() != want {
			t.Errorf("%s: got error %v\nwant %s", mode, err, want)
		}
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", mode, err)
	}
	if w.Reason() != reason || w.Active() != (reason == "") {
		t.Errorf("%s: active %v, reason %q, want %q", mode, w.Active(), w.Reason(), reason)
	}
	if err := w.Feed(); err != nil {
		t.Errorf("%s: feed: %v", mode, err)
	}
}

// A driver that stops when its process dies is no fence.
func TestNoMagicClose(t *testing.T) {
	f := newFake()
	f.options = 0
	_, err := open(config(Required), f.kernel())
	if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "nowayout=1") || f.running {
		t.Errorf("required: got error %v, running %v", err, f.running)
	}
	logger, logs := observer.New(zapcore.WarnLevel)
	c := config(Automatic)
	c.Logger = zap.New(logger)
	w, err := open(c, f.kernel())
	if err != nil || !w.Active() || w.Status().Lasting || logs.FilterMessageSnippet("knows no magic close").Len() != 1 {
		t.Errorf("automatic: error %v, status %+v, %d lines", err, w.Status(), logs.Len())
	}
	f = newFake()
	f.options, f.noWayOut = 0, true
	if w, err = open(config(Required), f.kernel()); err != nil || !w.Status().Lasting {
		t.Errorf("required with nowayout: %v", err)
	}
}

// A device that was started in vain and cannot be stopped is an error in every
// mode: going on without feeding it would reset the machine.
func TestStartedInVain(t *testing.T) {
	for _, mode := range []Mode{Required, Automatic} {
		f := newFake()
		f.noWayOut, f.refuse = true, unix.EINVAL
		if _, err := open(config(mode), f.kernel()); !errors.Is(err, ErrUnusable) || !errors.Is(err, ErrStillRunning) {
			t.Errorf("%s: got error %v", mode, err)
		}
	}
}

func TestClose(t *testing.T) {
	cases := []struct {
		name            string
		noWayOut, sysfs bool
		old             bool
		writeErr        error
		want            error
	}{
		{"stops", false, true, false, nil, nil},
		{"stops, without sysfs", false, false, false, nil, nil},
		{"stops, old", false, false, true, nil, nil},
		{"nowayout", true, true, false, nil, ErrStillRunning},
		{"nowayout, without sysfs", true, false, false, nil, ErrStillRunning},
		{"nowayout, old", true, true, true, nil, ErrStillRunning},
		{"cannot be written", false, true, true, unix.EIO, ErrStillRunning},
		{"cannot be written, without sysfs", false, false, true, unix.EIO, ErrStillRunning},
		{"cannot be written, but disabled", false, false, false, unix.EIO, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := newFake()
			f.noWayOut, f.sysfs, f.old = c.noWayOut, c.sysfs, c.old
			w, err := open(config(Required), f.kernel())
			if err != nil {
				t.Fatal(err)
			}
			f.setWriteErr(c.writeErr)
			if err := w.Close(); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if f.isOpen || f.running != (c.want != nil) {
				t.Errorf("open %v, running %v", f.isOpen, f.running)
			}
			if err := w.Close(); err != nil {
				t.Errorf("closed again: %v", err)
			}
			if err := w.Feed(); !errors.Is(err, ErrClosed) || w.Active() {
				t.Errorf("feed after close: %v, active %v", err, w.Active())
			}
		})
	}
}

func TestOffAndNilTouchNothing(t *testing.T) {
	f := newFake()
	off, err := open(Config{Mode: Off}, f.kernel())
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]*Watchdog{"off": off, "nil": nil} {
		if err := w.Feed(); err != nil {
			t.Errorf("%s: feed: %v", name, err)
		}
		if diff := cmp.Diff(Status{Mode: Off, Reason: "it is switched off"}, w.Status()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if err := w.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
	if f.opened > 0 {
		t.Error("it opened the device")
	}
}

func TestStatus(t *testing.T) {
	f := newFake()
	f.grants = func(n int) int { return n + 1 }
	w, err := open(config(Required), f.kernel())
	if err != nil {
		t.Fatal(err)
	}
	want := Status{
		Mode: Required, Active: true, Device: "/dev/watchdog", Driver: "fake",
		Timeout: 11 * time.Second, Asked: 10 * time.Second, Lasting: true,
	}
	if diff := cmp.Diff(want, w.Status()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The real opener never touches what is no device.
func TestOpenNoDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watchdog")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := config(Required)
	c.Device = path
	if _, err := Open(c); err == nil || err.Error() != "watchdog cannot be used: open "+path+": not a character device" {
		t.Errorf("got error %v", err)
	}
	c.Device = "/dev/null"
	if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "is it a watchdog?") {
		t.Errorf("got error %v", err)
	}
}

func TestReadSysfs(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"state": "active\n", "nowayout": "1\n", "min_timeout": "1\n", "max_timeout": "65535\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := readSysfs(dir), (about{known: true, noWayOut: true, active: true, min: 1, max: 65535}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := readSysfs(filepath.Join(dir, "none")); got != (about{}) {
		t.Errorf("got %+v of nothing", got)
	}
	for _, path := range []string{"/dev/null", "/nonexistent", dir} {
		if got := readAbout(path); got != (about{}) {
			t.Errorf("got %+v of %s", got, path)
		}
	}
}
