package spec

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The files of deploy/examples are right, alone and all together.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	local := filepath.FromSlash("../../deploy/examples/zklvs.yaml")
	var sets []*Documents
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if file == local {
			if _, err := ParseLocal(file, data); err != nil {
				t.Error(err)
			}
			continue
		}
		d, err := ParseFile(file, data)
		if err == nil {
			err = d.Spec().Check()
		}
		if err != nil || len(d.Warnings) > 0 {
			t.Error(err, d.Warnings)
		}
		if filepath.Base(file) != "mark.yaml" { // two of them have the cluster's document
			sets = append(sets, d)
		}
	}
	if len(sets) < 3 || !slices.Contains(files, local) {
		t.Fatalf("only %v", files)
	}
	all, err := Merge(sets...)
	if err == nil {
		err = all.Spec().Check()
	}
	if err != nil {
		t.Fatal(err)
	}
	checkRoundTrip(t, all)
}
