package demo

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// narrator prints a walk through the exercise: headings, commands with what
// they really printed, and what was measured.
type narrator struct {
	w     io.Writer
	step  int
	begun time.Time
}

func (n *narrator) heading(format string, a ...any) {
	n.step++
	fmt.Fprintf(n.w, "\n=== %d. %s\n", n.step, fmt.Sprintf(format, a...))
}

func (n *narrator) say(format string, a ...any) {
	fmt.Fprintf(n.w, "    %s\n", fmt.Sprintf(format, a...))
}

func (n *narrator) progress(format string, a ...any) {
	fmt.Fprintf(n.w, "[%5.1f s] %s\n", time.Since(n.begun).Seconds(), fmt.Sprintf(format, a...))
}

// ran prints a command and its output.
func (n *narrator) ran(host, command, output string) {
	fmt.Fprintf(n.w, "  %s$ %s\n", host, command)
	for line := range strings.Lines(output) {
		fmt.Fprintf(n.w, "    %s\n", strings.TrimRight(line, "\n"))
	}
}

// run runs a command on a host and prints both.
func (n *narrator) run(ctx context.Context, c *Cluster, host string, argv ...string) error {
	var out string
	var err error
	if argv[0] == "zklvs" {
		out, err = c.Zklvs(ctx, host, argv[1:]...)
	} else {
		out, err = c.Lab.Host(host).Run(ctx, argv...)
	}
	n.ran(host, strings.Join(argv, " "), out)
	return err
}
