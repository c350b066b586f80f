package drain

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Stored is an entry as it stands in ZooKeeper.
type Stored struct {
	Data    []byte
	Version int32 // of the znode
}

// Item is an entry that was understood.
type Item struct {
	Name    string
	Version int32
	Entry
	target Target
}

// Target is what the item is about.
func (i Item) Target() Target { return i.target }

// Set is every entry of a cluster. The zero value has none.
type Set struct {
	// Items are in the order of their targets.
	Items []Item
	// Problems are about entries that have no effect.
	Problems []string

	byAddress map[netip.Addr][]int // of Items
}

// Load reads entries by name.
func Load(raw map[string]Stored) Set {
	s := Set{byAddress: map[netip.Addr][]int{}}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		e, err := Decode(name, raw[name].Data)
		if err != nil {
			s.Problems = append(s.Problems, fmt.Sprintf("operator/drained/%s has no effect: %v: remove it with `zklvs undrain` or zkCli.sh, and drain again", cut(name), err))
			continue
		}
		s.Items = append(s.Items, Item{Name: name, Version: raw[name].Version, Entry: e, target: e.Target()})
	}
	slices.SortFunc(s.Items, func(a, b Item) int { return a.target.Compare(b.target) })
	for i, item := range s.Items {
		s.byAddress[item.target.Address] = append(s.byAddress[item.target.Address], i)
	}
	return s
}

// State is what a Set says of a destination.
type State int

// What a Set says of a destination.
const (
	None     State = iota // nothing
	Draining              // it keeps its connections and gets no new ones
	Drained               // it is not in the table
)

// At returns what is to become of a destination of a service in a group, and
// which entries say so. Of several the farthest counts.
func (s Set) At(group, service string, destination netip.AddrPort) (State, []Item) {
	var items []Item
	state := None
	for _, i := range s.byAddress[destination.Addr()] {
		item := s.Items[i]
		if !item.target.Matches(service, destination) {
			continue
		}
		items = append(items, item)
		if _, over := item.Drained[group]; over {
			state = Drained
		}
		state = max(state, Draining)
	}
	return state, items
}

// Find returns the entry of that name.
func (s Set) Find(name string) (Item, bool) {
	i := slices.IndexFunc(s.Items, func(i Item) bool { return i.Name == name })
	if i < 0 {
		return Item{}, false
	}
	return s.Items[i], true
}

// Names tells whether any entry is about that address.
func (s Set) Names(a netip.Addr) bool { return len(s.byAddress[a]) > 0 }
