package ipvshost

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/ipvs"
)

// fakeTable is a kernel's IPVS, as far as it matters here. What is 0 in a daemon
// becomes the kernel's default, and a backup's buffer has a least size.
type fakeTable struct {
	timeouts ipvs.Timeouts
	daemons  []ipvs.Daemon
	calls    []string // changes
	// fail, if set, is asked before each change.
	fail func(call string) error
}

func (f *fakeTable) change(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	if f.fail != nil {
		if err := f.fail(call); err != nil {
			return err
		}
	}
	f.calls = append(f.calls, call)
	return nil
}

func (f *fakeTable) Timeouts() (ipvs.Timeouts, error) { return f.timeouts, nil }

func (f *fakeTable) SetTimeouts(t ipvs.Timeouts) error {
	if err := f.change("timeouts %v %v %v", t.TCP, t.TCPFin, t.UDP); err != nil {
		return err
	}
	f.timeouts = or(t, f.timeouts)
	return nil
}

func (f *fakeTable) Close() {}

func (f *fakeTable) Daemons() ([]ipvs.Daemon, error) { return slices.Clone(f.daemons), nil }

func (f *fakeTable) StartDaemon(d ipvs.Daemon) error {
	if pick(f.daemons, d.State) != nil {
		return unix.EEXIST
	}
	if err := f.change("start %v on %s id %d", d.State, d.Interface, d.ID); err != nil {
		return err
	}
	if d.MaxLen == 0 {
		d.MaxLen = 1472
	}
	if d.State == ipvs.Backup {
		d.MaxLen = max(d.MaxLen, 1024)
	}
	if !d.Group.IsValid() {
		d.Group = netip.MustParseAddr("224.0.0.81")
	}
	if d.Port == 0 {
		d.Port = 8848
	}
	if d.TTL == 0 {
		d.TTL = 1
	}
	f.daemons = append(f.daemons, d)
	return nil
}

func (f *fakeTable) StopDaemon(which ipvs.DaemonState) error {
	if pick(f.daemons, which) == nil {
		return unix.ESRCH
	}
	if err := f.change("stop %v", which); err != nil {
		return err
	}
	f.daemons = slices.DeleteFunc(f.daemons, func(d ipvs.Daemon) bool { return d.State == which })
	return nil
}

// bench is a host in memory and in a folder: what does not change with the life
// that looks at it.
type bench struct {
	*testing.T
	table  *fakeTable
	opened error // what opening the table gives
	links  map[string]Link
	proc   string
	state  string
	scope  string
	logs   *observer.ObservedLogs
	log    *zap.Logger
}

func newBench(t *testing.T) *bench {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	b := &bench{T: t, proc: t.TempDir(), state: filepath.Join(t.TempDir(), "run", "web.ipvs"), scope: "boot a netns cookie 1", log: zap.New(core), logs: logs,
		table: &fakeTable{timeouts: ipvs.Timeouts{TCP: 900 * time.Second, TCPFin: 120 * time.Second, UDP: 300 * time.Second}},
		links: map[string]Link{"eth0": {2, true}, "eth1": {3, true}}}
	for name, value := range map[string]string{
		"ipv4/vs/sloppy_tcp": "0", "ipv4/vs/sync_threshold": "3\t50", "ipv4/vs/expire_nodest_conn": "1",
		"ipv4/ip_forward": "0", "ipv4/conf/all/accept_redirects": "0", "ipv4/conf/all/forwarding": "0", "ipv4/conf/eth1/forwarding": "1", "ipv4/conf/eth0/forwarding": "0",
		"ipv6/conf/all/forwarding": "0", "ipv6/conf/eth0/forwarding": "0",
	} {
		b.set(name, value)
	}
	return b
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) path(name string) string { return filepath.Join(b.proc, "net", name) }

func (b *bench) set(name, value string) {
	b.Helper()
	b.must(os.MkdirAll(filepath.Dir(b.path(name)), 0o755))
	b.must(os.WriteFile(b.path(name), []byte(value+"\n"), 0o644))
}

// life returns a host as a new process would have it.
func (b *bench) life() *Host {
	b.Helper()
	h, err := New(Config{Logger: b.log, StatePath: b.state, Scope: b.scope, ProcSys: b.proc,
		OpenTable: func() (Table, error) { return b.table, b.opened },
		Links: func(name string) (Link, error) {
			l, ok := b.links[name]
			if !ok {
				return Link{}, fmt.Errorf("interface %s: %w", name, unix.ENODEV)
			}
			return l, nil
		}})
	b.must(err)
	b.Cleanup(func() { h.Close() })
	return h
}

func (b *bench) apply(h *Host, d Desired) {
	b.Helper()
	b.must(h.Apply(b.Context(), d))
}

// snapshot is everything that Apply may change.
func (b *bench) snapshot() map[string]string {
	b.Helper()
	all := map[string]string{"timeouts": fmt.Sprint(b.table.timeouts)}
	root := filepath.Join(b.proc, "net")
	b.must(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		all[name] = strings.Join(strings.Fields(string(data)), " ")
		return err
	}))
	for _, d := range b.table.daemons {
		all[d.State.String()] = describe(d)
	}
	return all
}

func (b *bench) wantSame(want, got map[string]string) {
	b.Helper()
	if d := cmp.Diff(want, got); d != "" {
		b.Errorf("(-want +got):\n%s", d)
	}
}

func (b *bench) wantNoFile() {
	b.Helper()
	if _, err := os.Stat(b.state); !errors.Is(err, fs.ErrNotExist) {
		b.Errorf("the state file is left: %v", err)
	}
}

// logged counts log lines with a text.
func (b *bench) logged(text string) int { return b.logs.FilterMessageSnippet(text).Len() }

// full is everything at once.
func full() Desired {
	return Desired{
		Timeouts: ipvs.Timeouts{TCP: 600 * time.Second, UDP: 60 * time.Second},
		Sysctls:  map[string]string{"sloppy_tcp": "1", "sync_threshold": "0 0", "expire_nodest_conn": "1"},
		Forward4: true, Forward6: true,
		Daemons: daemons("eth0", 1),
	}
}

func daemons(iface string, id uint8) []ipvs.Daemon {
	return []ipvs.Daemon{{State: ipvs.Master, Interface: iface, ID: id, MaxLen: 60}, {State: ipvs.Backup, Interface: iface, ID: id, MaxLen: 60}}
}

// with returns m with changes, given as name, value, name, value.
func with(m map[string]string, changes ...string) map[string]string {
	c := map[string]string{}
	for k, v := range m {
		c[k] = v
	}
	for i := 0; i < len(changes); i += 2 {
		c[changes[i]] = changes[i+1]
	}
	return c
}

const (
	masterOn0 = "--mcast-interface eth0 --syncid 1 --sync-maxlen 60 --mcast-group 224.0.0.81 --mcast-port 8848 --mcast-ttl 1"
	backupOn0 = "--mcast-interface eth0 --syncid 1 --sync-maxlen 1024 --mcast-group 224.0.0.81 --mcast-port 8848 --mcast-ttl 1"
)

// asFull is the snapshot after full was applied to what was before.
func asFull(before map[string]string) map[string]string {
	return with(before, "ipv4/vs/sloppy_tcp", "1", "ipv4/vs/sync_threshold", "0 0", "ipv4/ip_forward", "1", "ipv6/conf/all/forwarding", "1",
		"timeouts", fmt.Sprint(ipvs.Timeouts{TCP: 600 * time.Second, TCPFin: 120 * time.Second, UDP: 60 * time.Second}), "master", masterOn0, "backup", backupOn0)
}
