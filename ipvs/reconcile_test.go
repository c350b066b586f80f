package ipvs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/zklvs/zklvs/internal/boottime"
)

// newLife is a daemon's life: a Reconciler on a state file of its own.
func newLife(t testing.TB, table *Table, path string) *Reconciler {
	t.Helper()
	r, err := NewReconciler(table, mustOpenOwned(t, path))
	if err != nil {
		t.Fatal(err)
	}
	r.shown = pace{} // whenever it may
	return r
}

func mustReconcile(t testing.TB, r *Reconciler, desired []Service) Report {
	t.Helper()
	report, err := r.Reconcile(t.Context(), desired)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func texts[T fmt.Stringer](things []T) []string {
	var out []string
	for _, x := range things {
		out = append(out, x.String())
	}
	return out
}

// The reconcile suite runs on both kernels as well. The adversary is another
// program with a table handle of its own.

func TestFakeReconcile(t *testing.T) {
	runReconcileSuite(t, func(testing.TB) (*Table, *Table) {
		k := newFakeKernel()
		return fakeTable(k), fakeTable(k)
	})
}

func TestKernelReconcile(t *testing.T) {
	runReconcileSuite(t, func(t testing.TB) (*Table, *Table) {
		n := newNamespace(t)
		return n.open(), n.open()
	})
}

func runReconcileSuite(t *testing.T, open func(testing.TB) (*Table, *Table)) {
	for name, f := range map[string]func(*testing.T, *Table, *Table){
		"life":     suiteLife,
		"drift":    suiteDrift,
		"leftover": suiteLeftover,
		"race":     suiteRace,
	} {
		t.Run(name, func(t *testing.T) {
			table, adversary := open(t)
			f(t, table, adversary)
		})
	}
}

func webAndDNS(t testing.TB) []Service {
	return []Service{
		service(t, "TCP 10.0.0.1:80", "rr", dest("10.0.1.1:80", DR, 1), dest("10.0.1.2:80", DR, 1)),
		service(t, "UDP 10.0.0.1:53", "sh", dest("10.0.1.1:5353", NAT, 1)),
	}
}

// suiteLife: add, leave alone, change, remove, beside a foreign service.
func suiteLife(t *testing.T, table, adversary *Table) {
	foreign := []Service{service(t, "TCP 10.9.9.9:443", "wlc", dest("10.9.9.1:443", TUN, 5))}
	mustApply(t, adversary, Diff(foreign, nil, nil))
	path := filepath.Join(t.TempDir(), "owned")
	r := newLife(t, table, path)
	desired := webAndDNS(t)

	report := mustReconcile(t, r, desired)
	if len(report.Result.Done) != 5 || len(report.Drift)+len(report.Adopted)+len(report.Leftovers) != 0 {
		t.Errorf("first: %+v", report)
	}
	noDiff(t, "table", append(slices.Clone(desired), foreign...), withForeignLast(mustRead(t, table), foreign))
	noDiff(t, "owned", sortedKeys(index(desired)), mustOpenOwned(t, path).Keys())

	noDiff(t, "nothing to do", Report{}, mustReconcile(t, r, desired))

	desired[0].Destinations = []Destination{dest("10.0.1.2:80", DR, 0), dest("10.0.1.3:80", TUN, 2)}
	desired[1].Destinations[0].Weight = 3 // in place: the caller's table stays the caller's
	report = mustReconcile(t, r, desired)
	noDiff(t, "a change of mind is no drift", 0, len(report.Drift))
	noDiff(t, "changed", `-a -t 10.0.0.1:80 -r 10.0.1.3:80 -i -w 2 --tun-type ipip
-e -t 10.0.0.1:80 -r 10.0.1.2:80 -g -w 0
-d -t 10.0.0.1:80 -r 10.0.1.1:80
-e -u 10.0.0.1:53 -r 10.0.1.1:5353 -m -w 3
`, Plan(report.Result.Done).String())

	report = mustReconcile(t, r, nil)
	noDiff(t, "removed", "-D -t 10.0.0.1:80\n-D -u 10.0.0.1:53\n", Plan(report.Result.Done).String())
	noDiff(t, "leftovers of this life", 0, len(report.Leftovers))
	noDiff(t, "the foreign service stays", foreign, mustRead(t, table))
	noDiff(t, "owned", []Key{}, mustOpenOwned(t, path).Keys())
}

func withForeignLast(table, foreign []Service) []Service {
	out := slices.DeleteFunc(slices.Clone(table), func(s Service) bool { return s.Key == foreign[0].Key })
	return append(out, slices.DeleteFunc(table, func(s Service) bool { return s.Key != foreign[0].Key })...)
}

// suiteDrift: every way to be wrong is found, named and put right.
func suiteDrift(t *testing.T, table, adversary *Table) {
	r := newLife(t, table, filepath.Join(t.TempDir(), "owned"))
	desired := webAndDNS(t)
	mustReconcile(t, r, desired)
	web, dns := service(t, "TCP 10.0.0.1:80", "wlc"), service(t, "UDP 10.0.0.1:53", "sh")
	for _, tt := range []struct {
		name string
		do   Step
		want []string
	}{
		{"destination removed", step(DeleteDestination, web, dest("10.0.1.1:80", DR, 1)),
			[]string{"destination 10.0.1.1:80 of TCP 10.0.0.1:80 was missing"}},
		{"destination edited", step(EditDestination, web, dest("10.0.1.1:80", TUN, 9)),
			[]string{`destination 10.0.1.1:80 of TCP 10.0.0.1:80 was "-i -w 9 --tun-type ipip", left as "-g -w 1"`}},
		{"destination added", step(AddDestination, web, dest("10.0.1.7:80", DR, 1)),
			[]string{"destination 10.0.1.7:80 of TCP 10.0.0.1:80 was not ours"}},
		{"service edited", step(EditService, web),
			[]string{`service TCP 10.0.0.1:80 was "-s wlc", left as "-s rr"`}},
		{"service removed", step(DeleteService, dns),
			[]string{"service UDP 10.0.0.1:53 was missing", "destination 10.0.1.1:5353 of UDP 10.0.0.1:53 was missing"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mustApply(t, adversary, Plan{tt.do})
			report := mustReconcile(t, r, desired)
			noDiff(t, "drift", tt.want, texts(report.Drift))
			for _, d := range report.Drift {
				if !d.Repaired {
					t.Errorf("%v: not repaired", d)
				}
			}
			noDiff(t, "steps", len(tt.want), len(report.Result.Done))
			noDiff(t, "table", desired, mustRead(t, table))
			noDiff(t, "once more", Report{}, mustReconcile(t, r, desired))
		})
	}
}

// suiteLeftover: a new life knows what the killed one left; it adopts what
// is still desired and removes the rest, not what is foreign.
func suiteLeftover(t *testing.T, table, adversary *Table) {
	foreign := []Service{service(t, "TCP 10.0.0.9:80", "rr")}
	mustApply(t, adversary, Diff(foreign, nil, nil))
	path := filepath.Join(t.TempDir(), "owned")
	mustReconcile(t, newLife(t, table, path), webAndDNS(t))

	second := newLife(t, table, path)
	report := mustReconcile(t, second, webAndDNS(t)[:1])
	noDiff(t, "leftovers", []string{"UDP 10.0.0.1:53"}, texts(report.Leftovers))
	noDiff(t, "done", "-D -u 10.0.0.1:53\n", Plan(report.Result.Done).String())

	report = mustReconcile(t, second, append(webAndDNS(t)[:1], foreign...))
	noDiff(t, "adopted", []string{"TCP 10.0.0.9:80"}, texts(report.Adopted))
	noDiff(t, "adoption writes nothing", 0, len(report.Result.Done))
	report = mustReconcile(t, second, nil)
	noDiff(t, "what was desired in this life is no leftover", []string{}, texts(report.Leftovers))
	noDiff(t, "table", []Service{}, mustRead(t, table))
}

// meddler is a table in which another program writes right after each read.
type meddler struct {
	*Table
	after func()
}

func (m meddler) services(keys []Key, destinations func(Key) bool) ([]Service, error) {
	s, err := m.Table.services(keys, destinations)
	m.after()
	return s, err
}

// suiteRace: the table changes between read and write.
func suiteRace(t *testing.T, table, adversary *Table) {
	desired := webAndDNS(t)
	reads := 0
	meddle := map[int]Plan{
		1: {step(AddService, service(t, "TCP 10.0.0.1:80", "wlc"))},
		2: {step(DeleteService, service(t, "TCP 10.0.0.1:80", "wlc"))},
	}
	r := newReconciler(meddler{table, func() {
		reads++
		mustApply(t, adversary, meddle[reads])
	}}, mustOpenOwned(t, filepath.Join(t.TempDir(), "owned")), boottime.Now)
	report, err := r.Reconcile(t.Context(), desired)
	if err != nil || reads != 3 || len(report.Result.Failed)+len(report.Result.Skipped) != 0 {
		t.Errorf("%d reads, %v, %+v", reads, err, report)
	}
	noDiff(t, "table", desired, mustRead(t, table))

	// One who never rests: it ends, with an error that says so.
	victim := desired[0].Destinations[0]
	gone := Plan{step(DeleteDestination, desired[0], victim)}
	back := Plan{step(AddDestination, desired[0], victim)}
	meddle = map[int]Plan{4: gone, 5: back, 6: gone, 7: back}
	desired[0].Destinations[0].Weight = 7
	report, err = r.Reconcile(t.Context(), desired)
	if !errors.Is(err, ErrRaced) || reads != 3+maxRounds || len(report.Result.Failed) != 1 {
		t.Errorf("%d reads, %v, %+v", reads, err, report.Result)
	}
	meddle = nil
	mustReconcile(t, r, desired)
	noDiff(t, "table in the end", desired, mustRead(t, table))
}

func TestReconcileRefusesBadTables(t *testing.T) {
	k := newFakeKernel()
	r := newLife(t, fakeTable(k), filepath.Join(t.TempDir(), "owned"))
	_, err := r.Reconcile(t.Context(), []Service{service(t, "TCP 10.0.0.1:80", "bogus")})
	if err == nil || len(k.ops) != 0 {
		t.Errorf("%v after %v", err, k.ops)
	}
	if _, err := NewReconciler(nil, nil); err == nil {
		t.Error("a reconciler without a table")
	}
}

func TestReconcileReportsWhatItCouldNotRepair(t *testing.T) {
	k := newFakeKernel()
	r := newLife(t, fakeTable(k), filepath.Join(t.TempDir(), "owned"))
	desired := webAndDNS(t)
	mustReconcile(t, r, desired)
	mustApply(t, fakeTable(k), Plan{
		step(DeleteDestination, desired[0], desired[0].Destinations[0]),
		step(DeleteDestination, desired[1], desired[1].Destinations[0]),
	})
	failures := 0
	k.fail = func(op string) error {
		if op == "new destination" {
			failures++
			if failures == 1 {
				return syscall.ENOMEM
			}
		}
		return nil
	}
	report, err := r.Reconcile(t.Context(), desired)
	if !errors.Is(err, syscall.ENOMEM) || len(report.Drift) != 2 || report.Drift[0].Repaired || !report.Drift[1].Repaired {
		t.Errorf("%v, drift %+v", err, report.Drift)
	}
	report = mustReconcile(t, r, desired)
	if len(report.Drift) != 0 || len(report.Result.Done) != 1 {
		t.Errorf("our own failure counted as drift: %+v", report)
	}
}

// Without the record of ownership nothing is added.
func TestReconcileNeedsItsStateFile(t *testing.T) {
	k := newFakeKernel()
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := newLife(t, fakeTable(k), filepath.Join(dir, "owned"))
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reconcile(t.Context(), webAndDNS(t)); !errors.Is(err, os.ErrNotExist) || k.writes() != 0 {
		t.Errorf("%v, %d writes", err, k.writes())
	}
}

// errKilled plays a SIGKILL before an operation of the kernel.
var errKilled = errors.New("killed")

// Killed before any operation, with desired changing all the time, a life
// leaves behind a state from which the next one removes all that is ours and
// nothing that is foreign.
func TestReconcileAfterKill(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		k := newFakeKernel()
		path := filepath.Join(dir, "owned")
		if err := os.RemoveAll(path); err != nil {
			rt.Fatal(err)
		}
		foreign := []Service{service(t, "TCP 10.9.9.9:443", "wlc", dest("10.9.9.1:443", TUN, 5))}
		mustApply(t, fakeTable(k), Diff(foreign, nil, nil))
		for life := range rapid.IntRange(1, 3).Draw(rt, "lives") {
			oneLife(rt, t, k, path, life)
		}
		k.fail = nil
		r := newLife(t, fakeTable(k), path)
		if _, err := r.Reconcile(context.Background(), nil); err != nil {
			rt.Fatal(err)
		}
		if got := printed(mustRead(t, fakeTable(k))); !slices.Equal(got, printed(foreign)) {
			rt.Fatalf("the last life leaves %v", got)
		}
		if left := mustOpenOwned(t, path).Keys(); len(left) != 0 {
			rt.Fatalf("still owned: %v", left)
		}
	})
}

// oneLife reconciles until it is killed before some operation.
func oneLife(rt *rapid.T, t *testing.T, k *fakeKernel, path string, life int) {
	left := rapid.IntRange(0, 30).Draw(rt, fmt.Sprint("operations of life ", life))
	k.fail = func(string) error {
		left--
		if left < 0 {
			return errKilled
		}
		return nil
	}
	r := newLife(t, fakeTable(k), path)
	for range 3 {
		if _, err := r.Reconcile(context.Background(), genTable().Draw(rt, "desired")); errors.Is(err, errKilled) {
			return
		}
	}
}
