package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/zklvs/zklvs/ipvs/genl"
	"github.com/zklvs/zklvs/ipvs/genl/genltest"
)

func TestOpenWithoutKernelSupport(t *testing.T) {
	if hasIPVS(t) {
		t.Skip("SKIP: this kernel has ip_vs, so it cannot be found missing: run on one without")
	}
	for range 2 { // it must be no different the second time
		_, err := Open()
		want := "open the IPVS table: kernel has no ip_vs: modprobe ip_vs, or boot a kernel built with CONFIG_IP_VS: modprobe: "
		if !errors.Is(err, ErrNoKernelSupport) || !strings.HasPrefix(fmt.Sprint(err), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got  %v\nwant %s...", err, want)
		}
	}
}

// bigPlan adds n services with a destination each.
func bigPlan(n int) Plan {
	var services []Service
	for i := range n {
		services = append(services, Service{
			Key:          Key{Protocol: TCP, Address: netip.AddrFrom4([4]byte{10, 0, 0, 1}), Port: uint16(i + 1)},
			Scheduler:    "rr",
			Destinations: []Destination{{Address: netip.AddrFrom4([4]byte{10, 0, 1, 1}), Port: uint16(i + 1), Forward: DR, Weight: 1}},
		})
	}
	return Diff(services, nil, nil)
}

// batchOf is how many steps of bigPlan go in one batch.
func batchOf(t *testing.T) int {
	k := newFakeKernel()
	sock := genltest.New(k.play)
	table := fakeTable(k)
	table.conn = genl.NewConn(sock)
	mustApply(t, table, bigPlan(1000))
	if n := len(sock.Datagrams); n < 10 || n > 30 {
		t.Fatalf("%d datagrams for 2,000 steps", n)
	}
	n := 0
	for b := sock.Datagrams[0]; len(b) > 0; b = b[binary.NativeEndian.Uint32(b):] {
		n++
	}
	return n
}

func TestApplyStopsWhenNothingCanSucceed(t *testing.T) {
	batch := batchOf(t)
	for _, tt := range []struct {
		errno  error
		is     error
		done   int
		reason string
	}{
		{syscall.EPERM, ErrPermission, 2, "add service TCP 10.0.0.1:2: changing the IPVS table needs CAP_NET_ADMIN: run as root (operation not permitted)"},
		{errors.New("no socket any more"), nil, 0, "add service TCP 10.0.0.1:1: send to the kernel: no socket any more"},
	} {
		k := newFakeKernel()
		k.fail = func(string) error {
			if len(k.ops) == 2 {
				return tt.errno
			}
			return nil
		}
		r, err := fakeTable(k).Apply(t.Context(), bigPlan(1000))
		want := fmt.Sprintf("apply to the IPVS table: %d steps failed, %d not tried; %s; ", batch-tt.done, 2000-batch, tt.reason)
		if !strings.HasPrefix(fmt.Sprint(err), want) {
			t.Errorf("error %v\nwant  %s...", err, want)
		}
		if !errors.Is(err, tt.errno) || (tt.is != nil && !errors.Is(err, tt.is)) {
			t.Errorf("error %v does not wrap %v and %v", err, tt.errno, tt.is)
		}
		if len(r.Done) != tt.done || len(r.Failed) != batch-tt.done || len(r.Skipped) != 2000-batch {
			t.Errorf("%d done, %d failed, %d skipped", len(r.Done), len(r.Failed), len(r.Skipped))
		}
	}
}

func TestApplyGoesOnAfterAnErrno(t *testing.T) {
	k := newFakeKernel()
	k.fail = func(op string) error {
		if op == "new destination" {
			return syscall.ENOMEM
		}
		return nil
	}
	r, err := fakeTable(k).Apply(t.Context(), bigPlan(5))
	noDiff(t, "error", "apply to the IPVS table: 5 steps failed, 0 not tried; "+
		"add destination 10.0.1.1:1 to TCP 10.0.0.1:1: cannot allocate memory; "+
		"add destination 10.0.1.1:2 to TCP 10.0.0.1:2: cannot allocate memory; "+
		"add destination 10.0.1.1:3 to TCP 10.0.0.1:3: cannot allocate memory; and 2 more", fmt.Sprint(err))
	if len(r.Done) != 5 || len(r.Failed) != 5 {
		t.Errorf("done %v, failed %v", r.Done, r.Failed)
	}
}

func TestApplyStopsWithItsContext(t *testing.T) {
	batch := batchOf(t)
	ctx, cancel := context.WithCancel(t.Context())
	k := newFakeKernel()
	k.fail = func(string) error {
		if len(k.ops) == 3 {
			cancel()
		}
		return nil
	}
	r, err := fakeTable(k).Apply(ctx, bigPlan(1000))
	noDiff(t, "error", fmt.Sprintf("apply to the IPVS table: 0 steps failed, %d not tried; context canceled", 2000-batch), fmt.Sprint(err))
	if !errors.Is(err, context.Canceled) || len(r.Done) != batch || len(r.Skipped) != 2000-batch {
		t.Errorf("%v: %d done, %d skipped", err, len(r.Done), len(r.Skipped))
	}
}

// The steps of a service that could not be added are skipped, in its batch and
// in later ones; one that stands there already gets its destinations.
func TestApplyWithoutItsService(t *testing.T) {
	k := newFakeKernel()
	many := func(name, scheduler string) Service {
		s := service(t, name, scheduler)
		for i := range 300 {
			s.Destinations = append(s.Destinations, dest(fmt.Sprintf("10.0.%d.%d:80", 1+i/100, i%100), DR, 1))
		}
		return s
	}
	bogus, there := many("TCP 10.0.0.1:80", "bogus"), many("TCP 10.0.0.2:80", "rr")
	mustApply(t, fakeTable(k), Diff([]Service{there.head()}, nil, nil))
	r, err := fakeTable(k).Apply(t.Context(), Diff([]Service{bogus, there}, nil, nil))
	if !errors.Is(err, ErrNoScheduler) || !errors.Is(err, ErrRaced) {
		t.Error(err)
	}
	if len(r.Done) != 300 || len(r.Failed) != 2 || len(r.Skipped) != 300 {
		t.Errorf("%d done, %d failed, %d skipped", len(r.Done), len(r.Failed), len(r.Skipped))
	}
}

// ip_vs was unloaded, and loaded again with another number.
func TestTableAfterModuleWasReloaded(t *testing.T) {
	k := newFakeKernel()
	table := fakeTable(k)
	k.family = 43
	if _, err := table.Services(); err != nil {
		t.Errorf("read: %v", err)
	}
	k.family = 44
	plan := bigPlan(1000)
	if r, err := table.Apply(t.Context(), plan); err != nil || len(r.Done) != len(plan) {
		t.Errorf("apply: %v", err)
	}
	if _, err := table.Timeouts(); err != nil {
		t.Errorf("timeouts: %v", err)
	}
}

func TestTableAfterModuleWasUnloaded(t *testing.T) {
	k := newFakeKernel()
	table := fakeTable(k)
	loads := 0
	table.load = func() error { loads++; return errors.New("modprobe: no") }
	k.family = 0
	if _, err := table.Services(); !errors.Is(err, ErrNoKernelSupport) || !strings.HasSuffix(fmt.Sprint(err), ": modprobe: no") {
		t.Errorf("read: %v", err)
	}
	batch := batchOf(t)
	r, err := table.Apply(t.Context(), bigPlan(1000))
	if !errors.Is(err, ErrNoKernelSupport) || errors.Is(err, ErrNoScheduler) || len(r.Skipped) != 2000-batch || len(r.Failed) != batch {
		t.Errorf("apply: %v, %d skipped", err, len(r.Skipped))
	}
	table.load = func() error { loads++; k.family = 45; return nil }
	if r, err := table.Apply(t.Context(), bigPlan(2)); err != nil || len(r.Done) != 4 || loads != 3 {
		t.Errorf("apply after a load: %v, %d loads", err, loads)
	}
}

func TestClosedTable(t *testing.T) {
	table := fakeTable(newFakeKernel())
	table.Close()
	table.Close()
	if _, err := table.Services(); !errors.Is(err, ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if r, err := table.Apply(t.Context(), bigPlan(1)); !errors.Is(err, ErrClosed) || len(r.Skipped) != 2 {
		t.Errorf("apply: %v, skipped %v", err, r.Skipped)
	}
}

func TestTableTakesTurns(t *testing.T) {
	table := fakeTable(newFakeKernel()) // it panics if two are in it at once
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				_, _ = table.Services()
				_, _ = table.Stats()
				_, _ = table.Apply(t.Context(), bigPlan(2))
			}
		})
	}
	wg.Wait()
}

// What the model cannot say is in Extras.
func TestReadOfForeignThings(t *testing.T) {
	four := func(port uint16, s rawService) rawService {
		s.family, s.addr, s.port, s.scheduler = afINET, [16]byte{10, 0, 0, 1}, port, "sh"
		return s
	}
	six := func(addr string, port uint16, s rawService) rawService {
		s.family, s.protocol, s.addr, s.port, s.scheduler = afINET6, 6, netip.MustParseAddr(addr).As16(), port, "rr"
		return s
	}
	prefix := func(n uint32) uint32 { return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, n)) }
	k := newFakeKernel()
	for _, s := range []rawService{
		{mark: 7, family: afINET, scheduler: "rr"},
		{mark: 8, family: afINET6, scheduler: "rr", netmask: prefix(128)},
		six("::ffff:10.0.0.1", 80, rawService{netmask: prefix(128)}),
		six("2001:db8::1", 80, rawService{netmask: prefix(128)}),
		six("2001:db8::1", 81, rawService{netmask: prefix(64), timeout: 300, flags: 0x0003}),
		six("2001:db8::1", 82, rawService{netmask: prefix(64)}),
		six("2001:db8::1", 83, rawService{netmask: prefix(129), timeout: 1, flags: 1}),
		four(80, rawService{protocol: 132}),
		four(1, rawService{protocol: 6, flags: 0x0002, timeout: 300}), // without the flag the timeout means nothing
		four(2, rawService{protocol: 6, flags: 0x0003, timeout: 300, netmask: 0xFFFFFF00}),
		four(3, rawService{protocol: 17, flags: 0x0006}),
		four(4, rawService{protocol: 6, flags: 0x001a}),
		four(5, rawService{protocol: 6, flags: 0x0103, netmask: 0xFFFFFFFF}),
		four(6, rawService{protocol: 6, flags: 0x0001, timeout: 1, netmask: 0xFF00FF00}),
		four(7, rawService{protocol: 6, flags: 0x0001, timeout: 1}),
		four(8, rawService{protocol: 17, flags: 0x0001, timeout: 1, netmask: 0xFFFFFFFF, engine: "sip"}),
	} {
		k.services[s.key()] = &fakeService{raw: s}
	}
	noDiff(t, "table", []string{
		"-A --sctp-service 10.0.0.1:80 -s sh",
		"-A -f 7 -s rr",
		"-A -f 8 -6 -s rr",
		"-A -t 10.0.0.1:1 -s sh",
		"-A -t 10.0.0.1:2 -s sh -p 300 -M 255.255.255.0",
		"-A -t 10.0.0.1:4 -s sh -b sh-fallback,sh-port",
		"-A -t 10.0.0.1:5 -s sh -p 0 flags 0x100",
		"-A -t 10.0.0.1:6 -s sh -p 1 -M 255.0.255.0",
		"-A -t 10.0.0.1:7 -s sh -p 1 -M 0.0.0.0",
		"-A -t [2001:db8::1]:80 -s rr",
		"-A -t [2001:db8::1]:81 -s rr -p 300 -M 64",
		"-A -t [2001:db8::1]:82 -s rr",
		"-A -t [2001:db8::1]:83 -s rr -p 1 -M 129",
		"-A -t [::ffff:10.0.0.1]:80 -s rr",
		"-A -u 10.0.0.1:3 -s sh -o",
		"-A -u 10.0.0.1:8 -s sh -p 1 --pe sip",
	}, printed(mustRead(t, fakeTable(k))))

	for want, d := range map[string]rawDest{
		"-g -w 0 -x 9 -y 5":    {forward: 1, upper: 9, lower: 5},
		"-? -w 70000 method 4": {forward: 4, weight: 70000},
		"-g -w 1":              {forward: 3, weight: 1, tunType: 1, tunPort: 5}, // nobody looks at it
		"-i -w 1 --tun-type gre tunnel flags 0x3": {forward: 2, weight: 1, tunType: 2, tunPort: 5, tunFlags: 3},
		"-i -w 1 tunnel type 9":                   {forward: 2, weight: 1, tunType: 9},
	} {
		d.family = afINET
		is := d.destination()
		t.Log(is.options(), want)
	}
}
