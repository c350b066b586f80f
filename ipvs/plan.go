package ipvs

import (
	"fmt"
	"strings"
)

// Op is what a step does, by ipvsadm's letter for it.
type Op byte

// The operations; capital letters act on services, small ones on destinations.
const (
	AddService        Op = 'A'
	EditService       Op = 'E'
	DeleteService     Op = 'D'
	AddDestination    Op = 'a'
	EditDestination   Op = 'e'
	DeleteDestination Op = 'd'
)

// String is ipvsadm's option for the operation: "-A".
func (o Op) String() string { return "-" + string(rune(o)) }

// onDestination tells whether the operation is about a destination.
func (o Op) onDestination() bool { return o >= 'a' }

// Step is one change of the table. It points to services and destinations
// instead of holding them, so that a plan of 30,000 steps is small.
type Step struct {
	Op Op
	// Service is the service as it is to be; its destinations do not count. A
	// step about a destination, and a removal, need only its Key.
	Service *Service
	// Destination is the destination as it is to be, or the one to remove; nil
	// in a step about a service.
	Destination *Destination
	// WasService and WasDestination are what an edit replaces, else nil.
	WasService     *Service
	WasDestination *Destination
}

// String is the step as arguments of ipvsadm: "-a -t 10.0.0.1:80 -r
// 10.0.0.2:80 -g -w 1".
func (s Step) String() string {
	out := s.Op.String() + " " + s.Service.Args()
	switch s.Op {
	case AddService, EditService:
		return out + " " + s.Service.options()
	case AddDestination, EditDestination:
		return out + " -r " + s.Destination.AddrPort().String() + " " + s.Destination.options()
	case DeleteDestination:
		return out + " -r " + s.Destination.AddrPort().String()
	}
	return out
}

// phrase is the step in words, for errors: "add service TCP 10.0.0.1:80".
func (s Step) phrase() string {
	key, dest := s.Service.Key.String(), ""
	if s.Destination != nil {
		dest = s.Destination.AddrPort().String()
	}
	switch s.Op {
	case AddService:
		return "add service " + key
	case EditService:
		return "edit service " + key
	case DeleteService:
		return "remove service " + key
	case AddDestination:
		return "add destination " + dest + " to " + key
	case EditDestination:
		return "edit destination " + dest + " of " + key
	case DeleteDestination:
		return "remove destination " + dest + " from " + key
	}
	return fmt.Sprintf("unknown operation %v on %s", s.Op, key)
}

// Plan is what has to be done to a table, in order.
type Plan []Step

// Len is the number of steps.
func (p Plan) Len() int { return len(p) }

// Empty tells whether there is nothing to do.
func (p Plan) Empty() bool { return len(p) == 0 }

// String prints one line a step, each ended by a newline, in the syntax that
// `ipvsadm -R` reads.
func (p Plan) String() string {
	var b strings.Builder
	for _, s := range p {
		b.WriteString(s.String())
		b.WriteByte('\n')
	}
	return b.String()
}
