package spec

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// element is a piece of YAML to write. Elements are compared by their text, so
// the writing must be stable: it depends on the value alone.
type element struct {
	kind  elementKind
	text  string    // scalar: as it is written, quotes included
	pairs []pair    // mapping
	items []element // list
}

type pair struct {
	key   string
	value element
}

type elementKind int

const (
	absent  elementKind = iota // nothing to write
	plain                      // a scalar
	mapping                    // one line for each key
	flowMap                    // {a: b, c: d}
	list                       // one line for each item
	flowSeq                    // [a, b]
)

// document writes e, a mapping, as a whole document.
func (e element) document() []byte {
	if len(e.pairs) == 0 {
		return []byte("{}\n")
	}
	var b strings.Builder
	e.writePairs(&b, "")
	return []byte(b.String())
}

func (e element) writePairs(b *strings.Builder, indent string) {
	for _, p := range e.pairs {
		b.WriteString(indent + quote(p.key) + ":")
		switch {
		case p.value.kind == mapping && len(p.value.pairs) > 0:
			b.WriteString("\n")
			p.value.writePairs(b, indent+"  ")
		case p.value.kind == list && len(p.value.items) > 0:
			b.WriteString("\n")
			for _, item := range p.value.items {
				b.WriteString(indent + "  - " + item.inline() + "\n")
			}
		default:
			b.WriteString(" " + p.value.inline() + "\n")
		}
	}
}

// inline writes e on one line.
func (e element) inline() string {
	switch e.kind {
	case plain:
		return e.text
	case mapping, flowMap:
		parts := make([]string, len(e.pairs))
		for i, p := range e.pairs {
			parts[i] = quote(p.key) + ": " + p.value.inline()
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case list, flowSeq:
		parts := make([]string, len(e.items))
		for i, item := range e.items {
			parts[i] = item.inline()
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return ""
}

func scalarElement(text string) element { return element{kind: plain, text: text} }

var plainPattern = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)

// words that some reader of YAML takes for something else than text.
var notText = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}

// quote writes s as YAML text, in double quotes unless every reader would take
// it for text without them. s is printable ASCII: parsing refuses other text.
func quote(s string) string {
	if plainPattern.MatchString(s) && !slices.Contains(notText, strings.ToLower(s)) {
		return s
	}
	return strconv.Quote(s)
}
