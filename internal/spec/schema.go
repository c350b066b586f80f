package spec

import "strings"

// A schema says how a value of one type is read, written and documented. It is
// bound to one value: its codecs hold pointers into it.
type schema struct {
	what   string // for messages: "a mapping of a group's settings"
	fields []field
	rule   func(v value) // checks between fields, after all are decoded; may be nil
}

// field is one key of a mapping.
type field struct {
	name    string
	codec   codec
	need    need
	shown   string // the default as documented, where its text alone says too little
	meaning string
	more    string // for the documentation, behind meaning
}

type need int

const (
	optional need = iota // written if it differs from the default
	always               // has a default, and is written all the same
	required             // has none
)

// codec reads and writes one value.
type codec struct {
	decode  func(v value)
	encode  func() element
	nested  func() []field // the fields below, for the documentation; nil if none
	emptyOK bool           // decode is called for a null as well
}

// decode reads the mapping v into the value that the schema is bound to.
func (s schema) decode(v value) {
	if v.doc != "" && v.field == "" {
		v.r.marks.document(v.doc, Pos{v.r.file, v.line})
	}
	entries, ok := v.entries(s.what)
	if !ok {
		return
	}
	seen := map[string]bool{}
	for _, e := range entries {
		f := s.find(e.key)
		if f == nil {
			v.failAt(e.value.line, "%s", s.unknown(e.key))
			continue
		}
		seen[e.key] = true
		s.decodeField(f, e.value)
	}
	for _, f := range s.fields {
		if f.need == required && !seen[f.name] {
			v.failf("has no %s; expected %s: %s", f.name, f.name, f.meaning)
		}
	}
	if s.rule != nil {
		s.rule(v)
	}
}

func (s schema) decodeField(f *field, v value) {
	if v.field == f.name && v.doc != "" {
		v.r.marks.field(v.doc, f.name, v.line)
	}
	if v.null() && !f.codec.emptyOK {
		v.failf("is empty; expected a value, or no %s at all", f.name)
		return
	}
	f.codec.decode(v)
}

func (s schema) find(name string) *field {
	for i := range s.fields {
		if s.fields[i].name == name {
			return &s.fields[i]
		}
	}
	return nil
}

// unknown is the message for a key that the schema does not have.
func (s schema) unknown(key string) string {
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.name
	}
	hint := DidYouMean(key, names)
	if hint == "" {
		hint = elsewhere[key]
	}
	return "unknown key \"" + printable(key) + "\"; expected one of " + strings.Join(names, ", ") + hint
}

// elsewhere are hints for keys that belong into the other kind of file.
var elsewhere = map[string]string{
	"groups":    " (groups belong into a file for `zklvs apply`)",
	"services":  " (services belong into a file for `zklvs apply`)",
	"zookeeper": " (zookeeper belongs into the director's own file, /etc/zklvs/zklvs.yaml)",
	"node":      " (node belongs into the director's own file, /etc/zklvs/zklvs.yaml)",
}

// encode writes the value that the schema is bound to; fields equal to those of
// defaults, a schema of the same type bound to the default value, are left out
// unless they are required or written always.
func (s schema) encode(defaults schema) element {
	e := element{kind: mapping}
	for i, f := range s.fields {
		v := f.codec.encode()
		if v.kind == absent {
			continue
		}
		if f.need == optional && v.inline() == defaults.fields[i].codec.encode().inline() {
			continue
		}
		e.pairs = append(e.pairs, pair{f.name, v})
	}
	return e
}

// lineOf is the line of a field of v's document, v's own line if unknown.
func (v value) lineOf(field string, index int) int {
	if pos := v.r.marks.at(v.doc, field, index); pos.Line > 0 {
		return pos.Line
	}
	return v.line
}
