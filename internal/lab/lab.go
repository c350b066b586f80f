package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
)

// The names of the LANs that Options gives by default.
const (
	LAN  = "lan"  // clients, VIPs, directors, real servers
	Mgmt = "mgmt" // ZooKeeper: a director's LAN can die while this one lives
)

// Options shape a lab; the zero value is the usual one.
type Options struct {
	// Dir holds logs and data; it is visible at the same path in every host.
	// Default: a temporary directory that Close removes.
	Dir string
	// LANs are the bridges by name, each with the network of its hosts; default
	// LAN 192.168.150.0/24 and Mgmt 10.99.0.0/24.
	LANs map[string]netip.Prefix
	// SeparateMachineIDs gives each host an /etc/machine-id of its own, as two
	// machines have. Without it all share this machine's.
	SeparateMachineIDs bool
}

func (o Options) withDefaults() Options {
	if o.LANs == nil {
		o.LANs = map[string]netip.Prefix{
			LAN:  netip.MustParsePrefix("192.168.150.0/24"),
			Mgmt: netip.MustParsePrefix("10.99.0.0/24"),
		}
	}
	return o
}

// Lab is a set of hosts and the switch between them.
type Lab struct {
	options Options
	dir     string
	ownDir  bool
	wires   *Host           // the namespace of the bridges
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc

	mu     sync.Mutex
	hosts  []*Host
	closed bool
}

// New makes a lab without hosts. It needs root.
func New(options Options) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("make a lab: network namespaces need root: use sudo")
	}
	l := &Lab{options: options.withDefaults(), dir: options.Dir}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if err := l.setUp(); err != nil {
		return nil, fmt.Errorf("make a lab: %w", errors.Join(err, l.Close()))
	}
	return l, nil
}

func (l *Lab) setUp() (err error) {
	if l.ownDir = l.dir == ""; l.ownDir {
		l.dir, err = os.MkdirTemp("", "zklvs-lab-")
	} else {
		l.dir, err = filepath.Abs(l.dir)
	}
	if err != nil {
		return err
	}
	if err := l.writeNames(); err != nil {
		return err
	}
	if l.dir, err = filepath.EvalSymlinks(l.dir); err != nil {
		return err
	}
	if l.wires, err = l.newHost("switch"); err != nil {
		return err
	}
	for name := range l.options.LANs {
		if err := l.wires.addBridge(name); err != nil {
			return fmt.Errorf("add bridge %s: %w", name, err)
		}
	}
	return nil
}

func (h *Host) addBridge(name string) error {
	off := false
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}, MulticastSnooping: &off}
	if err := h.netlink.LinkAdd(bridge); err != nil {
		return err
	}
	return h.netlink.LinkSetUp(bridge)
}

// Dir returns the directory of logs and data.
func (l *Lab) Dir() string { return l.dir }

// Host returns the host of that name; there is none, if nil.
func (l *Lab) Host(name string) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// Hosts returns all hosts in the order in which they were added.
func (l *Lab) Hosts() []*Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.hosts)
}

// Close kills every process in every host, waits until they are gone, and
// removes what the lab made. It may be called again.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.cancel()
	var errs []error
	for _, h := range slices.Backward(l.hosts) {
		errs = append(errs, h.close())
	}
	if l.wires != nil {
		errs = append(errs, l.wires.close())
	}
	if l.ownDir && l.dir != "" {
		errs = append(errs, os.RemoveAll(l.dir))
	}
	return errors.Join(errs...)
}

// namesFile is bound over /etc/hosts in every host. Each host is found under
// its name at its first address.
func (l *Lab) namesFile() string { return filepath.Join(l.dir, "hosts") }

// writeNames rewrites the file in place: the bind mounts follow the inode.
func (l *Lab) writeNames() error {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n")
	for _, h := range l.hosts {
		if len(h.nics) > 0 {
			fmt.Fprintf(&b, "%s %s\n", h.nics[0].Address.Addr(), h.name)
		}
	}
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(l.namesFile(), []byte(b.String()), 0o644)
}
