package main

import (
	"strings"
	"testing"
)

func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[31mb\nc"); got != "a [31mb c" {
		t.Errorf("%q", got)
	}
	if got := printable(strings.Repeat("é", 1000)); len(got) > 310 {
		t.Errorf("%d bytes", len(got))
	}
}

// A VIP changes groups in two steps only.
func movedVIP(s *site) {
	s.apply("groups: {one: {vips: [10.1.0.1, 10.1.0.2]}}\n")
	moved := "groups: {one: {vips: [10.1.0.2]}, two: {vips: [10.1.0.1]}}\n"
	_, stderr := s.run(exitBadInput, moved, "apply", "-f", "-")
	s.want(stderr, "standard input:1: group two: VIP 10.1.0.1 belongs to group one now")
	_, stderr = s.run(exitBadInput, "groups: {two: {vips: [10.1.0.1]}}\n", "apply", "--prune", "-f", "-")
	s.want(stderr, "VIP 10.1.0.1 belongs to group one now")
	s.apply("groups: {one: {vips: [10.1.0.2]}}\n")
	s.apply(moved)
}
