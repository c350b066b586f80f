package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Merge makes one set out of several files (or of several stored documents). A
// document that stands in two of them is an error that names both places.
func Merge(sets ...*Documents) (*Documents, error) {
	all := newDocuments()
	var list []Problem
	for _, d := range sets {
		for _, path := range d.Paths() {
			if all.Has(path) {
				list = append(list, Problem{Pos: d.Pos(path), Document: path,
					Text: fmt.Sprintf("%s is also in %s; expected it once", kindAndName(path), all.Pos(path))})
			}
		}
		all.add(d)
	}
	all.Warnings = sorted(all.Warnings)
	return all, problems(list)
}

// Overlay is what is stored after applied has been written over stored, neither
// of which is changed. Its warnings are those of applied.
func Overlay(stored, applied *Documents) *Documents {
	all := newDocuments()
	all.add(applied)
	all.add(stored)
	all.Warnings = applied.Warnings
	return all
}

// Put adds the documents of b to d, in place of those with the same path, with the
// places that Check speaks of.
func (d *Documents) Put(b *Documents) {
	for _, path := range b.Paths() {
		d.Drop(path)
		d.marks[path] = b.marks[path]
	}
	d.add(&Documents{Cluster: b.Cluster, Groups: b.Groups, Services: b.Services})
}

// Drop removes the document at path, if it is there, and the place it was read from.
func (d *Documents) Drop(path string) {
	delete(d.marks, path)
	if path == ClusterPath {
		d.Cluster = nil
	}
	if name, ok := strings.CutPrefix(path, groupPrefix); ok {
		delete(d.Groups, name)
	}
	if name, ok := strings.CutPrefix(path, servicePrefix); ok {
		delete(d.Services, name)
	}
}

// Clone copies the set. Nobody changes a document once it is in one.
func (d *Documents) Clone() *Documents {
	return &Documents{
		Cluster: d.Cluster, Groups: maps.Clone(d.Groups), Services: maps.Clone(d.Services),
		Warnings: slices.Clone(d.Warnings), marks: maps.Clone(d.marks), faulty: maps.Clone(d.faulty),
	}
}

// NewDocuments is an empty set.
func NewDocuments() *Documents { return newDocuments() }

// Has says whether the document at path is in the set.
func (d *Documents) Has(path string) bool {
	if path == ClusterPath {
		return d.Cluster != nil
	}
	if name, ok := strings.CutPrefix(path, groupPrefix); ok {
		_, ok = d.Groups[name]
		return ok
	}
	if name, ok := strings.CutPrefix(path, servicePrefix); ok {
		_, ok = d.Services[name]
		return ok
	}
	return false
}

// add puts the documents of b that d does not have into d.
func (d *Documents) add(b *Documents) {
	if d.Cluster == nil {
		d.Cluster = b.Cluster
	}
	addMissing(d.Groups, b.Groups)
	addMissing(d.Services, b.Services)
	addMissing(d.marks, b.marks)
	addMissing(d.faulty, b.faulty)
	d.Warnings = append(d.Warnings, b.Warnings...)
}

func addMissing[M ~map[K]V, K comparable, V any](a, b M) {
	for k, v := range b {
		if _, ok := a[k]; !ok {
			a[k] = v
		}
	}
}

// kindAndName is a document's path as people say it: group web.
func kindAndName(path string) string {
	if name, ok := strings.CutPrefix(path, groupPrefix); ok {
		return "group " + name
	}
	if name, ok := strings.CutPrefix(path, servicePrefix); ok {
		return "service " + name
	}
	return "the cluster's document"
}
