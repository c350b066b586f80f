package director

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const warmGroup = webGroup + "warm_standby: true\n"

// The rules of a warm group stand before, while and after it is held.
func TestWarmStandby(t *testing.T) {
	const rules = " TCP 192.0.2.100:80 -> 192.0.2.11:80=1 192.0.2.12:80=2"
	want := func(b *bench, want string) {
		t.Helper()
		if got := b.table.services(); got != want {
			t.Errorf("rules%s\nwant %s", got, want)
		}
	}
	docs := with(webDocs(), "spec/groups/web", warmGroup)
	docs["spec/groups/cold"] = "vips: [192.0.2.101]\n"
	docs["spec/services/cold"] = "group: cold\nlisten: 192.0.2.101:80/tcp\nreal_servers: [{address: 192.0.2.11:80}]\n"
	play(t, docs, nil, func(b *bench) {
		want(b, rules)
		b.wantBound()
		b.grant(hold("web", 1), time.Minute)
		want(b, rules)
		b.fence(hold("web", 1))
		want(b, rules)
		b.wantBound()
		b.apply(with(docs, "spec/groups/web", webGroup))
		want(b, " none")
	})
}

// On a director that is a real server of the group itself rules would forward
// twice: they stand only while it holds. NAT is no such case.
func TestWarmStandbyIsRefusedOnRealServers(t *testing.T) {
	docs := with(webDocs(), "spec/groups/web", warmGroup)
	here := func(b *bench) { b.cfg.Addresses = []string{"192.0.2.12"} }
	play(t, docs, here, func(b *bench) {
		const reason = "group web: warm_standby is refused on this director, which is the real server 192.0.2.12:80 of service http"
		if got := b.table.services(); got != " none" {
			t.Errorf("rules%s", got)
		}
		if p := b.d.Status().Problems; len(p) != 1 || !strings.HasPrefix(p[0], reason) {
			t.Errorf("problems: %q", p)
		}
		b.grant(hold("web", 1), time.Minute)
		if got := b.table.services(); got == " none" {
			t.Error("no rules while it holds")
		}
		b.fence(hold("web", 1))
		if got := b.table.services(); got != " none" {
			t.Errorf("rules%s", got)
		}
		b.apply(with(docs, "spec/groups/other", "vips: [192.0.2.200]\n"))
		if n := b.logged("no rules on this standby"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		b.apply(with(docs, "spec/services/http", strings.Replace(webService, "forward: dr", "forward: nat", 1)))
		synctest.Wait()
		if p := b.d.Status().Problems; len(p) > 0 || b.table.services() == " none" {
			t.Errorf("NAT: problems %q, rules%s", p, b.table.services())
		}
	})
}
