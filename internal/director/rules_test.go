package director

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/health"
	"github.com/zklvs/zklvs/ipvs"
)

func TestVerdictsBecomeDestinations(t *testing.T) {
	const none = " TCP 192.0.2.100:80 ->"
	down, up := health.Verdict{State: health.Down}, health.Verdict{State: health.Up}
	for name, c := range map[string]struct {
		service  string
		one, two *health.Verdict
		want     string
	}{
		"no check: in":         {webService, nil, nil, " TCP 192.0.2.100:80 -> 192.0.2.11:80=1 192.0.2.12:80=2"},
		"unknown: out":         {webService + "check: {tcp: {}}\n", nil, nil, none},
		"one up":               {webService + "check: {tcp: {}}\n", nil, &up, none + " 192.0.2.12:80=2"},
		"both up":              {webService + "check: {tcp: {}}\n", &up, &up, none + " 192.0.2.11:80=1 192.0.2.12:80=2"},
		"one down":             {webService + "check: {tcp: {}}\n", &down, &up, none + " 192.0.2.12:80=2"},
		"up, with a failure":   {webService + "check: {tcp: {}}\n", &health.Verdict{State: health.Up, LastError: "retrying"}, &up, none + " 192.0.2.11:80=1 192.0.2.12:80=2"},
		"weight_zero: down":    {webService + "on_failure: weight_zero\ncheck: {tcp: {}}\n", &down, &up, none + " 192.0.2.11:80=0 192.0.2.12:80=2"},
		"weight_zero: unknown": {webService + "on_failure: weight_zero\ncheck: {tcp: {}}\n", nil, &up, none + " 192.0.2.11:80=0 192.0.2.12:80=2"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, with(webDocs(), "spec/services/http", c.service), nil, func(b *bench) {
				b.grant(hold("web", 1), time.Minute)
				for server, v := range map[string]*health.Verdict{"192.0.2.11": c.one, "192.0.2.12": c.two} {
					if v != nil {
						b.checks.report(t, server, *v)
						synctest.Wait()
					}
				}
				if got := b.table.services(); got != c.want {
					t.Errorf("rules%s\nwant %s", got, c.want)
				}
			})
		})
	}
}

// What a document says of a service arrives in the kernel's terms.
func TestKernelService(t *testing.T) {
	docs := with(webDocs(), "spec/services/http", `group: web
listen: 192.0.2.100:53/udp
scheduler: sh
forward: nat
persistence: 300s
real_servers: [{address: 192.0.2.11:5353, weight: 0}]
`)
	docs["spec/services/tunnel"] = "group: web\nlisten: 192.0.2.100:80/tcp\nforward: tun\nreal_servers: [{address: 192.0.2.12:80}]\n"
	play(t, docs, nil, func(b *bench) {
		b.grant(hold("web", 1), time.Minute)
		want := "-A -u 192.0.2.100:53 -s sh -p 300 -b sh-fallback\n-a -u 192.0.2.100:53 -r 192.0.2.11:5353 -m -w 0\n" +
			"-A -t 192.0.2.100:80 -s wlc\n-a -t 192.0.2.100:80 -r 192.0.2.12:80 -i -w 1 --tun-type ipip\n"
		b.table.mu.Lock()
		defer b.table.mu.Unlock()
		got := ipvs.Diff(b.table.last, nil, nil).String()
		if sortLines(got) != sortLines(want) {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		if err := ipvs.ValidateAll(b.table.last); err != nil {
			t.Error(err)
		}
	})
}

func sortLines(s string) string {
	lines := map[string]bool{}
	for l := range strings.Lines(s) {
		lines[l] = true
	}
	return cmp.Diff(map[string]bool{}, lines)
}

// Only the holder installs rules, and only those of what it holds.
func TestRulesOfHeldGroupsOnly(t *testing.T) {
	docs := with(webDocs(), "spec/groups/two", "vips: [192.0.2.101]\n")
	docs["spec/services/two"] = "group: two\nlisten: 192.0.2.101:80/tcp\nreal_servers: [{address: 192.0.2.13:80}]\n"
	play(t, docs, nil, func(b *bench) {
		b.pass(3 * time.Second)
		if got := b.table.services(); got != " none" {
			t.Errorf("a standby has rules:%s", got)
		}
		b.grant(hold("two", 1), time.Minute)
		if got := b.table.services(); got != " TCP 192.0.2.101:80 -> 192.0.2.13:80=1" {
			t.Errorf("rules:%s", got)
		}
	})
}

func TestDriftIsLookedForAtTheInterval(t *testing.T) {
	docs := with(webDocs(), "spec/cluster", "ipvs_check_interval: 300ms\n")
	play(t, docs, nil, func(b *bench) {
		b.grant(hold("web", 1), time.Minute)
		b.journal.take()
		b.pass(3 * time.Second)
		if n := len(b.journal.take()); n < 9 || n > 11 {
			t.Errorf("%d looks in 3 s at an interval of 300 ms", n)
		}
	})
}

// Two services with one real server and one way of checking it: one target.
func TestChecksAreSetOncePerDistinctTarget(t *testing.T) {
	docs := checked("{http: {path: /, status: [200]}, port: 8080}")
	docs["spec/services/https"] = strings.Replace(strings.ReplaceAll(docs["spec/services/http"], ":80", ":443"), "weight: 1", "weight: 5", 1)
	play(t, docs, nil, func(b *bench) {
		calls, targets := b.checks.set()
		if calls != 1 || len(targets) != 2 {
			t.Errorf("%d calls, the last with %d targets %v; want one with two", calls, len(targets), targets)
		}
		b.pass(5 * time.Second)
		docs["spec/services/https"] = strings.Replace(docs["spec/services/https"], "weight: 5", "weight: 6", 1)
		b.apply(docs)
		if calls, _ = b.checks.set(); calls != 1 {
			t.Errorf("set %d times although no target has changed", calls)
		}
		delete(docs, "spec/services/https")
		delete(docs, "spec/services/http")
		b.apply(docs)
		if calls, targets = b.checks.set(); calls != 2 || len(targets) != 0 {
			t.Errorf("without services: %d calls, targets %v", calls, targets)
		}
	})
}

// What a document says of a check arrives in the checks' terms.
func TestCheckTargets(t *testing.T) {
	docs := checked("{http: {path: /health, host: www.example, status: [200, 301-302]}, port: 8080, interval: 7s, timeout: 2s, retries: 4, retry_delay: 3s, rise: 5, fall: 6}")
	docs["spec/services/other"] = strings.Replace(webService, ":80/tcp", ":80/udp", 1) + "check: {tcp: {}, interval: 9s}\n"
	status, err := health.Statuses(health.StatusRange{First: 200, Last: 200}, health.StatusRange{First: 301, Last: 302})
	if err != nil {
		t.Fatal(err)
	}
	play(t, docs, nil, func(b *bench) {
		_, targets := b.checks.set()
		got := map[string]health.Target{}
		for _, x := range targets {
			got[x.String()] = x
			if err := x.Validate(); err != nil {
				t.Error(err)
			}
		}
		http := health.Target{Kind: health.HTTP, Address: netip.MustParseAddrPort("192.0.2.11:8080"), Path: "/health", Host: "www.example", Status: status,
			Interval: 7 * time.Second, Timeout: 2 * time.Second, Retries: 4, RetryDelay: 3 * time.Second, Rise: 5, Fall: 6}
		tcp := health.Target{Kind: health.TCP, Address: netip.MustParseAddrPort("192.0.2.12:80"),
			Interval: 9 * time.Second, Timeout: 3 * time.Second, Retries: 1, RetryDelay: time.Second, Rise: 1, Fall: 1}
		for _, want := range []health.Target{http, tcp} {
			if got[want.String()] != want {
				t.Errorf("want %+v (interval %v) among %v", want, want.Interval, got)
			}
		}
		if len(got) != 4 {
			t.Errorf("%d targets, want 4", len(got))
		}
	})
}

// sturdy finds everything well.
type sturdy struct{}

func (sturdy) Probe(context.Context, health.Target) error { return nil }

// engineBench runs a director with real checks whose probes succeed.
func engineBench(b *bench) *health.Engine {
	e := health.New(zap.NewNop(), b.now, map[health.Kind]health.Prober{health.TCP: sturdy{}, health.HTTP: sturdy{}})
	b.cfg.Checks = e
	return e
}

// A change of a check's terms reaches the checks, and takes no real server out
// of service, not even for one pass.
func TestAnEditOfTheTermsOfACheck(t *testing.T) {
	for name, check := range map[string]string{
		"interval":    "{tcp: {}, interval: 20s}",
		"timeout":     "{tcp: {}, timeout: 1s}",
		"retries":     "{tcp: {}, retries: 5}",
		"retry_delay": "{tcp: {}, retry_delay: 5s}",
		"fall":        "{tcp: {}, fall: 3}",
		"rise":        "{tcp: {}, rise: 3}",
	} {
		t.Run(name, func(t *testing.T) {
			play(t, checked("{tcp: {}}"), func(b *bench) { engineBench(b) }, func(b *bench) {
				b.grant(hold("web", 1), time.Minute)
				b.pass(2 * time.Second)
				b.journal.take()
				b.apply(checked(check))
				b.d.rules.kick()
				b.pass(3 * time.Second)
				for _, l := range b.journal.take() {
					if l != rulesStand {
						t.Errorf("unexpected: %s", l)
					}
				}
				for target := range b.cfg.Checks.Snapshot() {
					if want := checkTargetOf(b, target); !want {
						t.Errorf("%+v is checked on terms that the documents do not have", target.Interval)
					}
				}
			})
		})
	}
}

// checkTargetOf reports whether the documents in force ask for a target.
func checkTargetOf(b *bench, target health.Target) bool {
	b.d.mu.Lock()
	defer b.d.mu.Unlock()
	return checkTargets(b.d.docs.spec, "eth0")[target]
}

// A pass over the rules that meets new documents also meets their checks. (No
// bubble: the pass waits for a lock, which is what is tested.)
func TestDocumentsComeIntoForceWithTheirChecks(t *testing.T) {
	b := newBench(t, checked("{tcp: {}}"))
	engine := engineBench(b)
	inSet, goOn := make(chan struct{}), make(chan struct{})
	checks := &slowChecks{Engine: engine}
	b.cfg.Checks = checks
	up := make(chan struct{})
	seen := sync.OnceFunc(func() { close(up) })
	b.publisher.onPublish = func(path, data string) {
		if path == "health/node01/http" && strings.Count(data, `"up"`) == 2 {
			seen()
		}
	}
	b.begin()
	<-b.elector.ready
	<-up
	checks.mu.Lock()
	checks.onSet = func() { close(inSet); <-goOn }
	checks.mu.Unlock()
	b.docs.set(checked("{tcp: {}, interval: 20s}"))
	<-inSet
	desired := make(chan []ipvs.Service, 1)
	go func() {
		b.d.rules.pass.Lock()
		defer b.d.rules.pass.Unlock()
		desired <- b.d.desiredRules(map[string]bool{"web": true})
	}()
	close(goOn)
	if got := printed(<-desired); got != strings.TrimPrefix(rulesStand, "rules") {
		t.Errorf("rules:%s", got)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}

// slowChecks is an engine whose Set can be held up.
type slowChecks struct {
	*health.Engine
	mu    sync.Mutex
	onSet func()
}

func (s *slowChecks) Set(targets []health.Target) error {
	s.mu.Lock()
	hook := s.onSet
	s.onSet = nil
	s.mu.Unlock()
	if hook != nil {
		hook()
	}
	return s.Engine.Set(targets)
}

func TestRulesThatFailAreTriedAgain(t *testing.T) {
	docs := with(webDocs(), "spec/cluster", "ipvs_check_interval: 1s\n")
	play(t, docs, nil, func(b *bench) {
		failures := 3
		b.table.before = func(desired []ipvs.Service) error {
			if len(desired) > 0 && failures > 0 {
				failures--
				return errors.New("EBUSY")
			}
			return nil
		}
		b.grant(hold("web", 1), time.Minute)
		b.pass(5 * time.Second)
		if got := b.table.services(); got != strings.TrimPrefix(rulesStand, "rules") {
			t.Errorf("rules:%s", got)
		}
	})
}

// What other programs change is counted, and one pass logs some of it.
func TestDriftIsCountedAndLogged(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.grant(hold("web", 1), time.Minute)
		b.table.mu.Lock()
		for range 1000 {
			b.table.drift = append(b.table.drift, ipvs.Drift{Step: ipvs.Step{Op: ipvs.AddService, Service: &ipvs.Service{}}, Repaired: true})
		}
		b.table.mu.Unlock()
		b.d.rules.kick()
		synctest.Wait()
		if got := b.d.Status().Drift; got != 1000 {
			t.Errorf("%d changes counted, want 1000", got)
		}
		if n := b.logged("the IPVS table was changed by another program"); n != 20 {
			t.Errorf("%d lines, want 20", n)
		}
		if n := b.logged("further changes of the IPVS table by other programs"); n != 1 {
			t.Errorf("%d lines for the rest, want 1", n)
		}
	})
}
