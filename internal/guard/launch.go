package guard

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// The descriptors that a guard inherits.
const (
	connFD     = 3 + iota // the socket pair's end
	lifeFD                // the socket that claims the cluster's life in this network namespace
	directorFD            // a pidfd of the director
)

// Command says how a guard is started.
type Command struct {
	Path string
	Name string // shown by ps(1) in place of Path
	Args []string
	// Life is the claim of internal/life: as long as a guard lives, no new
	// director of the cluster starts.
	Life *os.File
}

// Launch starts a guard's process, in a session of its own: a Ctrl-C in the
// director's terminal is not for it. It has no parent-death signal: the survivor
// must clean up.
func (c Command) Launch() (*Child, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	self, err := openPidfd(os.Getpid())
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer self.Close()
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Args[0] = c.Name
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs, c.Life, self}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, err
	}
	return &Child{PID: cmd.Process.Pid, Conn: ours, Kill: cmd.Process.Kill, Wait: cmd.Wait}, nil
}

func socketPair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	mine := os.NewFile(uintptr(fds[0]), "guard")
	defer mine.Close() // FileConn duplicates it
	theirs = os.NewFile(uintptr(fds[1]), "director")
	ours, err = net.FileConn(mine)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("use a socket pair: %w", err)
	}
	return ours, theirs, nil
}

// Inherited is what a guard's process was started with.
type Inherited struct {
	Conn     net.Conn
	Director Director
	life     *os.File // only kept open
}

// ErrNotStarted says that a guard was not started by a director.
var ErrNotStarted = errors.New("this command is started by `zklvs run` and is of no use by itself")

// Inherit takes over the descriptors that Launch passed on.
func Inherit() (*Inherited, error) {
	for fd := connFD; fd <= directorFD; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, ErrNotStarted
		}
	}
	socket := os.NewFile(connFD, "director")
	defer socket.Close()
	conn, err := net.FileConn(socket)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNotStarted, err)
	}
	return &Inherited{Conn: conn, Director: pidfd{os.NewFile(directorFD, "pidfd")}, life: os.NewFile(lifeFD, "life")}, nil
}
