package director

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/zklvs/zklvs/internal/spec"
)

// documents holds what is in force: of each document the newest version that
// is understood, and of all of them a set that fits together. What it points to
// is never changed: a copy may be read while the next one is loaded.
type documents struct {
	raw      map[string][]byte   // as last seen in ZooKeeper
	good     *spec.Documents     // the newest understood version of each
	faults   map[string][]string // by path, what is wrong with those not understood
	spec     *spec.Spec          // the newest set that passed all checks
	whole    bool                // spec is one, not only what fitted together
	problems []string
}

// load takes in what ZooKeeper holds, which nobody changes any more, and reports
// whether anything was different.
// Thousands of documents take seconds on a slow machine.
func (d *documents) load(raw map[string][]byte) (changed bool) {
	if d.spec != nil && maps.EqualFunc(raw, d.raw, bytes.Equal) {
		return false
	}
	good, faults := spec.NewDocuments(), map[string][]string{}
	if d.good != nil {
		good = d.good.Clone()
	}
	for _, path := range slices.Sorted(maps.Keys(raw)) {
		if was, ok := d.raw[path]; ok && bytes.Equal(was, raw[path]) {
			if d.faults[path] != nil {
				faults[path] = d.faults[path]
			}
			continue
		}
		doc, err := spec.Decode(path, raw[path])
		if err != nil { // the last good one stays
			faults[path] = lines(err)
			continue
		}
		good.Put(doc)
	}
	for path := range d.raw {
		if _, ok := raw[path]; !ok {
			good.Drop(path)
		}
	}
	d.raw, d.good, d.faults = raw, good, faults
	d.settle()
	return true
}

// settle puts the set in force if its documents fit together. Else the last
// whole set stays; in a life that has seen none, what fits together without the
// documents at fault is better than nothing.
func (d *documents) settle() {
	d.problems = nil
	for _, path := range slices.Sorted(maps.Keys(d.faults)) {
		d.problems = append(d.problems, d.faults[path]...)
	}
	sp := d.good.Spec()
	err := sp.Check()
	if err == nil {
		d.spec, d.whole = sp, true
		return
	}
	d.problems = append(d.problems, lines(err)...)
	if !d.whole {
		d.spec = whatFits(d.good.Clone(), err)
	}
}

// whatFits leaves out the documents at fault, and those at fault without them.
func whatFits(docs *spec.Documents, err error) *spec.Spec {
	for err != nil {
		before := len(docs.Paths())
		var faults spec.Errors
		errors.As(err, &faults)
		for _, f := range faults {
			docs.Drop(f.Document)
		}
		if len(docs.Paths()) == before { // nobody to blame
			break
		}
		sp := docs.Spec()
		if err = sp.Check(); err == nil {
			return sp
		}
	}
	return &spec.Spec{Cluster: spec.DefaultCluster()}
}

// lines splits an error of the documents into its problems.
func lines(err error) []string {
	var errs spec.Errors
	if !errors.As(err, &errs) {
		return []string{err.Error()}
	}
	out := make([]string, len(errs))
	for i, p := range errs {
		out[i] = fmt.Sprint(p)
	}
	return out
}
