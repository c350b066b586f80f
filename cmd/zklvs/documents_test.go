package main

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

func TestExpand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "conf[1]*") // glob characters are plain characters here
	for _, name := range []string{"b.yml", "a.yaml", "notes.txt", "sub/c.yaml"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(names ...string) (out []string) {
		for _, n := range names {
			out = append(out, filepath.Join(dir, n))
		}
		return out
	}
	for name, c := range map[string]struct {
		files []string
		want  []string
		err   string
	}{
		"a file":              {in("a.yaml"), in("a.yaml"), ""},
		"any name for a file": {in("notes.txt"), in("notes.txt"), ""},
		"standard input":      {[]string{"-"}, []string{"-"}, ""},
		"a directory":         {[]string{dir}, in("a.yaml", "b.yml"), ""},
		"in the order given":  {append(in("b.yml"), "-", filepath.Join(dir, "sub")), []string{filepath.Join(dir, "b.yml"), "-", filepath.Join(dir, "sub", "c.yaml")}, ""},
		"not there":           {in("d.yaml"), nil, filepath.Join(dir, "d.yaml") + ": no such file"},
		"an empty directory":  {[]string{t.TempDir()}, nil, "no *.yaml or *.yml in it"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := expand(c.files)
			if err == nil && c.err != "" || err != nil && (c.err == "" || !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// parsed reads documents from text that must be right.
func parsed(t *testing.T, text string) *spec.Documents {
	t.Helper()
	d, err := spec.ParseFile("web.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func snapshot(docs map[string]string) zk.Snapshot {
	s := zk.Snapshot{Documents: map[string]zk.Document{}}
	for path, text := range docs {
		s.Documents[path] = zk.Document{Data: []byte(text)}
	}
	return s
}

func stored(t *testing.T, text string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for path, data := range parsed(t, text).Encode() {
		out[path] = string(data)
	}
	return out
}

const (
	webFile = `groups:
  web: {vips: [192.0.2.100]}
services:
  http: {group: web, listen: 192.0.2.100:80/tcp, scheduler: rr, real_servers: [{address: 192.0.2.11:80}]}
`
	twoFile = `groups:
  two: {vips: [192.0.2.101]}
`
)

func TestPlan(t *testing.T) {
	web := stored(t, webFile)
	badService := map[string]string{"spec/groups/web": web["spec/groups/web"], "spec/services/http": "nonsense: true\n"}
	for name, c := range map[string]struct {
		stored map[string]string
		file   string
		prune  bool
		want   []string // kind and path
		err    string
		code   int
	}{
		"fresh":                            {nil, webFile, false, []string{"added spec/groups/web", "added spec/services/http"}, "", 0},
		"the same":                         {web, webFile, false, nil, "", 0},
		"the same, pruned":                 {web, webFile, true, nil, "", 0},
		"another group":                    {web, twoFile, false, []string{"added spec/groups/two"}, "", 0},
		"another group, pruned":            {web, twoFile, true, []string{"added spec/groups/two", "removed spec/groups/web", "removed spec/services/http"}, "", 0},
		"changed":                          {web, "groups: {web: {vips: [192.0.2.100, 192.0.2.102]}}\n", false, []string{"changed spec/groups/web"}, "", 0},
		"a service of a stored group":      {web, "services: {https: {group: web, listen: 192.0.2.100:443/tcp}}\n", false, []string{"added spec/services/https"}, "", 0},
		"a service of a pruned group":      {web, "services: {https: {group: web, listen: 192.0.2.100:443/tcp}}\n", true, nil, `group "web" does not exist`, exitBadInput},
		"a VIP of a stored group":          {web, "groups: {two: {vips: [192.0.2.100]}}\n", false, nil, "spec/groups/web:1: group web: VIP 192.0.2.100 is also in group two (web.yaml:1)", exitBadInput},
		"takes the VIP of a service":       {web, "groups: {web: {vips: [192.0.2.102]}}\n", false, nil, "which is no VIP of group web", exitBadInput},
		"a stored document is bad":         {badService, twoFile, false, nil, "a stored document is not usable, apply a good one in its place or use --prune: spec/services/http:1", exitBadInput},
		"a good one in its place":          {badService, webFile, false, []string{"changed spec/services/http"}, "", 0},
		"a bad one is pruned":              {badService, "groups: {web: {vips: [192.0.2.100]}}\n", true, []string{"removed spec/services/http"}, "", 0},
		"a lease that is too long":         {web, "cluster: {lease: 9s}\n", false, nil, "shorten the lease to at most 7.5s", exitBadInput},
		"a hand-written stored document":   {map[string]string{"spec/groups/web": "{vips: [192.0.2.100]}"}, "groups: {web: {vips: [192.0.2.100]}}\n", false, []string{"changed spec/groups/web"}, "", 0},
		"a hand-written one that stays so": {map[string]string{"spec/groups/web": "{vips: [192.0.2.100]}"}, twoFile, false, []string{"added spec/groups/two"}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := plan(snapshot(c.stored), parsed(t, c.file), nil, c.prune)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || exitCode(err) != c.code {
					t.Fatalf("error %v (code %d), want %q (code %d)", err, exitCode(err), c.err, c.code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range p.shown {
				if s.Kind != spec.Unchanged {
					got = append(got, fmt.Sprintf("%s %s", s.Kind, s.Path))
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			wantChanges(t, p, parsed(t, c.file).Encode())
		})
	}
}

// wantChanges checks that what is written is what is shown, with the contents
// of the file.
func wantChanges(t *testing.T, p *planned, file map[string][]byte) {
	t.Helper()
	shown := map[string]spec.Kind{}
	for _, s := range p.shown {
		if s.Kind != spec.Unchanged {
			shown[s.Path] = s.Kind
		}
	}
	for _, c := range p.changes {
		if kind, ok := shown[c.Path]; !ok || c.Delete != (kind == spec.Removed) {
			t.Errorf("%s is shown as %q, delete %v", c.Path, kind, c.Delete)
		}
		if !c.Delete && string(c.Data) != string(file[c.Path]) {
			t.Errorf("%s: would write %q, the file says %q", c.Path, c.Data, file[c.Path])
		}
	}
	if len(p.changes) != len(shown) {
		t.Errorf("%d changes, %d are shown", len(p.changes), len(shown))
	}
}

// Faults within the files and faults between them and what is stored are told
// together.
func TestPlanTellsAllFaultsAtOnce(t *testing.T) {
	docs, parse := spec.ParseFile("web.yaml", []byte("groups:\n  two: {vips: [192.0.2.100]}\n  three: {vipps: []}\n"))
	_, err := plan(snapshot(stored(t, webFile)), docs, parse, false)
	if err == nil || strings.Count(err.Error(), "\n") != 2 || !strings.HasPrefix(err.Error(), "spec/groups/web:1: group web: VIP 192.0.2.100 is also in group two (web.yaml:2)") {
		t.Errorf("error: %v", err)
	}
}

// genDocuments are right documents of all kinds.
func genDocuments(t *rapid.T) *spec.Documents {
	names := rapid.SampledFrom([]string{"web", "a", "null", "true", "no", "0x1f", "1e3", "123", "-", "~", "y", "web.example", "a-b_c"}).Filter(func(s string) bool { return spec.CheckName(s) == nil })
	d, _ := spec.ParseFile("x", []byte("groups: {}\n"))
	if rapid.Bool().Draw(t, "cluster") {
		c := spec.DefaultCluster()
		c.Lease = time.Duration(rapid.IntRange(1, 7).Draw(t, "lease")) * time.Second
		d.Cluster = &c
	}
	for i, name := range rapid.SliceOfNDistinct(names, 1, 5, rapid.ID).Draw(t, "names") {
		g := spec.DefaultGroup()
		vip := netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)})
		g.VIPs = []spec.VIP{{Address: vip}}
		g.Label = rapid.SampledFrom([]string{"", "eth0:2", "e:0x1f", "no:1"}).Draw(t, "label")
		g.Priority = rapid.MapOfN(names, rapid.IntRange(1, 254), 0, 2).Draw(t, "priority")
		if len(g.Priority) == 0 {
			g.Priority = nil
		}
		d.Groups[name] = g
		s := spec.DefaultService()
		s.Group, s.Listen = name, []spec.Listen{{Address: vip, Port: 80, Protocol: spec.TCP}}
		c := spec.DefaultCheck()
		h := spec.DefaultHTTPCheck()
		h.Path = rapid.SampledFrom([]string{"/", "/a?b=c:d", "/null", "/#", "/'\"", "/{x}", "/%20"}).Draw(t, "path")
		c.HTTP = &h
		s.Check = &c
		s.RealServers = []spec.RealServer{{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).Next(), 80), Weight: i}}
		d.Services[name] = s
	}
	return d
}

// What `get` prints is a file that apply takes, and means what is stored.
func TestAsFileIsWhatApplyTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genDocuments(t).Encode()
		text := spec.Join(want)
		again, err := spec.ParseFile("get.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(asStrings(want), asStrings(again.Encode())); diff != "" {
			t.Fatalf("(-stored +read again):\n%s\n%s", diff, text)
		}
		var v any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if _, err := toYAML(v); err != nil {
			t.Fatalf("-o yaml: %v\n%s", err, text)
		}
	})
}

func asStrings(m map[string][]byte) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[k] = string(v)
	}
	return out
}

// Documents that were written by hand, in every style of YAML.
func TestAsFileOfHandWrittenDocuments(t *testing.T) {
	for name, text := range map[string]string{
		"flow":              "{vips: [192.0.2.100], label: \"eth0:2\"}",
		"flow, many lines":  "{vips: [\n 192.0.2.100,\n192.0.2.101],\nlabel: \"eth0:2\"\n}\n",
		"comments":          "# the web\nvips: # all\n- 192.0.2.100 # one\n",
		"empty lines":       "\n\nvips:\n\n  - 192.0.2.100\n\n\n",
		"no last line feed": "vips: [192.0.2.100]",
		"carriage returns":  "vips: [192.0.2.100]\r\nlabel: \"eth0:2\"\r\n",
		"block list":        "vips:\n- 192.0.2.100\n- 192.0.2.101\n",
	} {
		t.Run(name, func(t *testing.T) {
			docs := map[string][]byte{"spec/groups/web": []byte(text), "spec/groups/zzz": []byte("vips: [192.0.2.200]\n")}
			want, err := spec.Decode("spec/groups/web", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			got, err := spec.ParseFile("get.yaml", []byte(spec.Join(docs)))
			if err != nil {
				t.Fatalf("%v\n%s", err, spec.Join(docs))
			}
			if diff := cmp.Diff(string(want.Groups["web"].Encode()), string(got.Groups["web"].Encode())); diff != "" {
				t.Errorf("(-stored +read again):\n%s", diff)
			}
		})
	}
}

func TestSelectDocuments(t *testing.T) {
	all := map[string][]byte{"spec/cluster": nil, "spec/groups/web": nil, "spec/groups/web2": nil, "spec/services/web": nil}
	for name, c := range map[string]struct {
		names []string
		want  []string
		err   string
	}{
		"all":           {nil, []string{"spec/cluster", "spec/groups/web", "spec/groups/web2", "spec/services/web"}, ""},
		"cluster":       {[]string{"cluster"}, []string{"spec/cluster"}, ""},
		"a kind":        {[]string{"groups"}, []string{"spec/groups/web", "spec/groups/web2"}, ""},
		"one":           {[]string{"groups/web"}, []string{"spec/groups/web"}, ""},
		"two":           {[]string{"services/web", "cluster"}, []string{"spec/cluster", "spec/services/web"}, ""},
		"none of these": {[]string{"groups/we"}, nil, `no document "groups/we": expected cluster, groups, services, groups/NAME or services/NAME; stored are cluster, groups/web, groups/web2, services/web`},
		"not one":       {[]string{"group"}, nil, `no document "group"`},
		"the empty one": {[]string{""}, nil, `no document ""`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := selectDocuments(all, c.names)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || exitCode(err) != exitBadInput {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			if diff := cmp.Diff(c.want, slices.Sorted(maps.Keys(got))); err != nil || diff != "" {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}
