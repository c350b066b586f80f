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
// counts. A nil owned means that nothing is. The plan points into both tables,
// which must not change as long as it is in use.
func Diff(desired, actual []Service, owned func(Key) bool) Plan {
	have, want := index(actual), index(desired)
	var d differ
	if len(actual) == 0 { // the plan is as long as the table
		n := len(desired)
		for i := range desired {
			n += len(desired[i].Destinations)
		}
		d.plan = make(Plan, 0, n)
	}
	none := &Service{}
	for _, w := range sorted(desired, want) {
		h, ok := have[w.Key]
		switch {
		case !ok:
			h = none
			d.plan = append(d.plan, Step{Op: AddService, Service: w})
		case !w.sameHead(h):
			d.plan = append(d.plan, Step{Op: EditService, Service: w, WasService: h})
		}
		d.destinations(w, h)
	}
	for _, h := range sorted(actual, have) {
		if _, ok := want[h.Key]; !ok && owned != nil && owned(h.Key) {
			d.plan = append(d.plan, Step{Op: DeleteService, Service: h})
		}
	}
	return d.plan
}

// differ is one Diff. The slices serve one service after the other.
type differ struct {
	plan                      Plan
	want, have                []*Destination
	edits, quiesces, removals []Step
}

// destinations is Diff for one service's destinations.
func (d *differ) destinations(w, h *Service) {
	d.want, d.have = byName(d.want[:0], w.Destinations), byName(d.have[:0], h.Destinations)
	d.edits, d.quiesces, d.removals = d.edits[:0], d.quiesces[:0], d.removals[:0]
	want, have := d.want, d.have
	for len(want) > 0 || len(have) > 0 {
		var order int
		switch {
		case len(want) == 0:
			order = 1
		case len(have) == 0:
			order = -1
		default:
			order = compareNames(want[0].AddrPort(), have[0].AddrPort())
		}
		switch {
		case order < 0:
			d.plan = append(d.plan, Step{Op: AddDestination, Service: w, Destination: want[0]})
			want = want[1:]
		case order > 0:
			d.removals = append(d.removals, Step{Op: DeleteDestination, Service: w, Destination: have[0]})
			have = have[1:]
		default:
			d.edit(Step{Op: EditDestination, Service: w, Destination: want[0], WasDestination: have[0]})
			want, have = want[1:], have[1:]
		}
	}
	d.plan = append(append(append(d.plan, d.edits...), d.quiesces...), d.removals...)
}

// edit files a step that replaces a destination, if it changes anything.
func (d *differ) edit(s Step) {
	switch {
	case sameDestination(s.Destination, s.WasDestination):
	case s.Destination.Weight == 0:
		d.quiesces = append(d.quiesces, s)
	default:
		d.edits = append(d.edits, s)
	}
}

// sameHead tells whether an edit of o to s would change nothing. Without
// persistence the kernel does not look at the prefix.
func (s *Service) sameHead(o *Service) bool {
	return s.Key == o.Key && s.Scheduler == o.Scheduler && s.SchedulerFlags == o.SchedulerFlags && s.OnePacket == o.OnePacket &&
		s.Persistence == o.Persistence && s.Engine == o.Engine && s.Extras == o.Extras &&
		(s.Persistence == 0 || s.prefix() == o.prefix())
}

// same tells whether an edit of o to s, with all destinations, would change
// nothing. It is fastest if they stand in the same order.
func (s *Service) same(o *Service) bool {
	if !s.sameHead(o) || len(s.Destinations) != len(o.Destinations) {
		return false
	}
	for i := range s.Destinations {
		if !sameDestination(&s.Destinations[i], &o.Destinations[i]) {
			var d differ
			d.destinations(s, o)
			return len(d.plan) == 0
		}
	}
	return true
}

// sameDestination tells whether an edit of have to want would change nothing.
// The kernel may call a destination on this host local, whatever it was added
// with.
func sameDestination(want, have *Destination) bool {
	if *want == *have {
		return true
	}
	if have.Forward != Local {
		return false
	}
	w, h := *want, *have
	w.Forward, w.Tunnel, h.Tunnel = Local, Tunnel{}, Tunnel{}
	return w == h
}

// index finds services by their key: of two with one key the first.
func index(services []Service) map[Key]*Service {
	m := make(map[Key]*Service, len(services))
	for i := range services {
		s := &services[i]
		if _, ok := m[s.Key]; !ok {
			m[s.Key] = s
		}
	}
	return m
}

// sorted lists the services that are in their index, in order.
func sorted(services []Service, in map[Key]*Service) []*Service {
	out := make([]*Service, 0, len(in))
	for i := range services {
		if s := &services[i]; in[s.Key] == s {
			out = append(out, s)
		}
	}
	byKey := func(a, b *Service) int { return a.Key.Compare(b.Key) }
	if !slices.IsSortedFunc(out, byKey) {
		slices.SortFunc(out, byKey)
	}
	return out
}

// byName appends the destinations in order, of two with one name the first.
func byName(to []*Destination, ds []Destination) []*Destination {
	for i := range ds {
		to = append(to, &ds[i])
	}
	slices.SortStableFunc(to, func(a, b *Destination) int { return compareNames(a.AddrPort(), b.AddrPort()) })
	return slices.CompactFunc(to, func(a, b *Destination) bool { return a.AddrPort() == b.AddrPort() })
}

func compareNames(a, b netip.AddrPort) int {
	return compareAddrPort(a.Addr(), a.Port(), b.Addr(), b.Port())
}

func compareAddrPort(a netip.Addr, aPort uint16, b netip.Addr, bPort uint16) int {
	if c := a.Compare(b); c != 0 {
		return c
	}
	return cmp.Compare(aPort, bPort)
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

// sortedKeys lists an index's keys in order.
func sortedKeys(m map[Key]*Service) []Key {
	keys := make([]Key, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, Key.Compare)
	return keys
}
