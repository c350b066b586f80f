package ipvs

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/zklvs/zklvs/ipvs/genl"
	"github.com/zklvs/zklvs/ipvs/genl/genltest"
)

// fakeKernel plays the kernel's side of netlink, as ip_vs_ctl.c does it. The
// suite in suite_test.go runs on it and on the real one: that is how we know
// that it answers like the kernel does.
type fakeKernel struct {
	family   uint16 // 0: ip_vs is not loaded
	services map[Key]*fakeService
	lacks    []string // schedulers that this kernel does not have
	syncing  bool     // a sync daemon runs
	busy     atomic.Bool
	ops      []string
	// fail, if set, is asked before each operation.
	fail func(op string) error
}

type fakeService struct {
	raw   rawService
	dests map[netip.AddrPort]rawDest
}

// fakeFamily is the family's number, as good as any.
const fakeFamily = 42

func newFakeKernel() *fakeKernel {
	return &fakeKernel{family: fakeFamily, services: map[Key]*fakeService{}, lacks: []string{"twos"}}
}

// fakeTable is a Table on a fake kernel. Several may share one.
func fakeTable(k *fakeKernel) *Table {
	t := newTable(genltest.Dial(k.play), func() error { return syscall.ENOENT })
	t.family = genl.Family{ID: fakeFamily, Version: 1}
	t.proc = func() (io.Reader, error) { return strings.NewReader(k.proc()), nil }
	return t
}

var fakeOps = map[uint8]string{
	cmdNewService: "new service", cmdSetService: "update service", cmdDelService: "del service", cmdGetService: "get services",
	cmdNewDest: "new destination", cmdSetDest: "update destination", cmdDelDest: "del destination", cmdGetDest: "get destinations",
	cmdGetConfig: "get config", cmdZero: "zero",
}

// play panics if two goroutines use the connection at once.
func (f *fakeKernel) play(r genltest.Request) ([]genltest.Reply, error) {
	if !f.busy.CompareAndSwap(false, true) {
		panic("the netlink connection is used by two goroutines at once")
	}
	defer f.busy.Store(false)
	runtime.Gosched() // let another goroutine try
	if r.Family == 0x10 {
		return f.control()
	}
	op := fakeOps[r.Cmd]
	if f.fail != nil {
		if err := f.fail(op); err != nil {
			return nil, err
		}
	}
	if r.Family != f.family {
		return nil, syscall.ENOENT
	}
	f.ops = append(f.ops, op)
	var svc rawService
	var dst rawDest
	d := genl.NewDecoder(r.Attributes)
	svc.decode(&d, false)
	d = genl.NewDecoder(r.Attributes)
	dst.decode(&d, false)
	if r.Cmd == cmdGetService && r.Flags&syscall.NLM_F_DUMP == syscall.NLM_F_DUMP {
		return f.dumpServices(), nil
	}
	return f.command(r.Cmd, svc, dst)
}

func (f *fakeKernel) control() ([]genltest.Reply, error) {
	if f.family == 0 {
		return nil, syscall.ENOENT
	}
	var e genl.Encoder
	e.Uint16(1, f.family)
	e.Uint32(3, 1)
	return []genltest.Reply{e.Bytes()}, nil
}

func (f *fakeKernel) command(cmd uint8, svc rawService, dst rawDest) ([]genltest.Reply, error) {
	if cmd == cmdGetConfig {
		var e genl.Encoder
		for i, v := range []uint32{900, 120, 300} {
			e.Uint32(attrTimeoutTCP+uint16(i), v)
		}
		return []genltest.Reply{e.Bytes()}, nil
	}
	found, ok := f.services[svc.key()]
	switch {
	case cmd == cmdNewService && ok:
		return nil, syscall.EEXIST
	case cmd == cmdNewService:
		return nil, f.newService(svc)
	case !ok && cmd == cmdGetDest:
		return nil, nil // as the kernel does: no error
	case !ok:
		return nil, syscall.ESRCH
	}
	switch cmd {
	case cmdGetService:
		return []genltest.Reply{found.raw.reply()}, nil
	case cmdGetDest:
		var out []genltest.Reply
		for _, d := range found.dests {
			out = append(out, d.reply())
		}
		return out, nil
	case cmdSetService:
		if err := f.refuses(svc); err != nil {
			return nil, err
		}
		svc.flags |= flagHashed
		found.raw = svc
	case cmdDelService:
		delete(f.services, svc.key())
	case cmdNewDest, cmdSetDest, cmdDelDest:
		return nil, f.destination(cmd, found, dst)
	}
	return nil, nil
}

// writes counts the operations that change the table.
func (f *fakeKernel) writes() int {
	n := 0
	for _, op := range f.ops {
		if !strings.HasPrefix(op, "get ") {
			n++
		}
	}
	return n
}

func (f *fakeKernel) dumpServices() []genltest.Reply {
	var out []genltest.Reply
	for _, s := range f.services {
		out = append(out, s.raw.reply())
	}
	return out
}

// hasScheduler knows "none", too: a service that serves nobody (ip_vs_ctl.c,
// ip_vs_add_service).
func (f *fakeKernel) hasScheduler(name string) bool {
	return name == "none" || slices.Contains(Schedulers(), name) && !slices.Contains(f.lacks, name)
}

// refuses is what ip_vs_add_service and ip_vs_edit_service check in common.
func (f *fakeKernel) refuses(s rawService) error {
	switch {
	case !f.hasScheduler(s.scheduler), s.engine != "" && s.engine != "sip":
		return syscall.ENOENT
	case s.family == afINET6 && (s.prefix < 1 || s.prefix > 128):
		return syscall.EINVAL
	}
	return nil
}

func (f *fakeKernel) newService(s rawService) error {
	if err := f.refuses(s); err != nil {
		return err
	}
	s.flags |= flagHashed
	f.services[s.key()] = &fakeService{raw: s, dests: map[netip.AddrPort]rawDest{}}
	return nil
}

// destination is ip_vs_genl_set_cmd and what it calls.
func (f *fakeKernel) destination(cmd uint8, s *fakeService, d rawDest) error {
	d.family = cmp.Or(d.family, s.raw.family)
	name := netip.AddrPortFrom(address(d.family, d.addr), d.port)
	_, there := s.dests[name]
	switch {
	case cmd != cmdDelDest && d.family != s.raw.family && (f.syncing || d.forward != fwdTun):
		return syscall.EINVAL
	case cmd != cmdDelDest && (int32(d.weight) < 0 || d.lower > d.upper):
		return syscall.ERANGE
	case cmd == cmdNewDest && name.Addr().IsMulticast(), cmd == cmdNewDest && d.tunType == uint8(GUE) && d.tunPort == 0:
		return syscall.EINVAL
	case cmd == cmdNewDest && there:
		return syscall.EEXIST
	case cmd != cmdNewDest && !there:
		return syscall.ENOENT
	case cmd == cmdDelDest:
		delete(s.dests, name)
	default:
		s.dests[name] = d
	}
	return nil
}

// reply is what ip_vs_genl_fill_service writes.
func (r *rawService) reply() genltest.Reply {
	var e genl.Encoder
	end := e.Nest(attrService)
	e.Uint16(svcFamily, r.family)
	if r.mark != 0 {
		e.Uint32(svcMark, r.mark)
	} else {
		e.Uint16(svcProtocol, r.protocol)
		e.Raw(svcAddr, r.addr[:])
		e.Uint16BE(svcPort, r.port)
	}
	e.String(svcScheduler, r.scheduler)
	if r.engine != "" {
		e.String(svcEngine, r.engine)
	}
	e.Uint32Pair(svcFlags, r.flags, 0xFFFFFFFF)
	e.Uint32(svcTimeout, r.timeout)
	e.Uint32BE(svcNetmask, r.netmask)
	encodeCounters(&e, svcStats, r.counters)
	e.End(end)
	return e.Bytes()
}

// reply is what ip_vs_genl_fill_dest writes.
func (r *rawDest) reply() genltest.Reply {
	var e genl.Encoder
	end := e.Nest(attrDest)
	e.Raw(destAddr, r.addr[:])
	e.Uint16BE(destPort, r.port)
	e.Uint32(destForward, r.forward)
	e.Uint32(destWeight, r.weight)
	e.Uint8(destTunType, r.tunType)
	e.Uint16BE(destTunPort, r.tunPort)
	e.Uint16(destTunFlags, r.tunFlags)
	e.Uint32(destUpper, r.upper)
	e.Uint32(destLower, r.lower)
	e.Uint32(destActive, r.active)
	e.Uint32(destInact, r.inact)
	e.Uint32(destPersist, r.persist)
	e.Uint16(destFamily, r.family)
	encodeCounters(&e, destStats, r.counters)
	e.End(end)
	return e.Bytes()
}

func encodeCounters(e *genl.Encoder, typ uint16, c Counters) {
	end := e.Nest(typ)
	for typ, v := range map[uint16]uint64{statsConns: c.Connections, statsInPkts: c.InPackets, statsOutPkts: c.OutPackets,
		statsInBytes: c.InBytes, statsOutBytes: c.OutBytes, statsCPS: c.ConnectionRate, statsInPPS: c.InPacketRate,
		statsOutPPS: c.OutPacketRate, statsInBPS: c.InByteRate, statsOutBPS: c.OutByteRate} {
		e.Uint64(typ, v)
	}
	e.End(end)
}

// fakeHZ is the ticks of the fake kernel's clock in a second.
const fakeHZ = 250

// proc is what /proc/net/ip_vs shows (ip_vs_ctl.c, ip_vs_info_seq_show).
func (f *fakeKernel) proc() string {
	var b strings.Builder
	b.WriteString("IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n" +
		"  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n")
	ops := map[bool]string{true: "ops "}
	for _, s := range f.services {
		r := &s.raw
		one := ops[r.flags&flagOnePacket != 0]
		switch {
		case r.mark != 0:
			fmt.Fprintf(&b, "FWM  %08X %s %s", r.mark, r.scheduler, one)
		case r.family == afINET6:
			fmt.Fprintf(&b, "%v  [%s]:%04X %s ", Protocol(r.protocol), address(r.family, r.addr).StringExpanded(), r.port, r.scheduler)
		default:
			fmt.Fprintf(&b, "%v  %08X:%04X %s %s ", Protocol(r.protocol), r.addr[:4], r.port, r.scheduler, one)
		}
		if r.flags&flagPersistent != 0 {
			fmt.Fprintf(&b, "persistent %d %08X", r.timeout*fakeHZ, r.netmask)
		}
		b.WriteByte('\n')
		for name, d := range s.dests {
			way := []string{"Masq", "Local", "Tunnel", "Route", "Bypass"}[d.forward]
			if name.Addr().Is6() {
				fmt.Fprintf(&b, "  -> [%s]:%04X      %-7s %-6d %-10d %-10d\n", name.Addr().StringExpanded(), d.port, way, d.weight, d.active, d.inact)
			} else {
				fmt.Fprintf(&b, "  -> %08X:%04X      %-7s %-6d %-10d %-10d\n", d.addr[:4], d.port, way, d.weight, d.active, d.inact)
			}
		}
	}
	return b.String()
}

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

// step is a step about a service and perhaps a destination of it.
func step(op Op, s Service, ds ...Destination) Step {
	out := Step{Op: op, Service: &s}
	if len(ds) > 0 {
		out.Destination = &ds[0]
	}
	return out
}
