package spec

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Pos is a place in a file, or in a document of ZooKeeper's tree (then File is
// the document's path, such as spec/groups/web). Line counts from 1.
type Pos struct {
	File string
	Line int
}

// String gives "file:line", or "" for the zero Pos.
func (p Pos) String() string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Problem is one fault (in Errors) or one warning.
type Problem struct {
	Pos      Pos
	Document string // path of the document at fault, such as spec/groups/web; "" if none
	Text     string // one line: what; expected what
}

// String gives one line: where and what.
func (p Problem) String() string {
	where := p.Pos.String()
	if where == "" {
		where = p.Document
	}
	if where == "" {
		return p.Text
	}
	return where + ": " + p.Text
}

// Errors are all faults of one or more files, sorted by place.
type Errors []Problem

// shownErrors bounds what one error message prints: a hostile document of 1 MiB
// can hold a hundred thousand faults.
const shownErrors = 100

// Error gives one line for each fault.
func (e Errors) Error() string {
	var b strings.Builder
	for i, p := range e {
		if i == shownErrors {
			fmt.Fprintf(&b, "\n... and %d more", len(e)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	return b.String()
}

// JoinErrors makes one sorted Errors out of several errors, so that a user sees
// the faults of all files, and those between files, at once. Nil errors are
// left out; nil is returned if nothing is left.
func JoinErrors(errs ...error) error {
	var all []Problem
	for _, err := range errs {
		var list Errors
		switch {
		case err == nil:
		case errors.As(err, &list):
			all = append(all, list...)
		default:
			all = append(all, Problem{Text: err.Error()})
		}
	}
	return problems(all)
}

// problems sorts list and returns it as an error, nil if there is none.
func problems(list []Problem) error {
	if len(list) == 0 {
		return nil
	}
	return Errors(sorted(list))
}

// sorted orders by file and line, keeps the order within a line, and drops
// repetitions.
func sorted(list []Problem) []Problem {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Pos.File, b.Pos.File),
			cmp.Compare(a.Pos.Line, b.Pos.Line),
		)
	})
	return slices.Compact(list)
}
