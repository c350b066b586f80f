package spec

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A hostile document costs little: some of these would take minutes, or the
// whole stack without the limits.
func TestHostileInputIsCheap(t *testing.T) {
	const size = 1 << 18
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	indented := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.Repeat(" ", i) + "a:\n")
		}
		return b.String()
	}
	tests := map[string]string{
		"lists":             fill("["),
		"mappings":          fill("{"),
		"mixed":             fill("[{a: "),
		"nested items":      fill("- "),
		"nested keys":       fill("a: "),
		"complex keys":      fill("? "),
		"anchors":           fill("&a "),
		"keys":              fill("a: 1\n"),
		"keys without text": fill("a:\n"),
		"keys in braces":    "{" + fill("a: 1,"),
		"keys of lists":     fill("a:\n- b\n"),
		"indentation":       indented(1000),
		"quotes":            fill("'"),
		"double quotes":     fill("\""),
		"colons":            fill(":"),
		"joined colons":     "{a: [" + fill("b:"),
		"blocks":            fill("a: |\n  x\n"),
		"items":             "real_servers:\n" + fill("- {}\n"),
		"comma":             "[" + fill("a,"),
		"documents":         fill("---\n"),
		"comments":          fill("# x\n"),
		"hash":              fill("a #"),
		"text":              fill("a\n"),
		"braces closed":     fill("}"),
		"brackets":          fill("[]"),
		"pairs in lists":    "[" + fill("a: b, "),
		"exclamation":       fill("! "),
		"percent":           fill("%a\n"),
		"pipe":              fill("|\n"),
		"backslash":         "\"" + fill("\\\\"),
		"blanks":            fill(" "),
		"blank and text":    "a:" + fill(" \n") + "b",
		"tabs":              fill("\"\t"),
		"angles":            fill("<"),
		"dashes":            fill("-"),
		"dots":              fill("."),
		"few angles":        fill("<<<<<<< "),
		"returns":           fill("a: 1\r"),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			if _, err := Decode(ClusterPath, []byte(text)); err == nil {
				t.Error("no error")
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			} else {
				t.Log(took)
			}
		})
	}
}

// A large file of a user is no hostile one.
func TestManyServices(t *testing.T) {
	var b strings.Builder
	b.WriteString("groups:\n  g: {vips: [10.0.0.1]}\nservices:\n")
	const n = 2000
	for i := range n {
		fmt.Fprintf(&b, "  s%d:\n    group: g\n    listen: 10.0.0.1:%d/tcp\n    check: {tcp: {}}\n    real_servers:\n", i, i+1)
		for j := range 4 {
			fmt.Fprintf(&b, "      - {address: 10.1.0.%d:%d, weight: 1}\n", j+1, i+1)
		}
	}
	start := time.Now()
	d, err := ParseFile("f.yaml", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Spec().Check(); err != nil {
		t.Fatal(err)
	}
	if got := len(d.Services); got != n {
		t.Errorf("%d services", got)
	}
	t.Log(time.Since(start))
}

func TestKeyLimitIsPerMapping(t *testing.T) {
	var b strings.Builder
	b.WriteString("vips: [10.0.0.1]\npriority:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "  n%d: 1\n", i)
	}
	if _, err := DecodeGroup("g", []byte(b.String())); err != nil {
		t.Fatal(err)
	}
	b.WriteString("  n: 1\n")
	_, err := DecodeGroup("g", []byte(b.String()))
	wantError(t, "spec/groups/g:1003: more than 1000 keys in one mapping; expected fewer", err)
	many := "group: g\nlisten: 10.0.0.1:80/tcp\nreal_servers:\n"
	for i := range 1001 {
		many += fmt.Sprintf("- address: 10.1.%d.%d:80\n  weight: 1\n", i/250, 1+i%250)
	}
	if _, err := DecodeService("s", []byte(many)); err != nil {
		t.Fatal(err)
	}
}
