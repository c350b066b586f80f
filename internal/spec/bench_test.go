package spec

import (
	"fmt"
	"runtime"
	"testing"
)

// stored are the documents of n services with two checked real servers each, on
// VIPs of 1,000 ports.
func stored(n int) map[string][]byte {
	docs, vips := map[string][]byte{}, ""
	for i := range n {
		vip := fmt.Sprintf("10.0.%d.1", i/1000)
		if i%1000 == 0 {
			vips += vip + ", "
		}
		docs[ServicePath(fmt.Sprintf("service-%05d", i))] = fmt.Appendf(nil,
			"group: web\nlisten: %s:%d/tcp\nscheduler: wlc\nforward: dr\ncheck:\n  http: {path: /health}\nreal_servers:\n"+
				"  - {address: 10.1.0.1:%d, weight: 1}\n  - {address: 10.1.0.2:%d, weight: 1}\n", vip, i%1000+1, i%1000+1, i%1000+1)
	}
	docs[GroupPath("web")] = []byte("vips: [" + vips + "]\n")
	return docs
}

// BenchmarkDecode is a director's work with the documents of 10,000 services, and
// what it keeps of them.
func BenchmarkDecode(b *testing.B) {
	raw := stored(10_000)
	b.ReportAllocs()
	for b.Loop() {
		before := heap()
		var sets []*Documents
		for path, data := range raw {
			d, err := Decode(path, data)
			if err != nil {
				b.Fatal(err)
			}
			sets = append(sets, d)
		}
		all, err := Merge(sets...)
		if err != nil {
			b.Fatal(err)
		}
		sp := all.Spec()
		if err := sp.Check(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(heap()-before)/float64(len(raw)), "kept-B/doc")
		runtime.KeepAlive(sets)
		runtime.KeepAlive(sp)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
