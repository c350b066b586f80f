package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sample is a result with two contenders, a bound, and a case of one contender.
func sample() *Result {
	r := &Result{
		Section: "failover-host", Command: "make bench", Begun: time.Unix(1e9, 0), Runs: 2,
		Machine: Machine{Kernel: "Linux 6", CPUs: 2, Versions: map[string]string{"zklvs": "1", "keepalived": "2"}},
	}
	for _, v := range []float64{0.0151, 0.0202} {
		r.Add("SIGKILL", takenOver, Zklvs, "s", Value{V: v})
		r.Add("SIGKILL", takenOver, Notes, "s", Value{V: 200 * v})
		r.Add("SIGKILL", twoAnswer, Zklvs, "s", Value{})
		r.Add("SIGKILL", twoAnswer, Notes, "s", Value{V: 1, AtLeast: true})
		r.Add("another <fault>", takenOver, Zklvs, "s", Value{V: v})
	}
	return r
}

func TestTable(t *testing.T) {
	want := `| case | measure | zklvs | keepalived, notes | ratio |
|---|---|---|---|---|
| SIGKILL | taken over after | 17.7 ms / 20.2 ms | 3.53 s / 4.04 s | 200 : 1 / 200 : 1 |
|  | no answer for | - | - |  |
|  | two hosts answer for | 0 / 0 | ≥ 1 s / ≥ 1 s | - |
| another <fault> | taken over after | 17.7 ms / 20.2 ms | - |  |
|  | no answer for | - | - |  |
|  | two hosts answer for | - | - |  |
`
	if diff := cmp.Diff(want, Table(HostFailover(), sample())); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		target    Target
		met, none bool
	}{
		{target: Target{Case: "SIGKILL", Measure: takenOver, Contender: Zklvs, AtMost: 0.018}, met: true},
		{target: Target{Case: "SIGKILL", Measure: takenOver, Contender: Zklvs, AtMost: 0.017}},
		{target: Target{Case: "SIGKILL", Measure: takenOver, Contender: Zklvs, AtMost: 0.018, Total: true}},
		{target: Target{Case: "SIGKILL", Measure: takenOver, Contender: Zklvs, Against: Notes, AtLeast: 199}, met: true},
		{target: Target{Case: "SIGKILL", Measure: takenOver, Contender: Zklvs, Against: Notes, AtLeast: 201}},
		{target: Target{Case: "SIGKILL", Measure: twoAnswer, Contender: Notes, AtMost: 1}}, // it is a bound
		{target: Target{Case: "SIGKILL", Measure: twoAnswer, Contender: Zklvs, AtMost: 0}, met: true},
		{target: Target{Case: "SIGKILL", Measure: takenOver, Contender: Zklvs, Against: Tuned, AtLeast: 1}, none: true},
		{target: Target{Case: "no such", Measure: takenOver, Contender: Zklvs, AtMost: 1}, none: true},
	} {
		v, found := c.target.Judge(sample())
		if v.Met != c.met || found == c.none {
			t.Errorf("%+v: met %t, found %t: %s", c.target, v.Met, found, v.Text)
		}
	}
}

// Every plot is XML, and has a point or a triangle for each value.
func TestPlot(t *testing.T) {
	for measure, want := range map[string]int{takenOver: 6, twoAnswer: 4, noAnswer: 0} {
		svg := Plot{Measure: measure, Title: "a < b"}.SVG(sample())
		decoder := xml.NewDecoder(strings.NewReader(svg))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", measure, err, svg)
			}
		}
		if got := strings.Count(svg, "fill-opacity"); got != want {
			t.Errorf("%s: %d marks, want %d", measure, got, want)
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") || strings.Contains(svg, "%!") {
			t.Errorf("%s: a coordinate is none:\n%s", measure, svg)
		}
	}
}

func TestPagesComeFromResults(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, DataDir), 0o755); err != nil {
		t.Fatal(err)
	}
	r := sample()
	if err := r.Save(filepath.Join(dir, DataDir)); err != nil {
		t.Fatal(err)
	}
	back, err := Load(filepath.Join(dir, DataDir), r.Section)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.Series, back.Series); diff != "" {
		t.Errorf("series saved and loaded (-want +got):\n%s", diff)
	}
	if err := WritePages(dir, Sections()); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "failover.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{Table(HostFailover(), r), "fewer than the 10", "2 runs of each case", "failover-host-taken-over.svg", "Linux 6, 2 CPUs"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(string(page), "Requests lost") {
		t.Error("the page has a section without a result")
	}
	if _, err := os.Stat(filepath.Join(dir, "failover-host-taken-over.svg")); err != nil {
		t.Error(err)
	}
}

func TestSectionsAreWhole(t *testing.T) {
	names := map[string]bool{}
	for _, s := range Sections() {
		if found, err := Find(s.Name()); err != nil || found.Title() != s.Title() || names[s.Name()] {
			t.Errorf("section %q: %v, twice: %t", s.Name(), err, names[s.Name()])
		}
		names[s.Name()] = true
		if strings.Contains(s.About(), "%!") || len(s.About()) < 100 || s.Title() == "" || s.Page() == "" {
			t.Errorf("section %q does not explain itself: %s", s.Name(), s.About())
		}
		for _, target := range s.Targets() {
			if !hasMeasure(s, target.Measure) {
				t.Errorf("section %q has a target on %q, which it does not measure", s.Name(), target.Measure)
			}
		}
		for _, p := range s.Plots() {
			if !hasMeasure(s, p.Measure) {
				t.Errorf("section %q plots %q, which it does not measure", s.Name(), p.Measure)
			}
		}
	}
	if _, err := Find("nothing"); err == nil || !strings.Contains(err.Error(), "switchover") {
		t.Errorf("an unknown section: %v", err)
	}
}

func hasMeasure(s Section, name string) bool {
	for _, m := range s.Measures() {
		if m.Name == name {
			return true
		}
	}
	return false
}
