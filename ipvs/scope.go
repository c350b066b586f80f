package ipvs

import (
	"net/netip"
	"slices"
	"time"
)

// part is what one round is about, of all three tables.
type part struct {
	whole   bool
	keys    keySet // if not whole
	was     map[Key]*leftService
	left    []Service
	desired []Service
	actual  []Service
}

// manyKeys is how many services are read one by one at most before it is
// better to read all, if they are more than a quarter of them.
const manyKeys = 64

// read reads the touched services from the kernel, or the whole table where that
// is due or cheaper.
func (r *Reconciler) read(desired []Service, touched keySet) (part, error) {
	begun := r.now()
	if r.whole.due(begun) || len(touched) > manyKeys && len(touched) > len(r.left)/4 {
		r.wholes.Add(1)
		want := index(desired)
		// A service that goes takes its destinations along.
		actual, err := r.table.services(nil, func(k Key) bool { return want[k] != nil })
		if err != nil {
			return part{}, err
		}
		ended := r.now()
		r.whole.done(begun, ended)
		r.shown.next = max(r.shown.next, ended+r.shown.least) // it was as good as a look
		sc := part{whole: true, was: make(map[Key]*leftService, len(r.left)), desired: desired, actual: actual}
		for k, l := range r.left {
			sc.was[k] = l
			sc.left = append(sc.left, l.Service)
		}
		return sc, nil
	}
	r.reads.Add(1)
	sc := part{keys: touched, was: make(map[Key]*leftService, len(touched))}
	list := make([]Key, 0, len(touched))
	for k := range touched {
		list = append(list, k)
		if l := r.left[k]; l != nil {
			sc.was[k] = l
			sc.left = append(sc.left, l.Service)
		}
	}
	for i := range desired {
		if _, ok := touched[desired[i].Key]; ok {
			sc.desired = append(sc.desired, desired[i])
		}
	}
	var err error
	want := index(sc.desired)
	sc.actual, err = r.table.services(list, func(k Key) bool { return want[k] != nil })
	return sc, err
}

// look compares /proc/net/ip_vs with what was left, and adds to touched what
// looks different. Where it cannot be read the whole table is read soon. A
// change that waits is not held up by it for long.
//
// What looks different need not be: the kernel skips services if another network
// namespace has some, too. So it is read, and done says whether it was in vain.
func (r *Reconciler) look(touched keySet) (done func(inVain bool)) {
	done = func(bool) {}
	begun := r.now()
	asOf := begun
	if len(touched) > 0 {
		asOf -= lookAnyway
	}
	if len(r.left) == 0 || r.whole.due(begun) || !r.shown.due(asOf) {
		return done
	}
	r.looks.Add(1)
	r.pass++ // marks what is seen
	var sample procService
	err := r.table.visible(func(p *procService) {
		if r.seen(p) && p.ticks > 0 && sample.ticks == 0 {
			sample = procService{key: p.key, ticks: p.ticks}
		}
	})
	if err != nil {
		r.whole.hurry()
		return done
	}
	r.shown.done(begun, r.now())
	for k, l := range r.left {
		if l.seen != r.pass {
			touched[k] = struct{}{}
			done = func(inVain bool) {
				if inVain {
					r.shown.done(begun, r.now())
				}
			}
		}
	}
	if r.hz == 0 && sample.ticks > 0 {
		r.learn(sample)
	}
	return done
}

// lookAnyway is how long changes may put off a look that is due.
const lookAnyway = 10 * time.Second

// seen marks the service that looks like p and tells whether there is one.
func (r *Reconciler) seen(p *procService) bool {
	k, found := p.key, false
	for _, k.IPv6 = range []bool{false, true} { // the file does not say it of a mark
		l := r.left[k]
		if l != nil && p.shows(&l.Service, r.hz) {
			l.seen, found = r.pass, true
		}
		if k.Mark == 0 {
			break
		}
	}
	return found
}

// learn finds out how many ticks of the kernel's clock are a second: the file
// has the ticks, netlink the seconds.
func (r *Reconciler) learn(p procService) {
	actual, err := r.table.services([]Key{p.key}, nil)
	if err != nil || len(actual) != 1 {
		return // another time
	}
	if s := uint64(actual[0].Persistence / time.Second); s > 0 && p.ticks%s == 0 {
		r.hz = p.ticks / s
	}
}

// pace says when something that costs time is done again: after a pause of so
// many times what it took, and not before the least one.
type pace struct {
	least time.Duration
	share int
	ended time.Duration
	took  time.Duration
	next  time.Duration // 0: now
}

func (p *pace) due(now time.Duration) bool { return now >= p.next }

func (p *pace) done(begun, ended time.Duration) {
	p.ended, p.took = ended, max(ended-begun, 0)
	p.next = ended + max(p.least, time.Duration(p.share)*p.took)
}

// hurry shortens the pause to what does not hurt.
func (p *pace) hurry() { p.next = min(p.next, p.ended+20*p.took) }

// object is a service (with the zero AddrPort) or a destination.
type object struct {
	key  Key
	dest netip.AddrPort
}

func (s Step) object() object {
	if s.Op.onDestination() {
		return object{s.Service.Key, s.Destination.AddrPort()}
	}
	return object{key: s.Service.Key}
}

// notDone are the objects that are not as the plan wanted them.
func (r Result) notDone() map[object]bool {
	out := map[object]bool{}
	for _, f := range r.Failed {
		out[f.Step.object()] = true
	}
	for _, s := range r.Skipped {
		out[s.object()] = true
	}
	return out
}

func (r *Result) add(o Result) {
	if len(r.Done) == 0 {
		r.Done = o.Done // the plan itself, as a rule
	} else {
		r.Done = append(r.Done, o.Done...)
	}
	r.Moot = append(r.Moot, o.Moot...)
	r.Failed = append(r.Failed, o.Failed...)
	r.Skipped = append(r.Skipped, o.Skipped...)
}

// clone is a copy that shares nothing which the caller may change.
func (s *Service) clone() Service {
	out := *s
	out.Destinations = slices.Clone(s.Destinations)
	return out
}
