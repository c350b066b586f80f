package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/internal/control"
)

// directorHere answers on an admin socket as a director would, and returns the file
// that leads to it.
func directorHere(t *testing.T, status any, views map[string]control.View) (config string) {
	t.Helper()
	dir := t.TempDir()
	config = file(t, "zklvs.yaml", "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\nrun_dir: "+dir+"\n")
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	socket := filepath.Join(dir, "web.sock")
	go func() { ended <- control.NewServer(socket, func() any { return status }, views).Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return config
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
	}
}

// fixed is a view that always says the same.
func fixed[I any](end any, items ...I) control.View {
	return func(_ context.Context, _ url.Values, item func(any) error) (any, error) {
		for _, i := range items {
			if err := item(i); err != nil {
				return nil, err
			}
		}
		return end, nil
	}
}

func webTable() []tableService {
	return []tableService{{
		Service: "web-http", Protocol: "TCP", Listen: "192.168.150.100:80", Scheduler: "rr",
		counted: counted{totals{7, 42, 0, 2_345_678, 0}, totals{1, 6, 0, 400, 0}},
		RealServers: []tableServer{
			{Address: "192.168.150.12:80", Forward: "dr", Weight: 1, Active: 2, Inactive: 3, counted: counted{totals{4, 24, 0, 1_345_678, 0}, totals{1, 6, 0, 400, 0}}},
			{Address: "192.168.150.13:80", Forward: "dr", Weight: 0, Persistent: 1, counted: counted{Total: totals{3, 18, 0, 123_456_789_000, 0}}},
		},
	}, {Protocol: "FWM", Listen: "5", Scheduler: "wlc", RealServers: []tableServer{}}}
}

func TestStatusOfTheTable(t *testing.T) {
	status := map[string]any{"node": "node01", "groups": []map[string]any{{"group": "web", "phase": "holder"}}}
	config := directorHere(t, status, map[string]control.View{
		statsView:    fixed(tableEnd{"node01"}, webTable()...),
		timeoutsView: fixed[int](tableTimeouts{"node01", 900, 120, 300}),
		connectionsView: func(_ context.Context, query url.Values, item func(any) error) (any, error) {
			for _, c := range []tableConnection{
				{"TCP", 899, "ESTABLISHED", "192.168.150.20:40000", "192.168.150.100:80", "192.168.150.13:80"},
				{"TCP", 59, "SYN_RECV", "192.168.150.20:4000", "192.168.150.100:80", "192.168.150.12:80"},
				{"TCP", 119, "TIME_WAIT", "192.168.150.20:40000", "192.168.150.100:80", "192.168.150.12:80"},
			} {
				_ = item(c)
			}
			return connectionsEnd{"node01", query.Get("all") == ""}, nil
		},
	})
	for args, want := range map[string]string{
		"--stats": `
SERVICE     PROT  LISTEN -> REAL SERVER  CONNS  INPKTS  OUTPKTS  INBYTES  OUTBYTES
web-http    TCP   192.168.150.100:80         7      42        0  2345678         0
                  -> 192.168.150.12:80       4      24        0  1345678         0
                  -> 192.168.150.13:80       3      18        0  123456M         0
(not ours)  FWM   5                          0       0        0        0         0
`,
		"--stats --exact": `
SERVICE     PROT  LISTEN -> REAL SERVER  CONNS  INPKTS  OUTPKTS       INBYTES  OUTBYTES
web-http    TCP   192.168.150.100:80         7      42        0       2345678         0
                  -> 192.168.150.12:80       4      24        0       1345678         0
                  -> 192.168.150.13:80       3      18        0  123456789000         0
(not ours)  FWM   5                          0       0        0             0         0
`,
		"--rate": `
SERVICE     PROT  LISTEN -> REAL SERVER  CPS  INPPS  OUTPPS  INBPS  OUTBPS
web-http    TCP   192.168.150.100:80       1      6       0    400       0
                  -> 192.168.150.12:80     1      6       0    400       0
                  -> 192.168.150.13:80     0      0       0      0       0
(not ours)  FWM   5                        0      0       0      0       0
`,
		"--timeout": `
 TCP  TCPFIN   UDP
900s    120s  300s
`,
		"--connections": `
PRO  EXPIRE  STATE        SOURCE                VIRTUAL             DESTINATION
TCP  00:59   SYN_RECV     192.168.150.20:4000   192.168.150.100:80  192.168.150.12:80
TCP  01:59   TIME_WAIT    192.168.150.20:40000  192.168.150.100:80  192.168.150.12:80
TCP  14:59   ESTABLISHED  192.168.150.20:40000  192.168.150.100:80  192.168.150.13:80

3 connections on node01, a sample: there are more. --all lists them; the kernel takes the square of their number (100,000: seconds)
`,
		"--connections --all": `
PRO  EXPIRE  STATE        SOURCE                VIRTUAL             DESTINATION
TCP  00:59   SYN_RECV     192.168.150.20:4000   192.168.150.100:80  192.168.150.12:80
TCP  01:59   TIME_WAIT    192.168.150.20:40000  192.168.150.100:80  192.168.150.12:80
TCP  14:59   ESTABLISHED  192.168.150.20:40000  192.168.150.100:80  192.168.150.13:80

3 connections on node01
`,
		"--timeout -o json": `
{
  "node": "node01",
  "tcp_seconds": 900,
  "tcp_fin_seconds": 120,
  "udp_seconds": 300
}
`,
		"--timeout --timeout=1s -o yaml": `
node: node01
tcp_seconds: 900
tcp_fin_seconds: 120
udp_seconds: 300
`,
	} {
		t.Run(args, func(t *testing.T) {
			stdout, stderr, code := runCommandLine(t, append(strings.Fields("status -c "+config), strings.Fields(args)...)...)
			if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), stdout); diff != "" || code != exitOK || stderr != "" {
				t.Errorf("code %d, stderr %q\n%s", code, stderr, diff)
			}
		})
	}
	t.Run("as data", func(t *testing.T) {
		stdout, _, _ := runCommandLine(t, "status", "-c", config, "--stats", "-o", "json")
		var got shownTable
		if err := json.Unmarshal([]byte(stdout), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(shownTable{Node: "node01", Services: webTable()}, got, cmp.AllowUnexported(shownTable{}, tableService{}, tableServer{})); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("without ZooKeeper", func(t *testing.T) {
		stdout, stderr, code := runCommandLine(t, "status", "-c", config, "--timeout", "100ms")
		const want = `
SERVICE   PROT  LISTEN              SCHED  REAL SERVER        FORWARD  WEIGHT  ACTIVECONN  INACTCONN  PERSISTCONN
web-http  TCP   192.168.150.100:80  rr     192.168.150.12:80  dr       1       2           3          0
                                           192.168.150.13:80  dr       0       0           0          1
          FWM   5                   wlc    none
`
		if code != exitOK || stderr != "" || !strings.Contains(stdout, want) {
			t.Errorf("code %d, stderr %q, stdout\n%s", code, stderr, stdout)
		}
	})
}

// What of the kernel's table the cluster's status shows beside each real server.
func TestSumServers(t *testing.T) {
	servers := []tableServer{
		{Address: "10.0.0.1:80", Weight: 1, Active: 1, Inactive: 2, Persistent: 3},
		{Address: "10.0.0.1:443", Weight: 1, Active: 10, Inactive: 20, Persistent: 30},
		{Address: "10.0.0.2:80", Weight: 1},
		{Address: "10.0.0.2:443", Weight: 2},
		{Address: "[2001:db8::1]:80", Weight: 0, Active: 5},
	}
	for server, want := range map[string]string{
		"10.0.0.1:80":  "\t1\t1\t2\t3",
		"10.0.0.1":     "\t1\t11\t22\t33",
		"10.0.0.2":     "\tdiffers\t0\t0\t0",
		"2001:db8::1":  "\t0\t5\t0\t0",
		"10.0.0.11:80": "\tnone\t0\t0\t0",
	} {
		if got := sumServers(servers, server); got != want {
			t.Errorf("%s: %q, want %q", server, got, want)
		}
	}
}

func TestTableFlags(t *testing.T) {
	config := file(t, "zklvs.yaml", "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\nrun_dir: "+t.TempDir()+"\n")
	for args, want := range map[string]string{
		"--stats --rate":                     "--stats, --rate, --connections, --timeout: expected one of them",
		"--timeout --connections":            "expected one of them",
		"--exact":                            "--exact: expected with --stats or --rate",
		"--all":                              "expected with --connections",
		"--stats --limit 3":                  "expected with --connections",
		"--connections --all --limit 3":      "--all and --limit: expected one of them",
		"--connections --limit 0":            "--limit 0: expected a number from 1 on",
		"--connections --limit many":         "many",
		"--timeout soon":                     `invalid argument "soon"`,
		"--timeout=soon":                     `invalid argument "soon"`,
		"--timeout 1s 2s":                    "unknown command",
		"--stats node01":                     "unknown command",
		"--stats --timeout 5s --rate":        "expected one of them",
		"--timeout -o xml":                   `--output "xml"`,
		"--connections --stats --timeout=1s": "expected one of them",
	} {
		t.Run(args, func(t *testing.T) {
			stdout, stderr, code := runCommandLine(t, append(strings.Fields("status -c "+config), strings.Fields(args)...)...)
			if code != exitBadInput || stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("code %d, stdout %q, stderr %q, want one line with %q", code, stdout, stderr, want)
			}
		})
	}
}

// Where there is no table to show: one line, with what to do.
func TestNoTable(t *testing.T) {
	config := file(t, "zklvs.yaml", "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\nrun_dir: "+t.TempDir()+"\n")
	old := directorHere(t, map[string]string{}, nil)
	fails := directorHere(t, map[string]string{}, map[string]control.View{statsView: func(context.Context, url.Values, func(any) error) (any, error) {
		return nil, errors.New("open the IPVS table: no ip_vs")
	}})
	for name, c := range map[string]struct{ config, want string }{
		"no director":  {config, "no director of cluster web runs on this host (admin socket "},
		"older":        {old, "does not know this view: it is older than this command: restart it"},
		"the director": {fails, "open the IPVS table: no ip_vs"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := runCommandLine(t, "status", "-c", c.config, "--stats", "--timeout=100ms")
			if code != exitFailed || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("code %d, stdout %q, stderr %q, want %q", code, stdout, stderr, c.want)
			}
		})
	}
	t.Run("not root", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("SKIP: needs root, to make a socket that is not ours")
		}
		dir, err := os.MkdirTemp("", "zklvs-socket-") // t.TempDir is root's alone
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		l, err := net.Listen("unix", filepath.Join(dir, "web.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, "web.sock"), 0o600)); err != nil {
			t.Fatal(err)
		}
		config := file(t, "zklvs.yaml", "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\nrun_dir: "+dir+"\n")
		_, stderr, code := runAsNobody(t, "status", "-c", config, "--stats", "--timeout=100ms")
		if code != exitFailed || !strings.Contains(stderr, "permission denied: it is its owner's: run this as root") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("code %d, stderr %q", code, stderr)
		}
	})
}

func TestShort(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 99_999_999: "99999999", 100_000_000: "100000K", 99_999_999_999: "99999999K", 100_000_000_000: "100000M",
		1<<64 - 1: "18446744T",
	} {
		if got := short(n, false); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if got := short(1<<64-1, true); got != "18446744073709551615" {
		t.Error(got)
	}
}
