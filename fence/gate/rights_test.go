package gate_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/internal/boottime"
)

// keep reduces the effective rights of this thread, which ends with the test.
func keep(capabilities ...int) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	must(unix.Capget(&hdr, &data[0]))
	data[0].Effective, data[1].Effective = 0, 0
	for _, c := range capabilities {
		data[c/32].Effective |= 1 << (c % 32)
	}
	must(unix.Capset(&hdr, &data[0]))
}

// CAP_NET_ADMIN with CAP_BPF is enough; afterwards CAP_NET_ADMIN alone.
func TestKernelGateFewRights(t *testing.T) {
	l := newLAN(t)
	var p *prober
	l.in(l.client, func() { p = newProber(t, "c0") })
	keep(unix.CAP_NET_ADMIN, unix.CAP_BPF)
	must(gate.Supported())
	g := newGate(t)
	must(g.Ensure())
	keep(unix.CAP_NET_ADMIN)
	run := func(what string, open bool) {
		t.Helper()
		if p.asked() != open {
			t.Errorf("%s: answered is %v", what, !open)
		}
	}
	run("without VIPs", true)
	must(g.Add(vip4)) // Linux 6.0 and later
	must(g.Ensure())
	run("shut", false)
	must(g.Set(vip4, boottime.Now()+time.Hour))
	run("open", true)
	must(g.Drop(vip4))
	run("dropped", true)
	must(gate.Remove())
}

func TestKernelGateNoRights(t *testing.T) {
	newNamespace(t)
	for name, c := range map[string]struct {
		keep []int
		want string
	}{
		"none":               {nil, "needs CAP_NET_ADMIN with CAP_BPF, or CAP_SYS_ADMIN"},
		"CAP_NET_ADMIN only": {[]int{unix.CAP_NET_ADMIN}, "needs CAP_NET_ADMIN with CAP_BPF, or CAP_SYS_ADMIN"},
		"CAP_BPF only":       {[]int{unix.CAP_BPF}, "needs CAP_NET_ADMIN"},
	} {
		keep(c.keep...)
		err := gate.Supported()
		if !errors.Is(err, gate.ErrNotSupported) || !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
