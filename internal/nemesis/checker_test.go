package nemesis

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/lab"
)

// The checker itself, on a real wire without zklvs: it must see two hosts that
// have the VIP by hand, and must not accuse hosts that had it in turn.
func TestHostCheckerSeesTwo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP: network namespaces need root: run as root")
	}
	w := newWire(t)
	vip := lab.VIP.String() + "/32"
	w.must(w.first.AddAddress("eth0", vip))
	w.listen(100 * ms)
	w.must(w.first.RemoveAddress("eth0", vip))
	w.must(w.second.AddAddress("eth0", vip))
	w.listen(100 * ms)
	w.must(w.second.RemoveAddress("eth0", vip))
	w.must(w.first.AddAddress("eth0", vip))
	w.listen(100 * ms)
	if found := w.judge(); len(found) > 0 {
		t.Errorf("hosts that had the VIP in turn are accused: %+v", found)
	}
	at := boottime.Now()
	w.must(w.second.AddAddress("eth1", vip)) // its card of another LAN: the weak host model answers on all
	w.listen(200 * ms)
	found := w.judge()
	if len(found) != 1 || found[0].Hosts != [2]string{"node01", "node04"} || found[0].Requests < 10 || found[0].Until-found[0].From < 100*ms {
		t.Errorf("two hosts had the VIP for 200 ms, found %+v", found)
	}
	w.kept(at)
}

// wire is a LAN with two hosts, and a client that watches.
type wire struct {
	*testing.T
	*observers
	first, second *lab.Host
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{T: t, observers: &observers{}}
	l, err := lab.New(lab.Options{})
	w.must(err)
	t.Cleanup(func() { w.must(l.Close()) })
	hosts, err := l.AddNodes("node01", "node04", "client")
	w.must(err)
	w.first, w.second = hosts[0], hosts[1]
	w.witnesses[0], err = lab.NewWitness(hosts[2], lab.VIP, 0, hosts[:2]...)
	w.must(err)
	w.capture, err = l.NewCapture(lab.LAN, 1000)
	w.must(err)
	stop := w.witnesses[0].Go(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.capture.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		w.must(errors.Join(stop(), <-ended))
	})
	return w
}

func (w *wire) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// listen waits until requests of so long a time have been answered.
func (w *wire) listen(d time.Duration) {
	w.Helper()
	since := boottime.Now()
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	w.must(lab.WaitUntil(ctx, "the VIP was asked for", func() error {
		answers := w.witnesses[0].Answers(since)
		if len(answers) == 0 || answers[len(answers)-1].Asked < since+d {
			return errors.New("not for long enough")
		}
		return nil
	}))
}

func (w *wire) judge() []Overlap { return Judge(w.claims(0, 0), w.removed(0), 0) }

// kept wants the answers of both in the capture.
func (w *wire) kept(since time.Duration) {
	w.Helper()
	var file bytes.Buffer
	w.must(w.capture.Write(&file, since))
	for _, h := range []*lab.Host{w.first, w.second} {
		mac, err := h.MAC("eth0")
		w.must(err)
		// an ARP reply's beginning and its sender, as RFC 826 has them
		reply := append([]byte{0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 2}, mac...)
		if !bytes.Contains(file.Bytes(), reply) {
			w.Errorf("the capture has no answer of %s", h.Name())
		}
	}
	if head := file.Bytes()[:4]; binary.LittleEndian.Uint32(head) != 0xa1b23c4d {
		w.Errorf("the capture begins with %x", head)
	}
}
