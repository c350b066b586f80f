package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// enterNew puts the calling thread into the fresh namespaces of a host.
func (l *Lab) enterNew(name string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	// /sys shows the network of the namespace that it was mounted in.
	if err := mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return err
	}
	if err := l.mountRun(name); err != nil {
		return err
	}
	return l.bindIdentity()
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}

// mountRun mounts a tmpfs on /run in which the lab's directory, and what else
// must be seen, stays at its path. The tmpfs is furnished below the lab's
// directory first, because it hides all of them.
func (l *Lab) mountRun(name string) error {
	stage := filepath.Join(l.dir, ".run-"+name)
	if err := os.Mkdir(stage, 0o755); err != nil {
		return err
	}
	if err := mount("run", stage, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, dir := range l.keptVisible() {
		rest, ok := strings.CutPrefix(dir, "/run/")
		if !ok {
			continue
		}
		copied := filepath.Join(stage, rest)
		if err := os.MkdirAll(copied, 0o755); err != nil {
			return err
		}
		if err := mount(dir, copied, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for _, dir := range []string{os.TempDir(), os.Getenv("HOME"), "/run/lock"} {
		if rest, ok := strings.CutPrefix(dir, "/run/"); ok {
			if err := os.MkdirAll(filepath.Join(stage, rest), 0o755); err != nil {
				return err
			}
		}
	}
	if err := mount(stage, "/run", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	return os.Remove(stage)
}

// keptVisible returns the directories that hosts share with this process.
func (l *Lab) keptVisible() []string {
	dirs := []string{l.dir, os.Getenv("ZKLVS_OUT"), os.Getenv("GOCOVERDIR")}
	if exe, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(exe))
	}
	var kept []string
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			kept = append(kept, dir)
		}
	}
	return kept
}

// bindIdentity gives the host the lab's /etc/hosts and, where asked for, a
// machine-id of its own. A machine without these files has hosts without them.
func (l *Lab) bindIdentity() error {
	bind := func(source, target string) error {
		err := mount(source, target, "", unix.MS_BIND, "")
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := bind(l.namesFile(), "/etc/hosts"); err != nil || !l.options.SeparateMachineIDs {
		return err
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails, see its documentation
	if err := os.WriteFile("/run/machine-id", fmt.Appendf(nil, "%x\n", id), 0o444); err != nil {
		return err
	}
	return bind("/run/machine-id", "/etc/machine-id")
}

// enter puts the calling thread, which must be its caller's alone, into the
// namespaces of the host.
func (h *Host) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter %s: %w", h.name, err)
	}
	for _, kind := range []string{"net", "uts", "mnt"} { // mnt last: it hides our /proc
		file, err := os.Open(filepath.Join(h.proc, "ns", kind))
		if err != nil {
			return fmt.Errorf("enter %s: %w", h.name, err)
		}
		err = unix.Setns(int(file.Fd()), 0)
		file.Close()
		if err != nil {
			return fmt.Errorf("enter the %s namespace of %s: %w", kind, h.name, err)
		}
	}
	return nil
}

// pids returns the processes that are in the host's namespaces, without this one.
func (h *Host) pids() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// A process may have left one of the two. One that has ended has none.
		net, _ := os.Readlink(filepath.Join("/proc", entry.Name(), "ns/net"))
		mnt, _ := os.Readlink(filepath.Join("/proc", entry.Name(), "ns/mnt"))
		if net == h.netID || mnt == h.mntID {
			found = append(found, pid)
		}
	}
	return found, nil
}

// signalAll sends a signal to every process in the host.
func (h *Host) signalAll(sig syscall.Signal) (count int, err error) {
	pids, err := h.pids()
	if err != nil {
		return 0, fmt.Errorf("signal %v to all on %s: %w", sig, h.name, err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return 0, fmt.Errorf("signal %v to process %d on %s: %w", sig, pid, h.name, err)
		}
	}
	return len(pids), nil
}

// killAll kills until no process is left: one may have forked meanwhile.
func (h *Host) killAll() error {
	for {
		count, err := h.signalAll(syscall.SIGKILL)
		if err != nil || count == 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}
