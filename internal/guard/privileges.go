package guard

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kept are the rights that a guard needs when everything is open: to change
// addresses, filters and IPVS, and to announce.
const kept = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW

// dropPrivileges gives up every right but kept, for good: permitted, effective
// and inheritable sets of all threads, and execve(2) gains nothing
// (PR_SET_NO_NEW_PRIVS). See capabilities(7).
func dropPrivileges() error {
	if _, _, e := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		return fmt.Errorf("set no_new_privs: %w", explainThreads(e))
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: kept, Permitted: kept}}
	_, _, e := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if e != 0 {
		return fmt.Errorf("drop capabilities: %w", explainThreads(e))
	}
	return nil
}

// explainThreads names the one way in which this cannot work.
func explainThreads(e syscall.Errno) error {
	if e == syscall.ENOTSUP {
		return fmt.Errorf("%w: %w", errCgo, e)
	}
	return e
}

// errCgo says that Go cannot change all threads of a program with cgo in it.
var errCgo = errors.New("the program was built with cgo: build it with CGO_ENABLED=0")
