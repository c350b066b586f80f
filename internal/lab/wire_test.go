package lab

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/boottime"
)

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: network namespaces need root: run as root")
	}
}

// twoHosts is node01 and client, on one LAN.
func twoHosts(t *testing.T) (*Lab, *Host, *Host) {
	t.Helper()
	requireRoot(t)
	l, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	hosts, err := l.AddNodes("node01", "client")
	if err != nil {
		t.Fatal(err)
	}
	return l, hosts[0], hosts[1]
}

// node01 asks for the client's address; the capture at the switch tells whether
// the question was lost or the answer.
func TestHostCutOneWay(t *testing.T) {
	l, h, client := twoHosts(t)
	prober, err := NewARPProber(h, "eth0", client.Addr("eth0"), time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	capture, err := l.NewCapture(LAN, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- prober.Run(ctx) }()
	go func() { ended <- capture.Run(ctx) }()
	defer func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	}()
	heal := func() error { return h.HealWay("eth0") }
	for _, c := range []struct {
		name                         string
		act                          func() error
		question, onTheWire, arrives bool
	}{
		{"healthy", heal, true, true, true},
		{"in", func() error { return h.CutIn("eth0") }, true, true, false},
		{"healed", heal, true, true, true},
		{"out", func() error { return h.CutOut("eth0") }, false, false, false},
		{"healed again", heal, true, true, true},
	} {
		if err := c.act(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		since := settle(t, prober)
		settle(t, prober)
		var file bytes.Buffer
		if err := capture.Write(&file, since); err != nil {
			t.Fatal(err)
		}
		arp := func(operation byte) bool {
			return bytes.Contains(file.Bytes(), []byte{0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, operation})
		}
		got := []bool{arp(arpRequest), arp(arpReply), len(prober.Answers(since)) > 0}
		if diff := cmp.Diff([]bool{c.question, c.onTheWire, c.arrives}, got); diff != "" {
			t.Errorf("%s: question, answer on the wire, answer that arrives (-want +got):\n%s", c.name, diff)
		}
	}
}

// settle waits until the answers to what was sent so far have come, and 30 more
// requests are sent; it returns that time.
func settle(t *testing.T, p *Prober) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	since := boottime.Now()
	if err := WaitUntil(ctx, "requests are sent", func() error { return p.sentSince(since, 30) }); err != nil {
		t.Fatal(err)
	}
	return boottime.Now()
}

func TestHostDiskFull(t *testing.T) {
	_, h, _ := twoHosts(t)
	const dir = "/run/disk"
	if err := h.OwnDisk(dir, 1<<20); err != nil {
		t.Fatal(err)
	}
	write := func() error {
		return os.WriteFile(h.Path(dir+"/file"), []byte("text"), 0o600)
	}
	for _, c := range []struct {
		act  func(string) error
		want error
	}{{h.EmptyDisk, nil}, {h.FillDisk, unix.ENOSPC}, {h.EmptyDisk, nil}, {h.EmptyDisk, nil}} {
		if err := errors.Join(os.RemoveAll(h.Path(dir+"/file")), c.act(dir)); err != nil {
			t.Fatal(err)
		}
		if err := write(); !errors.Is(err, c.want) {
			t.Errorf("error %v, want %v", err, c.want)
		}
	}
}

func TestHostNeighbors(t *testing.T) {
	_, h, client := twoHosts(t)
	watch, err := NewNeighborWatch(client)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- watch.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	var want []string
	for _, mac := range []string{"02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:02", "02:00:00:00:00:01"} {
		if _, err := client.Run(ctx, "ip", "neighbor", "replace", VIP.String(), "lladdr", mac, "dev", "eth0"); err != nil {
			t.Fatal(err)
		}
		if len(want) == 0 || want[len(want)-1] != mac {
			want = append(want, mac)
		}
	}
	wait, cancelWait := context.WithTimeout(ctx, 20*time.Second)
	defer cancelWait()
	if err := WaitUntil(wait, "the changes are noticed", func() error {
		var got []string
		for _, n := range watch.Changes(VIP, 0) {
			got = append(got, n.MAC)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return errors.New(diff)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if others := watch.Changes(h.Addr("eth1"), 0); len(others) > 0 {
		t.Errorf("changes of another address: %v", others)
	}
}

// An address bound and removed by hand is what the kernel then says.
func TestHostAddressByHand(t *testing.T) {
	_, h, _ := twoHosts(t)
	want := func(bound bool) {
		t.Helper()
		if got, err := h.Bound("eth0", VIP); err != nil || got != bound {
			t.Errorf("bound %t, %v; want %t", got, err, bound)
		}
	}
	for range 2 { // both may be repeated
		if err := h.AddAddress("eth0", VIP.String()+"/32"); err != nil {
			t.Fatal(err)
		}
		want(true)
	}
	for range 2 {
		if err := h.RemoveAddress("eth0", VIP.String()+"/32"); err != nil {
			t.Fatal(err)
		}
		want(false)
	}
	if err := h.AddAddress("eth0", netip.Addr{}.String()); err == nil || !strings.Contains(err.Error(), "node01") {
		t.Errorf("a bad address: %v", err)
	}
}

// A host that hides an address on its lo and says nothing by ARP accepts packets for
// it all the same: that is what an echo prober is for.
func TestHostEchoProber(t *testing.T) {
	_, h, client := twoHosts(t)
	for _, c := range []string{"all", "eth0"} {
		if err := h.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/"+c+"/arp_ignore", []byte("1"), 0o644) }); err != nil {
			t.Fatal(err)
		}
	}
	mac, err := h.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	echo, err := NewEchoProber(client, "eth0", VIP, mac, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	arp, err := NewARPProber(client, "eth0", VIP, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, p := range []*Prober{echo, arp} {
		go func() { ended <- p.Run(ctx) }()
	}
	defer func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	}()
	for _, bound := range []bool{false, true, false} {
		act := h.RemoveAddress
		if bound {
			act = h.AddAddress
		}
		if err := act("lo", VIP.String()+"/32"); err != nil {
			t.Fatal(err)
		}
		since := settle(t, echo)
		settle(t, echo)
		answers := echo.Answers(since)
		if got := len(answers) > 10; got != bound || !bound && len(answers) > 0 {
			t.Errorf("bound: %t, %d answers", bound, len(answers))
		}
		for _, a := range answers {
			if a.MAC != mac.String() || a.Asked < since-time.Second || a.At < a.Asked {
				t.Errorf("an answer: %+v", a)
			}
		}
	}
	if n := len(arp.Answers(0)); n > 0 {
		t.Errorf("%d answers by ARP", n)
	}
}

// Loss and delay where the kernel has them: what node01 sends comes late.
func TestKernelImpair(t *testing.T) {
	Require(t)
	_, h, client := twoHosts(t)
	prober, err := NewARPProber(client, "eth0", h.Addr("eth0"), 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- prober.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	fastest := func() time.Duration {
		since := settle(t, prober)
		settle(t, prober)
		least := time.Hour
		for _, a := range prober.Answers(since) {
			if a.Asked >= since {
				least = min(least, a.At-a.Asked)
			}
		}
		return least
	}
	if err := h.Impair("eth0", Impairment{Delay: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if got := fastest(); got < 50*time.Millisecond || got == time.Hour {
		t.Errorf("delayed by 50 ms, the fastest answer took %v", got)
	}
	if err := h.Impair("eth0", Impairment{Loss: 100}); err != nil {
		t.Fatal(err)
	}
	settle(t, prober) // what was delayed comes
	if got := fastest(); got != time.Hour {
		t.Errorf("all is lost, and an answer took %v", got)
	}
	for range 2 {
		if err := h.Unimpair("eth0"); err != nil {
			t.Fatal(err)
		}
	}
	if got := fastest(); got > 50*time.Millisecond {
		t.Errorf("healed, the fastest answer took %v", got)
	}
}
