package spec

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// limits bound the work that one input can cause. The YAML parser needs time in
// the square of the keys of one mapping and stack in proportion to the nesting,
// so both are counted on the tokens, before it runs.
type limits struct {
	bytes int // size of the input
	keys  int // keys of one mapping
	depth int // nesting of mappings and lists
}

var (
	// fileLimits are for a file that the user passes: 20,000 services.
	fileLimits = limits{bytes: 16 << 20, keys: 20_000, depth: 16}
	// storedLimits are for one document: ZooKeeper's own limit is 1 MiB
	// (jute.maxbuffer).
	storedLimits = limits{bytes: 1 << 20, keys: 1_000, depth: 16}
)

// manyAngles is refused: the lexer counts the rest of a run of "<" at each of
// its characters.
const manyAngles = "<<<<<<<<"

// unreadable refuses, before the lexer sees it, what is no text, and what makes
// the lexer's time grow with the square of the input: long runs of "<", and
// tabs, which YAML does not take for indentation either.
func unreadable(data []byte, lim limits) (line int, text string) {
	if len(data) > lim.bytes {
		return 1, fmt.Sprintf("is %d bytes long; expected at most %d", len(data), lim.bytes)
	}
	if i := bytes.Index(data, []byte(manyAngles)); i >= 0 {
		return lineAt(data, i), "is not YAML: " + manyAngles + "; expected `key: value`"
	}
	for i := 0; i < len(data); {
		c, n := utf8.DecodeRune(data[i:])
		bad := c == utf8.RuneError && n == 1
		control := c < ' ' && c != '\n' && c != '\r' || c == 0x7f
		if c == '\t' {
			return lineAt(data, i), "a tab is not accepted; expected spaces"
		}
		if bad || control || c == '\ufeff' {
			return lineAt(data, i),
				fmt.Sprintf("byte 0x%02x is no text; expected YAML in UTF-8 without control characters", data[i])
		}
		i += n
	}
	return 0, ""
}

// lineAt is the line of the byte at i.
func lineAt(data []byte, i int) int { return 1 + bytes.Count(data[:i], []byte("\n")) }

// refused are the features of YAML that no document needs. Anchors and aliases
// can make a small input huge; tags, merges and complex keys have meanings that
// readers do not expect.
var refused = map[token.Type]string{
	token.AnchorType:      "an anchor (&) is not accepted; expected the value written out where it is used",
	token.AliasType:       "an alias (*) is not accepted; expected the value written out, in quotes if it begins with *",
	token.TagType:         "a tag (!) is not accepted; expected the plain value, in quotes if it begins with !",
	token.MergeKeyType:    "a merge (<<) is not accepted; expected the keys written out",
	token.MappingKeyType:  "a complex key (?) is not accepted; expected `key: value`",
	token.DirectiveType:   "a directive (%) is not accepted; expected `key: value`",
	token.DocumentEndType: "a document end (...) is not accepted; expected one YAML document",
}

// refuse looks for refused features and exceeded limits among the tokens.
func refuse(tokens token.Tokens, lim limits) (line int, text string) {
	shape := shape{lim: lim}
	for i, tk := range tokens {
		if text := refused[tk.Type]; text != "" {
			return tk.Position.Line, text
		}
		if tk.Type == token.DocumentHeaderType && !leading(tokens[:i]) {
			return tk.Position.Line, "a second document (---) is not accepted; expected one YAML document, all groups under one `groups:` and all services under one `services:`"
		}
		if bareBrackets(tokens[:i], tk) {
			return tk.Position.Line, `an IPv6 address in brackets is not in quotes; expected them around it and its port, such as "[2001:db8::100]:80/tcp"`
		}
		if text := shape.add(tk); text != "" {
			return tk.Position.Line, text
		}
	}
	return 0, ""
}

// bareBrackets says that tk goes on with a colon behind a list such as
// [2001:db8::100], which was not meant as one.
func bareBrackets(before token.Tokens, tk *token.Token) bool {
	n := len(before)
	return n > 2 && before[n-1].Type == token.SequenceEndType && strings.HasPrefix(tk.Value, ":") &&
		tk.Position.Offset == before[n-1].Position.Offset+1 && strings.Contains(before[n-2].Value, ":")
}

// leading says that nothing but comments stands in tokens.
func leading(tokens token.Tokens) bool {
	for _, tk := range tokens {
		if tk.Type != token.CommentType {
			return false
		}
	}
	return true
}

// shape counts along the tokens what lim limits. Block collections are told
// apart by their column, flow collections by their brackets. It also refuses
// values side by side, ["a" "b" "c"], which cost the parser a time in their
// square before it refuses them.
type shape struct {
	lim    limits
	block  []level // open block mappings and lists, columns rising
	flow   []level // open flow collections; column is not used
	beside int     // values since the last separator, outside flow collections
}

// level is an open collection.
type level struct{ column, keys, beside int }

func (s *shape) add(tk *token.Token) (text string) {
	keys := 0
	switch tk.Type {
	case token.MappingStartType, token.SequenceStartType:
		s.flow = append(s.flow, level{})
	case token.MappingEndType, token.SequenceEndType:
		if len(s.flow) > 0 {
			s.flow = s.flow[:len(s.flow)-1]
		}
		*s.run()++
	case token.CollectEntryType:
		*s.run() = 0
	case token.SequenceEntryType:
		s.open(tk.Position.Column)
		*s.run() = 0
	case token.MappingValueType:
		keys = s.key(tk)
		*s.run() = 0
	case token.CommentType, token.LiteralType, token.FoldedType, token.DocumentHeaderType:
	default:
		*s.run()++
	}
	switch {
	case len(s.flow)+len(s.block) > s.lim.depth:
		return fmt.Sprintf("is nested more than %d deep; expected a document as the manual shows it", s.lim.depth)
	case keys > s.lim.keys:
		return fmt.Sprintf("more than %d keys in one mapping; expected fewer", s.lim.keys)
	case *s.run() > 2: // a value and the next key
		return "values stand side by side; expected `key: value`, text with such characters in quotes"
	}
	return ""
}

// run counts the values since the last separator in the innermost flow
// collection, or outside of all.
func (s *shape) run() *int {
	if n := len(s.flow); n > 0 {
		return &s.flow[n-1].beside
	}
	return &s.beside
}

// key counts the key before the colon tk in its collection.
func (s *shape) key(tk *token.Token) int {
	if n := len(s.flow); n > 0 {
		s.flow[n-1].keys++
		return s.flow[n-1].keys
	}
	column := tk.Position.Column
	if tk.Prev != nil {
		column = tk.Prev.Position.Column
	}
	top := s.open(column)
	top.keys++
	return top.keys
}

// open closes the block collections right of column and opens that at column.
func (s *shape) open(column int) *level {
	for n := len(s.block); n > 0 && s.block[n-1].column > column; n = len(s.block) {
		s.block = s.block[:n-1]
	}
	if n := len(s.block); n == 0 || s.block[n-1].column < column {
		s.block = append(s.block, level{column: column})
	}
	return &s.block[len(s.block)-1]
}
