package spec

import "slices"

// marks are the lines of documents and of their fields, by the path of the
// document: for rules between fields and between documents.
type marks map[string]*lines

// lines are those of one document. They are kept as long as the document is.
type lines struct {
	file   string
	line   int
	fields []fieldLines
}

// fieldLines is where a field of a document and the items of its list begin.
type fieldLines struct {
	name  string
	line  int
	items []int
}

// checked are the fields that Check speaks of. The lines of others are needed
// only while their document is decoded.
var checked = []string{"vips", "group", "listen", "real_servers"}

// document notes where a document begins.
func (m marks) document(doc string, at Pos) { m[doc] = &lines{file: at.File, line: at.Line} }

// field notes where a field begins.
func (m marks) field(doc, name string, line int) {
	if l := m[doc]; l != nil {
		l.fields = append(l.fields, fieldLines{name: name, line: line})
	}
}

// items notes where the items of a field begin.
func (m marks) items(doc, name string, at []int) {
	if f := m[doc].find(name); f != nil {
		f.items = at
	}
}

func (l *lines) find(name string) *fieldLines {
	if l == nil {
		return nil
	}
	i := slices.IndexFunc(l.fields, func(f fieldLines) bool { return f.name == name })
	if i < 0 {
		return nil
	}
	return &l.fields[i]
}

// at finds an item of a field, or the field for the index -1, or the nearest
// thing around it; field "" is the document. It is the zero Pos if nothing is
// known.
func (m marks) at(doc, field string, index int) Pos {
	l := m[doc]
	if l == nil {
		return Pos{}
	}
	f := l.find(field)
	switch {
	case f == nil:
		return Pos{l.file, l.line}
	case index >= 0 && index < len(f.items):
		return Pos{l.file, f.items[index]}
	}
	return Pos{l.file, f.line}
}

// trim forgets what Check does not need.
func (m marks) trim() {
	for _, l := range m {
		var kept []fieldLines
		for _, f := range l.fields {
			if slices.Contains(checked, f.name) {
				kept = append(kept, f)
			}
		}
		l.fields = slices.Clip(kept)
	}
}
