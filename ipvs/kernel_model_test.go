package ipvs

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// row is a service of the model with a thing that makes it special.
type row struct {
	name string
	Service
}

// modelRows is at least one service for everything that the model can say.
func modelRows(t *testing.T) []row {
	var rows []row
	add := func(name string, k Key, change func(*Service), ds ...Destination) {
		s := Service{Key: k, Scheduler: "wlc", Destinations: ds}
		if change != nil {
			change(&s)
		}
		if err := s.Validate(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rows = append(rows, row{name, s})
	}
	with := func(d Destination, change func(*Destination)) Destination { change(&d); return d }
	tun := func(name string, to Tunnel) Destination {
		return with(dest(name, TUN, 1), func(d *Destination) { d.Tunnel = to })
	}
	persistent := func(s *Service) { s.Persistence = 90 * time.Second }
	prefix := func(n int) func(*Service) {
		return func(s *Service) { s.Persistence, s.PersistencePrefix = time.Minute, n }
	}
	flags := func(scheduler string, f SchedulerFlags) func(*Service) {
		return func(s *Service) { s.Scheduler, s.SchedulerFlags = scheduler, f }
	}
	four, six := "TCP 10.0.0.1:", "TCP [2001:db8::1]:"

	add("bare", key(t, four+"1"), nil)
	add("sctp", key(t, "SCTP 10.0.0.1:1"), nil, dest("10.0.1.1:1", DR, 1))
	add("sctp 6", key(t, "SCTP [2001:db8::1]:1"), nil, dest("[2001:db8::2]:1", DR, 1))
	add("udp, one packet", key(t, "UDP 10.0.0.1:1"), func(s *Service) { s.OnePacket = true }, dest("10.0.1.1:1", DR, 1))
	add("udp 6, one packet", key(t, "UDP [2001:db8::1]:1"), func(s *Service) { s.OnePacket = true }, dest("[2001:db8::2]:1", TUN, 1))
	add("sip", key(t, "UDP 10.0.0.1:5060"), func(s *Service) { s.Persistence, s.Engine = time.Minute, "sip" }, dest("10.0.1.1:5060", DR, 1))
	add("mark", Key{Mark: 5}, nil, dest("10.0.1.1:0", DR, 1), dest("10.0.1.2:8080", NAT, 1))
	add("mark 6", Key{Mark: 5, IPv6: true}, nil, dest("[2001:db8::2]:0", DR, 1))
	add("largest mark", Key{Mark: 1<<32 - 1}, persistent, dest("10.0.1.1:0", TUN, 1))
	add("mark, one packet", Key{Mark: 6}, func(s *Service) { s.OnePacket = true }, dest("10.0.1.1:0", DR, 1))
	add("all ports", key(t, four+"0"), persistent, dest("10.0.1.1:0", NAT, 1), dest("10.0.1.2:0", DR, 1))
	add("all ports 6", key(t, six+"0"), persistent, dest("[2001:db8::2]:0", DR, 1))
	add("persistence", key(t, four+"2"), persistent, dest("10.0.1.1:2", DR, 1))
	add("longest persistence", key(t, four+"3"), func(s *Service) { s.Persistence = maxPersistence })
	add("prefix 24", key(t, four+"4"), prefix(24))
	add("prefix 1", key(t, four+"5"), prefix(1))
	add("prefix 64", key(t, six+"4"), prefix(64))
	add("prefix 1 of IPv6", key(t, six+"5"), prefix(1))
	for i, scheduler := range []string{"sh", "mh"} {
		for f := range allSched + 1 {
			add(fmt.Sprintf("%s flags %d", scheduler, f), key(t, fmt.Sprint(four, 100+10*i+f)), flags(scheduler, SchedulerFlags(f)))
		}
	}
	add("weights", key(t, four+"6"), nil, dest("10.0.1.1:6", DR, 0), dest("10.0.1.2:6", DR, 65535))
	add("nat", key(t, four+"7"), nil, dest("10.0.1.1:8080", NAT, 1), dest("10.0.1.1:8081", NAT, 1))
	add("nat 6", key(t, six+"7"), nil, dest("[2001:db8::2]:8080", NAT, 1))
	add("thresholds", key(t, four+"8"), nil, with(dest("10.0.1.1:8", DR, 1), func(d *Destination) { d.Upper, d.Lower = 1<<32-1, 1<<32-1 }),
		with(dest("10.0.1.2:8", DR, 1), func(d *Destination) { d.Upper = 100 }), with(dest("10.0.1.3:8", DR, 1), func(d *Destination) { d.Upper, d.Lower = 100, 50 }))
	add("tunnels", key(t, four+"9"), nil, tun("10.0.1.1:9", Tunnel{}), tun("10.0.1.2:9", Tunnel{GUE, 5555, NoChecksum}),
		tun("10.0.1.3:9", Tunnel{GUE, 65535, Checksum}), tun("10.0.1.4:9", Tunnel{GUE, 1, RemoteChecksum}),
		tun("10.0.1.5:9", Tunnel{Type: GRE}), tun("10.0.1.6:9", Tunnel{GRE, 0, Checksum}))
	add("tunnels 6", key(t, six+"9"), nil, tun("[2001:db8::2]:9", Tunnel{}), tun("[2001:db8::3]:9", Tunnel{GUE, 5555, Checksum}),
		tun("[2001:db8::4]:9", Tunnel{Type: GRE}))
	add("IPv6 destinations of IPv4", key(t, four+"10"), nil, tun("10.0.1.1:10", Tunnel{}), tun("[2001:db8::2]:10", Tunnel{}), tun("[2001:db8::3]:10", Tunnel{GUE, 5, NoChecksum}))
	add("IPv4 destinations of IPv6", key(t, six+"10"), nil, tun("10.0.1.1:10", Tunnel{}), tun("[2001:db8::2]:10", Tunnel{}))
	add("local", key(t, "TCP 127.0.0.1:80"), nil, dest("127.0.0.1:80", DR, 1), dest("127.0.0.1:8080", NAT, 1))
	return rows
}

// Every row is read back as it was written, by us, by ipvsadm and by moby/ipvs.
func TestKernelModel(t *testing.T) {
	n := newNamespace(t)
	table, h := n.open(), n.oracle()
	rows := modelRows(t)
	var all []Service
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			want := []Service{r.Service}
			mustApply(t, table, Diff(want, nil, nil))
			noDiff(t, "read back", want, mustRead(t, table))
			if sayable(r.Service) {
				noDiff(t, "ipvsadm -Sn", withoutThresholds(printed(want)), n.saved())
			}
			if !mixed(r.Service) {
				if d := cmp.Diff(asTold(want), byOracle(t, h), cmp.Comparer(func(a, b Key) bool { return a == b })); d != "" {
					t.Errorf("by moby/ipvs (-want +got):\n%s", d)
				}
			}
			noDiff(t, "a second diff", 0, Diff(want, mustRead(t, table), nil).Len())
			if shown := looksRight(t, table, want); !shown {
				t.Error("/proc/net/ip_vs shows something else")
			}
			mustApply(t, table, Diff(nil, want, func(Key) bool { return true }))
			noDiff(t, "after the removal", []string{}, n.saved())
		})
		all = append(all, r.Service)
	}
	mustApply(t, table, Diff(all, nil, nil))
	sortTable(all)
	noDiff(t, "all together", all, mustRead(t, table))
	t.Run("edited to the bare service and back", func(t *testing.T) {
		bare := slices.Clone(all)
		for i, s := range bare {
			bare[i] = Service{Key: s.Key, Scheduler: "rr", Destinations: s.Destinations}
			if s.Port == 0 && s.Mark == 0 {
				bare[i].Persistence = time.Second
			}
		}
		mustApply(t, table, Diff(bare, all, nil))
		noDiff(t, "bare", bare, mustRead(t, table))
		mustApply(t, table, Diff(all, bare, nil))
		noDiff(t, "back", all, mustRead(t, table))
	})
}

func mixed(s Service) bool {
	return slices.ContainsFunc(s.Destinations, func(d Destination) bool { return d.Address.Is4() == s.Is6() })
}

// sayable tells whether ipvsadm prints all of a service: it takes a mark for a
// signed number, and has no third flag of sh and mh.
func sayable(s Service) bool { return s.Mark < 1<<31 && s.SchedulerFlags&Flag3 == 0 }

// withoutThresholds are the lines as `ipvsadm -S` prints them.
func withoutThresholds(lines []string) []string {
	thresholds := regexp.MustCompile(` -[xy] [0-9]+`)
	for i := range lines {
		lines[i] = thresholds.ReplaceAllString(lines[i], "")
	}
	return lines
}

// looksRight tells whether /proc/net/ip_vs shows these services, but for times.
func looksRight(t testing.TB, table *Table, want []Service) bool {
	t.Helper()
	n := 0
	if err := table.visible(func(p *procService) {
		for i := range want {
			if p.shows(&want[i], 0) {
				n++
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	return n == len(want)
}

// A batch in whose middle messages fail: the rest is carried out, each error is
// that of its step.
func TestKernelBatchesWithFailures(t *testing.T) {
	n := newNamespace(t)
	table := n.open()
	want := bigTable(500, 3)
	plan := Diff(want, nil, nil)
	var bad []int
	for i := 5; i < len(plan); i += 7 {
		again := plan[i-1] // EEXIST
		plan = slices.Insert(plan, i, again)
		bad = append(bad, i)
	}
	r, err := table.Apply(t.Context(), plan)
	if !errors.Is(err, ErrRaced) || !errors.Is(err, syscall.EEXIST) || len(r.Failed) != len(bad) || len(r.Skipped) != 0 {
		t.Fatalf("%d failed, expected %d, %d skipped: %v", len(r.Failed), len(bad), len(r.Skipped), err)
	}
	for i, f := range r.Failed {
		if f.Step != plan[bad[i]] {
			t.Errorf("failure %d is %v, expected %v", i, f.Step, plan[bad[i]])
		}
	}
	noDiff(t, "table", printed(want), printed(mustRead(t, table)))

	// Everything fails: more errors than the kernel's default buffer holds.
	r, err = table.Apply(t.Context(), Diff(want, nil, nil))
	if !errors.Is(err, ErrRaced) || len(r.Failed) != 2000 {
		t.Errorf("%d failed: %v", len(r.Failed), err)
	}
	gone := bigTable(700, 3)[500:]
	r, err = table.Apply(t.Context(), Diff(nil, gone, func(Key) bool { return true }))
	if err != nil || len(r.Moot) != 200 {
		t.Errorf("%d moot: %v", len(r.Moot), err)
	}
}
