package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/moby/ipvs"
)

func TestOpenWithoutKernelSupport(t *testing.T) {
	if _, err := familyID(); err == nil || runModprobe(t.Context(), "ip_vs") == nil {
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

func TestApplyStopsWhenNothingCanSucceed(t *testing.T) {
	for _, tt := range []struct {
		errno error
		is    error
		want  string
	}{
		{
			syscall.EPERM, ErrPermission,
			"apply to the IPVS table: 1 steps failed, 3 not tried; add service TCP 10.0.0.1:2: " +
				"changing the IPVS table needs CAP_NET_ADMIN: run as root (operation not permitted)",
		},
		{
			errors.New("Socket got closed on receive"), nil,
			"apply to the IPVS table: 1 steps failed, 3 not tried; add service TCP 10.0.0.1:2: Socket got closed on receive",
		},
	} {
		k := newFakeKernel()
		k.fail = func(string) error {
			if len(k.ops) == 2 {
				return tt.errno
			}
			return nil
		}
		r, err := fakeTable(k).Apply(t.Context(), bigPlan(3))
		noDiff(t, "error", tt.want, fmt.Sprint(err))
		if !errors.Is(err, tt.errno) || (tt.is != nil && !errors.Is(err, tt.is)) {
			t.Errorf("error %v does not wrap %v and %v", err, tt.errno, tt.is)
		}
		if len(r.Done) != 2 || len(r.Failed) != 1 || len(r.Skipped) != 3 {
			t.Errorf("done %v, failed %v, skipped %v", r.Done, r.Failed, r.Skipped)
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
	ctx, cancel := context.WithCancel(t.Context())
	k := newFakeKernel()
	k.fail = func(string) error {
		if len(k.ops) == 3 {
			cancel()
		}
		return nil
	}
	r, err := fakeTable(k).Apply(ctx, bigPlan(3))
	noDiff(t, "error", "apply to the IPVS table: 0 steps failed, 2 not tried; context canceled", fmt.Sprint(err))
	if !errors.Is(err, context.Canceled) || len(r.Done) != 4 || len(r.Skipped) != 2 {
		t.Errorf("%v: done %v, skipped %v", err, r.Done, r.Skipped)
	}
}

func TestTableAfterModuleWasUnloaded(t *testing.T) {
	k := newFakeKernel()
	table := &Table{h: k, supported: func() error { return ErrNoKernelSupport }}
	k.fail = func(string) error { return syscall.ENOENT } // what netlink says to an unknown family
	if _, err := table.Services(); !errors.Is(err, ErrNoKernelSupport) {
		t.Errorf("read: %v", err)
	}
	r, err := table.Apply(t.Context(), bigPlan(2))
	if !errors.Is(err, ErrNoKernelSupport) || errors.Is(err, ErrNoScheduler) || len(r.Skipped) != 3 {
		t.Errorf("apply: %v, skipped %v", err, r.Skipped)
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

// What the model cannot name is not read; what it cannot say is in Extras.
func TestReadOfForeignThings(t *testing.T) {
	v4 := func(s ipvs.Service) *ipvs.Service {
		s.AddressFamily, s.Address = syscall.AF_INET, net.IP{10, 0, 0, 1}
		s.SchedName = "sh"
		return &s
	}
	v6 := func(addr string, s ipvs.Service) *ipvs.Service {
		s.AddressFamily, s.Protocol, s.Address, s.SchedName = syscall.AF_INET6, 6, net.ParseIP(addr), "rr"
		return &s
	}
	k := newFakeKernel()
	k.others = []*ipvs.Service{
		{FWMark: 7, AddressFamily: syscall.AF_INET, SchedName: "rr"},
		{FWMark: 8, AddressFamily: syscall.AF_INET6, SchedName: "rr", Netmask: 128},
		v6("::ffff:10.0.0.1", ipvs.Service{Port: 80, Netmask: 128}), // the library would ask the kernel about another
		v6("2001:db8::1", ipvs.Service{Port: 80, Netmask: 128}),
		v6("2001:db8::1", ipvs.Service{Port: 81, Netmask: 64, Timeout: 300, Flags: 0x0003}),
		v6("2001:db8::1", ipvs.Service{Port: 82, Netmask: 64}),
		v4(ipvs.Service{Protocol: 132, Port: 80}),
		v4(ipvs.Service{Protocol: 6, Port: 1, Flags: 0x0002, Timeout: 300}), // without the flag the timeout means nothing
		v4(ipvs.Service{Protocol: 6, Port: 2, Flags: 0x0003, Timeout: 300, Netmask: 0x00FFFFFF}),
		v4(ipvs.Service{Protocol: 17, Port: 3, Flags: 0x0006}),
		v4(ipvs.Service{Protocol: 6, Port: 4, Flags: 0x001a}),
		v4(ipvs.Service{Protocol: 6, Port: 5, Flags: 0x0103, Netmask: fullMask}),
	}
	noDiff(t, "table", []string{
		"-A -t 10.0.0.1:1 -s sh",
		"-A -t 10.0.0.1:2 -s sh -p 300 -M 255.255.255.0",
		"-A -t 10.0.0.1:4 -s sh -b flag-1,flag-2",
		"-A -t 10.0.0.1:5 -s sh -p 0 flags 0x100",
		"-A -t [2001:db8::1]:80 -s rr",
		"-A -t [2001:db8::1]:81 -s rr -p 300 -M 64",
		"-A -t [2001:db8::1]:82 -s rr",
		"-A -u 10.0.0.1:3 -s sh -o",
	}, printed(mustRead(t, fakeTable(k))))

	noDiff(t, "destination", dest("10.0.0.9:80", DR, 3), destinationFromKernel(dest("10.0.0.9:80", DR, 3).toKernel()))
	noDiff(t, "IPv6 destination", dest("[2001:db8::9]:80", TUN, 3), destinationFromKernel(dest("[2001:db8::9]:80", TUN, 3).toKernel()))
	odd := &ipvs.Destination{Address: net.IP{10, 0, 0, 9}, Port: 80, ConnectionFlags: 1, UpperThreshold: 9, LowerThreshold: 5}
	noDiff(t, "odd destination", "-? -w 0 method 1 -x 9 -y 5", destinationFromKernel(odd).options())
}
