package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// The contenders, as series name them. Later sections may have others.
const (
	Zklvs = "zklvs"
	Notes = "keepalived, notes" // as the exercise's notes configure it
	Tuned = "keepalived, tuned" // VRRP version 3, an advertisement each 100 ms
	// Synced is Notes with lvs_sync_daemon.
	Synced = "keepalived, sync daemon"
)

// Value is one measured value.
type Value struct {
	V float64 `json:"v"`
	// AtLeast says that V is a lower bound: what was measured had not come to an end.
	AtLeast bool `json:"at_least,omitempty"`
}

// Series are the values of one measure of one contender in one case, in the order
// of the runs.
type Series struct {
	Case      string  `json:"case"`
	Measure   string  `json:"measure"`
	Contender string  `json:"contender"`
	Unit      string  `json:"unit"` // "s" for seconds, else what is counted
	Values    []Value `json:"values"`
}

// Machine is where a section ran.
type Machine struct {
	Kernel   string            `json:"kernel"`
	UML      bool              `json:"user_mode_linux,omitempty"`
	CPUs     int               `json:"cpus"`
	Load     string            `json:"load,omitempty"` // averages of 1, 5 and 15 minutes before the run
	Versions map[string]string `json:"versions"`
}

// Result is what a section measured.
type Result struct {
	Section string    `json:"section"`
	Command string    `json:"command"`
	Begun   time.Time `json:"begun"`
	Seconds float64   `json:"seconds"` // it took
	Runs    int       `json:"runs"`
	Machine Machine   `json:"machine"`
	Host    *Machine  `json:"host,omitempty"` // the machine that the user-mode Linux ran on
	Remarks []string  `json:"remarks,omitempty"`
	Series  []Series  `json:"series"`
}

// Add appends a value to its series.
func (r *Result) Add(kase, measure, contender, unit string, v Value) {
	if s := r.Find(kase, measure, contender); s != nil {
		s.Values = append(s.Values, v)
		return
	}
	r.Series = append(r.Series, Series{kase, measure, contender, unit, []Value{v}})
}

// Find returns the series of a contender, nil if there is none.
func (r *Result) Find(kase, measure, contender string) *Series {
	for i, s := range r.Series {
		if s.Case == kase && s.Measure == measure && s.Contender == contender {
			return &r.Series[i]
		}
	}
	return nil
}

// Cases returns the cases in the order in which they were measured first.
func (r *Result) Cases() []string {
	return r.distinct(func(s Series) string { return s.Case })
}

// Contenders returns the contenders in the order in which they were measured first.
func (r *Result) Contenders() []string {
	return r.distinct(func(s Series) string { return s.Contender })
}

func (r *Result) distinct(of func(Series) string) []string {
	var found []string
	for _, s := range r.Series {
		if !slices.Contains(found, of(s)) {
			found = append(found, of(s))
		}
	}
	return found
}

// Save writes the result to dir/SECTION.json.
func (r *Result) Save(dir string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode the result of section %s: %w", r.Section, err)
	}
	if err := os.WriteFile(resultFile(dir, r.Section), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("save the result of section %s: %w", r.Section, err)
	}
	return nil
}

// Load reads what Save wrote. An error that wraps fs.ErrNotExist says that there
// is none.
func Load(dir, section string) (*Result, error) {
	data, err := os.ReadFile(resultFile(dir, section))
	if err != nil {
		return nil, fmt.Errorf("load the result of section %s: %w", section, err)
	}
	r := &Result{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("load the result of section %s: %w", section, err)
	}
	return r, nil
}

func resultFile(dir, section string) string { return filepath.Join(dir, section+".json") }
