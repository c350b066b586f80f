package director

import (
	"fmt"
	"maps"
	"runtime"
	"testing"
)

// manyDocuments are services of two real servers each, in one group.
func manyDocuments(n int) map[string][]byte {
	raw := map[string][]byte{"spec/groups/web": []byte("vips: [192.0.2.100]\n")}
	for i := range n {
		raw[fmt.Sprintf("spec/services/s%d", i)] = fmt.Appendf(nil, "group: web\nlisten: 192.0.2.100:%d/tcp\nscheduler: wlc\nforward: dr\nreal_servers:\n"+
			"  - {address: \"10.1.%d.%d:%[1]d\", weight: 1}\n  - {address: \"10.2.%[2]d.%[3]d:%[1]d\", weight: 1}\n", i+1, i>>8, i&255)
	}
	return raw
}

// BenchmarkLoad puts 10,000 documents in force, and tells what is kept of them
// besides their text.
func BenchmarkLoad(b *testing.B) {
	raw := manyDocuments(10_000)
	for b.Loop() {
		before := heap()
		var d documents
		d.load(raw)
		b.ReportMetric(float64(heap()-before)/(1<<20), "MiB-kept")
		if len(d.problems) > 0 {
			b.Fatal(d.problems[0])
		}
	}
}

// BenchmarkLoadOneOfMany changes one of 10,000 documents.
func BenchmarkLoadOneOfMany(b *testing.B) {
	raw := manyDocuments(10_000)
	var d documents
	d.load(raw)
	for i := 0; b.Loop(); i++ {
		raw = maps.Clone(raw)
		raw["spec/services/s7"] = fmt.Appendf(nil, "group: web\nlisten: 192.0.2.100:8/tcp\nscheduler: wlc\nforward: dr\npersistence: %ds\n", i%1000+1)
		if !d.load(raw) || len(d.problems) > 0 {
			b.Fatal(d.problems)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
