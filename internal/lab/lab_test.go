package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/internal/boottime"
)

// newLab makes a lab with some hosts of the plan; both end with the test.
func newLab(t *testing.T, options Options, names ...string) (*Lab, []*Host) {
	t.Helper()
	Require(t)
	l, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	hosts, err := l.AddNodes(names...)
	if err != nil {
		t.Fatal(err)
	}
	return l, hosts
}

func minute(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func mustRun(t *testing.T, h *Host, argv ...string) string {
	t.Helper()
	output, err := h.Run(minute(t), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

func TestKernelLabHostsAreApart(t *testing.T) {
	l, hosts := newLab(t, Options{SeparateMachineIDs: true}, "node01", "client")
	node, client := hosts[0], hosts[1]
	mustRun(t, client, "ping", "-c1", "-W2", "node01")
	mustRun(t, client, "ping", "-c1", "-W2", "10.99.0.11")
	if got := strings.TrimSpace(mustRun(t, node, "cat", "/proc/sys/kernel/hostname")); got != "node01" {
		t.Errorf("host name %q, want node01", got)
	}
	if err := node.WriteFile("/run/x/y", "here"); err != nil {
		t.Fatal(err)
	}
	if got := mustRun(t, node, "cat", "/run/x/y"); got != "here" {
		t.Errorf("/run/x/y holds %q, want here", got)
	}
	if _, err := client.Run(minute(t), "ls", "/run/x"); err == nil {
		t.Error("the client sees the node's /run")
	}
	if got := mustRun(t, node, "ls", "/sys/class/net"); got != "eth0\neth1\nlo\n" {
		t.Errorf("/sys/class/net holds %q", got)
	}
	if a, b := mustRun(t, node, "cat", "/etc/machine-id"), mustRun(t, client, "cat", "/etc/machine-id"); a == b {
		t.Errorf("both have the machine-id %s", a)
	}
	shared := l.Dir() + "/shared"
	if err := os.WriteFile(shared, []byte("for all"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := mustRun(t, node, "cat", shared); got != "for all" {
		t.Errorf("the lab's directory shows %q in the host, want %q", got, "for all")
	}
}

func TestKernelLabDoRunsInside(t *testing.T) {
	_, hosts := newLab(t, Options{}, "node01")
	var name string
	err := hosts[0].Do(func() (err error) {
		name, err = os.Hostname()
		return err
	})
	if err != nil || name != "node01" {
		t.Errorf("the host name inside is %q, %v", name, err)
	}
	if name, err := os.Hostname(); err != nil || name == "node01" {
		t.Errorf("the host name outside is %q, %v", name, err)
	}
}

func TestKernelLabFaults(t *testing.T) {
	_, hosts := newLab(t, Options{}, "node01", "client")
	node, client := hosts[0], hosts[1]
	reaches := func() bool {
		_, err := client.Run(minute(t), "ping", "-c1", "-W1", "192.168.150.11")
		return err == nil
	}
	carrier := func() string {
		data, err := os.ReadFile(node.Path("/sys/class/net/eth0/carrier"))
		if err != nil {
			return "none" // EINVAL: the card is down
		}
		return strings.TrimSpace(string(data))
	}
	cases := []struct {
		name          string
		breakIt, mend func(string) error
		brokenCarrier string
	}{
		{"LinkDown", node.LinkDown, node.LinkUp, "none"},
		{"Unplug", node.Unplug, node.Plug, "0"},
		{"Cut", node.Cut, node.Heal, "1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := c.breakIt("eth0"); err != nil {
				t.Fatal(err)
			}
			if reaches() {
				t.Error("the node is reached over a broken link")
			}
			if got := carrier(); got != c.brokenCarrier {
				t.Errorf("carrier %s, want %s", got, c.brokenCarrier)
			}
			mustRun(t, client, "ping", "-c1", "-W2", "10.99.0.11") // the other LAN lives
			if err := c.mend("eth0"); err != nil {
				t.Fatal(err)
			}
			if err := WaitUntil(minute(t), "the node is reached", func() error {
				_, err := client.Run(minute(t), "ping", "-c1", "-W1", "192.168.150.11")
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestKernelLabProcess(t *testing.T) {
	_, hosts := newLab(t, Options{}, "node01")
	p, err := hosts[0].Start("sh", "-c", "trap 'echo ended; exit 5' TERM; echo begun; while :; do sleep 0.1; done")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitLog(minute(t), "begun"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(minute(t)); err != nil {
		t.Fatal(err)
	}
	status, err := p.Wait(minute(t))
	if err != nil || status != 5 {
		t.Errorf("exit status %d, %v, want 5", status, err)
	}
	if diff := cmp.Diff("begun\nended\n", p.Log()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if err := p.WaitLog(minute(t), "something else"); err == nil || !strings.Contains(err.Error(), errEnded.Error()) {
		t.Errorf("WaitLog on an ended process: %v", err)
	}
}

func TestKernelLabCloseLeavesNothing(t *testing.T) {
	before := mounts(t)
	l, hosts := newLab(t, Options{}, "node01", "node04")
	nets := []string{hosts[0].netID, hosts[1].netID, l.wires.netID}
	// One that left its process group and its session, as daemons do.
	p, err := hosts[0].Start("sh", "-c", "setsid sleep 1000 & echo begun; sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitLog(minute(t), "begun"); err != nil {
		t.Fatal(err)
	}
	cmd := hosts[1].Command(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the command ended well, want it killed")
	}
	if err := WaitUntil(minute(t), "the namespaces are gone", func() error { return namespacesInUse(nets) }); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, mounts(t)); diff != "" {
		t.Errorf("mounts (-before +after):\n%s", diff)
	}
	if _, err := os.Stat(l.Dir()); !os.IsNotExist(err) {
		t.Errorf("the lab's directory is left: %v", err)
	}
	if _, err := l.AddNodes("client"); err == nil {
		t.Error("a closed lab takes hosts")
	}
}

func TestKernelLabRefusesHosts(t *testing.T) {
	l, _ := newLab(t, Options{}, "node01")
	address := netip.MustParsePrefix("192.168.150.77/24")
	cases := []struct {
		name, host string
		nic        NIC
		want       string
	}{
		{"same name", "node01", NIC{"eth0", LAN, address}, "add host node01: there is one of that name"},
		{"no such LAN", "a", NIC{"eth0", "wan", address}, `add host a: network card eth0: there is no LAN "wan"`},
		{"wrong network", "b", NIC{"eth0", Mgmt, address}, "add host b: network card eth0: 192.168.150.77/24 is not in 10.99.0.0/24, the network of LAN mgmt"},
		{"long name", "a-very-long-name", NIC{"eth0", LAN, address}, "add host a-very-long-name: network card eth0: its port a-very-long-name-eth0 would have more than 15 characters: take a shorter host name"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := l.AddHost(c.host, c.nic); err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

// The witness must see one holder as one, two as two, none as none.
func TestKernelLabProberCountsHolders(t *testing.T) {
	_, hosts := newLab(t, Options{}, "node01", "node04", "client")
	t.Run("ARP", func(t *testing.T) {
		prober, err := NewARPProber(hosts[2], "eth0", VIP, 0)
		countHolders(t, hosts, prober, err, "arping", "-U", "-c1", "-I", "eth0", VIP.String())
	})
	t.Run("NS", func(t *testing.T) {
		vip := netip.MustParseAddr("fd00:150::100")
		prober, err := NewNSProber(hosts[2], "eth0", vip, 0)
		countHolders(t, hosts, prober, err)
	})
}

// countHolders binds the prober's address on one host, then on two. Announce, if
// given, makes the first one announce it.
func countHolders(t *testing.T, hosts []*Host, prober *Prober, err error, announce ...string) {
	if err != nil {
		t.Fatal(err)
	}
	bind := []string{"ip", "address", "add", netip.PrefixFrom(prober.vip, prober.vip.BitLen()).String(), "dev", "eth0"}
	if prober.vip.Is6() {
		bind = append(bind, "nodad")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- prober.Run(ctx) }()
	macs := map[string]string{} // by host
	for _, h := range hosts[:2] {
		mac, err := h.MAC("eth0")
		if err != nil {
			t.Fatal(err)
		}
		macs[mac.String()] = h.Name()
	}
	holders := func(want ...string) {
		t.Helper()
		from := boottime.Now()
		// Twenty requests are enough for each host to have answered some.
		if err := WaitUntil(minute(t), "20 more requests are sent", func() error { return prober.sentSince(from, 20) }); err != nil {
			t.Fatal(err)
		}
		until := boottime.Now() - 50*time.Millisecond
		var got []string
		for _, mac := range prober.MACs(from, until) {
			got = append(got, macs[mac])
		}
		if diff := cmp.Diff(want, got, cmp.Transformer("sort", sorted)); diff != "" {
			t.Errorf("holders (-want +got):\n%s", diff)
		}
	}
	holders()
	mustRun(t, hosts[0], bind...)
	holders("node01")
	if n := len(prober.Conflicts()); n > 0 {
		t.Errorf("%d conflicts with one holder", n)
	}
	mustRun(t, hosts[1], bind...)
	holders("node01", "node04")
	if len(prober.Conflicts()) == 0 {
		t.Error("no conflict with two holders")
	}
	if announce != nil {
		mustRun(t, hosts[0], announce...)
		if err := WaitUntil(minute(t), "the announcement is heard", func() error {
			for _, a := range prober.Announcements(0) {
				if macs[a.MAC] == "node01" {
					return nil
				}
			}
			return os.ErrNotExist
		}); err != nil {
			t.Error(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The kernel's notices tell from when until when an address was bound, and that
// two hosts had it at once.
func TestKernelLabAddressWatch(t *testing.T) {
	_, hosts := newLab(t, Options{}, "node01", "node04")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 3)
	var watches []*AddressWatch
	for _, h := range hosts {
		w, err := NewAddressWatch(h, VIP)
		if err != nil {
			t.Fatal(err)
		}
		watches = append(watches, w)
		go func() { ended <- w.Run(ctx) }()
	}
	change := func(h int, act string) (before, after time.Duration) {
		before = boottime.Now()
		mustRun(t, hosts[h], "ip", "address", act, VIP.String()+"/32", "dev", "eth0")
		return before, boottime.Now()
	}
	spans := func(h, n, closed int) []AddressSpan {
		t.Helper()
		if err := WaitUntil(minute(t), fmt.Sprintf("%d spans, %d of them closed", n, closed), func() error {
			count := 0
			for _, s := range watches[h].Spans() {
				if s.Until != 0 {
					count++
				}
			}
			if all := watches[h].Spans(); len(all) != n || count != closed {
				return fmt.Errorf("%v", all)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return watches[h].Spans()
	}
	bound, _ := change(0, "add")
	change(0, "replace") // a renewal begins no other span
	mustRun(t, hosts[0], "ip", "address", "add", "192.168.150.99/32", "dev", "eth0")
	spans(0, 1, 0)
	removal, removed := change(0, "del")
	s := spans(0, 1, 1)[0]
	if s.Host != "node01" || s.From < bound || s.From > removal || s.Until < removal || s.Until > removed+time.Second {
		t.Errorf("span %v, bound at %v, removed from %v to %v", s, bound, removal, removed)
	}
	change(1, "add")
	spans(1, 1, 0)
	if text := Overlaps(watches...); text != "" {
		t.Errorf("one after the other: %s", text)
	}
	change(0, "add")
	spans(0, 2, 1)
	if text := Overlaps(watches...); strings.Count(text, "bound on two hosts") != 1 {
		t.Errorf("two at once: %q", text)
	}
	late, err := NewAddressWatch(hosts[0], VIP)
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- late.Run(ctx) }()
	if n := len(late.Spans()); n != 1 {
		t.Errorf("%d spans of an address that was bound before", n)
	}
	cancel()
	if err := errors.Join(<-ended, <-ended, <-ended); err != nil {
		t.Error(err)
	}
}
