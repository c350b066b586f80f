package nemesis

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/zklvs/zklvs/internal/spec"
)

// Fault is one disturbance: a kind of fault, or two at nearly one time.
type Fault struct {
	Number int    `json:"number"` // from 1
	Parts  []Part `json:"parts"`
}

// Part is one kind of fault and what was drawn for it.
type Part struct {
	Kind string `json:"kind"`
	// Group is the number of the group whose holder or standby is struck, where
	// the kind strikes a director.
	Group   int  `json:"group"`
	Standby bool `json:"standby"` // a standby of it, not its holder
	// After is the pause after the fault's begin, Hold the time until it is healed.
	After time.Duration `json:"after_ns"`
	Hold  time.Duration `json:"hold_ns"`
	// Dice is a number from 0 until 1000 that a kind draws its own choices from.
	Dice int `json:"dice"`
}

// Name is the kinds, joined.
func (f Fault) Name() string {
	var names []string
	for _, p := range f.Parts {
		names = append(names, p.Kind)
	}
	return strings.Join(names, " + ")
}

// Draw draws the first n faults of a seed from the given kinds. Every other fault is
// a pair. Each kind comes alone once, and leads a pair once, before any does again;
// a fault is the same however many follow.
func Draw(seed uint64, n int, names []string) ([]Fault, error) {
	chosen, err := choose(names)
	if err != nil {
		return nil, err
	}
	alone := &deck{rng: rand.New(rand.NewPCG(seed, 0)), kinds: chosen}
	leads := &deck{rng: rand.New(rand.NewPCG(^seed, 0)), kinds: pairable(chosen, "")}
	var faults []Fault
	for number := 1; number <= n; number++ {
		rng := rand.New(rand.NewPCG(seed, uint64(number)))
		if number%2 == 1 || len(leads.kinds) < 2 {
			faults = append(faults, Fault{number, []Part{alone.next().draw(rng)}})
			continue
		}
		first := leads.next()
		others := pairable(chosen, first.name)
		second := others[rng.IntN(len(others))].draw(rng)
		second.After = time.Duration(rng.IntN(1000)) * time.Millisecond
		faults = append(faults, Fault{number, []Part{first.draw(rng), second}})
	}
	return faults, nil
}

// choose returns the kinds of these names, in the order of the list of all.
func choose(names []string) (chosen []kind, err error) {
	for _, name := range names {
		if !slices.ContainsFunc(kinds, func(k kind) bool { return k.name == name }) {
			return nil, fmt.Errorf("there is no kind of fault %q; expected some of %s%s", name, strings.Join(Kinds(), ", "), spec.DidYouMean(name, Kinds()))
		}
	}
	for _, k := range kinds {
		if slices.Contains(names, k.name) {
			chosen = append(chosen, k)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no kind of fault is left to draw from")
	}
	return chosen, nil
}

// deck deals all kinds in a random order, then again.
type deck struct {
	rng   *rand.Rand
	kinds []kind
	left  []kind
}

func (d *deck) next() kind {
	if len(d.left) == 0 {
		d.left = slices.Clone(d.kinds)
		d.rng.Shuffle(len(d.left), func(i, j int) { d.left[i], d.left[j] = d.left[j], d.left[i] })
	}
	k := d.left[0]
	d.left = d.left[1:]
	return k
}

// pairable are the kinds that may stand in a pair, without the one named.
func pairable(from []kind, without string) []kind {
	return slices.DeleteFunc(slices.Clone(from), func(k kind) bool { return k.name == without || k.alone })
}

func (k kind) draw(rng *rand.Rand) Part {
	hold := k.shortest
	if spread := k.longest - k.shortest; spread > 0 {
		hold += time.Duration(rng.Int64N(int64(spread))).Truncate(time.Millisecond)
	}
	return Part{Kind: k.name, Group: rng.IntN(2), Standby: rng.IntN(10) < 3, Hold: hold, Dice: rng.IntN(1000)}
}
