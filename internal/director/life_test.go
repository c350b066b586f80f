package director

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/ipvs"
)

// own gives the host an address of its own.
func (b *bench) own(prefix string) {
	b.t.Helper()
	err := b.kernel.Replace(fence.Address{Prefix: netip.MustParsePrefix(prefix), Interface: "eth0", Valid: fence.Forever})
	if err != nil {
		b.t.Fatal(err)
	}
}

// What an earlier life left goes before the election starts.
func TestLeftoversGoBeforeTheElectionStarts(t *testing.T) {
	prepare := func(b *bench) {
		state := filepath.Join(t.TempDir(), "vips")
		earlier := b.host(state)
		vips := []fence.VIP{{Address: netip.MustParseAddr("192.0.2.100"), Interface: "eth0"}}
		if err := earlier.Bind(fence.Holding{Group: "web", Lock: "old"}, vips, b.now()+30*time.Second); err != nil {
			t.Fatal(err)
		}
		b.fencer.Host = b.host(state) // a new life with the old one's file
		b.cfg.LeftoverRules = true
		b.journal.take()
	}
	play(t, webDocs(), prepare, func(b *bench) {
		b.wantBound()
		got := b.journal.take()
		want := []string{"remove 192.0.2.100", "rules none"} // then the election and the loop, in any order
		if diff := cmp.Diff(want, got[:min(2, len(got))]); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		for _, text := range []string{"removed an address that an earlier life left", "removing IPVS rules that an earlier life left"} {
			if b.logged(text) != 1 {
				t.Errorf("log lines %q: %d, want 1", text, b.logged(text))
			}
		}
	})
}

// Leftovers that cannot be removed: no election.
func TestLeftoversThatStayKeepTheElectionFromStarting(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*bench)
		want    string
	}{
		"addresses": {
			func(b *bench) {
				b.kernel.Hook = func(op string, _ fence.Address) error {
					if op == "dump" {
						return errors.New("netlink: refused")
					}
					return nil
				}
			},
			"remove the addresses that an earlier life left: remove leftovers: netlink: refused",
		},
		"rules": {
			func(b *bench) {
				b.cfg.LeftoverRules = true
				b.table.before = func([]ipvs.Service) error { return errors.New("EBUSY") }
			},
			"remove the IPVS rules that an earlier life left: EBUSY",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, webDocs())
				c.prepare(b)
				b.run()
				err := b.wait()
				b.cancel()
				if err == nil || err.Error() != c.want {
					t.Errorf("Run: %v, want %s", err, c.want)
				}
				if slices.Contains(b.journal.take(), "election runs") {
					t.Error("the election was started")
				}
			})
		})
	}
}

// An ip_vs that is not there cannot hold leftovers.
func TestLeftoverRulesWithoutIPVS(t *testing.T) {
	prepare := func(b *bench) {
		b.cfg.LeftoverRules = true
		b.openErr = ipvs.ErrNoKernelSupport
	}
	play(t, webDocs(), prepare, func(b *bench) {
		if !slices.Contains(b.journal.take(), "election runs") {
			t.Error("the election was not started")
		}
	})
}

// The end of the daemon: fenced, the election heard, rules gone, parts ended.
func TestStopReleasesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, with(webDocs(), "spec/groups/plain", "vips: [192.0.2.200]\n"))
		b.elector.onFenced = func(h election.Holding) {
			if h.Group == "web" && slices.Contains(b.bound(), "192.0.2.100") {
				t.Error("fenced while the address is bound")
			}
		}
		b.run()
		b.grant(hold("web", 1), 3*time.Second)
		b.grant(hold("plain", 1), 3*time.Second)
		b.wantBound("192.0.2.100", "192.0.2.200")
		b.journal.take()
		if err := b.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		b.wantBound()
		wantReleased(t, b.journal.take(), "web", "plain")
	})
}

// wantReleased checks the order of a release: fenced, election over, rules gone.
func wantReleased(t *testing.T, got []string, groups ...string) {
	t.Helper()
	over := slices.Index(got, "election ended")
	for _, g := range groups {
		if i := slices.Index(got, "fenced "+g+"-lock1"); i < 0 || i > over {
			t.Errorf("%s was not fenced before the election's end: %q", g, got)
		}
	}
	if last := got[max(0, len(got)-2):]; !slices.Equal(last, []string{"rules none", "host restored"}) {
		t.Errorf("rules are not gone at the end, and then the host is put back: %q", got)
	}
}

// A part that fails ends the director, but in order: the address is verified
// gone and the election hears of it before Run returns.
func TestAFailingPartEndsTheHoldingInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, webDocs())
		b.elector.onFenced = func(election.Holding) { b.wantBound() }
		b.run()
		b.grant(hold("web", 1), 30*time.Second)
		b.journal.take()
		begun := b.now()
		b.checks.fail <- errors.New("epoll: out of descriptors")
		err := b.wait()
		b.cancel()
		if err == nil || !strings.Contains(err.Error(), "out of descriptors") {
			t.Errorf("Run: %v", err)
		}
		if took := b.now() - begun; took > time.Second {
			t.Errorf("it took %v", took)
		}
		b.wantBound()
		wantReleased(t, b.journal.take(), "web")
	})
}

// Nobody but the director ends its parts: a caller that gives up still gets its
// addresses removed when fencing takes several tries.
func TestStopWaitsForAFenceThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, webDocs())
		b.run()
		b.grant(hold("web", 1), 30*time.Second)
		b.fencer.failures = 100
		begun := b.now()
		if err := b.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := b.now() - begun; took < 100*fenceRetry {
			t.Errorf("ended after %v, before the fence was verified", took)
		}
		b.wantBound()
	})
}

// Status may be asked at any time, also before Run and after it.
func TestStatusBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, webDocs())
		d := New(b.cfg)
		if got := d.Status(); got.Node != "node01" || got.Groups != nil {
			t.Errorf("status before Run: %+v", got)
		}
	})
}

func TestForeignVIPOnAStandbyIsRemoved(t *testing.T) {
	play(t, webDocs(), func(b *bench) { b.own("192.0.2.1/24") }, func(b *bench) {
		b.own("192.0.2.100/32") // somebody, by hand
		b.pass(pollInterval)
		b.wantBound("192.0.2.1")
		if b.logged("removed a VIP that this director does not hold") != 1 {
			t.Error("it was not logged")
		}
		b.grant(hold("web", 1), 10*time.Second)
		b.pass(2 * pollInterval)
		b.wantBound("192.0.2.1", "192.0.2.100") // its own is not foreign
	})
}
