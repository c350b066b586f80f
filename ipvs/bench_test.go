package ipvs

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/zklvs/zklvs/ipvs/genl"
)

// What 10,000 services x 2 cost beside the kernel's own time.

func BenchmarkValidateAll(b *testing.B) {
	table := bigTable(10000, 2)
	b.ReportAllocs()
	for b.Loop() {
		if err := ValidateAll(table); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDiffOfNew(b *testing.B) {
	table := bigTable(10000, 2)
	b.ReportAllocs()
	for b.Loop() {
		Diff(table, nil, nil)
	}
}

func BenchmarkDiffOfSame(b *testing.B) {
	table, same := bigTable(10000, 2), bigTable(10000, 2)
	b.ReportAllocs()
	for b.Loop() {
		Diff(table, same, nil)
	}
}

func BenchmarkOwnedAdd(b *testing.B) {
	keys := sortedKeys(index(bigTable(10000, 0)))
	o := mustOpenOwned(b, filepath.Join(b.TempDir(), "owned"))
	b.ReportAllocs()
	for b.Loop() {
		if err := o.Add(keys...); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := o.Remove(keys...); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkEncode(b *testing.B) {
	plan := Diff(bigTable(10000, 2), nil, nil)
	var batch genl.Batch
	b.ReportAllocs()
	for b.Loop() {
		for i := range plan {
			if batch.Full() {
				batch.Reset()
			}
			plan[i].encode(&batch, genl.Family{})
		}
	}
}

// A pass in which nothing is to be done, with and without a look.
func BenchmarkReconcileNothing(b *testing.B) {
	for name, look := range map[string]bool{"with a look": true, "without": false} {
		b.Run(name, func(b *testing.B) {
			k := newFakeKernel()
			table := bigTable(10000, 2)
			r := newLife(b, fakeTable(k), filepath.Join(b.TempDir(), "owned"))
			mustReconcile(b, r, table)
			if !look {
				r.shown.next = 1 << 62
			}
			b.ReportAllocs()
			for b.Loop() {
				mustReconcile(b, r, table)
			}
		})
	}
}

func BenchmarkScanProc(b *testing.B) {
	k := newFakeKernel()
	table := bigTable(10000, 2)
	mustApply(b, fakeTable(k), Diff(table, nil, nil))
	text := k.proc()
	want := index(table)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		err := scanProc(strings.NewReader(text), func(p *procService) {
			if s := want[p.key]; s != nil && p.shows(s, 100) {
				n++
			}
		})
		if err != nil || n != len(table) {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkServices(b *testing.B) {
	k := newFakeKernel()
	table := fakeTable(k)
	mustApply(b, table, Diff(bigTable(1000, 4), nil, nil))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := table.Services(); err != nil {
			b.Fatal(err)
		}
	}
}
