package watchdog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// device is an open watchdog. A close without the magic character before it is
// what the death of the process looks like to the driver.
type device interface {
	support() (*unix.WatchdogInfo, error)
	setTimeout(seconds int) (granted int, err error)
	timeout() (seconds int, err error)
	disable() error
	write(b byte) error
	close() error
}

// kernel is where watchdogs come from.
type kernel struct {
	open  func(path string) (device, error)
	about func(path string) about
}

var theKernel = kernel{open: openDevice, about: readAbout}

// magic, written last, has a close stop the watchdog; any other byte feeds it.
const (
	magic = 'V'
	food  = 0
)

type file int

// openDevice opens a character device, which starts its watchdog.
func openDevice(path string) (device, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&os.ModeCharDevice == 0 {
		return nil, &os.PathError{Op: "open", Path: path, Err: errNoDevice}
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return file(fd), nil
}

var errNoDevice = errors.New("not a character device")

func (f file) support() (*unix.WatchdogInfo, error) {
	info, err := unix.IoctlGetWatchdogInfo(int(f))
	return info, wrap("WDIOC_GETSUPPORT", err)
}

// setTimeout: the driver writes what it granted where it read what was asked.
func (f file) setTimeout(seconds int) (int, error) {
	value := int32(seconds)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(f), unix.WDIOC_SETTIMEOUT, uintptr(unsafe.Pointer(&value)))
	if errno != 0 {
		return 0, wrap("WDIOC_SETTIMEOUT", errno)
	}
	return int(value), nil
}

func (f file) timeout() (int, error) {
	value, err := unix.IoctlGetInt(int(f), unix.WDIOC_GETTIMEOUT)
	return int(int32(value)), wrap("WDIOC_GETTIMEOUT", err) // the kernel writes an int, of 4 bytes
}

// disable stops the watchdog at once. With nowayout the kernel answers EBUSY
// (watchdog_stop of drivers/watchdog/watchdog_dev.c): a close would not say so.
func (f file) disable() error {
	return wrap("WDIOC_SETOPTIONS", unix.IoctlSetPointerInt(int(f), unix.WDIOC_SETOPTIONS, unix.WDIOS_DISABLECARD))
}

// write feeds by the way that every driver knows; WDIOC_KEEPALIVE is optional.
func (f file) write(b byte) error {
	for {
		_, err := unix.Write(int(f), []byte{b})
		if !errors.Is(err, unix.EINTR) {
			return wrap("write", err)
		}
	}
}

func (f file) close() error { return wrap("close", unix.Close(int(f))) }

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// about is what sysfs says of a device, open or not. Kernels without
// CONFIG_WATCHDOG_SYSFS, and drivers older than the watchdog core, say nothing.
type about struct {
	known            bool
	noWayOut, active bool
	min, max         int // seconds; 0 is no limit
}

// readAbout finds the device by its number: its name may be a link.
func readAbout(path string) about {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return about{}
	}
	major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev)
	dir := fmt.Sprintf("/sys/dev/char/%d:%d", major, minor)
	if major == miscMajor && minor == watchdogMinor {
		// The old name of the first device. Where the first is not of the
		// watchdog core, the core's devices begin with 1.
		dir = "/sys/class/watchdog/watchdog0"
	}
	return readSysfs(dir)
}

// MISC_MAJOR of include/uapi/linux/major.h, WATCHDOG_MINOR of
// include/linux/miscdevice.h.
const (
	miscMajor     = 10
	watchdogMinor = 130
)

// readSysfs reads Documentation/ABI/testing/sysfs-class-watchdog.
func readSysfs(dir string) about {
	word := func(name string) string {
		data, _ := os.ReadFile(filepath.Join(dir, name))
		return strings.TrimSpace(string(data))
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(word(name))
		return n
	}
	state := word("state")
	return about{
		known:    state != "",
		noWayOut: number("nowayout") == 1,
		active:   state == "active",
		min:      number("min_timeout"),
		max:      number("max_timeout"),
	}
}
