// Package systemd_test runs the units under a real systemd: pid 1 of a user-mode
// Linux that is booted on this machine's own root file system.
package systemd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zklvs/zklvs/deploy/kernel"
)

// hung is when a guest that says nothing is ended: about five times what it takes
// on an idle machine.
const hung = 4 * time.Minute

// TestMain is also the scenario that the guest's systemd runs: this program,
// built anew for it.
func TestMain(m *testing.M) {
	if os.Getenv(scenarioVariable) != "" {
		os.Exit(playScenario())
	}
	os.Exit(m.Run())
}

// zklvs.service under a real systemd: each step of the scenario is a subtest.
func TestUnitUnderSystemd(t *testing.T) {
	requireGuest(t)
	noteSources(t)
	out := t.TempDir()
	buildInto(t, out)
	writeUnits(t, filepath.Join(out, "units"))
	console := bootGuest(t, out)
	found := readFindings(t, out)
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			f, ok := found[s.name]
			if !ok {
				t.Fatal("the scenario did not come to this step")
			}
			t.Logf("%v\n%s", f.Took.Round(time.Millisecond), strings.Join(f.Facts, "\n"))
			if f.Error != "" {
				t.Error(f.Error)
			}
		})
	}
	if t.Failed() {
		t.Logf("the console: %s", console)
		for _, name := range []string{"init.log", "scenario.log", "zklvs.log"} {
			data, err := os.ReadFile(filepath.Join(out, name))
			t.Logf("%s (%v):\n%s", name, err, data)
		}
	}
}

func requireGuest(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: booting a guest needs root: run make test as root")
	}
	for file, remedy := range map[string]string{
		"/usr/bin/linux.uml":               "apt-get install user-mode-linux",
		systemdProgram:                     "apt-get install systemd",
		"/usr/share/java/zookeeper.jar":    "make deps",
		"/usr/lib/modules":                 "mkdir /usr/lib/modules",
		"/usr/share/java/slf4j-simple.jar": "make deps",
		"/usr/local/sbin":                  "mkdir /usr/local/sbin",
		"/etc/systemd":                     "apt-get install systemd",
	} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("SKIP: no user-mode Linux with systemd can be booted here: %v: %s", err, remedy)
		}
	}
}

// noteSources opens every source file: Go runs a cached test anew only if a file
// that it opened has changed, and knows nothing of the programs built here.
func noteSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != "..":
			return fs.SkipDir
		case filepath.Ext(path) == ".go" || d.Name() == "go.mod":
			_, err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// buildInto builds zklvs as make build does, and the scenario: this package's
// tests, without the race detector, for which a user-mode Linux is too small.
func buildInto(t *testing.T, out string) {
	t.Helper()
	for _, args := range [][]string{
		{"build", "-o", filepath.Join(out, "zklvs"), "../../cmd/zklvs"},
		{"test", "-c", "-o", filepath.Join(out, "scenario"), "."},
	} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, output)
		}
	}
}

// writeUnits writes what the guest's systemd knows: the unit as it is, with its
// output in a file; the scenario; and in place of a distribution's many units
// that order themselves before it, targets that bring nothing.
func writeUnits(t *testing.T, dir string) {
	t.Helper()
	unit, err := os.ReadFile("zklvs.service")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"zklvs.service":            string(unit),
		"zklvs.service.d/log.conf": "[Service]\nStandardOutput=append:/run/out/zklvs.log\nStandardError=append:/run/out/zklvs.log\n",
		"scenario.target":          "[Unit]\nWants=scenario.service\n# Keeps it loaded with its result.\nAfter=zklvs.service\n",
		"scenario.service": "[Unit]\nSuccessAction=poweroff-immediate\nFailureAction=poweroff-immediate\n" +
			"[Service]\nType=oneshot\nEnvironment=" + scenarioVariable + "=1\nExecStart=/run/out/scenario\n" +
			"StandardOutput=append:/run/out/scenario.log\nStandardError=append:/run/out/scenario.log\n",
	}
	for _, target := range []string{"sysinit", "basic", "network-online", "shutdown", "multi-user"} {
		files[target+".target"] = "[Unit]\nDefaultDependencies=no\n"
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// bootGuest runs the guest to its end and returns what its console said. When it
// hangs, with-ipvs is killed, and everything with it.
func bootGuest(t *testing.T, out string) string {
	t.Helper()
	wrapper, err := kernel.Extract(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	init, err := os.ReadFile("guest-init")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(wrapper), "guest-init"), init, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), hung)
	defer cancel()
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, wrapper, "systemd")
	cmd.Env = append(os.Environ(), "ZKLVS_KERNEL=uml", "ZKLVS_MEM=1G", "ZKLVS_OUT="+out)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = 5 * time.Second
	start := time.Now()
	if err := cmd.Run(); err != nil {
		t.Errorf("the guest, after %v: %v", time.Since(start).Round(time.Second), errors.Join(err, ctx.Err()))
	}
	t.Logf("the guest ran for %v", time.Since(start).Round(time.Millisecond))
	said, err := os.ReadFile(filepath.Join(out, "console"))
	if err != nil {
		said = nil // it did not come so far
	}
	return output.String() + string(said)
}

// finding is what one step of the scenario found.
type finding struct {
	Step  string
	Took  time.Duration
	Facts []string
	Error string
}

func readFindings(t *testing.T, out string) map[string]finding {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(out, findingsFile))
	if err != nil {
		t.Error(err)
	}
	found := map[string]finding{}
	for line := range bytes.Lines(data) {
		var f finding
		if err := json.Unmarshal(line, &f); err != nil {
			t.Errorf("finding %q: %v", line, err)
		}
		found[f.Step] = f
	}
	return found
}

// note writes a finding where the host reads it.
func note(f finding) error {
	line, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode the finding of %s: %w", f.Step, err)
	}
	file, err := os.OpenFile(filepath.Join("/run/out", findingsFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}
