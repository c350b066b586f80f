// Command zklvs-bench measures zklvs beside keepalived and writes what it measured
// to docs/benchmarks: see package bench, and docs/benchmarks/README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/zklvs/zklvs/internal/bench"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "zklvs-bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	section, zklvs, kernel, out string
	runs                        int
	measure, pages, list, logs  bool
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("zklvs-bench", flag.ContinueOnError)
	f.StringVar(&o.section, "section", "", "the `name` of the one section to run (default all)")
	f.IntVar(&o.runs, "runs", 10, "how often each case is measured")
	f.StringVar(&o.zklvs, "zklvs", "bin/zklvs", "the `program` under test")
	f.StringVar(&o.kernel, "with-ipvs", "deploy/kernel/with-ipvs", "the `script` that gives a kernel with IPVS")
	f.StringVar(&o.out, "out", "docs/benchmarks", "the `folder` of pages, plots and results")
	f.BoolVar(&o.pages, "pages", false, "only write pages and plots again, from the results that are there")
	f.BoolVar(&o.list, "list", false, "only list the sections")
	f.BoolVar(&o.logs, "logs", false, "keep the daemons' logs, and say where")
	f.BoolVar(&o.measure, "measure", false, "measure here, in the surroundings that this program made (internal)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || o.runs < 1 {
		return o, fmt.Errorf("expected flags only, and at least one run; got %s", strings.Join(args, " "))
	}
	// The sections run in directory / of their hosts.
	for _, path := range []*string{&o.zklvs, &o.kernel, &o.out} {
		if *path, err = filepath.Abs(*path); err != nil {
			return o, err
		}
	}
	return o, nil
}

func run(ctx context.Context, args []string, w io.Writer) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	sections := bench.Sections()
	if o.section != "" {
		s, err := bench.Find(o.section)
		if err != nil {
			return err
		}
		sections = []bench.Section{s}
	}
	switch {
	case o.list:
		for _, s := range sections {
			fmt.Fprintf(w, "%-15s %s\n", s.Name(), s.Title())
		}
		return nil
	case o.pages:
		return bench.WritePages(o.out, bench.Sections())
	case o.measure:
		return measure(ctx, o, sections, w)
	}
	d := driver{options: o, out: w}
	return d.run(ctx, sections)
}
