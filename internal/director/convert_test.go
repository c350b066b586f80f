package director

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/ipvs"
)

// every is a real server that may be used.
func every(spec.Service, spec.RealServer) bool { return true }

// rulesOf are the lines of ipvsadm for documents of which all groups are held.
func rulesOf(t *testing.T, file string, usable func(spec.Service, spec.RealServer) bool) string {
	t.Helper()
	docs, err := spec.ParseFile("f.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	sp := docs.Spec()
	if err := sp.Check(); err != nil {
		t.Fatal(err)
	}
	services := Rules(sp, map[string]bool{"web": true}, usable)
	return ipvs.Diff(services, nil, nil).String()
}

func TestRules(t *testing.T) {
	const docs = "cluster: {ipvs: {sync: {enabled: false}}}\ngroups:\n  web: {vips: [192.0.2.100, \"fd00::100\"]}\n  other: {vips: [192.0.2.200]}\nservices:\n  s: "
	for name, c := range map[string]struct{ service, want string }{
		"a list and a range": {`{group: web, listen: [192.0.2.100:80/tcp, 192.0.2.100:8000-8001/udp, 192.0.2.100:9/sctp], real_servers: [{address: 192.0.2.11}, {address: 192.0.2.12, weight: 3}]}`, `
-A --sctp-service 192.0.2.100:9 -s wlc
-a --sctp-service 192.0.2.100:9 -r 192.0.2.11:9 -g -w 1
-a --sctp-service 192.0.2.100:9 -r 192.0.2.12:9 -g -w 3
-A -t 192.0.2.100:80 -s wlc
-a -t 192.0.2.100:80 -r 192.0.2.11:80 -g -w 1
-a -t 192.0.2.100:80 -r 192.0.2.12:80 -g -w 3
-A -u 192.0.2.100:8000 -s wlc
-a -u 192.0.2.100:8000 -r 192.0.2.11:8000 -g -w 1
-a -u 192.0.2.100:8000 -r 192.0.2.12:8000 -g -w 3
-A -u 192.0.2.100:8001 -s wlc
-a -u 192.0.2.100:8001 -r 192.0.2.11:8001 -g -w 1
-a -u 192.0.2.100:8001 -r 192.0.2.12:8001 -g -w 3
`},
		"NAT with ports of its own": {`{group: web, listen: [192.0.2.100:80/tcp, 192.0.2.100:443/tcp], forward: nat, real_servers: [{address: 10.0.0.1:8080}, {address: 10.0.0.2, upper_threshold: 100, lower_threshold: 50}]}`, `
-A -t 192.0.2.100:80 -s wlc
-a -t 192.0.2.100:80 -r 10.0.0.1:8080 -m -w 1
-a -t 192.0.2.100:80 -r 10.0.0.2:80 -m -w 1 -x 100 -y 50
-A -t 192.0.2.100:443 -s wlc
-a -t 192.0.2.100:443 -r 10.0.0.1:8080 -m -w 1
-a -t 192.0.2.100:443 -r 10.0.0.2:443 -m -w 1 -x 100 -y 50
`},
		"marks": {`{group: web, listen: [fwmark:5/ipv4, fwmark:5/ipv6], forward: tun, persistence: 60s, persistence_prefix: 24, real_servers: [{address: 10.0.0.1}]}`, `
-A -f 5 -s wlc -p 60 -M 255.255.255.0
-a -f 5 -r 10.0.0.1:0 -i -w 1 --tun-type ipip
-A -f 5 -6 -s wlc -p 60 -M 24
-a -f 5 -6 -r 10.0.0.1:0 -i -w 1 --tun-type ipip
`},
		"all ports": {`{group: web, listen: "[fd00::100]:0/tcp", scheduler: sh, persistence: 60s, real_servers: [{address: "fd00::1"}]}`, `
-A -t [fd00::100]:0 -s sh -p 60 -b sh-fallback
-a -t [fd00::100]:0 -r [fd00::1]:0 -g -w 1
`},
		"tunnels": {`{group: web, listen: 192.0.2.100:80/tcp, forward: tun, tunnel: {type: gue, port: 5555, checksum: remote}, real_servers: [{address: 10.0.0.1}, {address: 10.0.0.2, tunnel: {type: gre, checksum: full}}, {address: 10.0.0.3, tunnel: {}}, {address: 10.0.0.4, forward: dr}, {address: 10.0.0.5:8080, forward: nat}]}`, `
-A -t 192.0.2.100:80 -s wlc
-a -t 192.0.2.100:80 -r 10.0.0.1:80 -i -w 1 --tun-type gue --tun-port 5555 --tun-remcsum
-a -t 192.0.2.100:80 -r 10.0.0.2:80 -i -w 1 --tun-type gre --tun-csum
-a -t 192.0.2.100:80 -r 10.0.0.3:80 -i -w 1 --tun-type ipip
-a -t 192.0.2.100:80 -r 10.0.0.4:80 -g -w 1
-a -t 192.0.2.100:80 -r 10.0.0.5:8080 -m -w 1
`},
		"flags and one packet": {`{group: web, listen: 192.0.2.100:53/udp, scheduler: mh, scheduler_flags: [flag-3, mh-port, mh-fallback], one_packet: true}`, `
-A -u 192.0.2.100:53 -s mh -o -b mh-fallback,mh-port,flag-3
`},
		"an engine": {`{group: web, listen: 192.0.2.100:5060/udp, persistence: 60s, persistence_engine: sip}`, `
-A -u 192.0.2.100:5060 -s wlc -p 60 --pe sip
`},
		"not held": {`{group: other, listen: 192.0.2.200:80/tcp, real_servers: [{address: 10.0.0.1}]}`, "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := rulesOf(t, docs+c.service+"\n", every)
			if diff := cmp.Diff(sorted(strings.TrimPrefix(c.want, "\n")), sorted(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// sorted makes the order of services immaterial.
func sorted(s string) map[string]bool {
	out := map[string]bool{}
	for line := range strings.Lines(s) {
		out[line] = true
	}
	return out
}

// A real server that may not be used leaves every service of a range, or gets
// weight 0 in each; it is asked about once.
func TestRulesOfARealServerThatIsDown(t *testing.T) {
	const docs = "groups: {web: {vips: [192.0.2.100]}}\nservices:\n  s: {group: web, listen: 192.0.2.100:80-82/tcp, on_failure: %, real_servers: [{address: 10.0.0.1}, {address: 10.0.0.2, weight: 7}]}\n"
	for onFailure, want := range map[string]int{"remove": 0, "weight_zero": 3} {
		asked := 0
		got := rulesOf(t, strings.Replace(docs, "%", onFailure, 1), func(_ spec.Service, rs spec.RealServer) bool {
			asked++
			return rs.Address.Addr() != netip.MustParseAddr("10.0.0.2")
		})
		if n := strings.Count(got, "-g -w 0\n"); n != want || asked != 2 || strings.Count(got, "10.0.0.1:8") != 3 || strings.Contains(got, "-w 7") {
			t.Errorf("%s: %d with weight 0 (want %d), asked %d times (want 2):\n%s", onFailure, n, want, asked, got)
		}
	}
}

// A VIP with an interface and a label of its own is bound there.
func TestVIPsAreBoundWhereTheDocumentsSay(t *testing.T) {
	docs := map[string]string{"spec/cluster": calm,
		"spec/groups/web": "label: \"eth0:2\"\nvips: [192.0.2.100, {address: 10.0.0.254, interface: eth1, label: \"eth1:1\"}, {address: 10.0.0.253, interface: eth1}]\n"}
	play(t, docs, nil, func(b *bench) {
		b.grant(hold("web", 1), 10*time.Second)
		got := map[string]string{}
		for _, a := range b.kernel.Table() {
			got[a.Prefix.String()] = a.Interface + " " + a.Label
		}
		want := map[string]string{"192.0.2.100/32": "eth0 eth0:2", "10.0.0.254/32": "eth1 eth1:1", "10.0.0.253/32": "eth1 eth1"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

// A fault is told for as long as its document stays as it is, beside changes of
// others; the good text brings the document back into force.
func TestFaultsAreToldAgain(t *testing.T) {
	var d documents
	load := func(docs map[string]string) []string {
		raw := map[string][]byte{}
		for path, text := range docs {
			raw[path] = []byte(text)
		}
		d.load(raw)
		return d.problems
	}
	load(webDocs())
	bad := with(webDocs(), "spec/groups/web", "vips: x\n")
	changed := with(bad, "spec/services/http", webService+"persistence: 1s\n")
	for _, docs := range []map[string]string{bad, changed} {
		if got := load(docs); len(got) != 1 || !strings.HasPrefix(got[0], "spec/groups/web:1: vips") {
			t.Errorf("problems %v", got)
		}
	}
	if d.spec.Services["http"].Persistence != time.Second {
		t.Error("a changed document is not in force")
	}
	elsewhere := with(webDocs(), "spec/services/http", strings.Replace(webService, "2.100", "2.101", 1))
	if got := load(elsewhere); len(got) != 1 || !strings.HasPrefix(got[0], "spec/services/http:2: service http: listens on") {
		t.Errorf("problems %v", got)
	}
	if got := load(webDocs()); len(got) != 0 || d.spec.Services["http"].Persistence != 0 {
		t.Errorf("back again: problems %v", got)
	}
}
