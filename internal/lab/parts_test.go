package lab

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The real programs in their hosts: ZooKeeper of three, zkCli, nginx, curl.
func TestKernelLabParts(t *testing.T) {
	l, hosts := newLab(t, Options{}, "zk1", "zk2", "zk3", "client", "node02")
	client, web := hosts[3], hosts[4]
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	e, err := l.StartZooKeeper(ctx, ZooKeeperOptions{}, hosts[:3]...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { explain(t, e) })
	want := []string{"10.99.0.1:2181", "10.99.0.2:2181", "10.99.0.3:2181"}
	if diff := cmp.Diff(want, e.Servers()); diff != "" {
		t.Errorf("servers (-want +got):\n%s", diff)
	}
	t.Run("zkCli", func(t *testing.T) { zkCliWorks(t, client, strings.Join(e.Servers(), ",")) })
	t.Run("a leader without its network", func(t *testing.T) { leaderCutOff(t, e, hosts) })
	t.Run("nginx", func(t *testing.T) { nginxDiesAndReturns(t, web, client) })
}

func zkCliWorks(t *testing.T, client *Host, servers string) {
	ctx := minute(t)
	if output, err := ZkCli(ctx, client, servers, "create", "/lab", "some data"); err != nil || output != "Created /lab\n" {
		t.Fatalf("create printed %q, %v", output, err)
	}
	if output, err := ZkCli(ctx, client, servers, "get", "/lab"); err != nil || output != "some data\n" {
		t.Errorf("get printed %q, %v", output, err)
	}
	output, err := ZkCli(ctx, client, servers, "get", "/nothing")
	if err == nil || !strings.Contains(output, "Node does not exist: /nothing") {
		t.Errorf("get of a missing node printed %q, %v", output, err)
	}
}

func leaderCutOff(t *testing.T, e *Ensemble, hosts []*Host) {
	ctx := minute(t)
	old, err := e.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := hosts[old].Cut("eth1"); err != nil {
		t.Fatal(err)
	}
	err = waitEvery(ctx, askInterval, "another server leads", func() error {
		return e.leadsOtherThan(ctx, old)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := hosts[old].Heal("eth1"); err != nil {
		t.Fatal(err)
	}
	if err := e.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

func nginxDiesAndReturns(t *testing.T, web, client *Host) {
	ctx := minute(t)
	curl := func() (string, error) {
		return client.Run(ctx, "curl", "--silent", "--show-error", "--max-time", "2", "http://node02/")
	}
	for range 2 {
		p, err := StartNginx(ctx, web, "node02")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := curl(); err != nil || got != "node02\n" {
			t.Errorf("curl printed %q, %v", got, err)
		}
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		if got, err := curl(); err == nil {
			t.Errorf("the killed nginx answered %q", got)
		}
	}
	if _, err := StartNginx(ctx, web, `not "one line`); err == nil || !strings.Contains(err.Error(), "[emerg]") {
		t.Errorf("nginx with a broken configuration: %v, want its own words", err)
	}
}
