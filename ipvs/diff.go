package ipvs

import (
	"cmp"
	"net/netip"
	"slices"
)

// Diff returns the steps that turn the table `actual` into `desired`.
//
// A service in actual that is not desired is removed if owned says so, and
// otherwise left alone: it is somebody else's. A desired service that stands
// there already is adopted, whoever added it: what is right costs no step,
// what differs is edited.
//
// Within a service destinations are added first, then edited (to weight 0
// last) and then removed, so that it never has fewer able destinations than
// the worse of the two tables. Services that go are removed at the end.
//
// Both tables may be in any order; of two entries with one key the first
// counts. A nil owned means that nothing is.
func Diff(desired, actual []Service, owned func(Key) bool) Plan {
	var plan Plan
	have := index(actual)
	want := index(desired)
	for _, k := range sortedKeys(want) {
		w := want[k]
		h, ok := have[k]
		switch {
		case !ok:
			plan = append(plan, Step{Op: AddService, Service: w.head()})
		case !w.sameHead(h):
			plan = append(plan, Step{Op: EditService, Service: w.head(), WasService: h.head()})
		}
		plan = append(plan, diffDestinations(k, w.Destinations, h.Destinations)...)
	}
	for _, k := range sortedKeys(have) {
		if _, ok := want[k]; !ok && owned != nil && owned(k) {
			plan = append(plan, Step{Op: DeleteService, Service: have[k].head()})
		}
	}
	return plan
}

// diffDestinations is Diff for one service's destinations.
func diffDestinations(k Key, desired, actual []Destination) []Step {
	have := indexDestinations(actual)
	want := indexDestinations(desired)
	var adds, edits, quiesces, removals []Step
	step := func(op Op, d Destination) Step {
		return Step{Op: op, Service: Service{Key: k}, Destination: d}
	}
	for _, name := range sortedNames(want) {
		w := want[name]
		h, ok := have[name]
		if !ok {
			adds = append(adds, step(AddDestination, w))
			continue
		}
		if sameDestination(w, h) {
			continue
		}
		edit := step(EditDestination, w)
		edit.WasDestination = h
		if w.Weight == 0 {
			quiesces = append(quiesces, edit)
		} else {
			edits = append(edits, edit)
		}
	}
	for _, name := range sortedNames(have) {
		if _, ok := want[name]; !ok {
			removals = append(removals, step(DeleteDestination, have[name]))
		}
	}
	return slices.Concat(adds, edits, quiesces, removals)
}

// sameHead tells whether an edit of s to o would change nothing.
func (s Service) sameHead(o Service) bool {
	return s.Key == o.Key && s.Scheduler == o.Scheduler && s.SchedulerFlags == o.SchedulerFlags && s.OnePacket == o.OnePacket &&
		s.Persistence == o.Persistence && s.PersistencePrefix == o.PersistencePrefix && s.Engine == o.Engine && s.Extras == o.Extras
}

// sameDestination tells whether an edit of have to want would change nothing. The
// kernel calls a destination on this host local, whatever it was added with.
func sameDestination(want, have Destination) bool {
	if have.Forward == Local {
		want.Forward, want.Tunnel, have.Tunnel = Local, Tunnel{}, Tunnel{}
	}
	return want == have
}

func index(services []Service) map[Key]Service {
	m := make(map[Key]Service, len(services))
	for _, s := range services {
		if _, ok := m[s.Key]; !ok {
			m[s.Key] = s
		}
	}
	return m
}

func indexDestinations(ds []Destination) map[netip.AddrPort]Destination {
	m := make(map[netip.AddrPort]Destination, len(ds))
	for _, d := range ds {
		if _, ok := m[d.AddrPort()]; !ok {
			m[d.AddrPort()] = d
		}
	}
	return m
}

func sortedKeys(m map[Key]Service) []Key {
	keys := make([]Key, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, Key.Compare)
	return keys
}

func sortedNames(m map[netip.AddrPort]Destination) []netip.AddrPort {
	names := make([]netip.AddrPort, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.SortFunc(names, compareNames)
	return names
}

func compareNames(a, b netip.AddrPort) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Port(), b.Port()))
}

// sortTable puts services and their destinations in the order of their names.
func sortTable(services []Service) {
	slices.SortFunc(services, func(a, b Service) int { return a.Key.Compare(b.Key) })
	for _, s := range services {
		slices.SortFunc(s.Destinations, func(a, b Destination) int {
			return compareNames(a.AddrPort(), b.AddrPort())
		})
	}
}
