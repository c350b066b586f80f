package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// value is a node of the input with what is needed to report on it.
type value struct {
	r     *reader
	node  ast.Node
	line  int
	doc   string // path of the document that it belongs to
	field string // the document's own field that it belongs to; "" for the document itself
	path  string // for messages, such as services.web-http.listen
}

// failf reports a problem at v. The text is one line: what; expected what.
func (v value) failf(format string, args ...any) { v.failAt(v.line, format, args...) }

func (v value) failAt(line int, format string, args ...any) {
	v.r.fail(v.doc, line, v.prefixed(format, args...))
}

// warnAt reports a warning at line.
func (v value) warnAt(line int, format string, args ...any) {
	v.r.warn(v.doc, line, v.prefixed(format, args...))
}

func (v value) prefixed(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	if v.path == "" {
		return text
	}
	return v.path + ": " + text
}

// null says that nothing is written.
func (v value) null() bool {
	_, ok := v.node.(*ast.NullNode)
	return ok || v.node == nil
}

// entry is one `key: value` of a mapping.
type entry struct {
	key   string
	value value
}

// entries lists a mapping in the order of the input, and reports keys that are
// written twice (the first counts). It reports and returns false if v is no
// mapping.
func (v value) entries(expected string) ([]entry, bool) {
	mapping, ok := v.node.(*ast.MappingNode)
	if !ok {
		v.failf("is %s; expected %s", describe(v.node), expected)
		return nil, false
	}
	seen := make(map[string]int, len(mapping.Values))
	list := make([]entry, 0, len(mapping.Values))
	for _, pair := range mapping.Values {
		key, line, ok := keyOf(pair.Key)
		if !ok {
			v.failAt(line, "%s is no key; expected `key: value`", describe(pair.Key))
			continue
		}
		if first, twice := seen[key]; twice {
			v.failAt(line, "key %q is written twice, first in line %d; expected it once", printable(key), first)
			continue
		}
		seen[key] = line
		list = append(list, entry{key, v.child(key, line, pair.Value)})
	}
	return list, true
}

// keyOf gives a key's text as written, so that a name such as 007 stays whole.
func keyOf(node ast.Node) (key string, line int, ok bool) {
	tk := node.GetToken()
	if tk == nil || tk.Position == nil {
		return "", 1, false
	}
	switch node.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return tk.Value, tk.Position.Line, true
	}
	return "", tk.Position.Line, false
}

// child is the value of key, whose problems are reported at the key's line.
func (v value) child(key string, line int, node ast.Node) value {
	c := value{r: v.r, node: node, line: line, doc: v.doc, field: v.field, path: printable(key)}
	if v.path != "" {
		c.path = v.path + "." + c.path
	}
	if v.doc != "" && v.field == "" {
		c.field = key
	}
	return c
}

// items lists a YAML list; it reports and returns false if v is none.
func (v value) items(expected string) ([]value, bool) {
	list, ok := v.node.(*ast.SequenceNode)
	if !ok {
		v.failf("is %s; expected a list of %s", describe(v.node), expected)
		return nil, false
	}
	items := make([]value, len(list.Values))
	for i, node := range list.Values {
		c := v
		c.node, c.path = node, v.path+"["+strconv.Itoa(i)+"]"
		if line := lineOf(node); line > 0 {
			c.line = line
		}
		items[i] = c
	}
	return items, true
}

// lineOf is where node begins, 0 if unknown.
func lineOf(node ast.Node) int {
	if m, ok := node.(*ast.MappingNode); ok && len(m.Values) > 0 {
		node = m.Values[0].Key
	}
	if node == nil {
		return 0
	}
	tk := node.GetToken()
	if tk == nil || tk.Position == nil {
		return 0
	}
	return tk.Position.Line
}

// scalar is a written value: its text, and whether it stood in quotes.
type scalar struct {
	text   string
	quoted bool
}

// scalar returns the text as written. It reports and returns false if v is no
// scalar.
func (v value) scalar(expected string) (scalar, bool) {
	switch node := v.node.(type) {
	case *ast.StringNode:
		tk := node.GetToken()
		quoted := tk.Type == token.SingleQuoteType || tk.Type == token.DoubleQuoteType
		return scalar{node.Value, quoted}, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return scalar{strings.TrimSpace(node.GetToken().Value), false}, true
	}
	v.failf("is %s; expected %s", describe(v.node), expected)
	return scalar{}, false
}

// describe names a node in a message.
func describe(node ast.Node) string {
	switch n := node.(type) {
	case nil, *ast.NullNode:
		return "empty"
	case *ast.MappingNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return strconv.Quote(printable(n.Value))
	case *ast.LiteralNode:
		return "a block of text"
	default:
		return printable(n.GetToken().Value)
	}
}

// isList says that v is a YAML list.
func (v value) isList() bool {
	_, ok := v.node.(*ast.SequenceNode)
	return ok
}

// inside is what stands below v under the first key, below that under the next,
// and so on: as far as it is written. It reports nothing.
func (v value) inside(keys ...string) value {
	for _, key := range keys {
		mapping, ok := v.node.(*ast.MappingNode)
		if !ok {
			return v
		}
		i := slices.IndexFunc(mapping.Values, func(p *ast.MappingValueNode) bool {
			k, _, ok := keyOf(p.Key)
			return ok && k == key
		})
		if i < 0 {
			return v
		}
		_, line, _ := keyOf(mapping.Values[i].Key)
		v = v.child(key, line, mapping.Values[i].Value)
	}
	return v
}
