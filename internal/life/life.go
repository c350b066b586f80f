// Package life tells one life of the daemon from another: who this host is,
// and that no process of an earlier life of the same cluster is left in this
// network namespace.
//
// Guaranteed: while a Claim is held, no other process in the same network
// namespace holds one for the same cluster, and the kernel gives it up with the
// last process that inherited it, however that process ends.
//
// Not guaranteed: anything about other network namespaces of the same machine.
// They have their own abstract sockets (unix(7)), and a netns cookie of their own.
package life

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/election"
)

// Claim is held by the one life of a cluster's director in a network namespace.
type Claim struct{ l *net.UnixListener }

// ErrTaken says that another process of this cluster lives in this network namespace.
var ErrTaken = errors.New("another zklvs director of this cluster runs in this network namespace")

// Take claims the life of a cluster's director by binding an abstract unix
// socket: the kernel keeps its name unique per network namespace.
func Take(cluster string) (*Claim, error) {
	name := "@zklvs/" + cluster
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("cluster %s: %w: stop it first (ss -xlp | grep %s shows its pid)", cluster, ErrTaken, name)
	case err != nil:
		return nil, fmt.Errorf("claim abstract socket %s: %w", name, err)
	}
	return &Claim{l}, nil
}

// File returns the claim for a child process: it lasts as long as either lives.
func (c *Claim) File() (*os.File, error) { return c.l.File() }

// Close gives the claim up.
func (c *Claim) Close() error { return c.l.Close() }

// HostID reads who this host is, for records. What cannot be read stays empty:
// then nothing is said on behalf of an earlier life.
func HostID() election.HostID {
	return election.HostID{
		MachineID:   firstLine("/etc/machine-id"),
		BootID:      firstLine("/proc/sys/kernel/random/boot_id"),
		NetnsCookie: netnsCookie(),
	}
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// netnsCookie returns SO_NETNS_COOKIE (asm-generic/socket.h, Linux 5.14), 0 if
// the kernel has none.
func netnsCookie() uint64 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}
