package nemesis

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Report is what a run found. Times are seconds since the run's begin, lengths
// milliseconds.
type Report struct {
	Command    string            `json:"command"`
	Seed       uint64            `json:"seed"`
	Version    string            `json:"version"`
	Kernel     string            `json:"kernel"`
	Date       string            `json:"date"`
	Services   bool              `json:"services"` // IPVS, else the directors' own web servers
	LeaseMS    float64           `json:"lease_ms"`
	WaitMS     float64           `json:"w_ms"`
	BoundMS    float64           `json:"bound_ms"`
	LostMS     float64           `json:"bound_record_lost_ms"`
	IntervalMS float64           `json:"request_interval_ms"`
	LeftOut    map[string]string `json:"left_out,omitempty"` // kinds, and why
	Seconds    float64           `json:"seconds"`
	Requests   int               `json:"requests"`
	Answered   int               `json:"requests_answered"`
	Probes     int               `json:"probes"`
	StallMS    float64           `json:"stall_max_ms"`      // see Result
	Restarts   int               `json:"unstruck_restarts"` // directors that ended after a heal, such as by their timers
	// ObserversCPU and ClusterCPU are processors used, on average: by the observers
	// and by all else, such as ZooKeeper and the directors.
	ObserversCPU float64     `json:"observers_processors"`
	ClusterCPU   float64     `json:"cluster_processors"`
	Faults       []Result    `json:"faults"`
	Violations   []Violation `json:"violations"`
	Kinds        []Summary   `json:"kinds"`
	Lanes        []Lane      `json:"lanes"`
}

// Result is what became of one fault.
type Result struct {
	Number   int     `json:"number"`
	Name     string  `json:"name"`
	Begun    float64 `json:"begun_s"`
	Healed   float64 `json:"healed_s"`  // all parts
	Counted  float64 `json:"counted_s"` // from when the bound counts: healed, quorum
	Ended    float64 `json:"ended_s"`
	BoundMS  float64 `json:"bound_ms"`
	ReturnMS float64 `json:"return_ms"` // of the later group, after Counted
	// StallMS is for how long the observers themselves were not scheduled, at most: on
	// a machine that is too busy the cluster is not either, and a late return says
	// little.
	StallMS float64   `json:"stall_ms"`
	Parts   []Outcome `json:"parts"`
	Groups  []Cost    `json:"groups"`
	Notes   []string  `json:"notes,omitempty"`
	Bad     int       `json:"violations"`
}

// Outcome is what was done for one part.
type Outcome struct {
	Part
	Director string  `json:"director,omitempty"`
	Injected float64 `json:"injected_s"`
	Healed   float64 `json:"healed_s"`
	Note     string  `json:"note,omitempty"` // why it was not, if it was not
}

// Cost is what a fault cost the clients of a group.
type Cost struct {
	Group     string  `json:"group"`
	Before    string  `json:"holder_before"`
	After     string  `json:"holder_after"`
	OutageMS  float64 `json:"outage_ms"` // longest pause between two answered requests
	Lost      int     `json:"requests_lost"`
	Neighbors int     `json:"neighbor_changes"` // in the client's kernel
}

// Violation is a breach of the rule (safety) or of the bound (availability).
type Violation struct {
	Fault  int      `json:"fault"`
	Name   string   `json:"name"`
	Safety bool     `json:"safety"`
	Group  string   `json:"group,omitempty"`
	Text   string   `json:"text"`
	From   float64  `json:"from_s"`
	Until  float64  `json:"until_s"`
	MS     float64  `json:"ms"`
	Replay string   `json:"replay"`
	Files  []string `json:"files,omitempty"`
	// Starved: the machine was too busy for a verdict on availability.
	Starved bool `json:"starved,omitempty"`
}

func (v Violation) String() string {
	word := "AVAILABILITY"
	if v.Safety {
		word = "SAFETY"
	}
	text := fmt.Sprintf("%s: fault %d (%s), group %s: %s", word, v.Fault, v.Name, v.Group, v.Text)
	if v.Starved {
		text += " (this machine was too busy to say that it is a fault)"
	}
	return text + "\n  replay: " + v.Replay
}

// Summary is what is told of one kind of fault. Overlaps, late returns and the
// longest return are those of all faults that it was a part of; an outage of a pair
// may be due to the other part.
type Summary struct {
	Kind      string  `json:"kind"`
	Alone     int     `json:"alone"`
	P50MS     float64 `json:"outage_p50_ms"` // of the faults alone
	P99MS     float64 `json:"outage_p99_ms"`
	MaxMS     float64 `json:"outage_max_ms"`
	Paired    int     `json:"in_pairs"`
	PairMaxMS float64 `json:"outage_in_pairs_max_ms"`
	Overlaps  int     `json:"overlaps"`
	OverlapMS float64 `json:"overlap_ms"`
	Late      int     `json:"late_returns"`
	ReturnMS  float64 `json:"return_max_ms"`
}

// Lane is who answered for a VIP, in the order of time.
type Lane struct {
	Group string `json:"group"`
	VIP   string `json:"vip"`
	Spans []Span `json:"spans"`
}

// Span is a time in which a host answered.
type Span struct {
	Host  string  `json:"host"`
	From  float64 `json:"from_s"`
	Until float64 `json:"until_s"`
}

// Safe tells whether no overlap was found.
func (r *Report) Safe() bool {
	return !slices.ContainsFunc(r.Violations, func(v Violation) bool { return v.Safety })
}

// summarize fills Kinds: a line for each kind, and one for all.
func (r *Report) summarize() {
	for _, f := range r.Faults {
		r.StallMS = max(r.StallMS, f.StallMS)
		r.Restarts += len(f.Notes)
	}
	r.Kinds = nil
	for _, k := range kinds {
		if s := r.summary(k.name, func(f Result) bool {
			return slices.ContainsFunc(f.Parts, func(p Outcome) bool { return p.Kind == k.name })
		}); s.Alone+s.Paired > 0 {
			r.Kinds = append(r.Kinds, s)
		}
	}
	r.Kinds = append(r.Kinds, r.summary("all", func(Result) bool { return true }))
}

func (r *Report) summary(name string, in func(Result) bool) Summary {
	s := Summary{Kind: name}
	var outages []float64
	for _, f := range r.Faults {
		if !in(f) {
			continue
		}
		worst := 0.0
		for _, g := range f.Groups {
			worst = max(worst, g.OutageMS)
		}
		if len(f.Parts) > 1 {
			s.Paired++
			s.PairMaxMS = max(s.PairMaxMS, worst)
		} else {
			s.Alone++
			outages = append(outages, worst)
		}
		s.ReturnMS = max(s.ReturnMS, f.ReturnMS)
		for _, v := range r.Violations {
			switch {
			case v.Fault != f.Number:
			case v.Safety:
				s.Overlaps++
				s.OverlapMS += v.MS
			default:
				s.Late++
			}
		}
	}
	slices.SortFunc(outages, cmp.Compare)
	s.P50MS, s.P99MS, s.MaxMS = quantile(outages, 0.50), quantile(outages, 0.99), quantile(outages, 1)
	return s
}

// quantile is the smallest value that a share of the values does not exceed.
func quantile(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := int(share*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// heads are the columns of a table of kinds.
var heads = []string{"kind", "alone", "out p50 ms", "p99", "max", "in pairs", "out max ms", "overlaps", "overlap ms", "late", "return max ms"}

func (s Summary) cells() []string {
	whole := func(ms float64) string { return fmt.Sprintf("%.0f", ms) }
	return []string{
		s.Kind, fmt.Sprint(s.Alone), whole(s.P50MS), whole(s.P99MS), whole(s.MaxMS), fmt.Sprint(s.Paired), whole(s.PairMaxMS),
		fmt.Sprint(s.Overlaps), whole(s.OverlapMS), fmt.Sprint(s.Late), whole(s.ReturnMS),
	}
}

// Table is the summary for a terminal.
func (r *Report) Table() string {
	rows := [][]string{heads}
	for _, s := range r.Kinds {
		rows = append(rows, s.cells())
	}
	widths := make([]int, len(heads))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			if i == 0 {
				fmt.Fprintf(&b, "%-*s", widths[i], cell)
				continue
			}
			fmt.Fprintf(&b, "  %*s", widths[i], cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}
