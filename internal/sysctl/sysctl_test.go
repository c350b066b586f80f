package sysctl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree is a stand-in with one file, and the tree on it.
func tree(t *testing.T, files map[string]string) (*Tree, string) {
	t.Helper()
	dir := t.TempDir()
	for name, value := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(value), 0o644))
	}
	s, err := Open(dir)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s, dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadWriteRestore(t *testing.T) {
	s, dir := tree(t, map[string]string{"net/ipv4/vs/sync_threshold": "3\t50\n", "net/ipv6/conf/all/forwarding": "0\n"})
	const name = "ipv4/vs/sync_threshold"
	want := func(value string) {
		t.Helper()
		if got, err := s.Read(name); err != nil || got != value {
			t.Errorf("read %q, %v; want %q", got, err, value)
		}
	}
	want("3 50")
	must(t, s.Write(name, "0  0"))
	want("0 0")
	must(t, s.Restore(name, "3\t50"))
	want("3 50")
	must(t, s.Write("ipv6/conf/all/forwarding", "1"))
	data, err := os.ReadFile(filepath.Join(dir, "net/ipv6/conf/all/forwarding"))
	must(t, err)
	if string(data) != "1\n" {
		t.Errorf("written was %q", data)
	}
	// What is gone took its value along; it cannot be read or set.
	must(t, s.Restore("ipv4/conf/eth9/forwarding", "1"))
	for _, missing := range []string{"ipv4/conf/eth9/forwarding", "ipv9/x", "ipv4"} {
		if _, err := s.Read(missing); err == nil || !strings.Contains(err.Error(), "net/"+missing) {
			t.Errorf("read %s: %v", missing, err)
		}
	}
	if err := s.Write("ipv4/nosuch", "1"); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "set net/ipv4/nosuch to 1: ") {
		t.Errorf("set what does not exist: %v", err)
	}
}

// A kernel without IPv6 has a tree all the same, one without IPv4 has none.
func TestFamilies(t *testing.T) {
	s, _ := tree(t, map[string]string{"net/ipv4/ip_forward": "0"})
	if _, err := s.Read("ipv6/conf/all/forwarding"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	must(t, s.Restore("ipv6/conf/all/forwarding", "0"))
	if _, err := Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// No name leads out of the two directories, not through a link either.
func TestStaysInside(t *testing.T) {
	s, dir := tree(t, map[string]string{"net/ipv4/ip_forward": "0", "kernel/sysrq": "0"})
	must(t, os.Symlink("../../kernel", filepath.Join(dir, "net/ipv4/link")))
	for _, name := range []string{"ipv4/../../kernel/sysrq", "ipv4/link/sysrq", "../kernel/sysrq"} {
		if _, err := s.Read(name); err == nil {
			t.Errorf("read %s", name)
		}
		if err := s.Write(name, "1"); err == nil {
			t.Errorf("set %s", name)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "kernel/sysrq"))
	must(t, err)
	if string(data) != "0" {
		t.Errorf("it was set to %q", data)
	}
}

func TestList(t *testing.T) {
	s, _ := tree(t, map[string]string{"net/ipv4/conf/all/x": "0", "net/ipv4/conf/eth0/x": "0"})
	got, err := s.List("ipv4/conf")
	if err != nil || !slices.Equal(got, []string{"all", "eth0"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := s.List("ipv6/conf"); err == nil || !strings.Contains(err.Error(), "list net/ipv6/conf") {
		t.Errorf("error %v", err)
	}
}

func TestDotted(t *testing.T) {
	for name, want := range map[string]string{
		"ipv4/vs/sloppy_tcp":            "net.ipv4.vs.sloppy_tcp",
		"ipv4/conf/eth0.100/forwarding": "net.ipv4.conf.eth0/100.forwarding",
	} {
		if got := Dotted(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
