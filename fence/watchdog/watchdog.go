package watchdog

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/logfield"
)

// What Config means where it says nothing.
const (
	DefaultDevice  = "/dev/watchdog"
	DefaultTimeout = 10 * time.Second
)

// maxTimeout is what still fits into the driver's int, and into reason.
const maxTimeout = 24 * time.Hour

// ErrUnusable says that the device cannot be used. The error that wraps it names
// the reason and the remedy.
var ErrUnusable = errors.New("watchdog cannot be used")

// ErrStillRunning says that the device was closed and counts all the same: the
// machine resets unless another process opens and feeds it in time.
var ErrStillRunning = errors.New("the watchdog is still running: this machine resets unless another process feeds it in time")

// ErrClosed says that the Watchdog was closed.
var ErrClosed = errors.New("watchdog is closed")

// Config says which watchdog is used and how. Logger and Now must be set unless
// Mode is Off.
type Config struct {
	Mode   Mode
	Device string // DefaultDevice
	// Timeout is how long after the last Feed the machine resets, in whole
	// seconds; DefaultTimeout. The driver may grant another, see Status.
	Timeout time.Duration
	Logger  *zap.Logger
	// Now reads CLOCK_BOOTTIME, for Run.
	Now func() time.Duration
}

func (c *Config) validate() error {
	if c.Device == "" {
		c.Device = DefaultDevice
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	switch {
	case c.Logger == nil || c.Now == nil:
		return errors.New("watchdog: Logger and Now must be set")
	case c.Timeout < time.Second || c.Timeout > maxTimeout || c.Timeout%time.Second != 0:
		return fmt.Errorf("watchdog timeout %v: expected whole seconds, 1s to %v", c.Timeout, maxTimeout)
	}
	return nil
}

// Watchdog is a device in use, or the reason why none is. Its methods are safe
// for concurrent use, and do nothing on a nil Watchdog.
type Watchdog struct {
	config  Config
	kernel  kernel
	reason  string // why it is not active
	granted time.Duration
	name    string // what the driver calls itself
	about   about  // of the device before it was opened
	lasting bool   // it outlives this process

	mu     sync.Mutex
	device device // nil when not active
	fed    bool   // by Run, the last time that it looked
	closed bool
}

// Open starts the watchdog, as the mode says, and feeds it once; from then on
// Feed, or Run, has to go on.
//
// Errors: a bad Config, in every mode; ErrMode; with Required, ErrUnusable;
// ErrStillRunning in addition where a device was started in vain and does not
// stop, in Automatic too.
func Open(c Config) (*Watchdog, error) { return open(c, theKernel) }

func open(c Config, k kernel) (*Watchdog, error) {
	if _, err := ParseMode(string(c.Mode)); err != nil {
		return nil, err
	}
	w := &Watchdog{config: c, kernel: k, reason: "it is switched off"}
	if c.Mode == Off {
		return w, nil
	}
	if err := w.config.validate(); err != nil {
		return nil, err
	}
	err := w.start()
	switch {
	case err == nil:
		w.config.Logger.Info("the watchdog is on", zap.String("device", w.config.Device), zap.String("driver", w.name),
			zap.Duration("timeout", w.granted), zap.Duration("asked", w.config.Timeout), zap.Bool("nowayout", w.about.noWayOut))
		return w, nil
	case c.Mode == Required || errors.Is(err, ErrStillRunning):
		return nil, err
	}
	w.reason = strings.TrimPrefix(err.Error(), ErrUnusable.Error()+": ")
	c.Logger.Warn("going on without a watchdog", zap.String(logfield.Reason, w.reason))
	return w, nil
}

// start opens the device, unless it is known to be of no use.
func (w *Watchdog) start() error {
	c := w.config
	w.about = w.kernel.about(c.Device)
	if err := w.withinLimits(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnusable, c.Device, err)
	}
	d, err := w.kernel.open(c.Device)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, explain(err))
	}
	if err := w.setUp(d); err != nil {
		return errors.Join(fmt.Errorf("%w: %s: %w", ErrUnusable, c.Device, err), w.stop(d))
	}
	w.device, w.reason = d, ""
	return nil
}

// withinLimits asks sysfs, while nothing has been started.
func (w *Watchdog) withinLimits() error {
	asked := int(w.config.Timeout / time.Second)
	if a := w.about; a.known && (asked < a.min || a.max != 0 && asked > a.max) {
		return fmt.Errorf("timeout %d s: the driver allows %d to %d s", asked, a.min, a.max)
	}
	return nil
}

func (w *Watchdog) setUp(d device) error {
	info, err := d.support()
	if err != nil {
		return fmt.Errorf("%w: is it a watchdog?", err)
	}
	w.name = unix.ByteSliceToString(info.Identity[:])
	if w.granted, err = w.negotiate(d); err != nil {
		return err
	}
	w.lasting = info.Options&unix.WDIOF_MAGICCLOSE != 0 || w.about.noWayOut
	if err := w.checkLasting(); err != nil {
		return err
	}
	return d.write(food)
}

// negotiate asks for the timeout. A driver that cannot set one has one.
func (w *Watchdog) negotiate(d device) (time.Duration, error) {
	asked := int(w.config.Timeout / time.Second)
	_, err := d.setTimeout(asked)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOTTY) {
		return 0, fmt.Errorf("timeout %d s: %w: ask for another one", asked, err)
	}
	granted, err := d.timeout()
	if err != nil {
		return 0, err
	}
	if granted > 2*asked || 2*granted < asked {
		return 0, fmt.Errorf("asked for a timeout of %d s, the driver grants %d s: ask for one nearer to that", asked, granted)
	}
	return time.Duration(granted) * time.Second, nil
}

func (w *Watchdog) checkLasting() error {
	if w.lasting {
		return nil
	}
	if w.config.Mode == Required {
		return errors.New("it stops when the process that has it open dies (no magic close): load its driver with nowayout=1")
	}
	w.config.Logger.Warn("this watchdog stops when the process that has it open dies: its driver knows no magic close",
		zap.String("device", w.config.Device), zap.String("driver", w.name), zap.String(logfield.Remedy, "load the driver with nowayout=1"))
	return nil
}

// explain adds what an operator can do.
func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: load a driver (modprobe softdog, or the hardware's), or name the right device", err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: another process has it open (systemd with RuntimeWatchdogSec=, watchdogd?): name another device, or stop that", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run as root, and allow the device (DeviceAllow= of the unit)", err)
	}
	return err
}

// stop closes a device so that it stops counting, as far as it lets itself.
func (w *Watchdog) stop(d device) error {
	disabled := d.disable()
	err := errors.Join(d.write(magic), d.close())
	var running bool
	switch a := w.kernel.about(w.config.Device); {
	case a.known:
		running = a.active
	case disabled == nil:
	case errors.Is(disabled, unix.EBUSY):
		running = true
	default: // a driver that knows no WDIOC_SETOPTIONS
		running = err != nil
	}
	if running {
		return errors.Join(fmt.Errorf("close %s: %w", w.config.Device, ErrStillRunning), err)
	}
	return nil
}

// Feed has the machine live for another timeout. It does nothing where the
// watchdog is not active.
//
// Errors: ErrClosed, and the driver's.
func (w *Watchdog) Feed() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return fmt.Errorf("feed: %w", ErrClosed)
	case w.device == nil:
		return nil
	}
	if err := w.device.write(food); err != nil {
		return fmt.Errorf("feed %s: %w", w.config.Device, err)
	}
	return nil
}

// Close stops the watchdog: only when nothing is left that it is to guard.
//
// Errors: ErrStillRunning.
func (w *Watchdog) Close() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.device == nil {
		w.closed = true
		return nil
	}
	d := w.device
	w.closed, w.device, w.reason = true, nil, "it was closed"
	err := w.stop(d)
	if err != nil {
		w.config.Logger.Error("the watchdog does not stop: this machine resets unless another process feeds it",
			zap.String("device", w.config.Device), zap.Duration("within", w.granted), zap.Error(err))
	}
	return err
}

// Active reports whether the machine resets when it is not fed.
func (w *Watchdog) Active() bool { return w.Status().Active }

// Reason says why it is not active, "" if it is.
func (w *Watchdog) Reason() string { return w.Status().Reason }

// Status is what there is to know of a watchdog.
type Status struct {
	Mode   Mode
	Active bool
	Reason string // why it is not active
	Device string
	Driver string // what the driver calls itself
	// Timeout is what the driver granted for what was Asked.
	Timeout, Asked time.Duration
	// Fed is whether Run fed it when it looked last.
	Fed bool
	// Lasting is whether it goes on counting when this process dies.
	Lasting bool
	// NoWayOut is whether not even Close stops it, as far as the kernel tells.
	NoWayOut bool
}

// Status returns what there is to know.
func (w *Watchdog) Status() Status {
	if w == nil {
		return Status{Mode: Off, Reason: "it is switched off"}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return Status{
		Mode: w.config.Mode, Active: w.device != nil, Reason: w.reason,
		Device: w.config.Device, Driver: w.name, Timeout: w.granted, Asked: w.config.Timeout,
		Fed: w.fed, Lasting: w.lasting, NoWayOut: w.about.noWayOut,
	}
}
