package spec

import (
	"maps"
	"slices"
	"strings"
)

// Join makes one file for `zklvs apply` out of documents as they are stored, by
// path: the text of each, indented below its kind and name.
func Join(docs map[string][]byte) string {
	var b strings.Builder
	kind := ""
	for _, path := range slices.Sorted(maps.Keys(docs)) {
		k, name, named := strings.Cut(strings.TrimPrefix(path, "spec/"), "/")
		indent := "  "
		if k != kind {
			b.WriteString(k + ":\n")
			kind = k
		}
		if named {
			b.WriteString("  " + name + ":\n")
			indent = "    "
		}
		for line := range strings.Lines(string(docs[path])) {
			if strings.TrimSpace(line) != "" {
				b.WriteString(indent)
			}
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	return b.String()
}
