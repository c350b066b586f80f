// Package sysctl reads, sets and puts back the settings below /proc/sys/net
// (Documentation/networking/ip-sysctl.rst, ipvs-sysctl.rst).
//
// Guaranteed: a Tree belongs to the network namespace of the thread that opened
// it, whichever thread uses it later. What was set has been read back. A name
// leads to nothing outside of net/ipv4 and net/ipv6.
//
// Not guaranteed: that a value stays. Another program may change it a moment later.
package sysctl

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxValue bounds what is read of one setting, in bytes.
const maxValue = 4096

// families are the directories below net that are opened. net itself belongs to
// no namespace: what is looked up in it is that of the thread which looks
// (net/sysctl_net.c), so a Tree begins one level below.
var families = []string{"ipv4", "ipv6"}

// Tree is the settings of one network namespace. Names are written as paths below
// net: ipv4/conf/all/arp_ignore.
type Tree struct {
	roots map[string]*os.Root // by family; one that the kernel lacks is absent
}

// Open opens the settings of the calling thread's network namespace. procSys is
// /proc/sys, or a stand-in for tests.
func Open(procSys string) (*Tree, error) {
	t := &Tree{roots: map[string]*os.Root{}}
	for _, family := range families {
		root, err := os.OpenRoot(filepath.Join(procSys, "net", family))
		if errors.Is(err, fs.ErrNotExist) && family != "ipv4" {
			continue // IPv6 is disabled in this kernel
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open the sysctls: %w", err), t.Close())
		}
		t.roots[family] = root
	}
	return t, nil
}

// Close releases the tree.
func (t *Tree) Close() error {
	var err error
	for _, root := range t.roots {
		err = errors.Join(err, root.Close())
	}
	return err
}

// Read returns a value, its fields set apart by one blank each. A setting that
// does not exist is an error that wraps fs.ErrNotExist.
func (t *Tree) Read(name string) (string, error) {
	value, err := t.read(name)
	if err != nil {
		return "", fmt.Errorf("read net/%s: %w", name, err)
	}
	return value, nil
}

func (t *Tree) read(name string) (string, error) {
	root, rest, err := t.find(name)
	if err != nil {
		return "", err
	}
	f, err := root.Open(rest)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxValue))
	return plain(string(data)), err
}

// plain is a value without the tabs that the kernel sets between its fields.
func plain(value string) string { return strings.Join(strings.Fields(value), " ") }

// find returns the directory in which to look for a name, and the rest of it.
func (t *Tree) find(name string) (*os.Root, string, error) {
	family, rest, _ := strings.Cut(name, "/")
	root, ok := t.roots[family]
	if !ok {
		return nil, "", fs.ErrNotExist
	}
	return root, rest, nil
}

// List returns the names of what is in a directory: ipv4/conf has one entry for
// each interface, and all and default.
func (t *Tree) List(dir string) ([]string, error) {
	root, rest, err := t.find(dir)
	var entries []fs.DirEntry
	if err == nil {
		entries, err = fs.ReadDir(root.FS(), rest)
	}
	if err != nil {
		return nil, fmt.Errorf("list net/%s: %w", dir, err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Write sets a value and reads it back. Errors that an operator meets name the
// remedy.
func (t *Tree) Write(name, value string) error {
	if err := t.write(name, value); err != nil {
		return fmt.Errorf("set net/%s to %s: %w", name, value, explain(err, name, value))
	}
	got, err := t.Read(name)
	if err != nil {
		return err
	}
	if got != plain(value) {
		return fmt.Errorf("set net/%s to %s: it reads %s: someone else changes it", name, value, got)
	}
	return nil
}

func (t *Tree) write(name, value string) error {
	root, rest, err := t.find(name)
	if err != nil {
		return err
	}
	f, err := root.OpenFile(rest, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value + "\n")
	return errors.Join(err, f.Close())
}

// Restore puts back a value that was found earlier. A setting that is gone, with
// its interface or its module, took its value along: that is no error.
func (t *Tree) Restore(name, found string) error {
	now, err := t.Read(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV):
		return nil
	case err != nil:
		return err
	case now == plain(found):
		return nil
	}
	return t.Write(name, found)
}

// explain adds the remedy to the errors that an operator meets.
func explain(err error, name, value string) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: in a container, have its runtime set the value (docker run --sysctl %s=%s ...), or make /proc/sys writable",
			err, Dotted(name), value)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run as root, or with CAP_NET_ADMIN in the owner of this network namespace", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: this kernel does not take the value", err)
	}
	return err
}

// Dotted returns a name as sysctl(8) prints it: net.ipv4.conf.all.arp_ignore. In
// an interface's name it writes a slash for a dot, and so does this.
func Dotted(name string) string {
	return "net." + strings.NewReplacer("/", ".", ".", "/").Replace(name)
}
