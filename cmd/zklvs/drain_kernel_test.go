package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
)

const (
	namePort, boundPort = 8000, 8001 // the second with persistence
)

// drainer is a cluster whose real servers tell their names.
type drainer struct {
	*cluster
	addresses map[string]string // of the real servers
}

// A real server drains while a client talks to it, over the death of the holder;
// a deadline cuts; a client that persistence binds goes elsewhere.
func TestKernelDrain(t *testing.T) {
	requireIPVS(t)
	k := &drainer{startCluster(t, demo.Options{Progress: t.Logf}), map[string]string{}}
	for _, name := range []string{demo.RealServer1, demo.RealServer2} {
		k.addresses[name] = k.Lab.Host(name).Addr("eth0").String()
		s, err := lab.NewNameServer(k.Lab.Host(name), namePort, boundPort)
		k.must(err)
		ctx, cancel := context.WithCancel(k.ctx)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-ended })
	}
	t.Cleanup(func() {
		for _, name := range k.Directors() {
			k.logs(k.Director(name).Log)
		}
	})
	k.must1(k.Apply(k.ctx, demo.Documents("", demo.Web())+k.names("names", namePort, "")+k.names("bound", boundPort, "    persistence: 60s\n")))
	k.waitStandby(standbyOf(k.waitAnyHolder()))
	k.overAFailOver()
	k.deadline()
	k.persistence()
}

// names is a service of the name servers, in DR.
func (k *drainer) names(name string, port int, more string) string {
	text := fmt.Sprintf("  %s:\n    group: web\n    listen: %s:%d/tcp\n    scheduler: rr\n    forward: dr\n%s    real_servers:\n", name, lab.VIP, port, more)
	for _, rs := range []string{demo.RealServer1, demo.RealServer2} {
		text += fmt.Sprintf("      - {address: %s:%d, weight: 1}\n", k.addresses[rs], port)
	}
	return text
}

func (k *drainer) call(port uint16) (*lab.Call, string) {
	k.Helper()
	c, err := k.Lab.Host(demo.Client).Call(lab.CallOptions{Network: "tcp", To: netip.AddrPortFrom(lab.VIP, port), Timeout: 5 * time.Second})
	k.must(err)
	k.Cleanup(c.Close)
	return c, k.ask(c)
}

func (k *drainer) ask(c *lab.Call) string {
	k.Helper()
	r, err := c.Ask()
	k.must(err)
	return r.Server
}

// elsewhere wants new clients to come to the other real server.
func (k *drainer) elsewhere(port uint16, drained string) {
	k.Helper()
	for range 4 {
		c, server := k.call(port)
		c.Close()
		if server == drained {
			k.Errorf("a new client came to %s, which is drained", server)
		}
	}
}

func (k *drainer) listed(director, want string) {
	k.Helper()
	k.until("`drain --list` says "+want, func() error {
		out, err := k.Zklvs(k.ctx, director, "drain", "--list")
		if err == nil && !strings.Contains(out, want) {
			err = errors.New(out)
		}
		return err
	})
}

func (k *drainer) overAFailOver() {
	k.Helper()
	first := k.holder()
	second := standbyOf(first)
	c, server := k.call(namePort)
	out, err := k.Zklvs(k.ctx, second, "drain", k.addresses[server], "--wait=false")
	k.must(err)
	k.Log(out)
	k.must(k.wantRules(first, k.addresses[server]+":8000          Route   0"))
	k.listed(second, "draining (1 active)")
	k.elsewhere(namePort, server)
	k.must(k.KillBoth(first))
	ctx, cancel := demo.Within(k.ctx, patience)
	defer cancel()
	k.must(k.WaitAnswerer(ctx, lab.VIP, second))
	if now := k.ask(c); now != server {
		k.Errorf("the connection to %s is with %s after the fail-over", server, now)
	}
	k.elsewhere(namePort, server)
	k.listed(second, "draining (1 active)")
	k.quiet(6 * time.Second) // in which an empty drain would have ended
	k.listed(second, "draining (1 active)")
	rules, err := k.Rules(k.ctx, second)
	k.must(err)
	k.Logf("rules of the new holder:\n%s", rules)
	if now := k.ask(c); now != server {
		k.Errorf("the connection to %s is with %s", server, now)
	}
	c.Close()
	out, err = k.Zklvs(k.ctx, second, "drain", k.addresses[server])
	k.must(err)
	if !strings.Contains(out, "no connections were left") {
		k.Errorf("the drain ended with:\n%s", out)
	}
	k.must(k.StartDirector(first))
	k.undrain(second, server)
}

// quiet lets time go by, which is what is tested: nothing happens.
func (k *drainer) quiet(d time.Duration) {
	select {
	case <-k.ctx.Done():
	case <-time.After(d):
	}
}

// undrain brings a real server back: at once new clients come to it.
func (k *drainer) undrain(director, server string) {
	k.Helper()
	k.must1(k.Zklvs(k.ctx, director, "undrain", k.addresses[server]))
	k.until("new clients come to "+server, func() error {
		c, now := k.call(namePort)
		c.Close()
		if now != server {
			return fmt.Errorf("one came to %s", now)
		}
		return nil
	})
}

// deadline cuts what is left, and says so.
func (k *drainer) deadline() {
	k.Helper()
	director := k.holder()
	c, server := k.call(namePort)
	out, err := k.Zklvs(k.ctx, director, "drain", k.addresses[server]+":8000", "--deadline", "4s")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitCut || !strings.Contains(out, "1 connection cut at the deadline") {
		k.Errorf("the drain ended with %v:\n%s", err, out)
	}
	if r, err := c.Ask(); err == nil {
		k.Errorf("the connection is with %s after the deadline", r.Server)
	}
	k.must1(k.Zklvs(k.ctx, director, "undrain", k.addresses[server]+":8000"))
}

// persistence: a client that has a template goes elsewhere.
func (k *drainer) persistence() {
	k.Helper()
	director := k.holder()
	c, server := k.call(boundPort)
	for range 3 {
		again, now := k.call(boundPort)
		if again.Close(); now != server {
			k.Fatalf("persistence does not hold: %s, then %s", server, now)
		}
	}
	c.Close()
	out, err := k.Zklvs(k.ctx, director, "drain", k.addresses[server], "--service", "bound", "--wait=false")
	k.must(err)
	k.elsewhere(boundPort, server)
	out2, err := k.Zklvs(k.ctx, director, "drain", k.addresses[server], "--service", "bound")
	k.must(err)
	k.Logf("%s%s", out, out2)
	k.elsewhere(boundPort, server)
}
