package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// everything is a service for each scheduler of this kernel, protocol,
// forwarding method, persistence and address family.
func everything(t *testing.T) []Service {
	var out []Service
	port := uint16(1000)
	for _, scheduler := range Schedulers() {
		if err := SchedulerAvailable(t.Context(), scheduler); err != nil {
			if !errors.Is(err, ErrNoScheduler) {
				t.Fatal(err)
			}
			t.Logf("not in this kernel: %v", err)
			continue
		}
		for _, p := range []Protocol{TCP, UDP} {
			for _, f := range []Forward{DR, TUN, NAT} {
				for _, persistence := range []time.Duration{0, time.Second, 31 * 24 * time.Hour} {
					port++
					for _, host := range []func(byte) netip.Addr{host4, host6} {
						out = append(out, Service{
							Key:         Key{Protocol: p, Address: host(100), Port: port},
							Scheduler:   scheduler,
							Persistence: persistence,
							Destinations: []Destination{
								{Address: host(12), Port: port, Forward: f, Weight: 1},
								{Address: host(13), Port: port, Forward: f, Weight: 0},
								{Address: host(14), Port: port, Forward: f, Weight: 65535},
							},
						})
					}
				}
			}
		}
	}
	sortTable(out)
	return out
}

func TestKernelHoldsEveryKindOfService(t *testing.T) {
	n := newNamespace(t)
	table := n.open()
	want := everything(t)
	if len(want) < 13*36 {
		t.Fatalf("only %d services: this kernel should have 13 schedulers", len(want))
	}
	if err := ValidateAll(want); err != nil {
		t.Fatal(err)
	}
	mustApply(t, table, Diff(want, nil, nil))
	noDiff(t, "read back", want, mustRead(t, table))
	noDiff(t, "ipvsadm -Sn", printed(want), n.saved())

	t.Run("each edited into another", func(t *testing.T) {
		changed := make([]Service, len(want))
		for i, s := range want {
			o := want[(i+7)%len(want)]
			changed[i] = Service{Key: s.Key, Scheduler: o.Scheduler, Persistence: o.Persistence}
			for j, d := range s.Destinations {
				d.Forward, d.Weight = o.Destinations[0].Forward, j
				changed[i].Destinations = append(changed[i].Destinations, d)
			}
		}
		plan := Diff(changed, want, nil)
		for _, s := range plan {
			if s.Op != EditService && s.Op != EditDestination {
				t.Fatalf("step %v: expected edits only", s)
			}
		}
		mustApply(t, table, plan)
		noDiff(t, "ipvsadm -Sn", printed(changed), n.saved())
	})
	t.Run("all removed", func(t *testing.T) {
		plan := Diff(nil, mustRead(t, table), func(Key) bool { return true })
		if plan.Len() != len(want) {
			t.Errorf("%d steps to remove %d services", plan.Len(), len(want))
		}
		mustApply(t, table, plan)
		noDiff(t, "ipvsadm -Sn", []string{}, n.saved())
	})
}

func TestKernelWithoutScheduler(t *testing.T) {
	n := newNamespace(t)
	if SchedulerAvailable(t.Context(), "twos") == nil {
		t.Skip("SKIP: this kernel has every scheduler, so none can be missing")
	}
	s := service(t, "TCP 10.0.0.1:80", "twos", dest("10.0.0.2:80", DR, 1))
	_, err := n.open().Apply(t.Context(), Diff([]Service{s}, nil, nil))
	want := "apply to the IPVS table: 1 steps failed, 1 not tried; add service TCP 10.0.0.1:80: " +
		"kernel has no such scheduler: no module ip_vs_twos for \"twos\" (no such file or directory)"
	if fmt.Sprint(err) != want || !errors.Is(err, ErrNoScheduler) {
		t.Errorf("got  %v\nwant %v", err, want)
	}
}

// Several goroutines may use one table: what each of them asked for is answered.
func TestKernelTableTakesTurns(t *testing.T) {
	n := newNamespace(t)
	table := n.open()
	mine := func(i int) []Service {
		return []Service{service(t, fmt.Sprintf("TCP 10.0.0.%d:80", i), "rr", dest("10.0.1.1:80", DR, 1), dest("10.0.1.2:80", DR, 1))}
	}
	var wg sync.WaitGroup
	for i := range 4 {
		want := mine(i + 1)
		wg.Go(func() {
			for range 20 {
				if _, err := table.Apply(t.Context(), Diff(want, nil, nil)); err != nil {
					t.Error(err)
				}
				if got, err := table.services([]Key{want[0].Key}, nil); err != nil || !slices.Equal(printed(want), printed(got)) {
					t.Errorf("%v, %v", got, err)
				}
				if _, err := table.Stats(); err != nil {
					t.Error(err)
				}
				if _, err := table.Apply(t.Context(), Diff(nil, want, func(Key) bool { return true })); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	noDiff(t, "table", []Service{}, mustRead(t, table))
}
