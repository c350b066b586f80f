package ipvs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Drift made by ipvsadm itself, beside services that are ipvsadm's own.
func TestKernelDriftByIpvsadm(t *testing.T) {
	n := newNamespace(t)
	for _, args := range []string{
		"-A -t 10.9.9.9:443 -s wlc -p 60 -M 255.255.255.0",
		"-a -t 10.9.9.9:443 -r 10.9.9.1:443 -i -w 5 -x 100 -y 50",
		"-A -u 10.9.9.9:53 -s rr -o",
		"-A -t 10.9.9.9:444 -s sh -b sh-fallback,sh-port",
		"-A -f 7 -s rr",
		"-a -f 7 -r 10.9.9.1 -g",
		"-A -t [2001:db8::1]:80 -s rr",
		"-a -t [2001:db8::1]:80 -r [2001:db8::2]:80 -m",
		"-A -t [2001:db8::1]:81 -s rr -p 60 -M 64",
		"-a -t [2001:db8::1]:81 -r 10.9.9.2:81 -i",
		"-A -t 10.9.9.9:445 -s rr",
		"-a -t 10.9.9.9:445 -r [2001:db8::2]:445 -i",
		"-A -t [::ffff:10.9.9.9]:80 -s rr",
	} {
		n.ipvsadm(args)
	}
	foreign := n.saved()
	table := n.open()
	noDiff(t, "foreign services as read", lines(`
-A -f 7 -s rr
-a -f 7 -r 10.9.9.1:0 -g -w 1
-A -t [::ffff:10.9.9.9]:80 -s rr
-A -t 10.9.9.9:443 -s wlc -p 60 -M 255.255.255.0
-a -t 10.9.9.9:443 -r 10.9.9.1:443 -i -w 5 --tun-type ipip -x 100 -y 50
-A -u 10.9.9.9:53 -s rr -o
-A -t 10.9.9.9:444 -s sh -b sh-fallback,sh-port
-A -t [2001:db8::1]:80 -s rr
-a -t [2001:db8::1]:80 -r [2001:db8::2]:80 -m -w 1
-A -t [2001:db8::1]:81 -s rr -p 60 -M 64
-a -t [2001:db8::1]:81 -r 10.9.9.2:81 -i -w 1 --tun-type ipip
-A -t 10.9.9.9:445 -s rr
-a -t 10.9.9.9:445 -r [2001:db8::2]:445 -i -w 1 --tun-type ipip`), printed(mustRead(t, table)))

	r := newLife(t, table, filepath.Join(t.TempDir(), "owned"))
	desired := webAndDNS(t)
	desired[0].Persistence = 300 * time.Second
	mustReconcile(t, r, desired)
	right := n.saved()
	noDiff(t, "table", lines(strings.Join(append(printed(desired), foreign...), "\n")), right)

	for _, tt := range []struct {
		args, want string
		hidden     bool
	}{
		{"-d -t 10.0.0.1:80 -r 10.0.1.1:80", "destination 10.0.1.1:80 of TCP 10.0.0.1:80 was missing", false},
		{"-e -t 10.0.0.1:80 -r 10.0.1.1:80 -g -w 0", `destination 10.0.1.1:80 of TCP 10.0.0.1:80 was "-g -w 0", left as "-g -w 1"`, false},
		{"-e -t 10.0.0.1:80 -r 10.0.1.1:80 -m -w 1", `destination 10.0.1.1:80 of TCP 10.0.0.1:80 was "-m -w 1", left as "-g -w 1"`, false},
		{"-e -t 10.0.0.1:80 -r 10.0.1.1:80 -g -w 1 -x 9", `destination 10.0.1.1:80 of TCP 10.0.0.1:80 was "-g -w 1 -x 9", left as "-g -w 1"`, true},
		{"-a -t 10.0.0.1:80 -r 10.0.1.3:80 -i", "destination 10.0.1.3:80 of TCP 10.0.0.1:80 was not ours", false},
		{"-E -t 10.0.0.1:80 -s lc -p 300", `service TCP 10.0.0.1:80 was "-s lc -p 300", left as "-s rr -p 300"`, false},
		{"-E -t 10.0.0.1:80 -s rr", `service TCP 10.0.0.1:80 was "-s rr", left as "-s rr -p 300"`, false},
		{"-E -t 10.0.0.1:80 -s rr -p 30", `service TCP 10.0.0.1:80 was "-s rr -p 30", left as "-s rr -p 300"`, false},
		{"-E -t 10.0.0.1:80 -s rr -p 300 -M 255.255.0.0", `service TCP 10.0.0.1:80 was "-s rr -p 300 -M 255.255.0.0", left as "-s rr -p 300"`, false},
		{"-E -u 10.0.0.1:53 -s sh -b sh-port", `service UDP 10.0.0.1:53 was "-s sh -b sh-port", left as "-s sh"`, true},
		{"-E -u 10.0.0.1:53 -s sh -o", `service UDP 10.0.0.1:53 was "-s sh -o", left as "-s sh"`, false},
	} {
		t.Run(tt.args, func(t *testing.T) {
			n.ipvsadm(tt.args)
			if tt.hidden { // /proc/net/ip_vs does not show it
				noDiff(t, "at first", Report{}, mustReconcile(t, r, desired))
				r.whole.next = 0
			}
			report := mustReconcile(t, r, desired)
			noDiff(t, "drift", []string{tt.want}, texts(report.Drift))
			noDiff(t, "steps", 1, len(report.Result.Done))
			noDiff(t, "table", right, n.saved())
		})
	}
	t.Run("-C", func(t *testing.T) {
		n.ipvsadm("-C")
		report := mustReconcile(t, r, desired)
		noDiff(t, "drift", 5, len(report.Drift))
		noDiff(t, "table", printed(desired), n.saved())
	})
}

// What ipvsadm set up already is adopted: the kernel is not written to, which
// shows in the destinations' counters and in the steps.
func TestKernelAdoptsWhatIsRight(t *testing.T) {
	n := newNamespace(t)
	desired := webAndDNS(t)
	for _, s := range Diff(desired, nil, nil) {
		n.ipvsadm(s.String()) // a plan's lines are ipvsadm's own
	}
	noDiff(t, "a plan played by ipvsadm", printed(desired), n.saved())
	report := mustReconcile(t, newLife(t, n.open(), filepath.Join(t.TempDir(), "owned")), desired)
	noDiff(t, "adopted", []string{"TCP 10.0.0.1:80", "UDP 10.0.0.1:53"}, texts(report.Adopted))
	noDiff(t, "done", Result{}, report.Result)
}

// A connection outlives every edit of its service and destination, and is
// counted all the time.
func TestKernelEditKeepsConnections(t *testing.T) {
	n := newNamespace(t)
	table := n.open()
	local := []Service{service(t, "TCP 127.0.0.1:80", "rr", dest("127.0.0.1:8080", NAT, 1))}
	mustApply(t, table, Diff(local, nil, nil))
	echo := n.echo("127.0.0.1:80", "127.0.0.1:8080")
	for _, to := range []Service{
		local[0],
		service(t, "TCP 127.0.0.1:80", "wlc", dest("127.0.0.1:8080", NAT, 7)),
		service(t, "TCP 127.0.0.1:80", "sh", dest("127.0.0.1:8080", NAT, 0)),
	} {
		mustApply(t, table, Diff([]Service{to}, mustRead(t, table), nil))
		if err := echo("x"); err != nil {
			t.Errorf("after the change to %v: %v", printed([]Service{to}), err)
		}
		got, err := table.Stats(to.Key)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || got[0].Destinations[0].ActiveConn != 1 || got[0].Destinations[0].InactConn != 0 {
			t.Errorf("stats %+v: expected one active connection", got)
		}
	}
	none, err := table.Stats(key(t, "TCP 127.0.0.1:81"))
	if err != nil || len(none) != 0 {
		t.Errorf("stats of a service that is not there: %v, %v", none, err)
	}
}

func TestKernelWithLoDown(t *testing.T) {
	n := newNamespace(t)
	table := n.open()
	fresh := &namespace{t: t}
	fresh.thread(func() (err error) { fresh.handle, err = newNS(); return err })
	t.Cleanup(func() { fresh.handle.Close() })
	down := fresh.open()
	plan := Diff(webAndDNS(t)[:1], nil, nil)
	mustApply(t, table, plan)
	_, err := down.Apply(t.Context(), plan)
	if !errors.Is(err, syscall.EINVAL) || !strings.Contains(fmt.Sprint(err), "is lo down in this network namespace (ip link set lo up)?") {
		t.Errorf("lo down: %v", err)
	}
}

// Two namespaces are two tables with two scopes.
func TestKernelScopes(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	scopes := map[string]bool{}
	for _, n := range []*namespace{a, a, b} {
		n.inside(func() error {
			s, err := HostScope()
			scopes[s] = true
			return err
		})
	}
	if len(scopes) != 2 {
		t.Errorf("scopes of two namespaces: %v", scopes)
	}
	mustApply(t, a.open(), Diff(webAndDNS(t), nil, nil))
	noDiff(t, "the other namespace", []Service{}, mustRead(t, b.open()))
}

// The kernel skips services in /proc/net/ip_vs if another network namespace has
// some, too (ip_vs_ctl.c: ip_vs_info_seq_next counts them all, ip_vs_info_array
// those of one). What is skipped is no drift.
func TestKernelProcWithANeighbor(t *testing.T) {
	neighbor := newNamespace(t).open()
	mustApply(t, neighbor, Diff(bigTable(1000, 1), nil, nil))
	n := newNamespace(t)
	table := n.open()
	r := newLife(t, table, filepath.Join(t.TempDir(), "owned"))
	desired := bigTable(1000, 1)
	mustReconcile(t, r, desired)
	shown := 0
	if err := table.visible(func(*procService) { shown++ }); err != nil {
		t.Fatal(err)
	}
	t.Logf("the file shows %d of 1000 services", shown)
	for range 3 {
		noDiff(t, "report", Report{}, mustReconcile(t, r, desired))
	}
	n.ipvsadm("-d -t 10.1.0.1:1500 -r 10.9.244.1:1500")
	report := mustReconcile(t, r, desired)
	noDiff(t, "drift", []string{"destination 10.9.244.1:1500 of TCP 10.1.0.1:1500 was missing"}, texts(report.Drift))
}
