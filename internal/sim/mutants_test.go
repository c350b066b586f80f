package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// mutantSchedules is within how many schedules each mutant must be caught.
	mutantSchedules = 100000
	// A mutant may loop or hoard: its run is bounded in time and address space.
	mutantTime     = 4 * time.Minute
	mutantKilobyte = 4 << 20
	// mutantJobs is how many mutants are built and played at once.
	mutantJobs = 2
)

// TestMutants plays schedules against production code that is broken in one
// place. It fails if no invariant is broken, or another one than expected, or if
// the place is not there any more.
func TestMutants(t *testing.T) {
	places(t)
	if os.Getenv("ZKLVS_MUTANTS") == "" {
		t.Skip("SKIP: building the mutants takes a minute: run `make sim`, or set ZKLVS_MUTANTS=1 (or to a part of their names)")
	}
	if os.Getenv("ZKLVS_MUTANTS") == "1" {
		os.Setenv("ZKLVS_MUTANTS", "")
	}
	var chosen []*mutant
	for i := range mutants {
		if strings.Contains(mutants[i].name, os.Getenv("ZKLVS_MUTANTS")) {
			chosen = append(chosen, &mutants[i])
		}
	}
	verdicts := make([]verdict, len(chosen))
	var wg sync.WaitGroup
	turns := make(chan struct{}, mutantJobs)
	for i, m := range chosen {
		wg.Go(func() {
			turns <- struct{}{}
			verdicts[i] = m.play(t.TempDir())
			<-turns
		})
	}
	wg.Wait()
	fmt.Printf("%-62s %9s  %s\n", "mutant", "schedules", "broken")
	for i, m := range chosen {
		v := verdicts[i]
		fmt.Printf("%-62s %9d  %s\n", m.name, v.schedules, v.broken)
		switch {
		case v.trouble != "":
			t.Errorf("mutant %q: %s", m.name, v.trouble)
		case v.broken == "":
			t.Errorf("mutant %q survived %d schedules", m.name, v.schedules)
		case !strings.Contains(m.breaks, string(v.broken)):
			t.Errorf("mutant %q broke %q, want %s", m.name, v.broken, m.breaks)
		}
	}
}

// places checks that every mutant still has exactly one place in the code.
func places(t *testing.T) {
	t.Helper()
	for _, m := range mutants {
		if _, err := m.mutated(); err != nil {
			t.Errorf("mutant %q: %v", m.name, err)
		}
	}
}

// mutant is one change of a production file.
type mutant struct {
	name     string
	file     string // from the module's root
	old, new string
	breaks   string // invariants, separated by |
}

// mutated returns the file with the change.
func (m *mutant) mutated() ([]byte, error) {
	src, err := os.ReadFile(filepath.Join("..", "..", m.file))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(src, []byte(m.old)); n != 1 {
		return nil, fmt.Errorf("%s has its place %d times, want once: move the mutant with the code:\n%s", m.file, n, m.old)
	}
	return bytes.Replace(src, []byte(m.old), []byte(m.new), 1), nil
}

// verdict is what became of a mutant.
type verdict struct {
	schedules int
	broken    Invariant
	trouble   string // it could not be built or played
}

// play builds a test of this package in which the file is changed, and runs it.
func (m *mutant) play(dir string) verdict {
	binary := filepath.Join(dir, "sim.test")
	if err := m.build(dir, binary); err != nil {
		return verdict{trouble: err.Error()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), mutantTime)
	defer cancel()
	limited := fmt.Sprintf("ulimit -v %d; exec %q -test.run '^TestSchedules$'", mutantKilobyte, binary)
	cmd := exec.CommandContext(ctx, "sh", "-c", limited)
	cmd.Env = append(os.Environ(), fmt.Sprintf("ZKLVS_SCHEDULES=%d", mutantSchedules), "ZKLVS_SEED=", "ZKLVS_ONLY=", "ZKLVS_SHRINK=0", "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return verdict{schedules: mutantSchedules}
	}
	return readVerdict(out, err)
}

// build makes an overlay: the compiler reads the changed file in place of the real one.
func (m *mutant) build(dir, binary string) error {
	src, err := m.mutated()
	if err != nil {
		return err
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return err
	}
	changed, overlay := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, m.file): changed}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(changed, src, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		return err
	}
	cmd := exec.Command("go", "test", "-c", "-p", "1", "-ldflags=-s -w", "-overlay", overlay, "-o", binary, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

var (
	playedLine = regexp.MustCompile(`(?m)^(\d+) schedules in `)
	brokenLine = regexp.MustCompile(`at [0-9.]+ s: ([a-z ]+): `)
)

// readVerdict reads what TestSchedules said of a failure.
func readVerdict(out []byte, err error) verdict {
	played, broken := playedLine.FindSubmatch(out), brokenLine.FindSubmatch(out)
	if played == nil || broken == nil {
		return verdict{trouble: fmt.Sprintf("its run ended without a verdict (%v):\n%.2000s", err, out)}
	}
	n, _ := strconv.Atoi(string(played[1]))
	return verdict{schedules: n, broken: Invariant(broken[1])}
}
