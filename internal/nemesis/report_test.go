package nemesis

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample() *Report {
	r := &Report{
		Seed: 7, Version: "v1", Kernel: "6.1", Date: "2026-01-02", LeaseMS: 1000, Seconds: 130, BoundMS: 3510, LostMS: 14250,
		LeftOut: map[string]string{"loss": "this kernel has no netem"},
		Faults: []Result{
			{Number: 1, Name: "lan-cut", Begun: 5, Healed: 7, Ended: 9, Parts: []Outcome{{Part: Part{Kind: "lan-cut"}}}, Groups: []Cost{{OutageMS: 100}, {OutageMS: 300}}, ReturnMS: 10},
			{Number: 2, Name: "lan-cut", Begun: 15, Healed: 17, Ended: 19, Parts: []Outcome{{Part: Part{Kind: "lan-cut"}}}, Groups: []Cost{{OutageMS: 20}}, StallMS: 40},
			{Number: 3, Name: "lan-cut + vip-added", Begun: 118, Healed: 122, Ended: 124, Groups: []Cost{{OutageMS: 900}}, Bad: 2,
				Parts: []Outcome{{Part: Part{Kind: "lan-cut"}}, {Part: Part{Kind: "vip-added"}}}, Notes: []string{"node01 had ended"}},
		},
		Violations: []Violation{
			{Fault: 3, Name: "lan-cut + vip-added", Safety: true, Group: "web", Text: "a <b> & c", From: 119, Until: 119.02, MS: 20, Replay: "replay it"},
			{Fault: 3, Name: "lan-cut + vip-added", Group: "web", Text: "late", From: 122, Until: 126, MS: 400, Starved: true},
		},
		Lanes: []Lane{{"web", "192.0.2.1", []Span{{"node01", 0, 119.02}, {"node04", 119, 130}}}, {"files", "192.0.2.2", []Span{{"02:00:00:00:00:01", 1, 2}}}},
	}
	r.summarize()
	return r
}

func TestTable(t *testing.T) {
	want := `kind       alone  out p50 ms  p99  max  in pairs  out max ms  overlaps  overlap ms  late  return max ms
lan-cut        2          20  300  300         1         900         1          20     1             10
vip-added      0           0    0    0         1         900         1          20     1              0
all            2          20  300  300         1         900         1          20     1             10
`
	if diff := cmp.Diff(want, sample().Table()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestWrite(t *testing.T) {
	dir, r := t.TempDir(), sample()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var again Report
	if err := json.Unmarshal([]byte(read("report.json")), &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*r, again); diff != "" {
		t.Errorf("report.json (-want +got):\n%s", diff)
	}
	if r.Safe() || r.StallMS != 40 || r.Restarts != 1 {
		t.Errorf("safe %t, stall %v, restarts %d", r.Safe(), r.StallMS, r.Restarts)
	}
	for _, text := range []string{
		"**Violations: 1 of safety, 1 of availability.**", "| lan-cut | 2 | 20 | 300 | 300 | 1 | 900 | 1 | 20 | 1 | 10 |",
		"left out: this kernel has no netem", "  replay: replay it", "too busy to say",
	} {
		if !strings.Contains(read("README.md"), text) {
			t.Errorf("README.md lacks %q:\n%s", text, read("README.md"))
		}
	}
	drawn := read("timeline.svg")
	for d := xml.NewDecoder(strings.NewReader(drawn)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("timeline.svg: %v", err)
		}
	}
	// the safety violation, and the late one, which is cut at the row's end
	if n := strings.Count(drawn, `fill-opacity="0.7"`); n != 2 {
		t.Errorf("%d violations are drawn, want 2", n)
	}
	// a span of both rows is drawn in both
	if n := strings.Count(drawn, "node04 answered for 192.0.2.1"); n != 2 {
		t.Errorf("node04's span is drawn %d times, want 2", n)
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{1, 2, 3, 4}
	for share, want := range map[float64]float64{0.5: 2, 0.99: 4, 1: 4, 0.25: 1} {
		if got := quantile(values, share); got != want {
			t.Errorf("quantile %v is %v, want %v", share, got, want)
		}
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}
