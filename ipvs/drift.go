package ipvs

import "fmt"

// Drift is one thing in the table that was not as we had left it.
type Drift struct {
	// Step is what would undo the change.
	Step Step
	// Repaired tells whether the table holds what is desired there again.
	Repaired bool
}

// String says what was wrong: "destination 10.0.0.2:80 of TCP 10.0.0.1:80 was
// missing".
func (d Drift) String() string {
	s := d.Step
	text := fmt.Sprintf("service %v", s.Service.Key)
	if s.Op.onDestination() {
		text = fmt.Sprintf("destination %v of %v", s.Destination.AddrPort(), s.Service.Key)
	}
	switch s.Op {
	case AddService, AddDestination:
		return text + " was missing"
	case EditService:
		return fmt.Sprintf("%s was %q, left as %q", text, s.WasService.options(), s.Service.options())
	case EditDestination:
		return fmt.Sprintf("%s was %q, left as %q", text, s.WasDestination.options(), s.Destination.options())
	}
	return text + " was not ours"
}

// findDrift compares what we left with what is there, for the services that
// are still desired: what happened to the others does not matter any more.
// A desired change is no drift, since both sides are about the past.
func findDrift(left, desired, actual []Service) []Drift {
	want := index(desired)
	var still []Service
	for _, s := range left {
		if _, ok := want[s.Key]; ok {
			still = append(still, s)
		}
	}
	var out []Drift
	for _, s := range Diff(still, actual, nil) {
		out = append(out, Drift{Step: s})
	}
	return out
}
