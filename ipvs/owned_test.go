package ipvs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const scope = "boot 1 netns cookie 2"

func mustOpenOwned(t testing.TB, path string) *Owned {
	t.Helper()
	o, err := OpenOwned(path, scope)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestOwnedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "owned")
	o := mustOpenOwned(t, path)
	a, b, six := key(t, "TCP 10.0.0.1:80"), key(t, "UDP 10.0.0.1:53"), key(t, "TCP [2001:db8::1]:80")
	if o.Has(a) {
		t.Error("a new set has a key")
	}
	if err := o.Remove(a); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing changed, yet there is a file: %v", err)
	}
	if err := o.Add(six, b, a, b); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noDiff(t, "file", "zklvs-owned-services 1\nscope boot 1 netns cookie 2\nTCP 10.0.0.1:80\nTCP [2001:db8::1]:80\nUDP 10.0.0.1:53\nend 3\n", string(text))
	noDiff(t, "read again", []Key{a, six, b}, mustOpenOwned(t, path).Keys())

	if err := o.Remove(a); err != nil {
		t.Fatal(err)
	}
	noDiff(t, "read after the removal", []Key{six, b}, mustOpenOwned(t, path).Keys())

	other, err := OpenOwned(path, "boot 2 netns cookie 2")
	if err != nil {
		t.Fatal(err)
	}
	noDiff(t, "read in another boot", []Key{}, other.Keys())
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v: expected the file alone", entries, err)
	}
}

// A write that fails changes neither the set nor the file.
func TestOwnedWriteFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	o := mustOpenOwned(t, filepath.Join(dir, "owned"))
	if err := o.Add(key(t, "TCP 10.0.0.1:80")); err != nil {
		t.Fatal(err)
	}
	// A directory in the place of the new file stops even root.
	if err := os.MkdirAll(filepath.Join(dir, "owned.new", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := o.Add(key(t, "TCP 10.0.0.2:80")); err == nil {
		t.Error("no error")
	}
	noDiff(t, "set", []Key{key(t, "TCP 10.0.0.1:80")}, o.Keys())
	noDiff(t, "file", []Key{key(t, "TCP 10.0.0.1:80")}, mustOpenOwned(t, filepath.Join(dir, "owned")).Keys())
}

func TestOwnedRefusesBadFiles(t *testing.T) {
	head := "zklvs-owned-services 1\nscope s\n"
	for _, tt := range []struct{ name, data, want string }{
		{"empty", "", "it is cut off"},
		{"no last line", head + "TCP 10.0.0.1:80\n", `line 3: "TCP 10.0.0.1:80": expected "end 0" after as many different services`},
		{"cut in a line", head + "TCP 10.0.0.1:8", "it is cut off"},
		{"more after the end", head + "end 0\nx", "it is cut off"},
		{"line lost", head + "end 1\n", `line 3: "end 1": expected "end 0" after as many different services`},
		{"twice", head + "TCP 10.0.0.1:80\nTCP 10.0.0.1:80\nend 2\n", `line 5: "end 2": expected "end 2" after as many different services`},
		{"another format", "zklvs-owned-services 2\nscope s\nend 0\n", `line 1: "zklvs-owned-services 2": expected "zklvs-owned-services 1"`},
		{"no scope", "zklvs-owned-services 1\nend 0\nend 0\n", `line 2: "end 0": expected a scope`},
		{"not a key", head + "TCP 10.0.0.1\nend 1\n", `line 3: "TCP 10.0.0.1": expected a service like "TCP 10.0.0.1:80" or "FWM 5"`},
		{"another spelling", head + "tcp 10.0.0.1:080\nend 1\n", `line 3: "tcp 10.0.0.1:080": expected a service like "TCP 10.0.0.1:80" or "FWM 5"`},
		{"another spelling of IPv6", head + "TCP [2001:DB8::1]:80\nend 1\n", `line 3: "TCP [2001:DB8::1]:80": expected a service like "TCP 10.0.0.1:80" or "FWM 5"`},
		{"IPv4-mapped", head + "TCP [::ffff:10.0.0.1]:80\nend 1\n", `line 3: "TCP [::ffff:10.0.0.1]:80": expected a service like "TCP 10.0.0.1:80" or "FWM 5"`},
		{"mark 0", head + "FWM 0\nend 1\n", `line 3: "FWM 0": expected a service like "TCP 10.0.0.1:80" or "FWM 5"`},
		{"another spelling of a mark", head + "FWM 05\nend 1\n", `line 3: "FWM 05": expected a service like "TCP 10.0.0.1:80" or "FWM 5"`},
		{"mark too large", head + "FWM 4294967296\nend 1\n", `line 3: "FWM 4294967296": expected a service like "TCP 10.0.0.1:80" or "FWM 5"`},
		{"zone", head + "TCP [fe80::1%eth0]:80\nend 1\n", `line 3: "TCP [fe80::1%eth0]:80": expected a service like "TCP 10.0.0.1:80" or "FWM 5"`},
		{"too large", strings.Repeat("x", maxOwnedSize+1), fmt.Sprintf("it is larger than %d bytes", maxOwnedSize)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "owned")
			if err := os.WriteFile(path, []byte(tt.data), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := OpenOwned(path, scope)
			if !errors.Is(err, ErrOwnedFile) || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestOwnedRefusesBadPlaces(t *testing.T) {
	dir := t.TempDir()
	good, path := filepath.Join(dir, "good"), filepath.Join(dir, "link")
	if err := mustOpenOwned(t, good).Add(key(t, "TCP 10.0.0.1:80")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(good, path); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, dir} {
		if _, err := OpenOwned(path, scope); !errors.Is(err, ErrOwnedFile) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := OpenOwned(filepath.Join(dir, "absent", "owned"), scope); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := OpenOwned(filepath.Join(dir, "owned"), "a\nb"); err == nil {
		t.Error("a scope of two lines is accepted")
	}
}

func TestHostScope(t *testing.T) {
	a, err := HostScope()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := HostScope()
	if a != b || !strings.HasPrefix(a, "boot ") || strings.Contains(a, "\n") {
		t.Errorf("%q, then %q", a, b)
	}
}

func FuzzParseOwned(f *testing.F) {
	f.Add([]byte("zklvs-owned-services 1\nscope s\nTCP 10.0.0.1:80\nend 1\n"))
	f.Add([]byte("zklvs-owned-services 1\nscope s\nTCP [2001:db8::1]:80\nUDP [::2]:53\nend 2\n"))
	f.Add([]byte("zklvs-owned-services 1\nscope s\nFWM 5\nFWM 5 IPv6\nSCTP 10.0.0.1:80\nTCP 10.0.0.1:0\nend 4\n"))
	f.Add([]byte("zklvs-owned-services 1\nscope s\nend 0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		scope, keys, err := parseOwned(data)
		if err != nil {
			return
		}
		again, keys2, err := parseOwned(formatOwned(scope, keys))
		if err != nil || again != scope || !sameSet(keys, keys2) {
			t.Errorf("round trip of %q: %q %v, %v", data, again, keys2, err)
		}
	})
}
