package main

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
)

// usualKills is enough to see that it works; ZKLVS_KILLS=30 measures, see
// TestHostKillOutage.
const usualKills = 3

// The director is killed with SIGKILL again and again, on this machine's own
// kernel: a group without services needs no IPVS. Each take-over is within W +
// 0.5 s. How fast they are is asked of a machine that does nothing else, without
// the race detector:
//
//	ZKLVS_KILLS=30 go test -count=1 -v -run '^TestHostKillOutage$' ./cmd/zklvs
//
// then the median of 30 is to be at most 60 ms.
func TestHostKillOutage(t *testing.T) {
	requireHost(t)
	kills, measure := usualKills, false
	if text := os.Getenv("ZKLVS_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("ZKLVS_KILLS=%s: expected a number of kills", text)
		}
		kills, measure = n, true
	}
	k := startPlain(t)
	k.must1(k.Apply(k.ctx, "groups:\n  web: {vips: [192.168.150.100]}\n"))
	var took []time.Duration
	for range kills {
		took = append(took, k.suffer(faults[0]))
	}
	slices.Sort(took)
	median := took[len(took)/2]
	t.Logf("take-over after SIGKILL of the director, %d times: %v to %v, median %v", kills, took[0], took[kills-1], median)
	if measure && median > 60*time.Millisecond {
		t.Errorf("the median is %v, want at most 60ms: %v", median, took)
	}
}

// requireHost skips where no network namespace can be made.
func requireHost(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: network namespaces need root: run as root")
	}
}

// startPlain starts ZooKeeper and two directors, without services.
func startPlain(t *testing.T) *faulty {
	t.Helper()
	k := &faulty{startCluster(t, demo.Options{NoRealServers: true}), []moving{{"web", lab.VIP, 0}}}
	t.Cleanup(func() { k.logs(k.Director(demo.First).Log, k.Director(demo.Second).Log) })
	return k
}

func (k *cluster) must1(_ string, err error) {
	k.Helper()
	k.must(err)
}
