package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ClusterPath is the path of the cluster's document below the cluster's root in
// ZooKeeper.
const ClusterPath = "spec/cluster"

const (
	groupPrefix   = "spec/groups/"
	servicePrefix = "spec/services/"
)

// GroupPath is the path of a group's document.
func GroupPath(group string) string { return groupPrefix + group }

// ServicePath is the path of a service's document.
func ServicePath(service string) string { return servicePrefix + service }

// Documents is a set of documents with the places where they were written. Its
// documents are right each for itself; Spec.Check knows what holds between
// them.
type Documents struct {
	Cluster  *Cluster // nil if there is none
	Groups   map[string]Group
	Services map[string]Service
	Warnings []Problem

	marks  marks
	faulty map[string]bool // documents that were reported already
}

func newDocuments() *Documents {
	return &Documents{
		Groups:   map[string]Group{},
		Services: map[string]Service{},
		marks:    marks{},
		faulty:   map[string]bool{},
	}
}

// ParseFile reads a file for `zklvs apply`, with the top-level keys cluster,
// groups and services. The error is an Errors with every fault in the file. The
// documents are returned even then, so that Spec.Check can add the faults
// between documents (it leaves out those that follow from one reported here);
// they must not be stored.
func ParseFile(file string, data []byte) (*Documents, error) {
	r, d := newReader(file), newDocuments()
	if root := r.parse(data, fileLimits); root != nil {
		d.schema().decode(value{r: r, node: root, line: 1})
	}
	return d.finish(r), problems(r.problems)
}

func (d *Documents) finish(r *reader) *Documents {
	r.marks.trim()
	d.Warnings, d.marks, d.faulty = sorted(r.warnings), r.marks, r.faulty
	return d
}

func (d *Documents) schema() schema {
	return schema{
		what: "cluster:, groups: and services:, as the manual shows them",
		fields: []field{
			{name: "cluster", codec: codec{decode: func(v value) {
				c := DefaultCluster()
				v.doc = ClusterPath
				c.schema().decode(v)
				d.Cluster = &c
			}}},
			{name: "groups", codec: named(GroupPath, func(v value, name string) {
				g := DefaultGroup()
				g.schema().decode(v)
				d.Groups[name] = g
			})},
			{name: "services", codec: named(ServicePath, func(v value, name string) {
				s := DefaultService()
				s.schema().decode(v)
				d.Services[name] = s
			})},
		},
	}
}

// named is the codec of a mapping from names to documents.
func named(path func(string) string, decode func(v value, name string)) codec {
	return codec{decode: func(v value) {
		entries, _ := v.entries("a mapping from names to settings")
		for _, e := range entries {
			if err := CheckName(e.key); err != nil {
				e.value.failf("%s", err)
				continue
			}
			e.value.doc, e.value.field = path(e.key), ""
			decode(e.value, e.key)
		}
	}}
}

// Decode reads one document as it is stored in ZooKeeper. path is below the
// cluster's root and says what it is (see ClusterPath, GroupPath, ServicePath);
// it also stands for the file in messages. Documents are nil after an error,
// which is an Errors.
func Decode(path string, data []byte) (*Documents, error) {
	r, d := newReader(path), &Documents{}
	decode, err := d.decoder(path)
	if err != nil {
		return nil, Errors{{Document: path, Text: err.Error()}}
	}
	if root := r.parse(data, storedLimits); root != nil {
		decode(value{r: r, node: root, line: 1, doc: path})
	}
	if err := problems(r.problems); err != nil {
		for i := range r.problems {
			r.problems[i].Document = path
		}
		return nil, problems(r.problems)
	}
	return d.finish(r), nil
}

// decoder finds what to do with a document from its path.
func (d *Documents) decoder(path string) (func(value), error) {
	if path == ClusterPath {
		c := DefaultCluster()
		d.Cluster = &c
		return func(v value) { c.schema().decode(v); d.Cluster = &c }, nil
	}
	if name, ok := strings.CutPrefix(path, groupPrefix); ok && CheckName(name) == nil {
		g := DefaultGroup()
		return func(v value) { g.schema().decode(v); d.Groups = map[string]Group{name: g} }, nil
	}
	if name, ok := strings.CutPrefix(path, servicePrefix); ok && CheckName(name) == nil {
		s := DefaultService()
		return func(v value) { s.schema().decode(v); d.Services = map[string]Service{name: s} }, nil
	}
	return nil, fmt.Errorf("%q is no document; expected %s, %s<group> or %s<service>", printable(path), ClusterPath, groupPrefix, servicePrefix)
}

// DecodeCluster reads the cluster's stored document.
func DecodeCluster(data []byte) (Cluster, error) {
	d, err := Decode(ClusterPath, data)
	if err != nil {
		return Cluster{}, err
	}
	return *d.Cluster, nil
}

// DecodeGroup reads a group's stored document.
func DecodeGroup(name string, data []byte) (Group, error) {
	d, err := Decode(GroupPath(name), data)
	if err != nil {
		return Group{}, err
	}
	return d.Groups[name], nil
}

// DecodeService reads a service's stored document.
func DecodeService(name string, data []byte) (Service, error) {
	d, err := Decode(ServicePath(name), data)
	if err != nil {
		return Service{}, err
	}
	return d.Services[name], nil
}

// Encode writes the document as it is stored.
func (c Cluster) Encode() []byte {
	d := DefaultCluster()
	return c.schema().encode(d.schema()).document()
}

// Encode writes the document as it is stored.
func (g Group) Encode() []byte {
	d := DefaultGroup()
	return g.schema().encode(d.schema()).document()
}

// Encode writes the document as it is stored.
func (s Service) Encode() []byte {
	d := DefaultService()
	return s.schema().encode(d.schema()).document()
}

// Encode writes every document as it is stored, by path.
func (d *Documents) Encode() map[string][]byte {
	m := make(map[string][]byte, 1+len(d.Groups)+len(d.Services))
	if d.Cluster != nil {
		m[ClusterPath] = d.Cluster.Encode()
	}
	for name, g := range d.Groups {
		m[GroupPath(name)] = g.Encode()
	}
	for name, s := range d.Services {
		m[ServicePath(name)] = s.Encode()
	}
	return m
}

// Paths lists the documents in order.
func (d *Documents) Paths() []string {
	var paths []string
	if d.Cluster != nil {
		paths = append(paths, ClusterPath)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Groups)) {
		paths = append(paths, GroupPath(name))
	}
	for _, name := range slices.Sorted(maps.Keys(d.Services)) {
		paths = append(paths, ServicePath(name))
	}
	return paths
}

// Pos is where the document was written, the zero Pos if unknown.
func (d *Documents) Pos(path string) Pos { return d.marks.at(path, "", -1) }
