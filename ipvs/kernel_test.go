package ipvs

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// namespace is a network namespace of one test, with lo up.
type namespace struct {
	t      testing.TB
	handle netns.NsHandle
}

// newNamespace makes a namespace. It skips, loudly, where there is no IPVS.
func newNamespace(t testing.TB) *namespace {
	t.Helper()
	if !hasIPVS(t) {
		t.Skip("SKIP: this kernel has no ip_vs: run through deploy/kernel/with-ipvs")
	}
	n := &namespace{t: t}
	n.thread(func() error {
		var err error
		n.handle, err = newNS()
		return err
	})
	t.Cleanup(func() { n.handle.Close() })
	n.lo(true)
	return n
}

// hasIPVS tells whether this kernel has ip_vs, and loads it.
func hasIPVS(t testing.TB) bool {
	t.Helper()
	_, err := os.Stat("/sys/module/ip_vs")
	return err == nil || runModprobe(t.Context(), "ip_vs") == nil
}

// newNS moves the calling thread to a new namespace, whose lo is down.
func newNS() (netns.NsHandle, error) { return netns.New() }

// thread runs f on a thread of its own, which is thrown away afterwards.
func (n *namespace) thread(f func() error) {
	n.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
}

// inside runs f on a thread in the namespace.
func (n *namespace) inside(f func() error) {
	n.t.Helper()
	n.thread(func() error { return errors.Join(netns.Set(n.handle), f()) })
}

func (n *namespace) lo(up bool) {
	n.t.Helper()
	n.inside(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if up {
			return netlink.LinkSetUp(lo)
		}
		return netlink.LinkSetDown(lo)
	})
}

// open opens the namespace's table.
func (n *namespace) open() *Table {
	n.t.Helper()
	var table *Table
	n.inside(func() error {
		var err error
		table, err = Open()
		return err
	})
	n.t.Cleanup(table.Close)
	return table
}

// ipvsadm runs ipvsadm in the namespace and returns what it printed.
func (n *namespace) ipvsadm(args string) string {
	n.t.Helper()
	var out []byte
	n.inside(func() error {
		var err error
		out, err = exec.Command("ipvsadm", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			return errors.New("ipvsadm " + args + ": " + err.Error() + ": " + string(out))
		}
		return nil
	})
	return string(out)
}

// echo serves at one address of the namespace and connects to another. The
// function that it returns sends a text and expects it back.
func (n *namespace) echo(dial, listen string) func(string) error {
	n.t.Helper()
	var l net.Listener
	var c net.Conn
	n.inside(func() (err error) {
		if l, err = net.Listen("tcp", listen); err != nil {
			return err
		}
		go func() {
			if s, err := l.Accept(); err == nil {
				_, _ = io.Copy(s, s)
				s.Close()
			}
		}()
		c, err = net.DialTimeout("tcp", dial, 5*time.Second)
		return err
	})
	n.t.Cleanup(func() { c.Close(); l.Close() })
	return func(text string) error {
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, len(text)))
		return err
	}
}

// saved is the table in ipvsadm's own words: `ipvsadm -Sn`, line by line.
func (n *namespace) saved() []string {
	n.t.Helper()
	return lines(n.ipvsadm("-Sn"))
}

// printed is a table in our words, as a plan that makes it from nothing.
func printed(table []Service) []string { return lines(Diff(table, nil, nil).String()) }

func lines(s string) []string {
	out := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' })
	for i := range out {
		out[i] = strings.TrimSpace(out[i])
	}
	slices.Sort(out)
	return out
}

func mustApply(t testing.TB, table *Table, plan Plan) {
	t.Helper()
	if _, err := table.Apply(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t testing.TB, table *Table) []Service {
	t.Helper()
	got, err := table.Services()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func noDiff(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(Key{}, Destination{}), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}
