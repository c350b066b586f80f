package guard

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kept returns the rights that a guard needs when everything is open: to change
// addresses, filters and IPVS, and to announce. Before Linux 6.0 a map that is
// open cannot be changed without CAP_BPF where kernel.unprivileged_bpf_disabled
// is set, which distributions do: there the gate keeps that right.
func kept(release string) uint64 {
	rights := uint64(1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW)
	if major, _, _ := strings.Cut(release, "."); len(major) == 1 && major < "6" {
		rights |= 1 << unix.CAP_BPF
	}
	return rights
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "" // cannot fail
	}
	return unix.ByteSliceToString(u.Release[:])
}

// dropPrivileges gives up every right but those, for good: permitted, effective
// and inheritable sets of all threads, and execve(2) gains nothing
// (PR_SET_NO_NEW_PRIVS). See capabilities(7).
func dropPrivileges(rights uint64) error {
	if _, _, e := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		return fmt.Errorf("set no_new_privs: %w", explainThreads(e))
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	low, high := uint32(rights), uint32(rights>>32)
	data := [2]unix.CapUserData{{Effective: low, Permitted: low}, {Effective: high, Permitted: high}}
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
