package ipvs

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestKernelTimeouts(t *testing.T) {
	n := newNamespace(t)
	table := n.open()
	check := func(want Timeouts, text string) {
		t.Helper()
		got, err := table.Timeouts()
		if err != nil {
			t.Fatal(err)
		}
		noDiff(t, "timeouts", want, got)
		if said := n.ipvsadm("-L --timeout"); !strings.Contains(said, text) {
			t.Errorf("ipvsadm says %q, expected %q", said, text)
		}
	}
	check(Timeouts{900 * time.Second, 120 * time.Second, 300 * time.Second}, "900 120 300")
	if err := table.SetTimeouts(Timeouts{TCPFin: 7 * time.Second}); err != nil {
		t.Fatal(err)
	}
	check(Timeouts{900 * time.Second, 7 * time.Second, 300 * time.Second}, "900 7 300")
	if err := table.SetTimeouts(Timeouts{time.Hour, time.Minute, time.Second}); err != nil {
		t.Fatal(err)
	}
	check(Timeouts{time.Hour, time.Minute, time.Second}, "3600 60 1")
	for _, bad := range []Timeouts{{TCP: -time.Second}, {UDP: time.Millisecond}, {TCP: 1 << 62}} {
		if err := table.SetTimeouts(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	check(Timeouts{time.Hour, time.Minute, time.Second}, "3600 60 1")
}

func TestKernelDaemons(t *testing.T) {
	n := newNamespace(t)
	n.inside(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetMulticastOn(lo)
	})
	table := n.open()
	none, err := table.Daemons()
	if err != nil || len(none) != 0 {
		t.Fatalf("%v, %v", none, err)
	}
	master := Daemon{State: Master, Interface: "lo", ID: 7, MaxLen: 60, Group: netip.MustParseAddr("224.0.0.99"), Port: 8900, TTL: 3}
	backup := Daemon{State: Backup, Interface: "lo", ID: 255}
	for _, d := range []Daemon{backup, master} {
		if err := table.StartDaemon(d); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_ = table.StopDaemon(Master)
		_ = table.StopDaemon(Backup)
	})
	got, err := table.Daemons()
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if got[0] != master {
		t.Errorf("master %+v, expected %+v", got[0], master)
	}
	defaults := Daemon{State: Backup, Interface: "lo", ID: 255, MaxLen: got[1].MaxLen, Group: netip.MustParseAddr("224.0.0.81"), Port: 8848, TTL: 1}
	if got[1] != defaults || got[1].MaxLen < 1000 {
		t.Errorf("backup %+v, expected %+v", got[1], defaults)
	}
	if said := n.ipvsadm("-L --daemon"); !strings.Contains(said, "master sync daemon (mcast=lo, syncid=7, maxlen=60, group=224.0.0.99, port=8900, ttl=3)") {
		t.Errorf("ipvsadm says %q", said)
	}
	if err := table.StartDaemon(master); !errors.Is(err, ErrDaemonRuns) {
		t.Errorf("a second master: %v", err)
	}
	six := service(t, "TCP 10.0.0.1:80", "rr", dest("[2001:db8::2]:80", TUN, 1))
	if _, err := table.Apply(t.Context(), Diff([]Service{six}, nil, nil)); err == nil || !strings.Contains(err.Error(), "beside a sync daemon") {
		t.Errorf("a destination of another family: %v", err)
	}
	for _, s := range []DaemonState{Master, Backup} {
		if err := table.StopDaemon(s); err != nil {
			t.Error(err)
		}
		if err := table.StopDaemon(s); !errors.Is(err, ErrNoDaemon) {
			t.Errorf("stopped twice: %v", err)
		}
	}
	mustApply(t, table, Diff([]Service{six}, mustRead(t, table), nil))
	if err := table.StartDaemon(backup); err == nil || !strings.Contains(err.Error(), "another family") {
		t.Errorf("a daemon beside a destination of another family: %v", err)
	}
	for _, bad := range []Daemon{{}, {State: 3, Interface: "lo"}, {State: Master}, {State: Master, Interface: "sixteen-bytes-xx"},
		{State: Master, Interface: "lo", Group: netip.MustParseAddr("10.0.0.1")}, {State: Master, Interface: "absent"}} {
		if err := table.StartDaemon(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// IPv6 groups, one daemon at a time.
func TestKernelDaemonIPv6(t *testing.T) {
	n := newNamespace(t)
	table := n.open()
	want := Daemon{State: Backup, Interface: "lo", ID: 1, MaxLen: 1200, Group: netip.MustParseAddr("ff02::99"), Port: 9000, TTL: 2}
	if err := table.StartDaemon(want); err != nil {
		t.Fatal(err)
	}
	got, err := table.Daemons()
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%+v, %v, expected %+v", got, err, want)
	}
	if err := table.StopDaemon(Backup); err != nil {
		t.Error(err)
	}
	for range 3 { // a thread that is stopped before it runs
		begun := time.Now()
		if err := errors.Join(table.StartDaemon(want), table.StopDaemon(Backup)); err != nil || time.Since(begun) > 5*time.Second {
			t.Errorf("started and stopped: %v after %v", err, time.Since(begun))
		}
	}
}

// A connection is counted, shown in the connection table, and its counters can
// be set to zero.
func TestKernelStatsAndConnections(t *testing.T) {
	n := newNamespace(t)
	table := n.open()
	local := []Service{service(t, "TCP 127.0.0.1:80", "rr", dest("127.0.0.1:8080", NAT, 3)), service(t, "UDP 127.0.0.1:80", "rr")}
	local[0].Persistence = time.Minute
	mustApply(t, table, Diff(local, nil, nil))
	echo := n.echo("127.0.0.1:80", "127.0.0.1:8080")
	if err := echo("hello"); err != nil {
		t.Fatal(err)
	}
	got, err := table.Stats(local[0].Key)
	for end := time.Now().Add(5 * time.Second); err == nil && got[0].Connections == 0 && time.Now().Before(end); {
		err = echo("hello") // the kernel adds up every 2 s
		got, _ = table.Stats(local[0].Key)
	}
	if err != nil || len(got) != 1 || got[0].Connections != 1 || got[0].InPackets < 3 || got[0].OutPackets < 2 || got[0].InBytes < 100 {
		t.Fatalf("%+v, %v", got, err)
	}
	d := got[0].Destinations[0]
	if d.Forward != NAT || d.Weight != 3 || d.ActiveConn != 1 || d.PersistConn != 1 || d.Counters != got[0].Counters || got[0].Scheduler != "rr" {
		t.Errorf("%+v", got[0])
	}
	if all, err := table.Stats(); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	var conns []Conn
	n.inside(func() error {
		f, err := os.Open("/proc/thread-self/net/ip_vs_conn")
		if err != nil {
			return err
		}
		defer f.Close()
		conns, err = Connections(f, 0)
		return err
	})
	states := map[string]int{}
	for _, c := range conns {
		states[c.State]++
		if c.Protocol != TCP || c.Virtual != netip.MustParseAddrPort("127.0.0.1:80") || c.Destination != netip.MustParseAddrPort("127.0.0.1:8080") ||
			c.Client.Addr() != netip.MustParseAddr("127.0.0.1") || c.Expires == 0 {
			t.Errorf("%+v", c)
		}
	}
	noDiff(t, "states", map[string]int{"ESTABLISHED": 1, "ASSURED": 1}, states) // and the persistence template
	if err := table.Zero(local[1].Key); err != nil {
		t.Fatal(err)
	}
	if got, _ := table.Stats(local[0].Key); got[0].Connections != 1 {
		t.Errorf("after another's Zero: %+v", got)
	}
	if err := table.Zero(local[0].Key); err != nil {
		t.Fatal(err)
	}
	if got, _ := table.Stats(local[0].Key); got[0].Connections != 0 || got[0].Destinations[0].Connections != 0 || got[0].Destinations[0].ActiveConn != 1 {
		t.Errorf("after Zero: %+v", got)
	}
	if err := table.Zero(); err != nil {
		t.Fatal(err)
	}
	if err := table.Zero(key(t, "TCP 10.0.0.9:9")); err == nil {
		t.Error("a service that is not there was set to zero")
	}
}
