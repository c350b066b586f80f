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
// is understood, and of all of them a set that fits together.
type documents struct {
	raw      map[string][]byte          // as last seen in ZooKeeper
	good     map[string]*spec.Documents // the newest understood version of each
	spec     *spec.Spec                 // the newest set that passed all checks
	whole    bool                       // spec is one, not only what fitted together
	problems []string
}

// load takes in what ZooKeeper holds and reports whether anything was different.
func (d *documents) load(raw map[string][]byte) (changed bool) {
	if d.spec != nil && maps.EqualFunc(raw, d.raw, bytes.Equal) {
		return false
	}
	d.raw = maps.Clone(raw)
	d.problems = nil
	good := map[string]*spec.Documents{}
	for _, path := range slices.Sorted(maps.Keys(raw)) {
		doc, err := spec.Decode(path, raw[path])
		if err == nil {
			good[path] = doc
			continue
		}
		d.problems = append(d.problems, lines(err)...)
		if last, ok := d.good[path]; ok {
			good[path] = last
		}
	}
	d.good = good
	d.settle()
	return true
}

// settle puts the set in force if its documents fit together. Else the last
// whole set stays; in a life that has seen none, what fits together without the
// documents at fault is better than nothing.
func (d *documents) settle() {
	sp, err := assemble(d.good)
	if err == nil {
		d.spec, d.whole = sp, true
		return
	}
	d.problems = append(d.problems, lines(err)...)
	if !d.whole {
		d.spec = whatFits(d.good, err)
	}
}

func assemble(docs map[string]*spec.Documents) (*spec.Spec, error) {
	merged, err := spec.Merge(slices.Collect(maps.Values(docs))...)
	if err != nil {
		return nil, err
	}
	sp := merged.Spec()
	err = sp.Check()
	return sp, err
}

// whatFits leaves out the documents at fault, and those at fault without them.
func whatFits(docs map[string]*spec.Documents, err error) *spec.Spec {
	docs = maps.Clone(docs)
	for err != nil {
		before := len(docs)
		var faults spec.Errors
		errors.As(err, &faults)
		for _, f := range faults {
			delete(docs, f.Document)
		}
		if len(docs) == before { // nobody to blame
			break
		}
		var sp *spec.Spec
		if sp, err = assemble(docs); err == nil {
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
