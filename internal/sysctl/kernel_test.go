package sysctl

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newNamespace moves the test's goroutine into a fresh network namespace. Its
// thread is never unlocked: it ends with the test, and the namespace with it.
func newNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: network namespaces need root")
	}
	runtime.LockOSThread()
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
}

func open(t *testing.T) *Tree {
	t.Helper()
	s, err := Open("/proc/sys")
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func want(t *testing.T, s *Tree, name, value string) {
	t.Helper()
	if got, err := s.Read(name); err != nil || got != value {
		t.Errorf("%s is %q, %v; want %q", name, got, err, value)
	}
}

// A tree stays with the namespace in which it was opened, whoever uses it.
func TestKernelNamespace(t *testing.T) {
	newNamespace(t)
	first := open(t)
	const name = "ipv4/ip_default_ttl"
	must(t, first.Write(name, "33"))
	newNamespace(t)
	second := open(t)
	must(t, second.Write(name, "44"))
	want(t, first, name, "33")
	want(t, second, name, "44")
	must(t, first.Write(name, "55"))
	want(t, second, name, "44")
}

// Values of several fields read back with tabs between them.
func TestKernelFields(t *testing.T) {
	newNamespace(t)
	s := open(t)
	must(t, s.Write("ipv4/ip_local_port_range", "10000 20000"))
	want(t, s, "ipv4/ip_local_port_range", "10000 20000")
	must(t, s.Restore("ipv4/ip_local_port_range", "32768\t60999"))
	want(t, s, "ipv4/ip_local_port_range", "32768 60999")
}

func TestKernelRefused(t *testing.T) {
	newNamespace(t)
	s := open(t)
	refused := func(what error, remedy string) {
		t.Helper()
		err := s.Write("ipv4/ip_default_ttl", "900")
		if what == unix.EROFS {
			err = s.Write("ipv4/ip_default_ttl", "9")
		}
		if !errors.Is(err, what) || !strings.Contains(err.Error(), remedy) {
			t.Errorf("error %v, want %q in it", err, remedy)
		}
	}
	refused(unix.EINVAL, "this kernel does not take the value")
	must(t, unix.Unshare(unix.CLONE_NEWNS)) // this thread's, which ends with the test
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
	must(t, unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	s = open(t)
	refused(unix.EROFS, "docker run --sysctl net.ipv4.ip_default_ttl=9")
	if err := s.Write("ipv4/nosuch", "9"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
