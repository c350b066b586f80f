package nearest

import (
	"strings"
	"testing"
)

func TestDidYouMean(t *testing.T) {
	words := []string{"weight", "scheduler", "persistence", "rr"}
	for s, want := range map[string]string{
		"wieght": "weight", "weights": "weight", "sched": "scheduler", "wr": "rr",
		"": "", "netmask": "", strings.Repeat("weight", 10): "",
	} {
		if got := Word(s, words); got != want {
			t.Errorf("Word(%q) = %q, want %q", s, got, want)
		}
	}
	if got := DidYouMean("wieght", words); got != ` (did you mean "weight"?)` {
		t.Errorf("hint %q", got)
	}
	if got := DidYouMean("netmask", words); got != "" {
		t.Errorf("hint %q for a word that is like none", got)
	}
}
