package ipvshost

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/zklvs/zklvs/ipvs"
)

// machine is a network namespace with IPVS, its interfaces, and a state file.
type machine struct {
	*testing.T
	state string
	scope string
	logs  *observer.ObservedLogs
	log   *zap.Logger
}

// newMachine moves the test's goroutine into a fresh network namespace. Its
// thread is never unlocked: it ends with the test, and the namespace with it.
func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: network namespaces need root")
	}
	table, err := ipvs.Open()
	if errors.Is(err, ipvs.ErrNoKernelSupport) {
		t.Skip("SKIP: this kernel has no ip_vs: run through deploy/kernel/with-ipvs")
	}
	if err != nil {
		t.Fatal(err)
	}
	table.Close()
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	core, logs := observer.New(zap.InfoLevel)
	m := &machine{T: t, state: filepath.Join(t.TempDir(), "web.ipvs"), log: zap.New(core), logs: logs}
	m.run("ip link set lo up")
	for i, name := range []string{"eth0", "eth1"} {
		m.run("ip link add " + name + " type veth peer name peer" + name)
		m.run("ip link set " + name + " up")
		m.run("ip link set peer" + name + " up")
		m.run("ip address add 192.168.150." + string('1'+rune(i)) + "/24 dev " + name)
	}
	m.scope, err = ipvs.HostScope()
	m.must(err)
	return m
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) run(line string) string {
	m.Helper()
	words := strings.Fields(line)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		m.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

func (m *machine) write(name, value string) {
	m.Helper()
	m.must(os.WriteFile("/proc/sys/net/"+name, []byte(value), 0))
}

// life returns a host as a new process would have it.
func (m *machine) life() *Host {
	m.Helper()
	h, err := New(Config{Logger: m.log, StatePath: m.state, Scope: m.scope, OpenTable: func() (Table, error) {
		t, err := ipvs.Open()
		if err != nil {
			return nil, err
		}
		return t, nil
	}})
	m.must(err)
	m.Cleanup(func() { h.Close() })
	return h
}

// everything is what sysctl -a and ipvsadm show.
func (m *machine) everything() map[string]string {
	m.Helper()
	all := map[string]string{"timeouts": m.run("ipvsadm -L --timeout"), "daemons": m.run("ipvsadm -L --daemon")}
	for _, root := range []string{"/proc/sys/net/ipv4", "/proc/sys/net/ipv6"} {
		m.must(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if data, err := os.ReadFile(path); err == nil { // some can only be written
				all[path] = string(data)
			}
			return nil
		}))
	}
	return all
}

func (m *machine) wantSame(want, got map[string]string) {
	m.Helper()
	if d := cmp.Diff(want, got); d != "" {
		m.Errorf("(-want +got):\n%s", d)
	}
}

func (m *machine) wantDaemons(want ...string) {
	m.Helper()
	got := m.run("ipvsadm -L --daemon")
	for _, w := range want {
		if !strings.Contains(got, w) {
			m.Errorf("daemons lack %q:\n%s", w, got)
		}
	}
	if n := len(strings.Split(strings.TrimSpace(got), "\n")); strings.TrimSpace(got) != "" && n != len(want) {
		m.Errorf("%d daemons, want %d:\n%s", n, len(want), got)
	}
}

// everySetting is all at once, with the recommended settings.
func everySetting() Desired {
	d := Desired{
		Timeouts: ipvs.Timeouts{TCP: 600 * time.Second, TCPFin: 60 * time.Second, UDP: 30 * time.Second},
		Sysctls: map[string]string{"sloppy_tcp": "1", "sync_threshold": "0 0", "sync_refresh_period": "10",
			"expire_quiescent_template": "1", "expire_nodest_conn": "1"},
		Forward4: true, Forward6: true,
	}
	for _, state := range []ipvs.DaemonState{ipvs.Master, ipvs.Backup} {
		d.Daemons = append(d.Daemons, ipvs.Daemon{State: state, Interface: "eth0", ID: 1, MaxLen: 60, Group: netip.MustParseAddr("224.0.0.81"), Port: 8848, TTL: 1})
	}
	return d
}

const (
	kernelMaster = "master sync daemon (mcast=eth0, syncid=1, maxlen=60, group=224.0.0.81, port=8848, ttl=1)"
	kernelBackup = "backup sync daemon (mcast=eth0, syncid=1, maxlen=1024, group=224.0.0.81, port=8848, ttl=1)"
)

// wantEverySetting checks what is set, through others' eyes.
func (m *machine) wantEverySetting() {
	m.Helper()
	for name, want := range map[string]string{"net.ipv4.vs.sloppy_tcp": "1", "net.ipv4.vs.sync_threshold": "0\t0", "net.ipv4.vs.sync_refresh_period": "10",
		"net.ipv4.vs.expire_quiescent_template": "1", "net.ipv4.vs.expire_nodest_conn": "1", "net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"} {
		if got := strings.TrimSpace(m.run("sysctl -n " + name)); got != want {
			m.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := m.run("ipvsadm -L --timeout"); !strings.Contains(got, "600 60 30") {
		m.Errorf("timeouts: %s", got)
	}
	m.wantDaemons(kernelMaster, kernelBackup)
}

func TestKernelLife(t *testing.T) {
	m := newMachine(t)
	// What switching forwarding on and off would not leave as it is.
	m.write("ipv4/conf/all/accept_redirects", "0")
	m.write("ipv4/conf/eth1/forwarding", "1")
	m.write("ipv6/conf/eth1/forwarding", "1")
	m.write("ipv4/conf/default/forwarding", "1")
	m.write("ipv4/vs/am_droprate", "20")
	before := m.everything()
	first := m.life()
	m.must(first.Apply(t.Context(), everySetting()))
	m.wantEverySetting()
	began := time.Now()
	m.must(first.Apply(t.Context(), everySetting()))
	t.Logf("a look at a host that is as desired took %v", time.Since(began))
	// Another program's work is undone.
	m.write("ipv4/vs/sloppy_tcp", "0")
	m.write("ipv4/ip_forward", "0")
	m.run("ipvsadm --set 0 0 77")
	m.run("ipvsadm --stop-daemon backup")
	m.must(first.Apply(t.Context(), everySetting()))
	m.wantEverySetting()
	if n := m.logs.FilterMessageSnippet("another program").Len(); n != 4 {
		t.Errorf("%d lines tell of drift, want 4: %v", n, m.logs.All())
	}
	// A life that was killed: the next one knows what was there before.
	second := m.life()
	m.must(second.Apply(t.Context(), everySetting()))
	m.wantEverySetting()
	other := everySetting()
	other.Sysctls = map[string]string{"am_droprate": "30"}
	for i := range other.Daemons {
		other.Daemons[i].Interface, other.Daemons[i].ID, other.Daemons[i].MaxLen = "eth1", 9, 0
	}
	m.must(second.Apply(t.Context(), other))
	m.wantDaemons("master sync daemon (mcast=eth1, syncid=9", "backup sync daemon (mcast=eth1, syncid=9")
	if n := m.logs.FilterMessageSnippet("another program").Len(); n != 4 {
		t.Errorf("%d lines tell of drift, want 4: %v", n, m.logs.All())
	}
	m.must(m.life().Restore(t.Context()))
	m.wantSame(before, m.everything())
	if _, err := os.Stat(m.state); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state file is left: %v", err)
	}
}

// Foreign daemons, interfaces that are gone, down, and made anew, and a setting
// that this kernel lacks.
func TestKernelTrouble(t *testing.T) {
	m := newMachine(t)
	h := m.life()
	m.run("ipvsadm --start-daemon master --mcast-interface eth1 --syncid 3")
	before := m.everything()
	d := everySetting()
	d.Sysctls["nosuch"] = "1"
	fails := func(want ...string) {
		t.Helper()
		err := h.Apply(t.Context(), d)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("error %v, want %q in it", err, w)
			}
		}
	}
	fails("net.ipv4.vs.nosuch does not exist in this kernel, Linux ", "it runs with --mcast-interface eth1 --syncid 3 ", "ipvsadm --stop-daemon master")
	m.wantDaemons("master sync daemon (mcast=eth1, syncid=3", kernelBackup)
	m.must(h.Restore(t.Context()))
	m.wantSame(before, m.everything())
	m.run("ipvsadm --stop-daemon master")
	before = m.everything()
	delete(d.Sysctls, "nosuch")
	m.run("ip link set eth0 down")
	fails("sync daemon (master): interface eth0 is down", "sync daemon (backup): interface eth0 is down")
	m.run("ip link del eth0")
	fails("interface eth0: no such device: configure it")
	m.wantDaemons()
	again := func() {
		t.Helper()
		m.run("ip link add eth0 type veth peer name peereth0")
		m.run("ip link set eth0 up")
		m.run("ip address add 192.168.150.1/24 dev eth0")
		m.must(h.Apply(t.Context(), d))
		m.wantDaemons(kernelMaster, kernelBackup)
	}
	again()
	m.run("ip link del eth0")
	fails("interface eth0: no such device")
	again()
	if n := m.logs.FilterMessageSnippet("restarting a sync daemon").Len(); n != 2 {
		t.Errorf("%d daemons were restarted, want 2", n)
	}
	m.must(h.Restore(t.Context()))
	got := m.everything()
	for name := range got { // of the interfaces that were made anew
		if strings.Contains(name, "eth0/") {
			delete(got, name)
		}
	}
	for name := range before {
		if strings.Contains(name, "eth0/") {
			delete(before, name)
		}
	}
	m.wantSame(before, got)
}
