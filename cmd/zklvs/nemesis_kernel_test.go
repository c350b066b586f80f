package main

import (
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/nemesis"
)

// A cluster with real IPVS under every kind of fault, for two minutes.
//
// In user-mode Linux all of it, three JVMs and six processes of ours among them,
// has one processor: the lease is the default of 3 s there and not the second of
// TestHostNemesis, so that a busy machine loses no lease of its own.
func TestKernelNemesis(t *testing.T) {
	requireIPVS(t)
	playNemesis(t, nemesis.Options{
		Seed: 1, Lease: 3 * time.Second, Interval: 50 * time.Millisecond, Duration: nemesisFor(t, 2*time.Minute),
	})
}
