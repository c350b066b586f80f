package director

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/health"
	"github.com/zklvs/zklvs/internal/spec"
)

// groupNames are the groups that the election was told of.
func (e *fakeElector) groupNames() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := []string{}
	for _, g := range e.groups {
		out = append(out, g.Name)
	}
	return out
}

// A document that is not usable changes nothing but what is shown.
func TestABadDocumentKeepsTheLastGoodOne(t *testing.T) {
	const other = "group: web\nlisten: 192.0.2.100:443/tcp\nforward: dr\nscheduler: rr\nreal_servers: [{address: 192.0.2.13:443}]\n"
	for name, c := range map[string]struct {
		path, text string
		problem    string
	}{
		"not YAML":               {"spec/groups/web", "vips: [", "spec/groups/web:1"},
		"unknown key":            {"spec/services/http", webService + "chekc: {tcp: {}}\n", "spec/services/http:8: services"},
		"bad value":              {"spec/cluster", "lease: 3 parsecs\n", "spec/cluster:1: lease"},
		"listens on another VIP": {"spec/services/http", strings.Replace(webService, "2.100", "2.101", 1), "no VIP of group web"},
		"a group that is not":    {"spec/services/http", strings.Replace(webService, "group: web", "group: wbe", 1), `group "wbe" does not exist`},
		"a VIP in two groups":    {"spec/groups/two", "vips: [192.0.2.100]\n", "also in group"},
		"no document":            {"spec/groups/No Name", "vips: [192.0.2.101]\n", "is no document"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, webDocs(), nil, func(b *bench) {
				b.grant(hold("web", 1), time.Minute)
				before := b.table.services()
				b.apply(with(webDocs(), c.path, c.text))
				b.pass(2 * time.Second)
				b.wantBound("192.0.2.100")
				if after := b.table.services(); after != before {
					t.Errorf("rules were%s, are%s", before, after)
				}
				if got := b.elector.groupNames(); !slices.Equal(got, []string{"web"}) {
					t.Errorf("groups: %v", got)
				}
				b.wantProblem(strings.TrimSuffix(c.problem, " services"))
				if n := b.logged("its last good version stays in force"); n != 1 {
					t.Errorf("%d log lines, want 1", n)
				}
				good := with(webDocs(), "spec/services/https", other)
				b.apply(good)
				b.pass(2 * time.Second)
				b.wantProblem("")
				if got := b.table.services(); !strings.Contains(got, "TCP 192.0.2.100:443 -> 192.0.2.13:443=1") {
					t.Errorf("the next good documents are not in force:%s", got)
				}
			})
		})
	}
}

// presence is what the director says of itself in ZooKeeper.
func (b *bench) presence() (p Presence) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.publisher.now["directors/node01"]), &p); err != nil {
		b.t.Fatal(err)
	}
	return p
}

// wantProblem looks for the one problem in status and presence; "" for none.
func (b *bench) wantProblem(text string) {
	b.t.Helper()
	for where, problems := range map[string][]string{"status": b.d.Status().Problems, "presence": b.presence().Problems} {
		switch {
		case text == "" && len(problems) > 0:
			b.t.Errorf("%s still shows %q", where, problems)
		case text != "" && (len(problems) != 1 || !strings.Contains(problems[0], text)):
			b.t.Errorf("%s shows %q, want one problem with %q", where, problems, text)
		}
	}
}

// While one document is bad the others still change.
func TestABadDocumentDoesNotHoldUpTheOthers(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		docs := with(webDocs(), "spec/services/http", "nonsense: true\n")
		docs["spec/groups/web"] = "vips: [192.0.2.100, 192.0.2.101]\n"
		b.apply(docs)
		b.grant(hold("web", 1), time.Minute)
		b.wantBound("192.0.2.100", "192.0.2.101")
		if got := b.table.services(); got != strings.TrimPrefix(rulesStand, "rules") {
			t.Errorf("rules:%s", got)
		}
	})
}

// A document that is bad from the start has no last good version.
func TestABadDocumentFromTheStart(t *testing.T) {
	docs := with(webDocs(), "spec/groups/other", "vips: []\n")
	play(t, docs, nil, func(b *bench) {
		if got := b.elector.groupNames(); !slices.Equal(got, []string{"web"}) {
			t.Errorf("groups: %v", got)
		}
		b.wantProblem("spec/groups/other:1")
	})
}

func TestNothingAppliedYet(t *testing.T) {
	t.Run("not read", func(t *testing.T) {
		play(t, nil, nil, func(b *bench) {
			b.pass(5 * time.Second)
			if b.elector.configured != 0 || len(b.publisher.now) != 0 {
				t.Errorf("configured %d times, published %v", b.elector.configured, b.publisher.now)
			}
			b.apply(webDocs())
			if got := b.elector.groupNames(); !slices.Equal(got, []string{"web"}) {
				t.Errorf("groups: %v", got)
			}
		})
	})
	t.Run("empty", func(t *testing.T) {
		play(t, map[string]string{}, nil, func(b *bench) {
			if got := b.elector.groupNames(); len(got) != 0 || b.elector.configured != 1 {
				t.Errorf("groups: %v, configured %d times", got, b.elector.configured)
			}
			if _, ok := b.publisher.now["directors/node01"]; !ok {
				t.Error("the director does not show itself")
			}
		})
	})
	t.Run("only what does not fit together", func(t *testing.T) {
		play(t, map[string]string{"spec/services/http": webService}, nil, func(b *bench) {
			if got := b.elector.groupNames(); len(got) != 0 {
				t.Errorf("groups: %v", got)
			}
			b.wantProblem(`group "web" does not exist`)
		})
	})
}

func TestGroupsThatLeaveTheDocuments(t *testing.T) {
	docs := with(webDocs(), "spec/groups/plain", "vips: [192.0.2.200]\n")
	play(t, docs, nil, func(b *bench) {
		if got := b.elector.groupNames(); !slices.Equal(got, []string{"plain", "web"}) {
			t.Fatalf("groups: %v", got)
		}
		b.apply(webDocs())
		if got := b.elector.groupNames(); !slices.Equal(got, []string{"web"}) {
			t.Errorf("groups: %v", got)
		}
	})
}

func TestWhatTheElectionIsTold(t *testing.T) {
	docs := map[string]string{
		"spec/cluster":    "lease: 2s\nrenew: 200ms\ndrift: 0.2\n",
		"spec/groups/web": webGroup + "priority: {node01: 150, node02: 50}\npreempt: true\npreempt_delay: 7s\nfitness: {backoff: 11s}\n",
		"spec/groups/two": "vips: [192.0.2.101]\npriority: {node02: 150}\n",
	}
	play(t, docs, nil, func(b *bench) {
		want := []election.GroupConfig{
			{Name: "two", Priority: spec.DefaultPriority, Backoff: 5 * time.Second, Hold: true},
			{Name: "web", Priority: 150, Preempt: true, PreemptDelay: 7 * time.Second, Backoff: 11 * time.Second, Hold: true},
		}
		b.elector.mu.Lock()
		defer b.elector.mu.Unlock()
		if diff := cmp.Diff(want, b.elector.groups); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		timing := election.Timing{Lease: 2 * time.Second, Renew: 200 * time.Millisecond, Drift: 0.2, Lateness: 2500 * time.Millisecond}
		if b.elector.timing != timing {
			t.Errorf("timing %+v, want %+v", b.elector.timing, timing)
		}
	})
}

// The election hears of its groups only when something about them is new.
func TestConfigureOnlyOnChange(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.pass(10 * time.Second)
		if b.elector.configured != 1 {
			t.Errorf("configured %d times, want once", b.elector.configured)
		}
	})
}

func TestTimingThatIsRefused(t *testing.T) {
	play(t, webDocs(), func(b *bench) { b.elector.timing.Lease = 3 * time.Second }, func(b *bench) {
		b.elector.timingErr = errors.New("lease 9s plus this host's fence lateness 2.5s is above 10s")
		b.apply(with(webDocs(), "spec/cluster", "lease: 9s\n"))
		b.pass(3 * time.Second)
		if n := b.logged("the cluster's timing is refused; the earlier one stays in force"); n != 1 {
			t.Errorf("%d log lines, want 1", n)
		}
		if b.elector.timing.Lease != 3*time.Second {
			t.Errorf("lease %v", b.elector.timing.Lease)
		}
	})
}

// A service without a check says nothing that the documents do not.
func TestPublishOnlyOnChange(t *testing.T) {
	docs := checked("{tcp: {}, interval: 5s}")
	docs["spec/services/other"] = strings.Replace(webService, ":80/tcp", ":80/udp", 1)
	docs["spec/services/third"] = strings.Replace(docs["spec/services/http"], ":80/tcp", ":80/sctp", 1)
	play(t, docs, nil, func(b *bench) {
		want := []string{"publish directors/node01", "publish health/node01/http", "publish health/node01/third"}
		if diff := cmp.Diff(want, b.publisher.take()); diff != "" {
			t.Errorf("at first (-want +got):\n%s", diff)
		}
		b.pass(5 * time.Second)
		if got := b.publisher.take(); len(got) != 0 {
			t.Errorf("nothing has changed, yet: %v", got)
		}
		b.checks.report(t, "192.0.2.11", health.Verdict{State: health.Down, LastError: "refused", WallSince: time.Unix(1e9, 0)})
		synctest.Wait()
		if got := b.publisher.take(); !slices.Equal(got, []string{"publish health/node01/http", "publish health/node01/third"}) {
			t.Errorf("after a verdict: %v", got)
		}
		var h ServiceHealth
		if err := json.Unmarshal([]byte(b.publisher.now["health/node01/http"]), &h); err != nil {
			t.Fatal(err)
		}
		verdicts := ServiceHealth{Service: "http", RealServers: []RealServerHealth{
			{Address: "192.0.2.11:80", State: "down", Since: "2001-09-09T01:46:40Z", Error: "refused"},
			{Address: "192.0.2.12:80", State: "unknown"}}}
		if diff := cmp.Diff(verdicts, h); diff != "" {
			t.Errorf("verdicts (-want +got):\n%s", diff)
		}
		if got := b.d.Status().Health[1].RealServers[0].State; got != "unchecked" {
			t.Errorf("a real server without check is %q", got)
		}
		delete(docs, "spec/services/other")
		delete(docs, "spec/services/third")
		b.apply(docs)
		if got := b.publisher.take(); !slices.Equal(got, []string{"withdraw health/node01/third"}) {
			t.Errorf("after a service went: %v", got)
		}
	})
}
