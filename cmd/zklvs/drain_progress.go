package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// plainEvery is the pause between two lines of progress where there is no
// terminal.
const plainEvery = 5 * time.Second

// progressLine shows how far something is: one line that is overwritten on a
// terminal, else a line for a change, but not for each.
type progressLine struct {
	w        io.Writer
	terminal bool
	now      func() time.Time

	last    string
	at      time.Time
	written bool // the cursor stands behind a line
}

func newProgressLine(w io.Writer) *progressLine {
	f, ok := w.(*os.File)
	return &progressLine{w: w, terminal: ok && isTerminal(f), now: time.Now}
}

// set shows a text.
func (p *progressLine) set(text string) {
	switch {
	case text == p.last:
	case p.terminal:
		fmt.Fprintf(p.w, "\r\x1b[K%s", text) // ECMA-48 8.3.41 EL: erase to the end of the line
		p.last, p.written = text, true
	case p.last == "" || p.now().Sub(p.at) >= plainEvery:
		fmt.Fprintln(p.w, text)
		p.last, p.at = text, p.now()
	}
}

// end leaves the line for what is written next.
func (p *progressLine) end() {
	if p.written {
		fmt.Fprintln(p.w)
		p.written = false
	}
}
