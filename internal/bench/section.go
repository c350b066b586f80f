package bench

import (
	"context"
	"fmt"
	"strings"
)

// Section is one comparison. To add one, write a type with these methods and list
// it in Sections; docs/benchmarks/README.md tells how.
type Section interface {
	// Name is a word: SECTION=name, and the name of its files.
	Name() string
	// Title heads its part of the page.
	Title() string
	// Page names the page of docs/benchmarks that it stands on, without .md.
	Page() string
	// About says exactly what is measured, and how: paragraphs of Markdown.
	About() string
	// Measures are what its table shows, in this order.
	Measures() []Measure
	// Plots are the figures to be drawn of it.
	Plots() []Plot
	// Targets are what it is judged by; may be none.
	Targets() []Target
	// NeedsIPVS tells whether it runs in the kernel that deploy/kernel/with-ipvs
	// provides, or on the machine's own.
	NeedsIPVS() bool
	// Run measures, in a network of its own that it takes down again, also when ctx
	// ends. What was measured until an error is in the result.
	Run(ctx context.Context, env Env) (Result, error)
}

// Env is what a section is given.
type Env struct {
	Zklvs string // path of the program under test
	Runs  int    // how often each case is to be measured, at least 1
	// Progress is told what is being done.
	Progress func(format string, args ...any)
	// Keep is a directory for logs, which are kept there where a section fails, and
	// with Logs always. Their stamps can be compared with those in Progress.
	Keep string
	Logs bool
}

// Measure is a row of a section's table for each case.
type Measure struct {
	Name string // as in Series
	// Total asks for the sum over the runs, too.
	Total bool
	// NoRatio leaves the ratios out: less is not better.
	NoRatio bool
}

// Plot is a figure with the distribution of one measure for each case.
type Plot struct {
	Measure string
	Title   string
	Note    string // a line below the legend, may be empty
	// Name ends the file's name; the section's name precedes it.
	Name string
}

// Sections returns every section, in the order in which they run.
func Sections() []Section {
	return []Section{HostFailover(), IPVSFailover(), Switchover{}, ConnectionsRR(), ConnectionsMH(), TableWriting(), ColdTakeover()}
}

// Find returns the section of a name.
func Find(name string) (Section, error) {
	var names []string
	for _, s := range Sections() {
		if s.Name() == name {
			return s, nil
		}
		names = append(names, s.Name())
	}
	return nil, fmt.Errorf("there is no section %q: expected %s", name, strings.Join(names, ", "))
}

// Target is a limit on one figure of zklvs.
type Target struct {
	Case, Measure, Contender string // Contender: the series of zklvs that is judged
	// Against is whose figure the ratio is with; "" judges zklvs's own figure.
	Against string
	// AtLeast is the smallest ratio, theirs : ours, of the medians.
	AtLeast float64
	// AtMost is the largest median, or with Total the largest sum.
	AtMost float64
	Total  bool
}

// Verdict is a target's outcome.
type Verdict struct {
	Text string // what was asked, and what was found
	Met  bool
}

// Judge compares a target with what was measured; false if that is missing.
func (t Target) Judge(r *Result) (Verdict, bool) {
	ours := r.Find(t.Case, t.Measure, t.Contender)
	if ours == nil {
		return Verdict{}, false
	}
	figure, kind := Median(ours.Values), "median"
	if t.Total {
		figure, kind = Sum(ours.Values), "sum"
	}
	if t.Against == "" {
		return Verdict{
			Text: fmt.Sprintf("%s, %s, %s of %s: at most %s; found %s", t.Case, t.Measure, kind, t.Contender,
				show(Value{V: t.AtMost}, ours.Unit, roundingOf(Zklvs)), show(figure, ours.Unit, roundingOf(Zklvs))),
			Met: figure.V <= t.AtMost && !figure.AtLeast,
		}, true
	}
	theirs := r.Find(t.Case, t.Measure, t.Against)
	if theirs == nil {
		return Verdict{}, false
	}
	ratio := RatioOf(Median(theirs.Values), figure)
	return Verdict{
		Text: fmt.Sprintf("%s, %s, ratio of the medians, %s to %s: at least %s : 1; found %s", t.Case, t.Measure, t.Against, t.Contender,
			digits(t.AtLeast), ratio),
		Met: !ratio.None && ratio.V >= t.AtLeast,
	}, true
}
