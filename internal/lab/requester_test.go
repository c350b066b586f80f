package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/boottime"
)

func TestReadAnswer(t *testing.T) {
	for _, c := range []struct {
		name, data, server string
		whole, fails       bool
	}{
		{name: "nothing yet"},
		{name: "half a head", data: "HTTP/1.1 200 OK\r\nContent-Le"},
		{name: "half a body", data: "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nnode"},
		{name: "whole", data: "HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 7\r\n\r\nnode02\n", server: "node02", whole: true},
		{name: "another status", data: "HTTP/1.1 503 Gone\r\nContent-Length: 0\r\n\r\n", whole: true, fails: true},
		{name: "no length", data: "HTTP/1.1 200 OK\r\n\r\nnode02\n", whole: true, fails: true},
		{name: "a length that is none", data: "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", whole: true, fails: true},
		{name: "not HTTP", data: "SSH-2.0\r\n\r\n", whole: true, fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, whole, err := readAnswer([]byte(c.data))
			if server != c.server || whole != c.whole || (err != nil) != c.fails {
				t.Errorf("readAnswer gave %q, whole %t, error %v; want %q, %t, error %t", server, whole, err, c.server, c.whole, c.fails)
			}
		})
	}
}

func TestRequesterKeepsTheNewest(t *testing.T) {
	r, err := NewRequester(&Host{}, RequesterOptions{Target: netip.MustParseAddrPort("192.0.2.1:80"), Keep: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		r.note(Outcome{Number: i, Begun: time.Duration(i)})
	}
	var got []int
	for _, o := range r.Outcomes(3) {
		got = append(got, o.Number)
	}
	if fmt.Sprint(got) != "[3 4]" || len(r.Outcomes(0)) != 3 || r.Tally().Answered != 5 {
		t.Errorf("since 3: %v; kept: %v; tally %+v; want [3 4], three kept, 5 answered", got, r.Outcomes(0), r.Tally())
	}
}

// A cable that is out for a while makes requests late, not lost; a server that is
// gone makes them lost; nothing makes a request vanish.
func TestKernelLabRequester(t *testing.T) {
	_, hosts := newLab(t, Options{}, "client", "node02")
	client, web := hosts[0], hosts[1]
	nginx, err := StartNginx(minute(t), web, "node02")
	if err != nil {
		t.Fatal(err)
	}
	target := netip.AddrPortFrom(web.Addr("eth0"), 80)
	run := func(o RequesterOptions, during func()) *Requester {
		t.Helper()
		o.Target = target
		r, err := NewRequester(client, o)
		if err != nil {
			t.Fatal(err)
		}
		var group errgroup.Group
		group.Go(func() error { return r.Run(minute(t)) })
		if during != nil {
			err := WaitUntil(minute(t), "some are sent", func() error {
				if r.Tally().Sent < 10 {
					return errors.New("not yet")
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			during()
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		return r
	}
	t.Run("steady", func(t *testing.T) {
		begun := boottime.Now()
		r := run(RequesterOptions{Total: 50}, nil)
		took := boottime.Now() - begun
		if got := r.Tally(); got != (Tally{50, 50, 0}) || took < 490*time.Millisecond {
			t.Errorf("tally %+v in %v; want 50 answered, one each 10ms", got, took)
		}
		for _, o := range r.Outcomes(0) {
			if o.Server != "node02" || o.Begun > o.Connected || o.Connected > o.Ended {
				t.Errorf("outcome %+v", o)
			}
		}
	})
	t.Run("late", func(t *testing.T) {
		r := run(RequesterOptions{Total: 40}, func() { cutFor(t, web, 100*time.Millisecond) })
		var slowest time.Duration
		for _, o := range r.Outcomes(0) {
			slowest = max(slowest, o.Took())
		}
		if got := r.Tally(); got != (Tally{40, 40, 0}) || slowest < 100*time.Millisecond {
			t.Errorf("tally %+v, slowest %v; want all answered, some late", got, slowest)
		}
	})
	t.Run("no room, no answer", func(t *testing.T) {
		if err := nginx.Freeze(); err != nil {
			t.Fatal(err)
		}
		r := run(RequesterOptions{Total: 10, Concurrency: 4, Timeout: 300 * time.Millisecond}, nil)
		count := map[error]int{}
		for _, o := range r.Outcomes(0) {
			count[o.Err]++
		}
		if count[ErrNoRoom] != 6 || count[ErrNoAnswer] != 4 {
			t.Errorf("outcomes %v, want 6 without room and 4 without answer", count)
		}
		if err := nginx.Thaw(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		if err := nginx.Kill(); err != nil {
			t.Fatal(err)
		}
		r := run(RequesterOptions{Total: 5}, nil)
		for _, o := range r.Outcomes(0) {
			if !errors.Is(o.Err, unix.ECONNREFUSED) || o.Connected != 0 {
				t.Errorf("outcome %+v, want a refused connection", o)
			}
		}
	})
}

// cutFor takes a host's port out of its LAN for a time.
func cutFor(t *testing.T, h *Host, d time.Duration) {
	t.Helper()
	if err := h.Cut("eth0"); err != nil {
		t.Fatal(err)
	}
	until := boottime.Now() + d
	if err := WaitUntil(minute(t), "the time is over", func() error {
		if boottime.Now() < until {
			return errors.New("not yet")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := h.Heal("eth0"); err != nil {
		t.Fatal(err)
	}
}
