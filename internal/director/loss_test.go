package director

import (
	"encoding/json"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// What the document asks for, and what this director is able to, decide whether
// the election is told to hold; status and presence say why not.
func TestOnZooKeeperLoss(t *testing.T) {
	const noKey = "the cluster has no key"
	for name, c := range map[string]struct {
		document, cannot string
		want             string
		warnings         int
	}{
		"nothing said":          {"{}", "", "hold", 0},
		"nothing said, no key":  {"{}", noKey, "fence: " + noKey, 0},
		"hold":                  {"on_zookeeper_loss: hold", "", "hold", 0},
		"hold, but no key":      {"on_zookeeper_loss: hold", noKey, "fence: " + noKey, 1},
		"fence":                 {"on_zookeeper_loss: fence", "", "fence: the cluster's document says so", 0},
		"fence, and no key too": {"on_zookeeper_loss: fence", noKey, "fence: the cluster's document says so", 0},
	} {
		t.Run(name, func(t *testing.T) {
			prepare := func(b *bench) { b.cfg.CannotHold = func() string { return c.cannot } }
			play(t, with(webDocs(), "spec/cluster", c.document+"\n"), prepare, func(b *bench) {
				b.pass(3 * time.Second)
				b.wantLoss(c.want)
				if n := b.logged("though on_zookeeper_loss is hold"); n != c.warnings {
					t.Errorf("%d warnings, want %d", n, c.warnings)
				}
				if n := b.logged("while ZooKeeper is away"); n != 1 {
					t.Errorf("told %d times, want once", n)
				}
			})
		})
	}
}

// wantLoss looks at what the election, the status and the presence say.
func (b *bench) wantLoss(want string) {
	b.t.Helper()
	b.elector.mu.Lock()
	groups := slices.Clone(b.elector.groups)
	b.elector.mu.Unlock()
	if len(groups) != 1 || groups[0].Hold != (want == "hold") {
		b.t.Errorf("the election is told %+v, want %q", groups, want)
	}
	var p Presence
	if err := json.Unmarshal([]byte(b.publisher.now["directors/node01"]), &p); err != nil {
		b.t.Fatal(err)
	}
	s := b.d.Status()
	if s.OnZooKeeperLoss != want || p.OnZooKeeperLoss != want {
		b.t.Errorf("status says %q and presence %q, want %q", s.OnZooKeeperLoss, p.OnZooKeeperLoss, want)
	}
	for _, g := range s.Groups {
		if g.OnZooKeeperLoss != want {
			b.t.Errorf("status says %q of group %s, want %q", g.OnZooKeeperLoss, g.Group, want)
		}
	}
}

// The key comes and goes while the director runs.
func TestKeyComesLater(t *testing.T) {
	var known atomic.Bool
	prepare := func(b *bench) {
		b.cfg.CannotHold = func() string {
			if known.Load() {
				return ""
			}
			return "no key"
		}
	}
	play(t, webDocs(), prepare, func(b *bench) {
		for range 2 {
			b.wantLoss("fence: no key")
			known.Store(true)
			b.pass(pollInterval)
			b.wantLoss("hold")
			known.Store(false)
			b.pass(pollInterval)
		}
	})
}

// What the election says of a group that it tries to hold stays as it is.
func TestElectionKnowsMore(t *testing.T) {
	const more = "fence: no other director could promise not to acquire"
	play(t, webDocs(), func(b *bench) { b.elector.onLoss = more }, func(b *bench) {
		if s := b.d.Status(); s.OnZooKeeperLoss != "hold" || s.Groups[0].OnZooKeeperLoss != more {
			t.Errorf("status %q, of the group %q", s.OnZooKeeperLoss, s.Groups[0].OnZooKeeperLoss)
		}
	})
}
