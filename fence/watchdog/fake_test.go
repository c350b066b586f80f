package watchdog

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// fake is a driver and its device.
type fake struct {
	options   uint32
	noWayOut  bool
	min, max  int
	sysfs     bool
	grants    func(asked int) int
	refuse    error // to set a timeout
	openErr   error
	supportEr error
	writeErr  error
	old       bool // knows no WDIOC_SETOPTIONS

	mu      sync.Mutex
	isOpen  bool
	running bool
	magic   bool
	seconds int
	opened  int
	fed     []time.Time
}

func newFake() *fake {
	return &fake{options: unix.WDIOF_MAGICCLOSE | unix.WDIOF_SETTIMEOUT, sysfs: true, seconds: 60}
}

func (f *fake) kernel() kernel {
	return kernel{
		open: func(path string) (device, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			err := f.openErr
			if f.isOpen {
				err = unix.EBUSY
			}
			if err != nil {
				return nil, &os.PathError{Op: "open", Path: path, Err: err}
			}
			f.isOpen, f.running, f.opened = true, true, f.opened+1
			return f, nil
		},
		about: func(string) about {
			if !f.sysfs {
				return about{}
			}
			return about{known: true, noWayOut: f.noWayOut, active: f.running, min: f.min, max: f.max}
		},
	}
}

func (f *fake) support() (*unix.WatchdogInfo, error) {
	info := &unix.WatchdogInfo{Options: f.options}
	copy(info.Identity[:], "fake")
	return info, f.supportEr
}

func (f *fake) setTimeout(seconds int) (int, error) {
	if f.refuse != nil {
		return 0, f.refuse
	}
	if f.grants != nil {
		seconds = f.grants(seconds)
	}
	f.seconds = seconds
	return seconds, nil
}

func (f *fake) timeout() (int, error) { return f.seconds, nil }

func (f *fake) disable() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.old:
		return unix.ENOTTY
	case f.noWayOut:
		return unix.EBUSY
	}
	f.running = false
	return nil
}

// write is watchdog_write of drivers/watchdog/watchdog_dev.c.
func (f *fake) write(b byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.writeErr != nil {
		return f.writeErr
	}
	f.magic = b == magic
	f.fed = append(f.fed, time.Now())
	return nil
}

// close is watchdog_release.
func (f *fake) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.isOpen = false
	if !f.noWayOut && (f.magic || f.options&unix.WDIOF_MAGICCLOSE == 0) {
		f.running = false
	}
	return nil
}

func (f *fake) setWriteErr(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writeErr = err
}
