package overview

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/internal/director"
)

// drains: what the operator wants, what the holder makes of it, and what is about
// nothing.
func drains(s *site) {
	s.documents(docs())
	s.put(s.tree.Record("web"), holding("node01", lock("node01", 5)))
	entry := func(server, more string) {
		s.put(s.tree.Drained(server), fmt.Sprintf(`{"format":1,"id":"id%s","real_server":%q,"since":"2026-01-02T12:00:00Z","by":"root@node01"%s}`, server, server, more))
	}
	health := func(drain string) {
		s.put(s.tree.HealthService("node01", "http"), `{"service":"http","real_servers":[{"address":"192.0.2.11:80","state":"up"`+drain+`},{"address":"192.0.2.12:80","state":"down","error":"refused"}]}`)
	}
	want := func(states map[string]string, texts ...string) *Cluster {
		s.t.Helper()
		c := s.read()
		got := map[string]string{}
		for _, d := range c.Drains {
			got[d.Name] = fmt.Sprintf("%s %d %v", d.State, d.Active, d.Services)
		}
		if diff := cmp.Diff(states, got); diff != "" {
			s.t.Errorf("drains (-want +got):\n%s", diff)
		}
		var lines []string
		for _, rs := range c.Services[0].RealServers {
			lines = append(lines, rs.Text())
		}
		if !slices.Equal(lines, texts) {
			s.t.Errorf("real servers %q, want %q", lines, texts)
		}
		return c
	}
	health("")
	want(map[string]string{}, "up", "down: refused")
	entry("192.0.2.11", "")
	want(map[string]string{"192.0.2.11": "draining 0 [http]"}, "draining (not confirmed by a holder)", "down: refused")
	health(`,"drain":{"state":"draining","drains":["id192.0.2.11"],"active":12}`)
	want(map[string]string{"192.0.2.11": "draining 12 [http]"}, "draining (12 active)", "down: refused")
	entry("192.0.2.12:80", "")
	entry("192.0.2.99", "")
	s.put(s.tree.Drained("192.0.2.98"), "{}")
	c := want(map[string]string{"192.0.2.11": "draining 12 [http]", "192.0.2.12:80": "draining 0 [http]", "192.0.2.99": "moot 0 []"},
		"draining (12 active)", "draining (not confirmed by a holder); down: refused")
	s.wantProblems(c, "drain of 192.0.2.99: the documents have no such real server", "operator/drained/192.0.2.98 has no effect: format 0")
	entry("192.0.2.11", `,"drained":{"web":{"reason":"deadline","at":"2026-01-02T13:00:00Z","node":"node01","cut":2,"kept":1}}`)
	health(`,"drain":{"state":"drained","drains":["id192.0.2.11"]}`)
	c = want(map[string]string{"192.0.2.11": "drained 0 [http]", "192.0.2.12:80": "draining 0 [http]", "192.0.2.99": "moot 0 []"},
		"drained", "draining (not confirmed by a holder); down: refused")
	if cut, kept := c.Drains[0].Cut(); cut != 2 || kept != 1 {
		s.t.Errorf("%d cut, %d kept", cut, kept)
	}
}

// Whatever a director publishes is shown on one line.
func TestText(t *testing.T) {
	rs := RealServer{Wanted: "draining", RealServerHealth: director.RealServerHealth{State: "unchecked", Drain: &director.DrainHealth{State: "\x1b[2J", Active: 3}}}
	if got := rs.Text(); got != "draining (3 active)" || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
}
