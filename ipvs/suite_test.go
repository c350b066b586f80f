package ipvs

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// The suite runs on the fake kernel and on the real one. A table is opened
// anew for each case, on an empty kernel.

func TestFakeKernelSuite(t *testing.T) {
	runSuite(t, func(testing.TB) *Table { return fakeTable(newFakeKernel()) })
}

func TestKernelSuite(t *testing.T) {
	runSuite(t, func(t testing.TB) *Table { return newNamespace(t).open() })
}

func runSuite(t *testing.T, open func(testing.TB) *Table) {
	t.Run("refusals", func(t *testing.T) { suiteRefusals(t, open) })
	t.Run("removals of what is gone", func(t *testing.T) { suiteMoot(t, open(t)) })
	t.Run("destinations of another family", func(t *testing.T) { suiteFamilies(t, open(t)) })
	t.Run("a failure spares the others", func(t *testing.T) { suitePartial(t, open(t)) })
	t.Run("scheduler none", func(t *testing.T) { suiteNone(t, open(t)) })
	t.Run("random tables", func(t *testing.T) { suiteRandom(t, open(t)) })
}

const (
	suiteKey  = "TCP 10.0.0.1:80"
	suiteDest = "10.0.1.1:80"
)

// suiteRefusals: each step that the kernel refuses, and in which words.
func suiteRefusals(t *testing.T, open func(testing.TB) *Table) {
	bare := []Service{service(t, suiteKey, "rr")}
	full := []Service{service(t, suiteKey, "rr", dest(suiteDest, DR, 1))}
	step := func(op Op, scheduler, destination string) Step {
		return step(op, service(t, suiteKey, scheduler), dest(destination, DR, 1))
	}
	for _, tt := range []struct {
		name  string
		there []Service
		step  Step
		is    []error
		want  string
	}{
		{
			"add a service twice", bare, step(AddService, "rr", suiteDest), []error{ErrRaced, syscall.EEXIST},
			"add service TCP 10.0.0.1:80: the kernel has this service already: another program changed the IPVS table meanwhile (file exists)",
		},
		{
			"edit a service that is gone", nil, step(EditService, "rr", suiteDest), []error{ErrRaced, syscall.ESRCH},
			"edit service TCP 10.0.0.1:80: the kernel has no such service: another program changed the IPVS table meanwhile (no such process)",
		},
		{
			"add a service with an unknown scheduler", nil, step(AddService, "bogus", suiteDest), []error{ErrNoScheduler, syscall.ENOENT},
			`add service TCP 10.0.0.1:80: kernel has no such scheduler: no module ip_vs_bogus for "bogus" (no such file or directory)`,
		},
		{
			"edit a service to an unknown scheduler", bare, step(EditService, "bogus", suiteDest), []error{ErrNoScheduler, syscall.ENOENT},
			`edit service TCP 10.0.0.1:80: kernel has no such scheduler: no module ip_vs_bogus for "bogus" (no such file or directory)`,
		},
		{
			"add a destination to a service that is gone", nil, step(AddDestination, "", suiteDest), []error{ErrRaced, syscall.ESRCH},
			"add destination 10.0.1.1:80 to TCP 10.0.0.1:80: the kernel has no such service: another program changed the IPVS table meanwhile (no such process)",
		},
		{
			"edit a destination of a service that is gone", nil, step(EditDestination, "", suiteDest), []error{ErrRaced, syscall.ESRCH},
			"edit destination 10.0.1.1:80 of TCP 10.0.0.1:80: the kernel has no such service: another program changed the IPVS table meanwhile (no such process)",
		},
		{
			"add a destination twice", full, step(AddDestination, "", suiteDest), []error{ErrRaced, syscall.EEXIST},
			"add destination 10.0.1.1:80 to TCP 10.0.0.1:80: the service has this destination already: another program changed the IPVS table meanwhile (file exists)",
		},
		{
			"edit a destination that is gone", bare, step(EditDestination, "", suiteDest), []error{ErrRaced, syscall.ENOENT},
			"edit destination 10.0.1.1:80 of TCP 10.0.0.1:80: the service has no such destination: another program changed the IPVS table meanwhile (no such file or directory)",
		},
		{
			"add a destination that is no unicast address", bare, step(AddDestination, "", "224.0.0.9:80"), []error{syscall.EINVAL},
			"add destination 224.0.0.9:80 to TCP 10.0.0.1:80: the kernel takes this for no unicast address: " +
				"is it a broadcast address here, or is lo down in this network namespace (ip link set lo up)? (invalid argument)",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := open(t)
			mustApply(t, table, Diff(tt.there, nil, nil))
			r, err := table.Apply(t.Context(), Plan{tt.step})
			var failed *StepError
			if !errors.As(err, &failed) {
				t.Fatalf("error %v is no StepError", err)
			}
			noDiff(t, "error text", tt.want, failed.Error())
			for _, target := range tt.is {
				if !errors.Is(err, target) {
					t.Errorf("error %v is not %q", err, target)
				}
			}
			if len(r.Failed) != 1 || len(r.Done)+len(r.Moot)+len(r.Skipped) != 0 {
				t.Errorf("result %+v: expected one failed step", r)
			}
			noDiff(t, "table afterwards", tt.there, mustRead(t, table))
		})
	}
}

// suiteFamilies: a destination of the other family is one like any other with a
// tunnel, and refused without.
func suiteFamilies(t *testing.T, table *Table) {
	mixed := []Service{
		service(t, suiteKey, "rr", dest(suiteDest, TUN, 1), dest("[a00:101::]:80", TUN, 7)), // the first four bytes are those of suiteDest
		service(t, "TCP [2001:db8::1]:80", "rr", dest(suiteDest, TUN, 2), dest("[2001:db8::2]:80", TUN, 1)),
	}
	mustApply(t, table, Diff(mixed, nil, nil))
	noDiff(t, "table", mixed, mustRead(t, table))
	changed := []Service{
		service(t, suiteKey, "rr", dest(suiteDest, TUN, 1), dest("[a00:101::]:80", TUN, 0)),
		service(t, "TCP [2001:db8::1]:80", "rr", dest("[2001:db8::2]:80", TUN, 1)),
	}
	mustApply(t, table, Diff(changed, mixed, nil))
	noDiff(t, "table", changed, mustRead(t, table))
	for i, odd := range []string{"[2001:db8::3]:80", "10.0.1.9:80"} {
		for _, f := range []Forward{DR, NAT} {
			_, err := table.Apply(t.Context(), Plan{step(AddDestination, mixed[i], dest(odd, f, 1))})
			if !errors.Is(err, syscall.EINVAL) {
				t.Errorf("%v to %s: %v", f, odd, err)
			}
		}
	}
}

func suiteMoot(t *testing.T, table *Table) {
	there := []Service{service(t, suiteKey, "rr")}
	mustApply(t, table, Diff(there, nil, nil))
	plan := Plan{
		step(DeleteDestination, there[0], dest(suiteDest, DR, 1)),                            // no such destination
		step(DeleteDestination, service(t, "TCP 10.0.0.9:80", "rr"), dest(suiteDest, DR, 1)), // no such service
		step(DeleteService, service(t, "TCP 10.0.0.9:80", "rr")),
	}
	r, err := table.Apply(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	noDiff(t, "moot", plan.String(), Plan(r.Moot).String())
	if len(r.Done) != 0 {
		t.Errorf("done: %v", r.Done)
	}
}

func suitePartial(t *testing.T, table *Table) {
	other := []Service{service(t, "UDP 10.0.0.2:53", "rr", dest("10.0.1.2:53", NAT, 3))}
	broken := service(t, suiteKey, "bogus", dest(suiteDest, DR, 1))
	r, err := table.Apply(t.Context(), Diff(append(other, broken), nil, nil))
	if !errors.Is(err, ErrNoScheduler) {
		t.Errorf("error %v", err)
	}
	noDiff(t, "table", other, mustRead(t, table))
	noDiff(t, "done", "-A -u 10.0.0.2:53 -s rr\n-a -u 10.0.0.2:53 -r 10.0.1.2:53 -m -w 3\n", Plan(r.Done).String())
	noDiff(t, "skipped", "-a -t 10.0.0.1:80 -r 10.0.1.1:80 -g -w 1\n", Plan(r.Skipped).String())
}

// suiteNone: the kernel takes "none" for a scheduler, which serves nobody.
// Validate refuses it; set by hand it is drift like any other.
func suiteNone(t *testing.T, table *Table) {
	dead := []Service{service(t, suiteKey, "none")}
	mustApply(t, table, Diff(dead, nil, nil))
	noDiff(t, "table", dead, mustRead(t, table))
	mustApply(t, table, Diff([]Service{service(t, suiteKey, "rr")}, dead, nil))
	noDiff(t, "table", []Service{service(t, suiteKey, "rr")}, mustRead(t, table))
}

// suiteRandom leads one table through random states and reads each back.
func suiteRandom(t *testing.T, table *Table) {
	rapid.Check(t, func(rt *rapid.T) {
		actual, err := table.Services()
		if err != nil {
			rt.Fatal(err)
		}
		desired := genTable().Draw(rt, "desired")
		owned := genOwned(rt, desired, actual)
		plan := Diff(desired, actual, owned)
		r, err := table.Apply(t.Context(), plan)
		if err != nil || len(r.Done) != plan.Len() {
			rt.Fatalf("%d of %d steps: %v", len(r.Done), plan.Len(), err)
		}
		got, err := table.Services()
		if err != nil {
			rt.Fatal(err)
		}
		if want := wanted(desired, actual, owned); !slices.Equal(printed(got), printed(want)) {
			rt.Fatalf("the table holds\n%v\nnot\n%v", printed(got), printed(want))
		}
		if again := Diff(desired, got, owned); !again.Empty() {
			rt.Fatalf("a second diff is not empty:\n%v", fmt.Sprint(again))
		}
	})
}
