package spec

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// reader collects what one input holds: problems, warnings, and the lines of
// the fields that rules between documents speak of.
type reader struct {
	file     string
	problems []Problem
	warnings []Problem
	marks    marks
	faulty   map[string]bool // documents with a problem; nil if there is none
}

func newReader(file string) *reader {
	return &reader{file: file, marks: marks{}}
}

func (r *reader) fail(doc string, line int, text string) {
	r.problems = append(r.problems, Problem{Pos: Pos{r.file, line}, Document: doc, Text: text})
	if doc != "" {
		if r.faulty == nil {
			r.faulty = map[string]bool{}
		}
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
	tokens := joinColons(lexer.Tokenize(string(data)))
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

// syntax reports an error of the YAML parser with its line and a remedy.
func (r *reader) syntax(err error) {
	line := 1
	var message string
	var syntax *yaml.SyntaxError
	if !errors.As(err, &syntax) {
		message = err.Error()
	} else {
		message = syntax.Message // its Error prints the source, in the square of its size
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
	case strings.Contains(message, "quoted text"):
		return "a closing quote"
	case strings.Contains(message, "must be specified") || strings.Contains(message, "end token"):
		return "the list or mapping to be closed"
	case strings.Contains(message, "reserved character"):
		return "the value in quotes"
	case strings.Contains(message, "not allowed in this context"):
		return "`key: value` with the same indentation as its neighbors"
	}
	return "`key: value` lines"
}

// printable makes one printable line out of text that somebody else wrote, cut
// at 60 runes.
func printable(s string) string {
	if len(s) > 4*64 { // more than 60 runes in any case
		s = s[:4*64]
	}
	runes := []rune(strings.Map(mask, s))
	if len(runes) > 60 {
		return string(runes[:57]) + "..."
	}
	return string(runes)
}

// mask replaces what could break a line or steer a terminal.
func mask(c rune) rune {
	if !unicode.IsPrint(c) {
		return '·'
	}
	return c
}
