package health

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// The server's side runs in this process too; its share is in the figures.
func BenchmarkTCPProbe(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	benchmarkProbe(b, TCPProber{}, tcpTarget(l.Addr().String()))
}

func BenchmarkHTTPProbe(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "well")
	}))
	defer server.Close()
	benchmarkProbe(b, HTTPProber{}, httpTarget(server.Listener.Addr().String()))
}

func benchmarkProbe(b *testing.B, p Prober, target Target) {
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Probe(b.Context(), target); err != nil {
			b.Fatal(err)
		}
	}
}

// What the engine itself costs, without any probe: one round of the loop.
func BenchmarkEngineRound(b *testing.B) {
	e := New(nopLog(), bootNow, Probers("/nonexistent"))
	if err := e.Set(manyTargets(10_000)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		en := e.queue.next()
		e.queue.remove(en)
		en.cancel = func() {}
		e.active++
		e.finish(en, outcome{started: en.due, ended: en.due + time.Millisecond}, false)
	}
}

func BenchmarkSet10000(b *testing.B) {
	e := New(nopLog(), bootNow, Probers("/nonexistent"))
	targets := manyTargets(10_001)
	for b.Loop() {
		if err := e.Set(targets[:10_000]); err != nil {
			b.Fatal(err)
		}
		if err := e.Set(targets[1:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSnapshot10000(b *testing.B) {
	e := New(nopLog(), bootNow, Probers("/nonexistent"))
	if err := e.Set(manyTargets(10_000)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		e.Snapshot()
	}
}
