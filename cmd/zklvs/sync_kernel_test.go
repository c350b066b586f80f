package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
)

// TCP connections through the VIP go on over a switchover and over a SIGKILL of
// the holder, with the defaults; and a director that is stopped leaves its host as
// it was, also after a life that was killed.
func TestKernelConnectionsLive(t *testing.T) {
	requireIPVS(t)
	k := startCluster(t, demo.Options{NoRealServers: true, Progress: t.Logf})
	k.serveNames()
	before := map[string]string{}
	for _, name := range k.Directors() {
		before[name] = k.ipvsOf(name)
	}
	_, err := k.Apply(k.ctx, nameDocuments)
	k.must(err)
	holder := k.waitAnyHolder()
	for _, name := range k.Directors() {
		k.until("the sync daemons of "+name+" run", func() error { return k.wantDaemons(name) })
	}
	all := k.exchanges(4)
	for _, strike := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		heir := standbyOf(holder)
		k.waitStandby(heir)
		all.more(k, 40) // none is younger than 2 s
		k.until(heir+" has heard of the connections", func() error { return k.wantHeard(heir, 4) })
		k.must(k.Director(holder).Signal(strike))
		ctx, cancel := demo.Within(k.ctx, patience)
		k.must(k.WaitAnswerer(ctx, lab.VIP, heir))
		_, err := k.Director(holder).Wait(ctx)
		cancel()
		k.must(err)
		all.more(k, 40)
		if after := k.ipvsOf(holder); (after == before[holder]) != (strike == syscall.SIGTERM) {
			t.Errorf("after %v %s is left as\n%s\nbefore it was\n%s", strike, holder, after, before[holder])
		}
		k.must(k.StartDirector(holder))
		holder = heir
	}
	all.stop(k)
	for _, name := range []string{standbyOf(holder), holder} { // the one that was killed first
		k.waitPhase(name, "web", "standby", "holder")
		k.must(k.Director(name).Stop(k.ctx))
		if code, err := k.Director(name).Wait(k.ctx); err != nil || code != 0 {
			t.Errorf("the daemon ended with %d, %v:\n%s", code, err, k.Director(name).Log())
		}
		if after := k.ipvsOf(name); after != before[name] {
			t.Errorf("%s is left as\n%s\nbefore it was\n%s", name, after, before[name])
		}
	}
}

const nameDocuments = `groups:
  web: {vips: [192.168.150.100]}
services:
  names:
    group: web
    listen: 192.168.150.100:7777/tcp
    scheduler: rr
    forward: dr
    real_servers: [{address: 192.168.150.12}, {address: 192.168.150.13}]
`

// serveNames makes DR real servers of node02 and node03, without nginx.
func (k *cluster) serveNames() {
	k.Helper()
	var servers errgroup.Group
	ctx, stop := context.WithCancel(k.ctx)
	k.Cleanup(func() {
		stop()
		if err := servers.Wait(); err != nil {
			k.Error(err)
		}
	})
	for _, name := range []string{demo.RealServer1, demo.RealServer2} {
		h := k.Lab.Host(name)
		k.must(h.BecomeRealServer(k.ctx, lab.RealServer{Method: lab.DR}))
		k.must(h.HideVIP(lab.VIP))
		s, err := lab.NewNameServer(h, 7777)
		k.must(err)
		servers.Go(func() error { return s.Run(ctx) })
	}
}

// ipvsOf is what a director changes on its host, beside services.
func (k *cluster) ipvsOf(name string) string {
	k.Helper()
	out, err := k.Lab.Host(name).Run(k.ctx, "sh", "-c", "sysctl net.ipv4.vs net.ipv4.ip_forward net.ipv6.conf.all.forwarding; ipvsadm -L --timeout; ipvsadm -L --daemon; ipvsadm -Sn; ls /run/zklvs/*.ipvs 2>/dev/null || :")
	k.must(err)
	return out
}

func (k *cluster) wantDaemons(name string) error {
	out, err := k.Lab.Host(name).Run(k.ctx, "ipvsadm", "-L", "--daemon")
	for _, state := range []string{"master", "backup"} {
		if err == nil && !strings.Contains(out, state+" sync daemon (mcast=eth0, syncid=1") {
			err = fmt.Errorf("no %s:\n%s", state, out)
		}
	}
	return err
}

// wantHeard looks for connections in a director's table. One that has come back
// hears of each within sync_refresh_period.
func (k *cluster) wantHeard(name string, n int) error {
	out, err := k.Lab.Host(name).Run(k.ctx, "ipvsadm", "-L", "-n", "-c")
	if got := strings.Count(out, "ESTABLISHED"); err == nil && got != n {
		err = fmt.Errorf("it knows %d of %d:\n%s", got, n, out)
	}
	return err
}

// exchanges are connections on which the client asks each 50 ms.
type exchanges struct {
	group   errgroup.Group
	end     chan struct{}
	finish  func() error // ends them
	mu      sync.Mutex
	answers []int
	longest time.Duration // between two answers
	failed  error
}

func (k *cluster) exchanges(n int) *exchanges {
	k.Helper()
	e := &exchanges{end: make(chan struct{}), answers: make([]int, n)}
	e.finish = sync.OnceValue(func() error {
		close(e.end)
		return e.group.Wait()
	})
	k.Cleanup(func() { _ = e.finish() }) // of a test that failed
	for i := range n {
		call, err := k.Lab.Host(demo.Client).Call(lab.CallOptions{Network: "tcp", To: netip.AddrPortFrom(lab.VIP, 7777), Timeout: 20 * time.Second})
		k.must(err)
		e.group.Go(func() error {
			defer call.Close()
			return e.ask(i, call)
		})
	}
	return e
}

// ask asks until the end; each answer must come from the server of the first.
func (e *exchanges) ask(i int, call *lab.Call) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last, server := boottime.Now(), ""
	for {
		select {
		case <-e.end:
			return nil
		case <-tick.C:
		}
		reply, err := call.Ask()
		if err == nil && server != "" && reply.Server != server {
			err = fmt.Errorf("%s answers in place of %s", reply.Server, server)
		}
		server = reply.Server
		now := boottime.Now()
		e.mu.Lock()
		e.longest = max(e.longest, now-last)
		e.answers[i]++
		if err != nil {
			e.failed = errors.Join(e.failed, fmt.Errorf("connection %d, after %d answers: %w", i, e.answers[i]-1, err))
		}
		e.mu.Unlock()
		if last = now; err != nil {
			return nil
		}
	}
}

// more waits for so many more answers on each connection.
func (e *exchanges) more(k *cluster, n int) {
	k.Helper()
	e.mu.Lock()
	want := make([]int, len(e.answers))
	for i, now := range e.answers {
		want[i] = now + n
	}
	e.mu.Unlock()
	k.until(fmt.Sprintf("%d more answers on each connection", n), func() error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.failed != nil {
			for _, name := range k.Directors() {
				known, err := k.Lab.Host(name).Run(k.ctx, "ipvsadm", "-L", "-n", "-c")
				k.Logf("%s knows\n%s%v\nits log:\n%s", name, known, err, k.Director(name).Log())
			}
			k.Fatal(e.failed)
		}
		for i := range want {
			if e.answers[i] < want[i] {
				return fmt.Errorf("answers are %v, want %v", e.answers, want)
			}
		}
		return nil
	})
}

func (e *exchanges) stop(k *cluster) {
	k.Helper()
	k.must(e.finish())
	k.Logf("answers: %v, the longest wait for one %v", e.answers, e.longest)
}
