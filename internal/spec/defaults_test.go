package spec

import (
	"fmt"
	"strings"
	"testing"
)

// Every default that is listed, written out, means the same as nothing written:
// the documentation and the parser cannot disagree.
func TestListedDefaultsAreTheDefaults(t *testing.T) {
	const group, service = "vips: [10.0.0.1]\n", "group: g\nlisten: 10.0.0.1:80/tcp\n"
	bases := map[string]struct{ path, without, with string }{
		"cluster.":                                {ClusterPath, "{}", "%s"},
		"cluster.ipvs.sync.":                      {ClusterPath, "{}", "ipvs: {sync: {%s}}"},
		"groups.<group>.":                         {"spec/groups/g", group, group + "%s"},
		"groups.<group>.fitness.":                 {"spec/groups/g", group, group + "fitness: {%s}"},
		"groups.<group>.fitness.gateway.":         {"spec/groups/g", group + "fitness: {gateway: {address: 10.0.0.1}}", group + "fitness: {gateway: {address: 10.0.0.1, %s}}"},
		"groups.<group>.fitness.script.":          {"spec/groups/g", group + "fitness: {script: {exec: x}}", group + "fitness: {script: {exec: x, %s}}"},
		"services.<service>.":                     {"spec/services/s", service, service + "%s"},
		"services.<service>.check.":               {"spec/services/s", service + "check: {tcp: {}}", service + "check: {tcp: {}, %s}"},
		"services.<service>.check.http.":          {"spec/services/s", service + "check: {http: {}}", service + "check: {http: {%s}}"},
		"services.<service>.tunnel.":              {"spec/services/s", service + "forward: tun\ntunnel: {}\n", service + "forward: tun\ntunnel: {%s}\n"},
		"services.<service>.real_servers.tunnel.": {"spec/services/s", service + "forward: tun\nreal_servers: [{address: 10.0.0.2:80, tunnel: {}}]", service + "forward: tun\nreal_servers: [{address: 10.0.0.2:80, tunnel: {%s}}]"},
		"services.<service>.real_servers.":        {"spec/services/s", service + "real_servers: [{address: 10.0.0.2:80}]", service + "real_servers: [{address: 10.0.0.2:80, %s}]"},
	}
	decode := func(path, text string) *Documents {
		d, err := Decode(path, []byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		return d
	}
	tested := 0
	for _, s := range Defaults() {
		words := s.Default == "required" || s.Default == "-" || strings.Contains(s.Default, " ")
		if s.File != "cluster" || words {
			continue
		}
		dot := strings.LastIndex(s.Setting, ".") + 1
		base, ok := bases[s.Setting[:dot]]
		if !ok {
			t.Errorf("%s: the test knows no document for it", s.Setting)
			continue
		}
		without, with := decode(base.path, base.without), decode(base.path, fmt.Sprintf(base.with, s.Setting[dot:]+": "+s.Default))
		diffValues(t, without.Cluster, with.Cluster)
		diffValues(t, without.Groups, with.Groups)
		diffValues(t, without.Services, with.Services)
		tested++
	}
	if tested < 25 {
		t.Errorf("only %d settings tested", tested)
	}
}

func TestDefaultsAreDocumented(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Defaults() {
		if s.Default == "" || s.Meaning == "" {
			t.Errorf("%+v says too little", s)
		}
		if seen[s.File+s.Setting] {
			t.Errorf("%s is listed twice", s.Setting)
		}
		seen[s.File+s.Setting] = true
	}
	for _, want := range []string{"localzookeeper.session_timeout", "clustercluster.lease", "clustergroups.<group>.fitness.gateway.interval", "clusterservices.<service>.check.http.status"} {
		if !seen[want] {
			t.Errorf("%s is missing", want)
		}
	}
}
