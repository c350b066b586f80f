package fence

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var compareAddr = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func TestStateRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "vips.json")
	none, err := loadState(path)
	if err != nil || none != nil {
		t.Fatalf("no file: %v, %v", none, err)
	}
	want := []VIP{
		{Address: netip.MustParseAddr("10.0.0.1"), Interface: "eth0", Label: "eth0:2"},
		{Address: netip.MustParseAddr("10.0.0.2"), Interface: "bond0.100"},
		{Address: netip.MustParseAddr("fd00::100"), Interface: "eth0", Label: "eth0:2"},
	}
	if err := saveState(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := loadState(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, compareAddr); d != "" {
		t.Error(d)
	}
	if all, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(all) != 0 {
		t.Errorf("temporary files are left: %v", all)
	}
}

func TestStateRefused(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"empty":         {"", "EOF"},
		"cut":           {`{"format":1,"vips":[{"addr`, "unexpected EOF"},
		"a newer one":   {`{"format":2,"vips":[]}`, "format 2: expected 1"},
		"unknown field": {`{"format":1,"vips":[],"gate":true}`, `unknown field "gate"`},
		"two documents": {`{"format":1,"vips":[]} {}`, "text after the end"},
		"no address":    {`{"format":1,"vips":[{"interface":"eth0"}]}`, "expected an IPv4 address"},
		"zone":          {`{"format":1,"vips":[{"address":"fe80::1%eth0","interface":"eth0"}]}`, "or a global IPv6 address"},
		"mapped":        {`{"format":1,"vips":[{"address":"::ffff:10.0.0.1","interface":"eth0"}]}`, "or a global IPv6 address"},
		"lo":            {`{"format":1,"vips":[{"address":"10.0.0.1","interface":"lo"}]}`, "does not bind on lo"},
		"bad interface": {`{"format":1,"vips":[{"address":"10.0.0.1","interface":"../eth0"}]}`, `unexpected character "/"`},
		"long label":    {`{"format":1,"vips":[{"address":"10.0.0.1","interface":"eth0","label":"eth0:0123456789a"}]}`, "has 16 bytes: expected 1 to 15"},
		"too large":     {`{"format":1,"vips":[]}` + strings.Repeat(" ", maxState), "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "vips.json")
			if err := os.WriteFile(path, []byte(c.data), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := loadState(path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q in it", err, c.want)
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove the file") {
				t.Errorf("error %v names neither the file nor the remedy", err)
			}
		})
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"format":1,"vips":[{"address":"10.0.0.1","interface":"eth0","label":"eth0:2"}]}`))
	f.Add([]byte(`{"format":1,"vips":[{"address":"2001:db8::100","interface":"eth0"},{"address":"10.0.0.1","interface":"eth0"}]}`))
	f.Add([]byte(`{"format":1,"vips":[{"address":"::ffff:10.0.0.1","interface":"eth0"}]}`))
	f.Add([]byte(`{"format":1,"vips":[{"address":"fd00::1%eth0","interface":"eth0"}]}`))
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		vips, err := parseState(data)
		if err != nil {
			return
		}
		for _, v := range vips {
			if err := v.Validate(); err != nil {
				t.Fatalf("accepted %+v: %v", v, err)
			}
		}
		again, err := json.Marshal(state{Format: stateFormat, VIPs: vips})
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseState(again)
		if err != nil {
			t.Fatalf("own output %s: %v", again, err)
		}
		if d := cmp.Diff(vips, back, compareAddr, cmpopts.EquateEmpty()); d != "" {
			t.Error(d)
		}
	})
}
