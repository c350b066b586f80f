package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// DataDir is the folder of the results below that of the pages.
const DataDir = "data"

// WritePages makes every page and plot in dir again, from the results in its DataDir.
// A section that has none is left out.
func WritePages(dir string, sections []Section) error {
	var names []string
	parts := map[string][]string{}
	for _, s := range sections {
		r, err := Load(filepath.Join(dir, DataDir), s.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !slices.Contains(names, s.Page()) {
			names = append(names, s.Page())
		}
		parts[s.Page()] = append(parts[s.Page()], sectionText(s, r))
		for _, p := range s.Plots() {
			if err := write(filepath.Join(dir, plotFile(s, p)), p.SVG(r)); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		text := pageHead(name) + strings.Join(parts[name], "\n")
		if err := write(filepath.Join(dir, name+".md"), text); err != nil {
			return err
		}
	}
	return nil
}

func write(file, text string) error {
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write a page of benchmarks: %w", err)
	}
	return nil
}

func plotFile(s Section, p Plot) string { return s.Name() + "-" + p.Name + ".svg" }

func pageHead(name string) string {
	title := strings.ToUpper(name[:1]) + name[1:]
	return "# " + title + `

This page is written by ` + "`make bench`" + `; [README](README.md) tells how. Do not edit it. Cells are median / maximum. A ratio is keepalived's figure : zklvs's,
of the medians / of the maxima; above 1, zklvs is ahead. Figures of zklvs are rounded up, keepalived's and ratios down. "≥" marks a lower bound: what was
measured had not ended when the fault was repaired.

`
}

// sectionText is a section's part of a page.
func sectionText(s Section, r *Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n\n", s.Title(), strings.TrimSpace(s.About()))
	b.WriteString(provenance(r))
	for _, t := range s.Targets() {
		if v, ok := t.Judge(r); ok {
			verdict := "met"
			if !v.Met {
				verdict = "**missed**"
			}
			fmt.Fprintf(&b, "- Target %s: %s.\n", verdict, v.Text)
		}
	}
	fmt.Fprintf(&b, "\n%s", Table(s, r))
	for _, remark := range r.Remarks {
		fmt.Fprintf(&b, "\n%s\n", remark)
	}
	for _, p := range s.Plots() {
		fmt.Fprintf(&b, "\n![%s](%s)\n", p.Title, plotFile(s, p))
	}
	return b.String()
}

// provenance says how the figures came about.
func provenance(r *Result) string {
	var b strings.Builder
	few := ""
	if r.Runs < 10 {
		few = " (**fewer than the 10 that are wanted**)"
	}
	fmt.Fprintf(&b, "- `%s`, %s, %d runs of each case%s, %.0f s in all.\n", r.Command, r.Begun.UTC().Format("2006-01-02 15:04 UTC"), r.Runs, few, r.Seconds)
	fmt.Fprintf(&b, "- Kernel: %s.\n", r.Machine.text())
	if r.Machine.UML && r.Host != nil {
		fmt.Fprintf(&b, "- It ran on: %s.\n", r.Host.text())
	}
	var versions []string
	for _, name := range slices.Sorted(maps.Keys(r.Machine.Versions)) {
		versions = append(versions, name+" "+r.Machine.Versions[name])
	}
	fmt.Fprintf(&b, "- Versions: %s.\n", strings.Join(versions, ", "))
	return b.String()
}

func (m Machine) text() string {
	text := fmt.Sprintf("%s, %d CPU", m.Kernel, m.CPUs)
	if m.CPUs != 1 {
		text += "s"
	}
	if m.UML {
		text += ", user-mode Linux"
	}
	if m.Load != "" {
		text += ", load averages before " + m.Load
	}
	return text
}

// Table is the section's table in Markdown: a row for each measure of each case.
func Table(s Section, r *Result) string {
	contenders := r.Contenders()
	others := slices.DeleteFunc(slices.Clone(contenders), func(c string) bool { return c == Zklvs })
	var b strings.Builder
	b.WriteString("| case | measure | " + Zklvs)
	for _, o := range others {
		fmt.Fprintf(&b, " | %s | ratio", o)
	}
	b.WriteString(" |\n|---|---|---" + strings.Repeat("|---|---", len(others)) + "|\n")
	for _, c := range r.Cases() {
		for i, m := range s.Measures() {
			ours := r.Find(c, m.Name, Zklvs)
			label := c
			if i > 0 {
				label = ""
			}
			fmt.Fprintf(&b, "| %s | %s | %s", label, m.Name, m.cell(ours))
			for _, o := range others {
				theirs := r.Find(c, m.Name, o)
				fmt.Fprintf(&b, " | %s | %s", m.cell(theirs), m.ratio(theirs, ours))
			}
			b.WriteString(" |\n")
		}
	}
	return b.String()
}

// cell is median / maximum, and the sum where it is asked for.
func (m Measure) cell(s *Series) string {
	if s == nil {
		return "-"
	}
	to := roundingOf(s.Contender)
	if len(s.Values) == 1 {
		return show(s.Values[0], s.Unit, to)
	}
	text := show(Median(s.Values), s.Unit, to) + " / " + show(Max(s.Values), s.Unit, to)
	if m.Total {
		text += ", sum " + show(Sum(s.Values), s.Unit, to)
	}
	return text
}

func (m Measure) ratio(theirs, ours *Series) string {
	if theirs == nil || ours == nil || m.NoRatio {
		return ""
	}
	medians, maxima := RatioOf(Median(theirs.Values), Median(ours.Values)), RatioOf(Max(theirs.Values), Max(ours.Values))
	if medians.None && maxima.None {
		return "-"
	}
	return medians.String() + " / " + maxima.String()
}
