package overview

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/drain"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

// Drain is one entry about a real server that is drained.
type Drain struct {
	Name string `json:"name"` // of the znode
	drain.Entry
	// State is "draining", "drained" in every group, or "moot": the documents have no
	// such real server.
	State string `json:"state"`
	// Active are the connections that are left, as the holders count them.
	Active int `json:"active"`
	// Services that have the real server.
	Services []string `json:"services,omitempty"`

	groups map[string]bool
}

// Cut is how many connections were cut at the deadline, and how many the kernel
// did not cut.
func (d Drain) Cut() (cut, kept int) {
	for _, end := range d.Drained {
		cut += end.Cut
		kept += end.Kept
	}
	return cut, kept
}

// drains reads the entries; those that have no effect are problems.
func (r *reader) drains() (drain.Set, error) {
	stored, err := zk.NewStore(r.s, r.tree).ReadDrained(r.ctx)
	if err != nil {
		return drain.Set{}, err
	}
	raw := make(map[string]drain.Stored, len(stored.Entries))
	for name, doc := range stored.Entries {
		raw[name] = drain.Stored{Data: doc.Data, Version: doc.Version}
	}
	set := drain.Load(raw)
	for _, p := range set.Problems {
		r.problem("%s", p)
	}
	for _, item := range set.Items {
		r.out.Drains = append(r.out.Drains, Drain{Name: item.Name, Entry: item.Entry, groups: map[string]bool{}})
	}
	return set, nil
}

// noteDrain adds what is drained to a real server and to the entries about it.
func (r *reader) noteDrain(set drain.Set, name string, s spec.Service, rs spec.RealServer, out *RealServer) {
	if !set.Names(rs.Address.Addr()) {
		return
	}
	for i, item := range set.Items {
		if !director.DrainMeans(item.Target(), name, s, rs) {
			continue
		}
		d := &r.out.Drains[i]
		if !slices.Contains(d.Services, name) {
			d.Services = append(d.Services, name)
		}
		d.groups[s.Group] = true
		state := "draining"
		if _, over := item.Drained[s.Group]; over {
			state = "drained"
		}
		if out.Wanted != "drained" {
			out.Wanted = state
		}
		if out.Drain != nil {
			d.Active += out.Drain.Active
		}
	}
}

// settleDrains says how far each drain is, and which of them are about nothing.
func (r *reader) settleDrains() {
	for i := range r.out.Drains {
		d := &r.out.Drains[i]
		d.State = "drained"
		for _, group := range slices.Sorted(maps.Keys(d.groups)) {
			if _, over := d.Drained[group]; !over {
				d.State = "draining"
			}
		}
		if len(d.groups) == 0 {
			d.State = "moot"
			r.problem("drain of %s: the documents have no such real server: `zklvs undrain %s` removes the entry", d.Entry.Target(), d.Arguments())
		}
	}
}

// Arguments are those of the command that brings the real server back.
func (d Drain) Arguments() string {
	if d.Service == "" {
		return d.RealServer
	}
	return d.RealServer + " --service " + d.Service
}

// Text is what is to be said of a real server on one line: its verdict, and how
// far its drain is.
func (rs RealServer) Text() string {
	verdict := rs.State
	if rs.Error != "" {
		verdict += ": " + rs.Error
	}
	switch {
	case rs.Wanted == "":
		return verdict
	case rs.Drain == nil:
		return rs.Wanted + " (not confirmed by a holder)" + unless(rs.State, verdict)
	case rs.Drain.State == "drained":
		return "drained" + unless(rs.State, verdict)
	}
	return fmt.Sprintf("draining (%d active)", rs.Drain.Active) + unless(rs.State, verdict)
}

// unless is the verdict where it is worth telling.
func unless(state, verdict string) string {
	if state == "up" || state == "unchecked" {
		return ""
	}
	return "; " + strings.TrimSpace(verdict)
}
