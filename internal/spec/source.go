package spec

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
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

// reader collects what one input holds: problems, warnings, and the lines of
// the fields that rules between documents speak of.
type reader struct {
	file     string
	problems []Problem
	warnings []Problem
	marks    marks
	faulty   map[string]bool // documents with a problem
}

func newReader(file string) *reader {
	return &reader{file: file, marks: marks{}, faulty: map[string]bool{}}
}

func (r *reader) fail(doc string, line int, text string) {
	r.problems = append(r.problems, Problem{Pos: Pos{r.file, line}, Document: doc, Text: text})
	if doc != "" {
		r.faulty[doc] = true
	}
}

func (r *reader) warn(doc string, line int, text string) {
	r.warnings = append(r.warnings, Problem{Pos: Pos{r.file, line}, Document: doc, Text: text})
}

// parse returns the root of the YAML in data, a NullNode for an empty input,
// and nil after a problem.
func (r *reader) parse(data []byte, lim limits) ast.Node {
	if line, text := unreadable(data, lim); text != "" {
		r.fail("", line, text)
		return nil
	}
	tokens := lexer.Tokenize(string(data))
	if line, text := refuse(tokens, lim); text != "" {
		r.fail("", line, text)
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return &ast.NullNode{Token: token.New("", "", &token.Position{Line: 1, Column: 1})}
	}
	return file.Docs[0].Body
}

// unreadable refuses what is no text, before the lexer sees it.
func unreadable(data []byte, lim limits) (line int, text string) {
	if len(data) > lim.bytes {
		return 1, fmt.Sprintf("is %d bytes long; expected at most %d", len(data), lim.bytes)
	}
	for i := 0; i < len(data); {
		c, n := utf8.DecodeRune(data[i:])
		bad := c == utf8.RuneError && n == 1
		control := c < ' ' && c != '\n' && c != '\r' && c != '\t' || c == 0x7f
		if bad || control || c == '\ufeff' {
			return 1 + bytes.Count(data[:i], []byte("\n")),
				fmt.Sprintf("byte 0x%02x is no text; expected YAML in UTF-8 without control characters", data[i])
		}
		i += n
	}
	return 0, ""
}

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
		if text := shape.add(tk); text != "" {
			return tk.Position.Line, text
		}
	}
	return 0, ""
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

// shape counts nesting and keys along the tokens. Block collections are told
// apart by their column, flow collections by their brackets.
type shape struct {
	lim   limits
	block []level // open block mappings and lists, columns rising
	flow  []int   // keys in each open flow collection
}

type level struct{ column, keys int }

func (s *shape) add(tk *token.Token) (text string) {
	keys := 0
	switch tk.Type {
	case token.MappingStartType, token.SequenceStartType:
		s.flow = append(s.flow, 0)
	case token.MappingEndType, token.SequenceEndType:
		if len(s.flow) > 0 {
			s.flow = s.flow[:len(s.flow)-1]
		}
	case token.SequenceEntryType:
		s.open(tk.Position.Column)
	case token.MappingValueType:
		keys = s.key(tk)
	}
	if len(s.flow)+len(s.block) > s.lim.depth {
		return fmt.Sprintf("is nested more than %d deep; expected a document as the manual shows it", s.lim.depth)
	}
	if keys > s.lim.keys {
		return fmt.Sprintf("more than %d keys in one mapping; expected fewer", s.lim.keys)
	}
	return ""
}

// key counts the key before the colon tk in its collection.
func (s *shape) key(tk *token.Token) int {
	if n := len(s.flow); n > 0 {
		s.flow[n-1]++
		return s.flow[n-1]
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

// syntax reports an error of the YAML parser with its line and a remedy.
func (r *reader) syntax(err error) {
	line, message := 1, err.Error()
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		message = syntax.Message
		if syntax.Token != nil && syntax.Token.Position != nil {
			line = max(1, syntax.Token.Position.Line)
		}
	}
	message, _, _ = strings.Cut(message, "\n")
	r.fail("", line, fmt.Sprintf("is not YAML: %s; expected %s", printable(message), remedy(message)))
}

// remedy says what to write instead, for the faults that people make.
func remedy(message string) string {
	switch {
	case strings.Contains(message, "\t") || strings.Contains(message, "tab character"):
		return "spaces for indentation, no tabs"
	case strings.Contains(message, "quoted text"):
		return "a closing quote"
	case strings.Contains(message, "must be specified"):
		return "the list or mapping to be closed"
	case strings.Contains(message, "reserved character"):
		return "the value in quotes"
	case strings.Contains(message, "not allowed in this context"):
		return "`key: value` with the same indentation as its neighbours"
	}
	return "`key: value` lines"
}

// printable makes one printable line out of text that somebody else wrote, cut
// at 60 runes.
func printable(s string) string {
	quoted := []rune(strings.Map(func(c rune) rune {
		if c == '\t' {
			return '␉'
		}
		if c < ' ' || c == 0x7f {
			return '·'
		}
		return c
	}, s))
	if len(quoted) > 60 {
		return string(quoted[:57]) + "..."
	}
	return string(quoted)
}
