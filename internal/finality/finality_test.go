package finality

import (
	"testing"
	"time"
)

func TestMemoryIsBounded(t *testing.T) {
	var m Memory
	name := func(i int) string { return time.Duration(i).String() }
	for i := range limit + 10 {
		m.Add(name(i))
		m.Add(name(i))
	}
	if len(m.names) != limit || len(m.order) != limit {
		t.Fatalf("remembers %d names in order of %d, want %d", len(m.names), len(m.order), limit)
	}
	if m.Has(name(9)) || !m.Has(name(10)) || !m.Has(name(limit+9)) {
		t.Error("does not remember the latest names")
	}
}
