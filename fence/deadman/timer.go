package deadman

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrImmune says that this process cannot be killed by a timer of its own.
var ErrImmune = errors.New("process 1 of a PID namespace cannot be killed by its own timer: start it as the child of an init process")

// ErrClosed says that the Timer was closed.
var ErrClosed = errors.New("process timer is closed")

// SIGEV_SIGNAL of include/uapi/asm-generic/siginfo.h: the signal goes to the
// process, not to the thread that made the timer (SIGEV_THREAD_ID would).
const sigevSignal = 0

// sigevent is struct sigevent of include/uapi/asm-generic/siginfo.h: 64 bytes on
// every architecture, the value as wide as a pointer.
type sigevent struct {
	value  uintptr
	signo  int32
	notify int32
	_      [64 - 8 - unsafe.Sizeof(uintptr(0))]byte
}

// Timer kills the process that made it. Its methods are safe for concurrent use.
type Timer struct {
	mu     sync.Mutex
	id     int32 // timer_t of the kernel
	closed bool
}

// New makes a timer that is not armed.
//
// Errors: ErrImmune; EAGAIN where the user's limit of queued signals
// (RLIMIT_SIGPENDING) is used up.
func New() (*Timer, error) {
	if os.Getpid() == 1 {
		return nil, ErrImmune
	}
	return create()
}

func create() (*Timer, error) {
	event := sigevent{signo: int32(unix.SIGKILL), notify: sigevSignal}
	t := &Timer{}
	// Raw, like all of this file: these calls do not block.
	_, _, errno := unix.RawSyscall(unix.SYS_TIMER_CREATE, unix.CLOCK_BOOTTIME,
		uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&t.id)))
	if errno == unix.EAGAIN {
		return nil, fmt.Errorf("make the process timer: %w: raise the limit of pending signals (ulimit -i)", errno)
	}
	if errno != 0 {
		return nil, fmt.Errorf("make the process timer: %w", errno)
	}
	return t, nil
}

// Arm has the process killed when CLOCK_BOOTTIME reads at, instead of at any
// earlier order. A time that has passed kills at once. On an error the earlier
// order stands.
func (t *Timer) Arm(at time.Duration) error {
	// Zero would disarm the timer, and the kernel refuses what is negative.
	return t.set(max(at, 1))
}

// Disarm takes the order back. On an error it stands.
func (t *Timer) Disarm() error { return t.set(0) }

func (t *Timer) set(at time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("set the process timer: %w", ErrClosed)
	}
	order := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	_, _, errno := unix.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(t.id), unix.TIMER_ABSTIME,
		uintptr(unsafe.Pointer(&order)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("set the process timer to %v: %w", at, errno)
	}
	return nil
}

// Close disarms and removes the timer. Later calls fail with ErrClosed.
func (t *Timer) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	if _, _, errno := unix.RawSyscall(unix.SYS_TIMER_DELETE, uintptr(t.id), 0, 0); errno != 0 {
		return fmt.Errorf("remove the process timer: %w", errno)
	}
	return nil
}
