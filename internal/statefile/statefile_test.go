package statefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type note struct {
	Text string `json:"text"`
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "note")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, text := range []string{"first", "second"} {
		must(t, Write(path, note{text}))
		data, err := Read(path)
		must(t, err)
		var got note
		must(t, Decode(data, &got))
		if got.Text != text {
			t.Errorf("read %q, want %q", got.Text, text)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if must(t, err); len(entries) != 1 {
		t.Errorf("left beside it: %v", entries)
	}
	must(t, Remove(path))
	must(t, Remove(path))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not removed: %v", err)
	}
}

func TestRefused(t *testing.T) {
	for data, want := range map[string]string{
		``:                                    "EOF",
		`{"text": 1}`:                         "cannot unmarshal",
		`{"text": "a", "more": 1}`:            `unknown field "more"`,
		`{"text": "a"} x`:                     "text after the end",
		`{"text": "a"} {}`:                    "text after the end",
		strings.Repeat(" ", Max) + `{}`:       "more than 1048576 bytes",
		`{"text": "` + string(rune(0)) + `"}`: "invalid character",
	} {
		if err := Decode([]byte(data), new(note)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", data, err, want)
		}
	}
}

// What is too large is read no further, and refused.
func TestBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "large")
	must(t, os.WriteFile(path, make([]byte, 2*Max), 0o600))
	data, err := Read(path)
	if must(t, err); len(data) != Max+1 {
		t.Errorf("read %d bytes", len(data))
	}
	for name, make := range map[string]func(string) error{
		"directory": func(p string) error { return os.Mkdir(p, 0o755) },
		"link":      func(p string) error { return os.Symlink(path, p) },
	} {
		must(t, make(filepath.Join(dir, name)))
		if _, err := Read(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
