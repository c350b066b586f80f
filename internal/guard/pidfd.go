package guard

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pidfd is a process by its descriptor (pidfd_open(2)): never another that got
// its number.
type pidfd struct{ f *os.File }

func openPidfd(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open: %w (Linux 5.3 or later is needed)", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// Wait implements Director.
func (p pidfd) Wait() {
	poll := []unix.PollFd{{Fd: int32(p.f.Fd()), Events: unix.POLLIN}}
	for {
		if n, err := unix.Poll(poll, -1); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// Kill implements Director.
func (p pidfd) Kill() error {
	if err := unix.PidfdSendSignal(int(p.f.Fd()), unix.SIGKILL, nil, 0); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}
