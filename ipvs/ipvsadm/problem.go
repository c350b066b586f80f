package ipvsadm

import (
	"fmt"
	"strings"
)

// Problem is something wrong, or something to tell, in a line of the input.
type Problem struct {
	File string
	Line int    // counts from 1
	Text string // one line: what; expected what
}

// String gives "file:line: text".
func (p Problem) String() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text) }

// Errors are all problems of an input, in its order.
type Errors []Problem

// maxProblems bounds how many problems are kept: hostile input has one in each
// of its lines.
const maxProblems = 1000

// maxShown bounds how many an error prints.
const maxShown = 100

// Error gives one line for each problem.
func (e Errors) Error() string {
	var b strings.Builder
	for i, p := range e {
		if i == maxShown {
			b.WriteString("\n... and more")
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	return b.String()
}

// quote shows a word of the input in a message: short, and without control
// characters.
func quote(s string) string {
	if len(s) > 60 {
		s = s[:60] + "..."
	}
	return fmt.Sprintf("%q", s)
}
