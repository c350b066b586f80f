package ipvs

import (
	"cmp"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/moby/ipvs"
)

// fakeKernel plays the kernel's table behind the netlink library. The suite
// in suite_test.go runs on it and on the real one: that is how we know that
// it answers like the kernel does.
type fakeKernel struct {
	services map[Key]*fakeService
	others   []*ipvs.Service // what the model cannot name
	lacks    []string        // schedulers that this kernel does not have
	busy     atomic.Bool
	ops      []string
	// fail, if set, is asked before each operation.
	fail func(op string) error
}

type fakeService struct {
	svc   ipvs.Service
	dests map[netip.AddrPort]ipvs.Destination
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{services: map[Key]*fakeService{}, lacks: []string{"twos"}}
}

// fakeTable is a Table on a fake kernel. Several may share one.
func fakeTable(k *fakeKernel) *Table {
	return &Table{h: k, supported: func() error { return nil }}
}

// enter panics if two goroutines use the handle at once: the real one hangs.
func (f *fakeKernel) enter(op string) (func(), error) {
	if !f.busy.CompareAndSwap(false, true) {
		panic("the netlink handle is used by two goroutines at once")
	}
	runtime.Gosched() // let another goroutine try
	leave := func() { f.busy.Store(false) }
	if f.fail != nil {
		if err := f.fail(op); err != nil {
			leave()
			return nil, err
		}
	}
	f.ops = append(f.ops, op)
	return leave, nil
}

// writes counts the operations that change the table.
func (f *fakeKernel) writes() int {
	n := 0
	for _, op := range f.ops {
		if op != "get services" && op != "get destinations" {
			n++
		}
	}
	return n
}

func (f *fakeKernel) find(s *ipvs.Service) (*fakeService, error) {
	key, _ := keyFromKernel(s)
	if found, ok := f.services[key]; ok {
		return found, nil
	}
	return nil, syscall.ESRCH
}

func (f *fakeKernel) GetServices() ([]*ipvs.Service, error) {
	leave, err := f.enter("get services")
	if err != nil {
		return nil, err
	}
	defer leave()
	out := slices.Clone(f.others)
	for _, s := range f.services {
		c := s.svc
		out = append(out, &c)
	}
	return out, nil
}

func (f *fakeKernel) GetDestinations(s *ipvs.Service) ([]*ipvs.Destination, error) {
	leave, err := f.enter("get destinations")
	if err != nil {
		return nil, err
	}
	defer leave()
	found, err := f.find(s)
	if err != nil {
		return nil, nil // as the kernel does: no error
	}
	var out []*ipvs.Destination
	for _, d := range found.dests {
		c := d
		out = append(out, &c)
	}
	return out, nil
}

// hasScheduler knows "none", too: a service that serves nobody (ip_vs_ctl.c,
// ip_vs_add_service).
func (f *fakeKernel) hasScheduler(name string) bool {
	return name == "none" || slices.Contains(Schedulers(), name) && !slices.Contains(f.lacks, name)
}

// refuses is what ip_vs_add_service and ip_vs_edit_service check in common.
func (f *fakeKernel) refuses(s *ipvs.Service) error {
	switch {
	case !f.hasScheduler(s.SchedName):
		return syscall.ENOENT
	case s.AddressFamily == syscall.AF_INET6 && (s.Netmask < 1 || s.Netmask > 128):
		return syscall.EINVAL
	}
	return nil
}

func (f *fakeKernel) NewService(s *ipvs.Service) error {
	leave, err := f.enter("new service")
	if err != nil {
		return err
	}
	defer leave()
	if _, err := f.find(s); err == nil {
		return syscall.EEXIST
	}
	if err := f.refuses(s); err != nil {
		return err
	}
	key, _ := keyFromKernel(s)
	c := *s
	c.Flags |= flagHashed
	f.services[key] = &fakeService{svc: c, dests: map[netip.AddrPort]ipvs.Destination{}}
	return nil
}

func (f *fakeKernel) UpdateService(s *ipvs.Service) error {
	leave, err := f.enter("update service")
	if err != nil {
		return err
	}
	defer leave()
	found, err := f.find(s)
	if err != nil {
		return err
	}
	if err := f.refuses(s); err != nil {
		return err
	}
	found.svc = *s
	found.svc.Flags |= flagHashed
	return nil
}

func (f *fakeKernel) DelService(s *ipvs.Service) error {
	leave, err := f.enter("del service")
	if err != nil {
		return err
	}
	defer leave()
	if _, err := f.find(s); err != nil {
		return err
	}
	key, _ := keyFromKernel(s)
	delete(f.services, key)
	return nil
}

func (f *fakeKernel) NewDestination(s *ipvs.Service, d *ipvs.Destination) error {
	return f.onDestination("new destination", s, d, func(found *fakeService, name netip.AddrPort, there bool) error {
		switch {
		case name.Addr().IsMulticast():
			return syscall.EINVAL
		case there:
			return syscall.EEXIST
		}
		found.dests[name] = *d
		return nil
	})
}

func (f *fakeKernel) UpdateDestination(s *ipvs.Service, d *ipvs.Destination) error {
	return f.onDestination("update destination", s, d, func(found *fakeService, name netip.AddrPort, there bool) error {
		if !there {
			return syscall.ENOENT
		}
		found.dests[name] = *d
		return nil
	})
}

func (f *fakeKernel) DelDestination(s *ipvs.Service, d *ipvs.Destination) error {
	return f.onDestination("del destination", s, d, func(found *fakeService, name netip.AddrPort, there bool) error {
		if !there {
			return syscall.ENOENT
		}
		delete(found.dests, name)
		return nil
	})
}

func (f *fakeKernel) onDestination(op string, s *ipvs.Service, d *ipvs.Destination,
	act func(*fakeService, netip.AddrPort, bool) error) error {
	leave, err := f.enter(op)
	if err != nil {
		return err
	}
	defer leave()
	found, err := f.find(s)
	if err != nil {
		return err
	}
	// The library does not send d.AddressFamily: the kernel takes the address
	// for one of the service's family, filled up with zeros or cut.
	raw := make([]byte, 16)
	copy(raw, d.Address)
	addr, _ := netip.AddrFromSlice(raw[:len(s.Address)])
	name := netip.AddrPortFrom(addr, d.Port)
	_, there := found.dests[name]
	return act(found, name, there)
}

func (f *fakeKernel) Close() {}

// Builders, so that tables read like tables.

func key(t testing.TB, s string) Key {
	t.Helper()
	k, err := parseKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func service(t testing.TB, name, scheduler string, ds ...Destination) Service {
	t.Helper()
	slices.SortFunc(ds, func(a, b Destination) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Port, b.Port))
	})
	return Service{Key: key(t, name), Scheduler: scheduler, Destinations: ds}
}

func dest(name string, f Forward, weight int) Destination {
	ap := netip.MustParseAddrPort(name)
	return Destination{Address: ap.Addr(), Port: ap.Port(), Forward: f, Weight: weight}
}
