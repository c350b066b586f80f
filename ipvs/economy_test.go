package ipvs

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// life is a Reconciler on a fake kernel with a clock of its own.
type life struct {
	*Reconciler
	k     *fakeKernel
	table *Table
	clock time.Duration
}

func newFakeLife(t *testing.T, k *fakeKernel) *life {
	l := &life{k: k, table: fakeTable(k), clock: time.Hour}
	l.Reconciler = newReconciler(l.table, mustOpenOwned(t, filepath.Join(t.TempDir(), "owned")), func() time.Duration { return l.clock })
	return l
}

// reconcile returns what was asked of the kernel, how often.
func (l *life) reconcile(t *testing.T, desired []Service) (Report, map[string]int) {
	t.Helper()
	l.k.ops = nil
	report := mustReconcile(t, l.Reconciler, desired)
	ops := map[string]int{}
	for _, op := range l.k.ops {
		ops[op]++
	}
	return report, ops
}

// A change of one destination is one write, whatever else there is.
func TestOneChangeIsOneWrite(t *testing.T) {
	l := newFakeLife(t, newFakeKernel())
	desired := bigTable(3000, 2)
	_, ops := l.reconcile(t, desired)
	noDiff(t, "a cold start", map[string]int{"get services": 1, "new service": 3000, "new destination": 6000}, ops)
	_, ops = l.reconcile(t, desired)
	noDiff(t, "nothing to do", map[string]int{}, ops)
	desired[7].Destinations[1].Weight = 9
	_, ops = l.reconcile(t, desired)
	noDiff(t, "one change", map[string]int{"get services": 1, "get destinations": 1, "update destination": 1}, ops)
	desired[8].Destinations = desired[8].Destinations[:1]
	_, ops = l.reconcile(t, append(desired[:99:99], desired[100:]...))
	noDiff(t, "one destination and one service less", map[string]int{"get services": 2, "get destinations": 1, "del destination": 1, "del service": 1}, ops)
	for i := range desired {
		desired[i].Scheduler = "rr"
	}
	_, ops = l.reconcile(t, desired)
	noDiff(t, "all change", map[string]int{"get services": 1, "get destinations": 2999, "update service": 2999, "new service": 1, "new destination": 2}, ops)
	_, ops = l.reconcile(t, nil)
	noDiff(t, "all removed", map[string]int{"get services": 1, "del service": 3000}, ops)
}

// What is desired in another order is no change.
func TestOrderIsNoChange(t *testing.T) {
	l := newFakeLife(t, newFakeKernel())
	desired := bigTable(3, 4)
	l.reconcile(t, desired)
	desired[0], desired[2] = desired[2], desired[0]
	ds := desired[1].Destinations
	ds[0], ds[3] = ds[3], ds[0]
	_, ops := l.reconcile(t, desired)
	noDiff(t, "operations", map[string]int{}, ops)
}

func TestDriftIsFoundAtAPace(t *testing.T) {
	k := newFakeKernel()
	l := newFakeLife(t, k)
	desired := bigTable(5, 2)
	for i := range desired {
		desired[i].Persistence = time.Minute
	}
	l.reconcile(t, desired)
	meddle := func(change func(*fakeService)) {
		change(k.services[desired[1].Key])
	}
	expect := func(when string, drift uint64, ops map[string]int) {
		t.Helper()
		before := l.Counts().Drift
		_, got := l.reconcile(t, desired)
		noDiff(t, when, ops, got)
		if found := l.Counts().Drift - before; found != drift {
			t.Errorf("%s: %d drifted, expected %d", when, found, drift)
		}
	}
	l.clock += time.Second
	expect("the first look learns the kernel's clock", 0, map[string]int{"get services": 1, "get destinations": 1})
	if l.hz != fakeHZ {
		t.Errorf("%d ticks a second", l.hz)
	}
	repair := map[string]int{"get services": 1, "get destinations": 1, "update service": 1}
	longer := func(s *fakeService) { s.raw.timeout = 61 }
	meddle(longer)
	expect("too soon for a look", 0, map[string]int{})
	l.clock += 500 * time.Millisecond
	expect("a visible drift", 1, repair)
	meddle(func(s *fakeService) { s.raw.flags |= 1 << flagSched })
	l.clock += time.Second
	expect("one that does not show", 0, map[string]int{})
	l.clock += time.Minute
	expect("at the whole read", 1, map[string]int{"get services": 1, "get destinations": 5, "update service": 1})

	// A change that waits does not wait for a look, but not for ever.
	meddle(longer)
	l.clock += 9 * time.Second
	desired[0].Scheduler = "rr"
	expect("a change", 0, repair)
	l.clock += 2 * time.Second
	desired[0].Scheduler = "sh"
	expect("a change and a look", 1, map[string]int{"get services": 2, "get destinations": 2, "update service": 2})

	// Without /proc/net/ip_vs there are whole reads, at a pace.
	l.table.proc = func() (io.Reader, error) { return nil, errNoProc }
	meddle(longer)
	l.clock += time.Second
	expect("no file", 1, map[string]int{"get services": 1, "get destinations": 5, "update service": 1})
	l.whole.took = time.Second
	l.whole.ended = l.clock
	meddle(longer)
	l.clock += 19 * time.Second
	expect("too soon for a whole read", 0, map[string]int{})
	l.clock += time.Second
	expect("a whole read", 1, map[string]int{"get services": 1, "get destinations": 5, "update service": 1})
}

// Every kind of mark is found in the file, which does not tell their family.
func TestDriftOfMarks(t *testing.T) {
	k := newFakeKernel()
	l := newFakeLife(t, k)
	four := Service{Key: Key{Mark: 5}, Scheduler: "rr", Destinations: []Destination{dest("10.0.0.1:0", DR, 1)}}
	six := Service{Key: Key{Mark: 5, IPv6: true}, Scheduler: "wlc", Destinations: []Destination{dest("[2001:db8::1]:0", DR, 1)}}
	desired := []Service{four, six}
	l.reconcile(t, desired)
	l.clock += time.Second
	_, ops := l.reconcile(t, desired)
	noDiff(t, "nothing to do", map[string]int{}, ops)
	k.services[six.Key].raw.scheduler = "rr"
	l.clock += time.Second
	report, _ := l.reconcile(t, desired)
	noDiff(t, "drift", []string{`service FWM 5 IPv6 was "-s rr", left as "-s wlc"`}, texts(report.Drift))
}

// What failed is tried again without a whole read, and is no drift.
func TestFailuresAreTriedAgain(t *testing.T) {
	k := newFakeKernel()
	l := newFakeLife(t, k)
	desired := bigTable(200, 1)
	l.reconcile(t, desired)
	k.fail = func(op string) error {
		if op == "del service" || op == "update destination" {
			return syscall.ENOMEM
		}
		return nil
	}
	desired[3].Destinations[0].Weight = 7
	for range 2 {
		k.ops = nil
		report, err := l.Reconcile(t.Context(), desired[1:])
		if !errors.Is(err, syscall.ENOMEM) || len(report.Result.Failed) != 2 || len(k.ops) != 3 {
			t.Errorf("%v, %d failed, %v", err, len(report.Result.Failed), k.ops)
		}
	}
	k.fail = nil
	report, ops := l.reconcile(t, desired[1:])
	noDiff(t, "operations", map[string]int{"get services": 2, "get destinations": 1, "del service": 1, "update destination": 1}, ops)
	noDiff(t, "drift", 0, len(report.Drift))
	noDiff(t, "owned", 199, len(l.owned.Keys()))
}

// A table in which something stands twice is refused, also beside what is known.
func TestReconcileRefusesTwice(t *testing.T) {
	k := newFakeKernel()
	l := newFakeLife(t, k)
	desired := bigTable(2, 1)
	twice := append(desired[:2:2], desired[0])
	for range 2 {
		_, err := l.Reconcile(t.Context(), twice)
		if err == nil || !strings.HasSuffix(err.Error(), "service TCP 10.1.0.1:1000: stands there twice") {
			t.Error(err)
		}
		l.reconcile(t, desired)
	}
	twice[2].Scheduler = "sh"
	if _, err := l.Reconcile(t.Context(), twice); err == nil {
		t.Error("another service of the same name was taken")
	}
	_, ops := l.reconcile(t, desired)
	noDiff(t, "afterwards", map[string]int{}, ops)
}

// A look that made work for nothing is not repeated soon.
func TestLooksInVainAreRare(t *testing.T) {
	k := newFakeKernel()
	l := newFakeLife(t, k)
	desired := bigTable(5, 1)
	l.reconcile(t, desired)
	l.table.proc = func() (io.Reader, error) { // as if the kernel had skipped all
		l.clock += 10 * time.Millisecond
		return strings.NewReader(""), nil
	}
	k.fail = func(string) error { l.clock += 10 * time.Millisecond; return nil }
	l.clock += time.Second
	report, ops := l.reconcile(t, desired)
	noDiff(t, "operations", map[string]int{"get services": 5, "get destinations": 5}, ops)
	noDiff(t, "report", Report{}, report)
	if pause := l.shown.next - l.clock; pause != 20*110*time.Millisecond {
		t.Errorf("the next look after %v", pause)
	}
}
