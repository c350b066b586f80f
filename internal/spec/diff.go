package spec

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind says what a Change does to a document.
type Kind string

// The kinds of changes.
const (
	Added     Kind = "added"
	Changed   Kind = "changed"
	Removed   Kind = "removed"
	Unchanged Kind = "unchanged"
)

// Change is what happens to one document.
type Change struct {
	Path string
	Kind Kind
	Text string // unified diff with three lines of context; "" if unchanged
}

// Diff compares stored documents with new ones, by path, in the order of the
// paths. Documents are compared byte by byte: one that was written by hand and
// means the same as the new one counts as changed.
func Diff(before, after map[string][]byte) []Change {
	paths := maps.Clone(before)
	if paths == nil {
		paths = map[string][]byte{}
	}
	maps.Copy(paths, after)
	list := make([]Change, 0, len(paths))
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		a, stored := before[path]
		b, wanted := after[path]
		c := Change{Path: path, Kind: Changed}
		switch {
		case !stored:
			c.Kind = Added
		case !wanted:
			c.Kind = Removed
		case bytes.Equal(a, b):
			c.Kind = Unchanged
		}
		if c.Kind != Unchanged {
			c.Text = unified(path, stored, wanted, splitLines(a), splitLines(b))
		}
		list = append(list, c)
	}
	return list
}

// splitLines splits text; a last line without a line break is a line.
func splitLines(text []byte) []string {
	if len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// edit is one line of a diff: ' ' kept, '-' removed, '+' added.
type edit struct {
	op   byte
	line string
}

// contextLines stand before and after each change.
const contextLines = 3

// unified writes a diff in the form of diff -u. A stored document may hold
// anything, so unprintable characters are masked.
func unified(path string, stored, wanted bool, a, b []string) string {
	var out strings.Builder
	out.WriteString("--- " + header(path, stored) + "\n+++ " + header(path, wanted) + "\n")
	edits := compare(a, b)
	lineA, lineB := 1, 1
	for i := 0; i < len(edits); {
		end := hunkEnd(edits, i)
		if end == i { // far from any change
			lineA, lineB, i = lineA+1, lineB+1, i+1
			continue
		}
		countA, countB := counts(edits[i:end])
		fmt.Fprintf(&out, "@@ -%s +%s @@\n", span(lineA, countA), span(lineB, countB))
		for _, e := range edits[i:end] {
			out.WriteString(string(e.op) + strings.Map(mask, e.line) + "\n")
		}
		lineA, lineB, i = lineA+countA, lineB+countB, end
	}
	return out.String()
}

func header(path string, exists bool) string {
	if !exists {
		return "/dev/null"
	}
	return path
}

// hunkEnd is the end of the hunk that begins at i, or i if none does: a hunk
// begins contextLines before a change, and ends where none follows within
// twice that.
func hunkEnd(edits []edit, i int) int {
	end := i
	for j := i; j < len(edits); j++ {
		if edits[j].op != ' ' {
			end = j + 1
			continue
		}
		reach := 2 * contextLines
		if end == i {
			reach = contextLines
		}
		if j-max(end, i) >= reach {
			break
		}
	}
	if end == i {
		return i
	}
	return min(end+contextLines, len(edits))
}

func counts(edits []edit) (a, b int) {
	for _, e := range edits {
		if e.op != '+' {
			a++
		}
		if e.op != '-' {
			b++
		}
	}
	return a, b
}

// span is a range of lines as diff -u writes it.
func span(first, count int) string {
	if count == 0 {
		return fmt.Sprintf("%d,0", first-1)
	}
	if count == 1 {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d,%d", first, count)
}

// maxCells bounds the table of compare: 16 MiB of int32.
const maxCells = 4 << 20

// compare turns a into b. It finds a longest common subsequence between the
// equal lines at both ends; where that needs a table of more than maxCells, all
// lines between are replaced.
func compare(a, b []string) []edit {
	var head, tail []edit
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, edit{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, edit{' ', a[len(a)-1]})
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	slices.Reverse(tail)
	return append(append(head, middle(a, b)...), tail...)
}

func middle(a, b []string) []edit {
	var edits []edit
	i, j := 0, 0
	if len(a)*len(b) <= maxCells {
		common := commonLengths(a, b)
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				edits = append(edits, edit{' ', a[i]})
				i, j = i+1, j+1
			case common[i+1][j] >= common[i][j+1]:
				edits = append(edits, edit{'-', a[i]})
				i++
			default:
				edits = append(edits, edit{'+', b[j]})
				j++
			}
		}
	}
	for ; i < len(a); i++ {
		edits = append(edits, edit{'-', a[i]})
	}
	for ; j < len(b); j++ {
		edits = append(edits, edit{'+', b[j]})
	}
	return edits
}

// commonLengths gives, at [i][j], the length of the longest common subsequence
// of a[i:] and b[j:].
func commonLengths(a, b []string) [][]int32 {
	table := make([][]int32, len(a)+1)
	for i := range table {
		table[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				table[i][j] = table[i+1][j+1] + 1
			} else {
				table[i][j] = max(table[i+1][j], table[i][j+1])
			}
		}
	}
	return table
}
