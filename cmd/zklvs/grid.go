package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// grid is a table whose numbers are aligned at the right. Columns from the given
// one on are numbers.
type grid struct {
	numbers int
	rows    [][]string
}

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// write writes all rows; no line ends in blanks.
func (g *grid) write(w io.Writer) error {
	var widths []int
	for _, row := range g.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range g.rows {
		var line strings.Builder
		for i, cell := range row {
			width := widths[i]
			if i < g.numbers {
				width = -width
			}
			if i > 0 {
				line.WriteString("  ")
			}
			fmt.Fprintf(&line, "%*s", width, cell)
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// short is a number of at most eight digits, in full below a hundred million and
// then in K, M, G and T, which are powers of 1000, as ipvsadm shortens its counters.
func short(n uint64, exact bool) string {
	const full = 100_000_000
	if exact || n < full {
		return fmt.Sprint(n)
	}
	unit := 0
	for n >= full && unit < 4 {
		n, unit = n/1000, unit+1
	}
	return fmt.Sprintf("%d%c", n, "KMGT"[unit-1])
}
