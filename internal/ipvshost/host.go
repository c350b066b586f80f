// Package ipvshost sets what IPVS wants of a whole host, not of one service:
// timeouts, the settings below net.ipv4.vs, forwarding for NAT, and the two
// connection synchronization daemons.
//
// # Guaranteed
//
//   - What was there is written to a state file before anything is changed. A life
//     that was killed leaves the file to the next one, for which the values in it
//     are what was there.
//   - Apply is idempotent: each call finds what differs and sets it again. What
//     another program changed is logged.
//   - What cannot be set stops nothing else from being set.
//   - Restore puts everything back and removes the file; what cannot be put back
//     stays in it. A sync daemon that this package did not start is neither stopped
//     nor restarted.
//   - The file speaks for one boot and one network namespace. In another one it is
//     ignored.
//
// # Not guaranteed
//
//   - After a SIGKILL without another life everything stays as it is set, sync
//     daemons run on. They do no harm: a backup learns of connections that nobody
//     asks for, a master has none to tell of.
//   - net.ipv6.conf.all.forwarding=1 makes Linux ignore router advertisements on
//     interfaces whose accept_ra is 1 (ip-sysctl.rst): a host that takes its route
//     from them needs accept_ra=2.
//   - Two clusters on one host that want different values undo each other's work.
package ipvshost

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/sysctl"
	"github.com/zklvs/zklvs/ipvs"
)

// Table is what is asked of the kernel's IPVS; see ipvs.Table.
type Table interface {
	Timeouts() (ipvs.Timeouts, error)
	// SetTimeouts leaves a timeout of 0 as it is.
	SetTimeouts(ipvs.Timeouts) error
	Daemons() ([]ipvs.Daemon, error)
	StartDaemon(ipvs.Daemon) error
	StopDaemon(ipvs.DaemonState) error
	Close()
}

// Desired is what the host should have. The zero value is what was there before.
type Desired struct {
	// Timeouts of 0 are left as they were.
	Timeouts ipvs.Timeouts
	// Sysctls are values by their names below net.ipv4.vs.
	Sysctls map[string]string
	// Forward4 and Forward6 let the host forward packets: NAT needs it.
	Forward4, Forward6 bool
	// Daemons are to run; at most one of each state. A zero field other than the
	// id leaves the choice to the kernel.
	Daemons []ipvs.Daemon
}

// Link is a network interface of this host.
type Link struct {
	// Index is another one when an interface of the same name was made anew.
	Index int
	Up    bool
}

// Config is what a Host is made of. Links and ProcSys have defaults.
type Config struct {
	Logger *zap.Logger
	// OpenTable is called when the table is first needed, and again after it failed.
	OpenTable func() (Table, error)
	// StatePath is the file for what was there before.
	StatePath string
	// Scope names this boot and network namespace; see ipvs.HostScope.
	Scope string
	// Links finds an interface of this network namespace.
	Links func(name string) (Link, error)
	// ProcSys is /proc/sys, or a stand-in for tests.
	ProcSys string
}

// Host sets and puts back. Its methods may be called from any goroutine; one
// process at a time may use a state file.
type Host struct {
	c       Config
	log     *zap.Logger
	sysctls *sysctl.Tree

	mu     sync.Mutex // guards what follows
	table  Table      // nil until it is needed
	loaded bool
	found  state           // as in the file
	stood  map[string]bool // what was as desired after the last pass, by what it is
	last   Desired
}

// New checks the configuration and changes nothing. Close releases the host.
func New(c Config) (*Host, error) {
	if c.Logger == nil || c.OpenTable == nil || c.StatePath == "" || c.Scope == "" {
		return nil, errors.New("ipvshost: Logger, OpenTable, StatePath and Scope must be set")
	}
	if c.ProcSys == "" {
		c.ProcSys = "/proc/sys"
	}
	if c.Links == nil {
		c.Links = links
	}
	tree, err := sysctl.Open(c.ProcSys)
	if err != nil {
		return nil, err
	}
	return &Host{c: c, log: c.Logger, sysctls: tree, stood: map[string]bool{}}, nil
}

// Close releases what New and the others opened. It puts nothing back.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.table != nil {
		h.table.Close()
		h.table = nil
	}
	return h.sysctls.Close()
}

// Apply makes the host what is desired, and puts back what is no longer desired.
// ip_vs must be loaded: net.ipv4.vs exists only then. The error joins all that
// could not be done; each part of it is one line that names a remedy where there
// is one.
func (h *Host) Apply(ctx context.Context, d Desired) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := h.load(); err != nil {
		return err
	}
	if err := h.needTable(d); err != nil { // then net.ipv4.vs may not be there either
		return errors.Join(err, h.restoreSysctls(d.sysctls()))
	}
	if !reflect.DeepEqual(d, h.last) { // other values than before are nobody's doing
		h.stood, h.last = map[string]bool{}, d
	}
	return errors.Join(h.applySysctls(d.sysctls()), h.applyTimeouts(d.Timeouts), h.applyDaemons(d.Daemons))
}

// Restore puts back what was there before the first Apply. It may be called
// without one: a file that an earlier life left is enough.
func (h *Host) Restore(ctx context.Context) error {
	if err := h.Apply(ctx, Desired{}); err != nil {
		return fmt.Errorf("put back what was there before: %w", err)
	}
	return nil
}

// needTable opens the table unless neither d nor the state file is about it.
func (h *Host) needTable(d Desired) error {
	wanted := d.Timeouts != ipvs.Timeouts{} || len(d.Daemons) > 0 || len(d.Sysctls) > 0
	if h.table != nil || !wanted && h.found.Timeouts == nil && len(h.found.Daemons) == 0 {
		return nil
	}
	t, err := h.c.OpenTable()
	if err != nil {
		return err
	}
	h.table = t
	return nil
}

// note remembers whether a thing is as desired, and reports whether it was so
// after the last pass: then another program has changed it since.
func (h *Host) note(what string, stands bool) (stood bool) {
	stood = h.stood[what]
	h.stood[what] = stands
	return stood
}
