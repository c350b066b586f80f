package drain

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestParseTarget(t *testing.T) {
	for text, c := range map[string]struct {
		service string
		name    string // of the znode
		err     string
	}{
		"192.0.2.12":             {"", "192.0.2.12", ""},
		"192.0.2.12:80":          {"", "192.0.2.12:80", ""},
		"192.0.2.13:80":          {"web-http", "192.0.2.13:80_web-http", ""},
		"2001:db8::12":           {"", "2001:db8::12", ""},
		"[2001:DB8:0::12]:1":     {"a", "[2001:db8::12]:1_a", ""},
		"":                       {"", "", `"" is no real server; expected IP or IP:port`},
		"rs1":                    {"", "", `"rs1" is no real server`},
		"[2001:db8::12]":         {"", "", "is no real server"},
		"192.0.2.12:0":           {"", "", `"192.0.2.12:0" has port 0; expected another, or the address alone for all ports`},
		"192.0.2.12:65536":       {"", "", "is no real server"},
		"fe80::1%eth0":           {"", "", "without a zone"},
		"::ffff:192.0.2.1":       {"", "", "IPv4 as such"},
		"192.0.2.14":             {"No Name", "", `service: "No Name" is no name`},
		"192.0.2.15":             {"../x", "", "service: "},
		strings.Repeat("x", 300): {"", "", strings.Repeat("x", 80) + `..." is no real server`},
	} {
		got, err := ParseTarget(text, c.service)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%q: error %v, want %q", text, err, c.err)
		case c.err == "" && (err != nil || got.Name() != c.name):
			t.Errorf("%q: %q, %v, want %q", text, got.Name(), err, c.name)
		}
	}
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func entry(t testing.TB, server, service string) (Target, Entry) {
	t.Helper()
	target, err := ParseTarget(server, service)
	if err != nil {
		t.Fatal(err)
	}
	return target, New(target, "ID", "root@node01", noon, noon.Add(time.Minute))
}

func TestEntryIsOneJSONObject(t *testing.T) {
	_, e := entry(t, "192.0.2.12:80", "http")
	e = e.With("web", End{Reason: Deadline, At: e.Deadline, Node: "node01", Cut: 3})
	b, err := e.Encode()
	want := `{"format":1,"id":"ID","real_server":"192.0.2.12:80","service":"http","since":"2026-01-02T12:00:00Z","deadline":"2026-01-02T12:01:00Z",` +
		`"by":"root@node01","drained":{"web":{"reason":"deadline","at":"2026-01-02T12:01:00Z","node":"node01","cut":3}}}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v\nwant %s", b, err, want)
	}
	again, err := Decode("192.0.2.12:80_http", b)
	if diff := cmp.Diff(e, again); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if until, ok := again.DeadlineTime(); !ok || !until.Equal(noon.Add(time.Minute)) {
		t.Errorf("deadline %v %v", until, ok)
	}
	if _, ok := again.Until(time.Time{}).DeadlineTime(); ok {
		t.Error("no deadline is one")
	}
}

// An entry that says more than one group is over keeps what others wrote.
func TestWithKeepsTheOthers(t *testing.T) {
	_, e := entry(t, "192.0.2.12", "")
	first := e.With("a", End{Reason: Empty})
	both := first.With("b", End{Reason: Deadline})
	if len(e.Drained) != 0 || len(first.Drained) != 1 || len(both.Drained) != 2 {
		t.Errorf("%v, %v, %v", e.Drained, first.Drained, both.Drained)
	}
}

// Whatever is wrong in a znode: it has no effect, and the problem names it.
func TestWhatIsNotUnderstood(t *testing.T) {
	_, good := entry(t, "192.0.2.12", "")
	good = good.With("web", End{Reason: Empty, At: good.Since, Node: "node01"})
	for name, c := range map[string]struct {
		change func(map[string]any)
		err    string
	}{
		"unknown field":  {func(m map[string]any) { m["force"] = true }, "unknown field"},
		"format":         {func(m map[string]any) { m["format"] = 2 }, "format 2 is not understood"},
		"no id":          {func(m map[string]any) { delete(m, "id") }, "id and by"},
		"control codes":  {func(m map[string]any) { m["by"] = "\x1b[2J" }, "id and by"},
		"long":           {func(m map[string]any) { m["by"] = strings.Repeat("x", 300) }, "id and by"},
		"another server": {func(m map[string]any) { m["real_server"] = "192.0.2.13" }, "expected its znode to be named 192.0.2.13"},
		"no server":      {func(m map[string]any) { m["real_server"] = "rs1" }, `"rs1" is no real server`},
		"service":        {func(m map[string]any) { m["service"] = "/" }, "service: "},
		"since":          {func(m map[string]any) { m["since"] = "yesterday" }, "since: "},
		"deadline":       {func(m map[string]any) { m["deadline"] = "soon" }, "deadline: "},
		"group":          {func(m map[string]any) { m["drained"] = map[string]any{"/": nil} }, "drained: group"},
		"reason":         {func(m map[string]any) { m["drained"] = map[string]any{"web": map[string]any{"reason": "x"}} }, "reason"},
		"negative":       {func(m map[string]any) { m["drained"].(map[string]any)["web"].(map[string]any)["cut"] = -1 }, "not negative"},
		"another type":   {func(m map[string]any) { m["id"] = 7 }, "not understood"},
		"too much":       {func(m map[string]any) { m["id"] = strings.Repeat("x", maxEntry) }, "at most 65536 are read"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := good.Encode()
			if err != nil {
				t.Fatal(err)
			}
			var m map[string]any
			if err := json.Unmarshal(b, &m); err != nil {
				t.Fatal(err)
			}
			c.change(m)
			if b, err = json.Marshal(m); err != nil {
				t.Fatal(err)
			}
			set := Load(map[string]Stored{"192.0.2.12": {Data: b}})
			if len(set.Items) > 0 || len(set.Problems) != 1 || !strings.Contains(set.Problems[0], c.err) || !strings.HasPrefix(set.Problems[0], "operator/drained/192.0.2.12 has no effect: ") {
				t.Errorf("items %v, problems %q, want %q", set.Items, set.Problems, c.err)
			}
			if state, _ := set.At("web", "http", netip.MustParseAddrPort("192.0.2.12:80")); state != None {
				t.Errorf("it has an effect: %v", state)
			}
		})
	}
	for _, text := range []string{"", "null", "[]", "{}{}", "{"} {
		if _, err := Decode("192.0.2.12", []byte(text)); err == nil {
			t.Errorf("%q was understood", text)
		}
	}
}

func TestAt(t *testing.T) {
	raw := map[string]Stored{}
	add := func(server, service string, over ...string) {
		target, e := entry(t, server, service)
		for _, group := range over {
			e = e.With(group, End{Reason: Empty, At: e.Since, Node: "node01"})
		}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		raw[target.Name()] = Stored{Data: b, Version: 7}
	}
	add("192.0.2.11", "", "mail")
	add("192.0.2.12:80", "")
	add("192.0.2.12", "http", "web")
	add("192.0.2.13", "http")
	add("[2001:db8::1]:80", "")
	set := Load(raw)
	if len(set.Problems) > 0 {
		t.Fatal(set.Problems)
	}
	for _, c := range []struct {
		group, service, destination string
		state                       State
		entries                     int
	}{
		{"web", "http", "192.0.2.11:80", Draining, 1},
		{"web", "http", "192.0.2.11:443", Draining, 1},
		{"mail", "smtp", "192.0.2.11:25", Drained, 1},
		{"web", "http", "192.0.2.12:80", Drained, 2},
		{"web", "other", "192.0.2.12:80", Draining, 1},
		{"web", "other", "192.0.2.12:81", None, 0},
		{"web", "http", "192.0.2.13:80", Draining, 1},
		{"web", "https", "192.0.2.13:80", None, 0},
		{"web", "http", "[2001:db8::1]:80", Draining, 1},
		{"web", "http", "[2001:db8::1]:0", None, 0},
		{"web", "http", "192.0.2.14:80", None, 0},
	} {
		state, items := set.At(c.group, c.service, netip.MustParseAddrPort(c.destination))
		if state != c.state || len(items) != c.entries {
			t.Errorf("%s of %s in %s: %v by %d entries, want %v by %d", c.destination, c.service, c.group, state, len(items), c.state, c.entries)
		}
	}
	if i, ok := set.Find("192.0.2.12:80"); !ok || i.Version != 7 || i.Target().String() != "192.0.2.12:80" {
		t.Errorf("found %+v, %v", i, ok)
	}
	if _, ok := set.Find("192.0.2.12:81"); ok {
		t.Error("found what is not there")
	}
	if (Set{}).Names(netip.MustParseAddr("192.0.2.11")) || !set.Names(netip.MustParseAddr("192.0.2.11")) {
		t.Error("names are wrong")
	}
}

// Different targets have different names, and a name leads back to its target.
func TestNamesAreUnique(t *testing.T) {
	draw := func(t *rapid.T, label string) Target {
		var b [16]byte
		copy(b[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
		a := netip.AddrFrom16(b)
		if rapid.Bool().Draw(t, label+" v4") || a.Is4In6() {
			a = netip.AddrFrom4([4]byte(b[12:]))
		}
		return Target{a, rapid.Uint16().Draw(t, label+" port"), rapid.SampledFrom([]string{"", "a", "a.b", "80", "a-1"}).Draw(t, label+" service")}
	}
	rapid.Check(t, func(t *rapid.T) {
		one, two := draw(t, "one"), draw(t, "two")
		if (one == two) != (one.Name() == two.Name()) {
			t.Fatalf("%+v is named %s, %+v is named %s", one, one.Name(), two, two.Name())
		}
		server, service, _ := strings.Cut(one.Name(), "_")
		if again, err := ParseTarget(server, service); err != nil || again != one {
			t.Fatalf("%s is read as %+v, %v", one.Name(), again, err)
		}
	})
}

// What is understood is written as it was read.
func FuzzDecode(f *testing.F) {
	_, e := entry(f, "192.0.2.12:80", "http")
	for _, e := range []Entry{e, e.With("web", End{Reason: Empty, At: e.Since, Node: "n"}), e.Until(time.Time{})} {
		b, err := e.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add("192.0.2.12:80_http", b)
	}
	f.Add("192.0.2.12", []byte("{}"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		e, err := Decode(name, data)
		if err != nil {
			return
		}
		if e.Target().Name() != name {
			t.Fatalf("%q is about %q", name, e.Target().Name())
		}
		b, err := e.Encode()
		if err != nil {
			return // longer than it was read, by escapes
		}
		again, err := Decode(name, b)
		if diff := cmp.Diff(e, again, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Fatalf("%v (-read +written and read):\n%s", err, diff)
		}
		if bytes.ContainsAny([]byte(e.By+e.ID), "\x1b\r\n") {
			t.Fatalf("control codes in %+v", e)
		}
	})
}
