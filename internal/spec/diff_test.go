package spec

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestDiff(t *testing.T) {
	numbers := func(l ...string) []byte { return []byte(strings.Join(l, "\n") + "\n") }
	before := map[string][]byte{
		"spec/cluster":    numbers("a: 1", "b: 2"),
		"spec/groups/a":   numbers("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13"),
		"spec/groups/b":   numbers("x"),
		"spec/services/s": numbers("same"),
		"spec/services/t": []byte("bell\a\x1b[31m"),
	}
	after := map[string][]byte{
		"spec/cluster":    numbers("a: 1", "b: 3", "c: 4"),
		"spec/groups/a":   numbers("1", "two", "3", "4", "5", "6", "7", "8", "9", "10", "11", "13"),
		"spec/groups/c":   numbers("y", "z"),
		"spec/services/s": numbers("same"),
		"spec/services/t": numbers("bell"),
	}
	want := []Change{
		{"spec/cluster", Changed, `--- spec/cluster
+++ spec/cluster
@@ -1,2 +1,3 @@
 a: 1
-b: 2
+b: 3
+c: 4
`},
		{"spec/groups/a", Changed, `--- spec/groups/a
+++ spec/groups/a
@@ -1,5 +1,5 @@
 1
-2
+two
 3
 4
 5
@@ -9,5 +9,4 @@
 9
 10
 11
-12
 13
`},
		{"spec/groups/b", Removed, "--- spec/groups/b\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"},
		{"spec/groups/c", Added, "--- /dev/null\n+++ spec/groups/c\n@@ -0,0 +1,2 @@\n+y\n+z\n"},
		{"spec/services/s", Unchanged, ""},
		{"spec/services/t", Changed, "--- spec/services/t\n+++ spec/services/t\n@@ -1 +1 @@\n-bell··[31m\n+bell\n"},
	}
	diffValues(t, want, Diff(before, after))
}

// Applying the edits to a gives b, and what is kept is in both.
func TestCompareTurnsOneIntoTheOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 12)
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		var gotA, gotB []string
		kept := 0
		for _, e := range compare(a, b) {
			if e.op != '+' {
				gotA = append(gotA, e.line)
			}
			if e.op != '-' {
				gotB = append(gotB, e.line)
			}
			if e.op == ' ' {
				kept++
			}
		}
		if strings.Join(a, "") != strings.Join(gotA, "") || strings.Join(b, "") != strings.Join(gotB, "") {
			t.Fatalf("%v -> %v: edits of %v -> %v", a, b, gotA, gotB)
		}
		if longest := int(commonLengths(a, b)[0][0]); kept != longest {
			t.Fatalf("%d lines kept, %d could be", kept, longest)
		}
	})
}

func TestCompareOfLargeTextsIsBounded(t *testing.T) {
	a, b := make([]string, 20_000), make([]string, 20_000)
	for i := range a {
		a[i], b[i] = "a", "b"
	}
	if n := len(compare(a, b)); n != 40_000 {
		t.Errorf("%d edits", n)
	}
}
