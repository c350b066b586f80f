package zk

import (
	"strings"
	"testing"
)

func TestTreePaths(t *testing.T) {
	tree := must(NewTree("web"))(t)
	for _, c := range []struct{ got, want string }{
		{tree.Root(), "/zklvs/web"},
		{tree.Director("node01"), "/zklvs/web/directors/node01"},
		{tree.Election("g"), "/zklvs/web/groups/g/election"},
		{tree.Lock("g", "node01-1-2-0000000003"), "/zklvs/web/groups/g/election/node01-1-2-0000000003"},
		{tree.Record("g"), "/zklvs/web/groups/g/leader"},
		{tree.HealthService("node01", "web-http"), "/zklvs/web/health/node01/web-http"},
		{tree.Group("../../other"), "/zklvs/web/groups/..%2F..%2Fother"},
		{tree.Group(".."), "/zklvs/web/groups/%2E%2E"},
		{tree.Group(""), "/zklvs/web/groups/%"},
		{tree.Group("a\x00ü%"), "/zklvs/web/groups/a%00%C3%BC%25"},
	} {
		if c.got != c.want {
			t.Errorf("%s, expected %s", c.got, c.want)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"web": true, "web-1.eth0_x": true, "1": true, strings.Repeat("x", 128): true,
		"": false, ".": false, "..": false, ".x": false, "-x": false, "a/b": false, "a b": false, "ä": false, "a\n": false,
		strings.Repeat("x", 129): false,
	} {
		if err := CheckName("group", name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := NewTree("a/b"); err == nil || !strings.Contains(err.Error(), `cluster name "a/b"`) {
		t.Errorf("cluster a/b: %v", err)
	}
}

// Whatever the name, it is one element of a path that ZooKeeper takes, and
// comes back.
func FuzzName(f *testing.F) {
	for _, s := range []string{"", ".", "..", "a/b", "%", "%41", "web", "\xff", "a%2Fb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		e := escape(name)
		if e == "" || e == "." || e == ".." || strings.ContainsAny(e, "/\x00") {
			t.Errorf("%q became %q", name, e)
		}
		for _, c := range []byte(e) {
			if c <= ' ' || c >= 0x7f {
				t.Errorf("%q became %q", name, e)
			}
		}
		if back := NameOf(e); back != name {
			t.Errorf("%q became %q became %q", name, e, back)
		}
		if plainName.MatchString(name) && e != name {
			t.Errorf("plain %q became %q", name, e)
		}
		if again := NameOf(name); escape(again) != name && again != name {
			t.Errorf("foreign element %q read as %q", name, again)
		}
	})
}
