package director

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zklvs/zklvs/health"
	"github.com/zklvs/zklvs/ipvs"
)

func TestFitness(t *testing.T) {
	plain := map[string]string{"spec/groups/web": webGroup}
	group := func(fitness string) map[string]string {
		return map[string]string{"spec/groups/web": webGroup + "fitness: " + fitness + "\n"}
	}
	gateway, script := group("{gateway: {address: 192.0.2.254}}"), group("{script: {exec: check-disk}}")
	for name, c := range map[string]struct {
		docs map[string]string
		do   func(b *bench)
		want string
	}{
		"well":                         {docs: plain},
		"well with services":           {docs: webDocs()},
		"interface down":               {plain, func(b *bench) { b.kernel.SetLink("eth0", false, false) }, "interface eth0 is down"},
		"no carrier":                   {plain, func(b *bench) { b.kernel.SetLink("eth0", true, false) }, "interface eth0 has no carrier"},
		"interface missing":            {plain, func(b *bench) { b.kernel.DeleteLink("eth0") }, "interface eth0: no such interface: no such device"},
		"another interface":            {plain, func(b *bench) { b.kernel.SetLink("eth1", false, false) }, ""},
		"tracked, well":                {docs: group("{track_interfaces: [eth1]}")},
		"tracked, down":                {group("{track_interfaces: [eth1]}"), func(b *bench) { b.kernel.SetLink("eth1", false, false) }, "interface eth1 is down"},
		"both":                         {group("{track_interfaces: [eth1]}"), func(b *bench) { b.kernel.SetLink("eth1", false, false); b.kernel.SetLink("eth0", true, false) }, "interface eth0 has no carrier; interface eth1 is down"},
		"tracked is the VIPs'":         {group("{track_interfaces: [eth0]}"), func(b *bench) { b.kernel.SetLink("eth0", false, false) }, "interface eth0 is down"},
		"the group's own interface":    {map[string]string{"spec/groups/web": webGroup + "interface: eth1\n"}, func(b *bench) { b.kernel.SetLink("eth1", false, false) }, "interface eth1 is down"},
		"a VIP's own interface":        {map[string]string{"spec/groups/web": "vips: [192.0.2.100, {address: 10.0.0.254, interface: eth1}]\n"}, func(b *bench) { b.kernel.SetLink("eth1", true, false) }, "interface eth1 has no carrier"},
		"both VIPs' interfaces":        {map[string]string{"spec/groups/web": "vips: [192.0.2.100, 192.0.2.101, {address: 10.0.0.254, interface: eth1}]\n"}, func(b *bench) { b.kernel.SetLink("eth1", false, false); b.kernel.SetLink("eth0", false, false) }, "interface eth0 is down; interface eth1 is down"},
		"gateway unknown yet":          {gateway, nil, "gateway 192.0.2.254 has not been checked yet"},
		"gateway up":                   {gateway, verdict("192.0.2.254", health.Verdict{State: health.Up}), ""},
		"gateway down":                 {gateway, verdict("192.0.2.254", health.Verdict{State: health.Down, LastError: "no answer in 1s"}), "gateway 192.0.2.254 failed: no answer in 1s"},
		"script unknown yet":           {script, nil, "script check-disk has not been checked yet"},
		"script up":                    {script, verdict("check-disk", health.Verdict{State: health.Up, LastError: "exit 1, once"}), ""},
		"script down":                  {script, verdict("check-disk", health.Verdict{State: health.Down, LastError: "exit status 1"}), "script check-disk failed: exit status 1"},
		"no ip_vs, no services":        {plain, func(b *bench) { b.failOpen(ipvs.ErrNoKernelSupport) }, ""},
		"a real server that is down":   {checked("{tcp: {}}"), verdict("192.0.2.11", health.Verdict{State: health.Down}), ""},
		"a service of another group's": {with(with(plain, "spec/groups/two", "vips: [192.0.2.101]\n"), "spec/services/s", "group: two\nlisten: 192.0.2.101:80/tcp\nreal_servers: []\n"), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, c.docs, nil, func(b *bench) {
				if c.do != nil {
					c.do(b)
				}
				b.links <- struct{}{} // no need to wait for the poll
				synctest.Wait()
				if got := b.elector.ineligible(t, "web"); got != c.want {
					t.Errorf("unfit because %q, want %q", got, c.want)
				}
				if got := b.d.Status().Unfit["web"]; got != c.want {
					t.Errorf("status says %q, want %q", got, c.want)
				}
			})
		})
	}
}

func verdict(target string, v health.Verdict) func(*bench) {
	return func(b *bench) {
		b.checks.report(b.t, target, v)
		synctest.Wait()
	}
}

func TestIPVSMissingConcernsGroupsWithServices(t *testing.T) {
	docs := with(webDocs(), "spec/groups/plain", "vips: [192.0.2.200]\n")
	play(t, docs, func(b *bench) { b.failOpen(ipvs.ErrNoKernelSupport) }, func(b *bench) {
		if got := b.elector.ineligible(t, "web"); got != ipvs.ErrNoKernelSupport.Error() {
			t.Errorf("web: unfit because %q", got)
		}
		if got := b.elector.ineligible(t, "plain"); got != "" {
			t.Errorf("plain: unfit because %q", got)
		}
		b.grant(hold("plain", 1), 10*time.Second)
		b.wantBound("192.0.2.200")
		b.failOpen(nil) // modprobe ip_vs
		b.pass(pollInterval)
		if got := b.elector.ineligible(t, "web"); got != "" {
			t.Errorf("web: still unfit: %q", got)
		}
	})
}

func TestNoInterfaceForTheVIPs(t *testing.T) {
	play(t, webDocs(), func(b *bench) { b.cfg.Interface = "" }, func(b *bench) {
		const want = "no interface for the VIPs: set `interface` in this director's file or in the group"
		if got := b.elector.ineligible(t, "web"); got != want {
			t.Errorf("unfit because %q", got)
		}
	})
}

// VIPs that name interfaces of their own need no other, and a gateway is asked
// on the first of these.
func TestInterfacesOfTheVIPsAlone(t *testing.T) {
	docs := map[string]string{"spec/groups/web": "vips: [{address: 192.0.2.100, interface: eth1}]\nfitness: {gateway: {address: 192.0.2.254}}\n"}
	play(t, docs, func(b *bench) { b.cfg.Interface = "" }, func(b *bench) {
		verdict("192.0.2.254", health.Verdict{State: health.Up})(b)
		if got := b.elector.ineligible(t, "web"); got != "" {
			t.Errorf("unfit because %q", got)
		}
		if _, targets := b.checks.set(); len(targets) != 1 || targets[0].Interface != "eth1" {
			t.Errorf("targets %v", targets)
		}
	})
}

// Even without a hint a dead interface is noticed, and each change logged once.
func TestFitnessIsPolled(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.kernel.SetLink("eth0", false, false)
		b.pass(pollInterval)
		if got := b.elector.ineligible(t, "web"); got != "interface eth0 is down" {
			t.Errorf("unfit because %q", got)
		}
		b.pass(10 * pollInterval)
		b.kernel.SetLink("eth0", true, true)
		b.pass(pollInterval)
		if got := b.elector.ineligible(t, "web"); got != "" {
			t.Errorf("unfit because %q", got)
		}
		if no, yes := b.logged("not fit to hold"), b.logged("fit to hold"); no != 1 || yes != 3 {
			t.Errorf("%d and %d log lines, want 1 and 3 (at first, unfit, fit)", no, yes)
		}
	})
}

// The targets of fitness ask where the VIPs are, on the terms of the documents.
func TestFitnessTargets(t *testing.T) {
	docs := map[string]string{"spec/groups/web": webGroup + "interface: eth1\nfitness: {gateway: {address: 192.0.2.254, interval: 2s, timeout: 1s, rise: 4, fall: 5}, script: {exec: check-disk, interval: 7s, timeout: 6s, rise: 2, fall: 3}}\n"}
	play(t, docs, nil, func(b *bench) {
		_, targets := b.checks.set()
		got := map[string]bool{}
		for _, x := range targets {
			got[fmt.Sprintf("%s every %v within %v rise %d fall %d", x, x.Interval, x.Timeout, x.Rise, x.Fall)] = true
			if err := x.Validate(); err != nil {
				t.Error(err)
			}
		}
		for _, want := range []string{
			"arp 192.0.2.254 on eth1 every 2s within 1s rise 4 fall 5",
			`exec "check-disk" every 7s within 6s rise 2 fall 3`,
		} {
			if !got[want] {
				t.Errorf("missing %s; there are %v", want, got)
			}
		}
	})
}

// A check that is new in the documents does not make a fit director let go
// before it has a result.
func TestANewFitnessCheckDoesNotEndAHolding(t *testing.T) {
	play(t, webDocs(), nil, func(b *bench) {
		b.apply(with(webDocs(), "spec/groups/web", "vips: [192.0.2.100]\nfitness: {script: {exec: ready}}\n"))
		if got := b.elector.ineligible(t, "web"); got != "" {
			t.Errorf("unfit because %q", got)
		}
	})
}
