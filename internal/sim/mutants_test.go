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
// place. It fails if no invariant is broken, or another one than expected.
// ZKLVS_MUTANTS is "all" or a part of names; without it one mutant is played.
func TestMutants(t *testing.T) {
	chosen := choose(os.Getenv("ZKLVS_MUTANTS"))
	if len(chosen) == 0 {
		t.Fatalf("no mutant has %q in its name", os.Getenv("ZKLVS_MUTANTS"))
	}
	verdicts := playMutants(t, chosen)
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

func choose(which string) (chosen []mutant) {
	switch which {
	case "":
		return mutants[:1]
	case "all":
		return mutants
	}
	for _, m := range mutants {
		if strings.Contains(m.name, which) {
			chosen = append(chosen, m)
		}
	}
	return chosen
}

func playMutants(t *testing.T, chosen []mutant) []verdict {
	verdicts := make([]verdict, len(chosen))
	var wg sync.WaitGroup
	turns := make(chan struct{}, mutantJobs)
	for i, m := range chosen {
		dir := t.TempDir()
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			verdicts[i] = m.play(dir)
		})
	}
	wg.Wait()
	return verdicts
}

// Every mutant has exactly one place in the code.
func TestMutantsApply(t *testing.T) {
	for _, m := range mutants {
		if _, err := m.mutated(); err != nil {
			t.Errorf("mutant %q: %v", m.name, err)
		}
	}
}

// What is left of a schedule that fails has fewer mishaps, and still fails the
// same way when it is replayed by the line that is shown.
func TestShrink(t *testing.T) {
	m := choose("no wait after a deletion")[0]
	dir := t.TempDir()
	binary := filepath.Join(dir, "sim.test")
	if err := m.build(dir, binary); err != nil {
		t.Fatal(err)
	}
	out, err := m.run(binary)
	if err == nil {
		t.Fatalf("the mutant survived:\n%s", out)
	}
	found := shrunkLine.FindSubmatch(out)
	if found == nil {
		t.Fatalf("it was not shrunk:\n%s", out)
	}
	before, _ := strconv.Atoi(string(found[1]))
	after, _ := strconv.Atoi(string(found[2]))
	if after >= before || after > 8 {
		t.Errorf("shrunk from %d mishaps to %d", before, after)
	}
	replay := replayLine.FindSubmatch(out)
	seed, only := "ZKLVS_SEED="+string(replay[1]), "ZKLVS_ONLY="+string(replay[2])
	if again, err := m.run(binary, seed, only); err == nil || readVerdict(out, nil).broken != replayed(again) {
		t.Errorf("the replay does not fail the same way:\n%s", again)
	}
	if again, err := m.run(binary, seed, "ZKLVS_ONLY="+noMishaps); err != nil {
		t.Errorf("without any mishap it fails as well:\n%s", again)
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
	out, err := m.run(binary, "ZKLVS_SHRINK=0")
	if err == nil {
		return verdict{schedules: mutantSchedules}
	}
	return readVerdict(out, err)
}

// run plays schedules with a binary, within bounds of time and memory.
func (m *mutant) run(binary string, env ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), mutantTime)
	defer cancel()
	limited := fmt.Sprintf("ulimit -v %d; exec '%s' -test.v -test.run '^TestSchedules$'", mutantKilobyte, binary)
	cmd := exec.CommandContext(ctx, "sh", "-c", limited)
	cmd.Env = append(os.Environ(), fmt.Sprintf("ZKLVS_SCHEDULES=%d", mutantSchedules), "ZKLVS_SEED=", "ZKLVS_ONLY=", "GOMAXPROCS=1")
	cmd.Env = append(cmd.Env, env...)
	return cmd.CombinedOutput()
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
	shrunkLine = regexp.MustCompile(`shrunk from (\d+) mishaps to (\d+);`)
	replayLine = regexp.MustCompile(`replay: ZKLVS_SEED=(\d+) ZKLVS_ONLY=(\S+) go test`)
)

// replayed reads which invariant a single schedule broke.
func replayed(out []byte) Invariant {
	if broken := brokenLine.FindSubmatch(out); broken != nil {
		return Invariant(broken[1])
	}
	return ""
}

// readVerdict reads what TestSchedules said of a failure.
func readVerdict(out []byte, err error) verdict {
	played, broken := playedLine.FindSubmatch(out), brokenLine.FindSubmatch(out)
	if played == nil || broken == nil {
		return verdict{trouble: fmt.Sprintf("its run ended without a verdict (%v):\n%.2000s", err, out)}
	}
	n, _ := strconv.Atoi(string(played[1]))
	return verdict{schedules: n, broken: Invariant(broken[1])}
}
