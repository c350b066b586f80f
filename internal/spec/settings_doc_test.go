package spec

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateDoc = flag.Bool("update", false, "write docs/SETTINGS.md anew")

// docs/SETTINGS.md is made from Defaults:
//
//	go test ./internal/spec -run TestSettingsDocument -update
func TestSettingsDocument(t *testing.T) {
	const file = "../../docs/SETTINGS.md"
	want := settingsDocument()
	if *updateDoc {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/SETTINGS.md is stale: go test ./internal/spec -run TestSettingsDocument -update\n(-want +got)\n%s", diff)
	}
}

func settingsDocument() string {
	var b strings.Builder
	b.WriteString("# Settings\n\nMade from the code: `go test ./internal/spec -run TestSettingsDocument -update`.\n")
	titles := map[string]string{
		"local":   "The file of a director: `" + LocalFile + "`",
		"cluster": "The documents of a cluster: `zklvs apply -f FILE`",
	}
	last := ""
	for _, s := range Defaults() {
		if s.File != last {
			fmt.Fprintf(&b, "\n## %s\n\n| setting | default | meaning |\n|---|---|---|\n", titles[s.File])
			last = s.File
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Setting, s.Default, strings.ReplaceAll(s.Meaning, "|", "\\|"))
	}
	return b.String()
}
