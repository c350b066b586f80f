package ipvs

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrOwnedFile says that the state file of owned services is damaged, so that
// what an earlier life left in the kernel is unknown.
var ErrOwnedFile = errors.New("state file of owned IPVS services cannot be used: " +
	"remove our leftovers with ipvsadm -D, then delete the file")

const (
	ownedHeader = "zklvs-owned-services 1"
	// maxOwned bounds the file: 100,000 services, which no director runs.
	maxOwned     = 100_000
	maxOwnedSize = maxOwned*len("TCP [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535\n") + 4096
)

// Owned is the set of services that are ours, kept in a file. A key is in the
// file before its service is in the kernel and until after it is gone, so at
// any moment, in particular after a SIGKILL, the file names at least every
// service that we added.
//
// The file is text: a header, the scope, a line for each key, and a last line
// with their number. It is replaced by rename, never written in place. One
// process at a time may use it.
type Owned struct {
	mu    sync.Mutex
	path  string
	scope string
	keys  map[Key]bool
}

// OpenOwned reads the state file, which need not exist; its directory must.
//
// The scope says for which table the file speaks (see HostScope). A file of
// another scope is of no use and no harm: the table it spoke of went with the
// boot or the network namespace, so the set starts empty and the file is
// replaced at the next change. A file that is damaged, too large or not
// regular gives an error that wraps ErrOwnedFile.
func OpenOwned(path, scope string) (*Owned, error) {
	if scope == "" || strings.ContainsAny(scope, "\n\r") {
		return nil, fmt.Errorf("owned services: scope %q: expected one line", scope)
	}
	o := &Owned{path: path, scope: scope, keys: map[Key]bool{}}
	data, err := readBounded(path, maxOwnedSize)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("owned services: %w", err)
		}
		return o, nil
	case err != nil:
		return nil, fmt.Errorf("owned services: read %s: %w", path, err)
	}
	fileScope, keys, err := parseOwned(data)
	if err != nil {
		return nil, fmt.Errorf("owned services: %s: %w: %w", path, ErrOwnedFile, err)
	}
	if fileScope == scope {
		o.keys = keys
	}
	return o, nil
}

// HostScope names the IPVS table of the calling thread: this boot of this
// machine and its network namespace. Two tables have different names, except
// where the kernel has no namespace cookies (before Linux 5.14) and gives a
// new namespace the inode number of one that is gone.
func HostScope() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	id := strings.TrimSpace(string(boot))
	if cookie, err := netnsCookie(); err == nil {
		return fmt.Sprintf("boot %s netns cookie %d", id, cookie), nil
	}
	link, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return "", fmt.Errorf("read the network namespace: %w", err)
	}
	return fmt.Sprintf("boot %s netns %s", id, link), nil
}

func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}

// Has tells whether a service is ours.
func (o *Owned) Has(k Key) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.keys[k]
}

// Keys lists our services in order.
func (o *Owned) Keys() []Key {
	o.mu.Lock()
	defer o.mu.Unlock()
	return sortedSet(o.keys)
}

// each calls f for every service that is ours, in no order. f must not use the
// set.
func (o *Owned) each(f func(Key)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k := range o.keys {
		f(k)
	}
}

// Add makes services ours. When it returns nil they are on disk; on an error
// the set is as it was, and none of them may be added to the kernel.
func (o *Owned) Add(keys ...Key) error { return o.change(keys, true) }

// Remove gives services up, after they are gone from the kernel.
func (o *Owned) Remove(keys ...Key) error { return o.change(keys, false) }

// change puts keys in or takes them out. The file is written only if that
// changes the set.
func (o *Owned) change(keys []Key, in bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var changed []Key
	for _, k := range keys {
		if o.keys[k] != in {
			o.put(k, in)
			changed = append(changed, k)
		}
	}
	if changed == nil {
		return nil
	}
	err := o.write()
	if err != nil {
		for _, k := range changed {
			o.put(k, !in)
		}
	}
	return err
}

func (o *Owned) put(k Key, in bool) {
	if in {
		o.keys[k] = true
	} else {
		delete(o.keys, k)
	}
}

func (o *Owned) write() error {
	if len(o.keys) > maxOwned {
		return fmt.Errorf("owned services: %d are too many, the most is %d", len(o.keys), maxOwned)
	}
	if err := replaceFile(o.path, formatOwned(o.scope, o.keys)); err != nil {
		return fmt.Errorf("owned services: write %s: %w", o.path, err)
	}
	return nil
}

func formatOwned(scope string, keys map[Key]bool) []byte {
	b := make([]byte, 0, 64+len(scope)+len("TCP 255.255.255.255:65535\n")*len(keys))
	b = append(append(append(b, ownedHeader+"\nscope "...), scope...), '\n')
	for _, k := range sortedSet(keys) {
		b = append(k.appendTo(b), '\n')
	}
	return append(strconv.AppendInt(append(b, "end "...), int64(len(keys)), 10), '\n')
}

// parseOwned reads what formatOwned wrote, and nothing else.
func parseOwned(data []byte) (scope string, keys map[Key]bool, err error) {
	lines := strings.Split(string(data), "\n")
	n := len(lines)
	if n < 4 || lines[n-1] != "" {
		return "", nil, errors.New("it is cut off")
	}
	if lines[0] != ownedHeader {
		return "", nil, fmt.Errorf("line 1: %.40q: expected %q", lines[0], ownedHeader)
	}
	scope, ok := strings.CutPrefix(lines[1], "scope ")
	if !ok || scope == "" {
		return "", nil, fmt.Errorf("line 2: %.40q: expected a scope", lines[1])
	}
	keys = make(map[Key]bool, n)
	for i, line := range lines[2 : n-2] {
		k, err := parseKey(line)
		if err != nil {
			return "", nil, fmt.Errorf("line %d: %w", i+3, err)
		}
		keys[k] = true
	}
	if last := "end " + strconv.Itoa(n-4); lines[n-2] != last || len(keys) != n-4 || len(keys) > maxOwned {
		return "", nil, fmt.Errorf("line %d: %.40q: expected %q after as many different services", n-1, lines[n-2], last)
	}
	return scope, keys, nil
}

// parseKey reads "TCP 10.0.0.1:80", "TCP [2001:db8::1]:80", "FWM 5" or "FWM 5
// IPv6", exactly as Key.String writes it.
func parseKey(s string) (Key, error) {
	k, ok := looseKey(s)
	if !ok || k.String() != s {
		return Key{}, fmt.Errorf("%.40q: expected a service like \"TCP 10.0.0.1:80\" or \"FWM 5\"", s)
	}
	return k, nil
}

func looseKey(s string) (k Key, ok bool) {
	name, rest, _ := strings.Cut(s, " ")
	if name == "FWM" {
		number, six := strings.CutSuffix(rest, " IPv6")
		mark, err := strconv.ParseUint(number, 10, 32)
		return Key{Mark: uint32(mark), IPv6: six}, err == nil && mark != 0
	}
	p, perr := ParseProtocol(name)
	ap, aerr := netip.ParseAddrPort(rest)
	k = Key{Protocol: p, Address: ap.Addr(), Port: ap.Port()}
	return k, perr == nil && aerr == nil && oneFamily(k.Address) == nil
}

// readBounded reads a regular file of at most limit bytes. It follows no
// symbolic link and does not wait for the other end of a pipe.
func readBounded(path string, limit int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%w: it is a symbolic link", ErrOwnedFile)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no regular file", ErrOwnedFile)
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("%w: it is larger than %d bytes", ErrOwnedFile, limit)
	}
	return data, err
}

// replaceFile puts data in the place of path: all of it or, after a crash,
// the old content. The name of the new file is fixed, so that a process that
// dies in between leaves one file at most, which the next one overwrites.
func replaceFile(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // the first error is the one to report
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func sortedSet(set map[Key]bool) []Key {
	keys := make([]Key, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, Key.Compare)
	return keys
}

func sameSet(a, b map[Key]bool) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if !b[k] {
			return false
		}
	}
	return true
}
