package director

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zklvs/zklvs/internal/ipvshost"
	"github.com/zklvs/zklvs/ipvs"
)

// diffDesired compares what a host should have.
func diffDesired(want, got ipvshost.Desired) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }))
}

// wantHost waits for one more look at the host, and compares what is desired of it.
func (b *bench) wantHost(want ipvshost.Desired) {
	b.t.Helper()
	got, _ := b.ipvsHost.now()
	if diff := diffDesired(want, got); diff != "" {
		b.t.Errorf("desired of the host (-want +got):\n%s", diff)
	}
}

const settingsDocument = calm + `ipvs:
  timeouts: {tcp: 600s, udp: 60s}
  sysctls: {sloppy_tcp: 0, sync_threshold: keep, sync_refresh_period: keep, expire_quiescent_template: keep, expire_nodest_conn: keep}
  sync: {id: 7, maxlen: 1400, group: 224.0.0.82, port: 8849, ttl: 2}
`

func settingsWanted() ipvshost.Desired {
	d := ipvs.Daemon{State: ipvs.Master, Interface: "eth0", ID: 7, MaxLen: 1400, Group: netip.MustParseAddr("224.0.0.82"), Port: 8849, TTL: 2}
	backup := d
	backup.State = ipvs.Backup
	return ipvshost.Desired{
		Timeouts: ipvs.Timeouts{TCP: 10 * time.Minute, UDP: time.Minute},
		Sysctls:  map[string]string{"sloppy_tcp": "0"}, Daemons: []ipvs.Daemon{d, backup},
	}
}

// The host is prepared before anything is held, and anew for new documents; it
// becomes what it was with the last service.
func TestHostFollowsDocuments(t *testing.T) {
	docs := with(webDocs(), "spec/cluster", settingsDocument)
	play(t, docs, nil, func(b *bench) {
		b.wantHost(settingsWanted())
		nat := with(docs, "spec/services/nat", "group: web\nlisten: 192.0.2.100:81/tcp\nforward: nat\nreal_servers: [{address: 192.0.2.13:80}]\n")
		b.apply(nat)
		want := settingsWanted()
		want.Forward4 = true
		b.wantHost(want)
		b.apply(with(docs, "spec/cluster", calm+"ipvs: {sync: {enabled: false}}\n"))
		got, _ := b.ipvsHost.now()
		if got.Daemons != nil || got.Sysctls["sync_threshold"] != "0 0" || got.Sysctls["sloppy_tcp"] != "1" {
			t.Errorf("desired of the host: %+v", got)
		}
		b.apply(map[string]string{"spec/cluster": settingsDocument, "spec/groups/web": webGroup})
		b.wantHost(ipvshost.Desired{})
	})
}

// Each interval the host is looked at.
func TestHostIsLookedAt(t *testing.T) {
	play(t, with(webDocs(), "spec/cluster", "ipvs_check_interval: 5s\n"), nil, func(b *bench) {
		_, before := b.ipvsHost.now()
		b.pass(time.Minute)
		if _, after := b.ipvsHost.now(); after-before != 12 {
			t.Errorf("looked at %d times in a minute", after-before)
		}
	})
}

// Without ip_vs nothing is set, and the groups' fitness alone tells why.
func TestHostWithoutIPVS(t *testing.T) {
	play(t, webDocs(), func(b *bench) { b.openErr = ipvs.ErrNoKernelSupport }, func(b *bench) {
		if _, n := b.ipvsHost.now(); n != 0 {
			t.Errorf("applied %d times", n)
		}
		if p := b.d.Status().Problems; len(p) > 0 {
			t.Errorf("problems: %q", p)
		}
	})
}

// What is wrong is in the status while it is, and in the log once.
func TestHostProblems(t *testing.T) {
	docs := with(webDocs(), "spec/cluster", "ipvs_check_interval: 1s\n")
	play(t, docs, nil, func(b *bench) {
		b.ipvsHost.fail(errors.Join(errors.New("first"), errors.New("second")))
		b.pass(10 * time.Second)
		for where, problems := range map[string][]string{"status": b.d.Status().Problems, "presence": b.presence().Problems} {
			if diff := cmp.Diff([]string{"first", "second"}, problems); diff != "" {
				t.Errorf("%s (-want +got):\n%s", where, diff)
			}
		}
		if n := b.logged("a setting of this host is not as desired"); n != 2 {
			t.Errorf("logged %d times", n)
		}
		b.ipvsHost.fail(nil)
		b.pass(3 * time.Second)
		if p := b.d.Status().Problems; len(p) > 0 || b.logged("settings of this host are as desired") != 1 {
			t.Errorf("problems: %q", p)
		}
	})
	play(t, docs, func(b *bench) { b.cfg.Interface = "" }, func(b *bench) {
		p := b.d.Status().Problems
		if len(p) != 1 || !strings.Contains(p[0], "ipvs.sync.interface") {
			t.Errorf("problems: %q", p)
		}
		if got, _ := b.ipvsHost.now(); len(got.Daemons) > 0 || len(got.Sysctls) == 0 {
			t.Errorf("desired of the host: %+v", got)
		}
	})
}

// A host that takes its time delays no take-over.
func TestHostDelaysNoTakeOver(t *testing.T) {
	var stuck chan struct{}
	play(t, webDocs(), func(b *bench) {
		stuck = make(chan struct{}) // the bubble's
		b.ipvsHost.before = func() { <-stuck }
	}, func(b *bench) {
		b.grant(hold("web", 1), time.Minute)
		b.wantBound("192.0.2.100")
		close(stuck)
	})
}

// It is put back last, when the rules are gone, also when that fails.
func TestHostIsRestoredAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, webDocs())
		b.run()
		b.grant(hold("web", 1), time.Minute)
		b.journal.take()
		b.table.before = func([]ipvs.Service) error { return errors.New("EBUSY") }
		b.ipvsHost.fail(errors.New("the state file is lost"))
		err := b.stop()
		for _, want := range []string{"EBUSY", "the state file is lost"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Run: %v, want %q in it", err, want)
			}
		}
		got := b.journal.take()
		if diff := cmp.Diff([]string{"election ended", "host restored"}, got[max(0, len(got)-2):]); diff != "" {
			t.Errorf("order (-want +got):\n%s\n%v", diff, got)
		}
	})
}

// A director that comes back listens before it may take a group over by priority.
func TestPreemptionWaitsForSync(t *testing.T) {
	const preempt = "preempt: true\npreempt_delay: 4s\n"
	for name, c := range map[string]struct {
		cluster string
		web     string
		want    map[string]time.Duration
	}{
		"settle is longer":         {"ipvs: {sync: {settle: 9s}}\n", webGroup + preempt, map[string]time.Duration{"web": 9 * time.Second, "plain": 4 * time.Second}},
		"preempt_delay is":         {"ipvs: {sync: {settle: 3s}}\n", webGroup + preempt, map[string]time.Duration{"web": 4 * time.Second, "plain": 4 * time.Second}},
		"no sync":                  {"ipvs: {sync: {enabled: false, settle: 9s}}\n", webGroup + preempt, map[string]time.Duration{"web": 4 * time.Second, "plain": 4 * time.Second}},
		"by default 12 s at least": {"", webGroup + "preempt: true\n", map[string]time.Duration{"web": 12 * time.Second, "plain": 4 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			docs := with(webDocs(), "spec/cluster", calm+c.cluster)
			docs["spec/groups/web"] = c.web
			docs["spec/groups/plain"] = "vips: [192.0.2.200]\n" + preempt
			play(t, docs, nil, func(b *bench) {
				got := map[string]time.Duration{}
				for _, g := range b.elector.groups {
					got[g.Name] = g.PreemptDelay
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("delays (-want +got):\n%s", diff)
				}
			})
		})
	}
}
