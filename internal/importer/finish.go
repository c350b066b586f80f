package importer

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/zklvs/zklvs/internal/spec"
)

// finish writes the documents and has them checked as apply would.
func (b *builder) finish() (Result, error) {
	text := spec.Join(b.docs.Encode())
	places := b.places(text)
	docs, err := spec.ParseFile(b.name, []byte(text))
	sp := docs.Spec()
	// Whether the cluster synchronizes connections stands elsewhere.
	sp.Cluster.IPVS.Sync.Enabled = false
	if err := spec.JoinErrors(err, sp.Check()); err != nil {
		return Result{}, spec.Errors(b.moved(err, places))
	}
	sp.Cluster.IPVS.Sync.Enabled = true
	b.notes = append(b.notes, b.moved(sp.Check(), places)...)
	b.notes = append(b.notes, b.moved(asErrors(docs.Warnings), places)...)
	slices.SortStableFunc(b.notes, func(a, b spec.Problem) int { return cmp.Compare(a.Pos.Line, b.Pos.Line) })
	return Result{Text: text, Notes: b.notes}, nil
}

func asErrors(list []spec.Problem) error {
	if len(list) == 0 {
		return nil
	}
	return spec.Errors(list)
}

// moved turns places in the text that was made into places of the input.
func (b *builder) moved(err error, places []int) []spec.Problem {
	var faults spec.Errors
	if !errors.As(err, &faults) {
		return nil
	}
	for i, f := range faults {
		if n := f.Pos.Line; n > 0 && n <= len(places) {
			faults[i].Pos = spec.Pos{File: b.name, Line: places[n-1]}
		}
	}
	return faults
}

// places gives the line of the input for each line of the text that was made of
// it: that of the service, or of the real server.
func (b *builder) places(text string) (out []int) {
	first, servers := 1, false
	var lines []int
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		name, isKey := strings.CutSuffix(strings.TrimPrefix(line, "  "), ":")
		switch {
		case isKey && !strings.HasPrefix(name, " ") && strings.HasPrefix(line, "  "):
			if lines = b.lines[spec.ServicePath(name)]; len(lines) > 0 {
				first, lines = lines[0], lines[1:]
			}
			servers = false
			out = append(out, first)
			continue
		case strings.HasPrefix(line, "    real_servers:"):
			servers = true
			out = append(out, first)
			continue
		case servers && strings.HasPrefix(line, "      - ") && len(lines) > 0:
			first, lines = lines[0], lines[1:]
		}
		out = append(out, first)
	}
	return out
}
