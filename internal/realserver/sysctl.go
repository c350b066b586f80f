package realserver

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The two sysctls (Documentation/networking/ip-sysctl.rst) and the values of
// them that hide a VIP on lo. The kernel uses the larger of conf/all and
// conf/INTERFACE, so both must hide: a larger value between 3 and 7 would undo it.
const (
	arpIgnore   = "arp_ignore"   // 1: reply only for addresses of the interface asked; 2: and only to its subnet; 8: never
	arpAnnounce = "arp_announce" // 2: never use the VIP as the sender of an ARP request
)

// accepted lists the values that do, the one that is written first.
func accepted(name string) []string {
	if strings.HasSuffix(name, arpIgnore) {
		return []string{"1", "2", "8"}
	}
	return []string{"2"}
}

// sysctlNames returns what Up sets, in order: `all` covers the host at once.
func sysctlNames(iface string) []string {
	return []string{
		conf("all", arpIgnore), conf("all", arpAnnounce),
		conf(iface, arpIgnore), conf(iface, arpAnnounce),
	}
}

func conf(iface, name string) string { return "conf/" + iface + "/" + name }

// sysctls reads and writes below net/ipv4. The open directory belongs to the
// network namespace of the thread that opened it.
type sysctls struct{ root *os.Root }

func openSysctls(dir string) (*sysctls, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the sysctls: %w", err)
	}
	return &sysctls{root: root}, nil
}

func (s *sysctls) read(name string) (string, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return "", fmt.Errorf("read net/ipv4/%s: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return "", fmt.Errorf("read net/ipv4/%s: %w", name, err)
	}
	return strings.TrimSpace(string(data)), nil
}

// write sets a value and reads it back.
func (s *sysctls) write(name, value string) error {
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err == nil {
		_, err = f.WriteString(value + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("set net/ipv4/%s to %s: %w", name, value, explain(err))
	}
	got, err := s.read(name)
	if err != nil {
		return err
	}
	if got != value {
		return fmt.Errorf("set net/ipv4/%s to %s: it reads %s: someone else changes it", name, value, got)
	}
	return nil
}

// ensure sets a value that hides the VIP unless one is there.
func (s *sysctls) ensure(name string) (changed bool, err error) {
	now, err := s.read(name)
	if err != nil {
		return false, err
	}
	want := accepted(name)
	if slices.Contains(want, now) {
		return false, nil
	}
	return true, s.write(name, want[0])
}

// restore puts a value back. An interface that is gone took its value along.
func (s *sysctls) restore(saved savedSysctl) error {
	now, err := s.read(saved.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV):
		return nil
	case err != nil:
		return err
	case now == saved.Found:
		return nil
	}
	return s.write(saved.Name, saved.Found)
}

// explain adds the remedy to the errors that an operator meets.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: in a container, have its runtime set the value (docker run --sysctl net.ipv4.conf.all.arp_ignore=1 ...), or make /proc/sys writable", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run as root, or with CAP_NET_ADMIN in the owner of this network namespace", err)
	}
	return err
}
