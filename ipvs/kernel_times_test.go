package ipvs

import (
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// bigTable is services with so many destinations each.
func bigTable(services, destinations int) []Service {
	out := make([]Service, services)
	for i := range out {
		s := &out[i]
		s.Key = Key{Protocol: TCP, Address: netip.AddrFrom4([4]byte{10, byte(1 + i/60000), 0, 1}), Port: uint16(1000 + i%60000)}
		s.Scheduler = "wlc"
		for j := range destinations {
			s.Destinations = append(s.Destinations,
				Destination{Address: netip.AddrFrom4([4]byte{10, 9, byte(i), byte(1 + j)}), Port: s.Port, Forward: DR, Weight: 1})
		}
	}
	return out
}

// How long things take with many services. It prints, it does not judge: run it
// with -v. What it judges is how often the kernel is written to and read.
func TestKernelTimes(t *testing.T) {
	for _, size := range [][2]int{{1000, 4}, {10000, 2}} {
		n := newNamespace(t)
		table := n.open()
		desired := bigTable(size[0], size[1])
		timed := func(what string, f func()) {
			begun := time.Now()
			f()
			t.Logf("%d x %d: %-45s %8.1f ms", size[0], size[1], what, float64(time.Since(begun).Microseconds())/1000)
		}
		plan := Diff(desired, nil, nil)
		timed("bare batches, install", func() { mustApply(t, table, plan) })
		timed("read all", func() { mustRead(t, table) })
		timed("statistics of all", func() { _, _ = table.Stats() })
		timed("read /proc/net/ip_vs", func() { _ = table.visible(func(*procService) {}) })
		timed("bare batches, remove", func() { mustApply(t, table, Diff(nil, desired, func(Key) bool { return true })) })

		// Anew: destinations that were removed wait in the kernel's trash for
		// two minutes, and each one that is added is looked for there first
		// (ip_vs_ctl.c, ip_vs_trash_get_dest), which is quadratic: seconds.
		n = newNamespace(t)
		table = n.open()
		path := filepath.Join(t.TempDir(), "owned")
		r := newLife(t, table, path)
		timed("Reconcile, install, with the state file", func() { mustReconcile(t, r, desired) })
		timed("Reconcile, nothing to do, with a look", func() { mustReconcile(t, r, desired) })
		desired[7].Destinations[0].Weight = 5
		var report Report
		before := r.Counts()
		timed("Reconcile, one destination changed", func() { report = mustReconcile(t, r, desired) })
		before.Reads++
		if c := r.Counts(); len(report.Result.Done) != 1 || c != before {
			t.Errorf("one change: %d writes, %+v", len(report.Result.Done), c)
		}
		n.ipvsadm("-d -t 10.1.0.1:1000 -r 10.9.0.1:1000")
		timed("Reconcile, one destination drifted", func() { report = mustReconcile(t, r, desired) })
		if c := r.Counts(); len(report.Result.Done) != 1 || c.Drift != 1 {
			t.Errorf("one drift: %d writes, %+v", len(report.Result.Done), c)
		}
		next := newLife(t, table, path)
		timed("Reconcile, adopt, in a new life", func() { report = mustReconcile(t, next, desired) })
		noDiff(t, "adoption writes nothing", 0, len(report.Result.Done))
		timed("Reconcile, remove all", func() { mustReconcile(t, next, nil) })
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("%d x %d: heap in use %d MiB", size[0], size[1], m.HeapInuse>>20)
		if left := strings.TrimSpace(n.ipvsadm("-Sn")); left != "" {
			t.Errorf("left: %.200s", left)
		}
	}
}
