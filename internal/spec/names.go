package spec

import (
	"fmt"
	"regexp"
	"strings"
)

// A name becomes a znode, a part of a lock's name and of a socket's path, so it
// has no slash, begins with a letter or digit (no ".", ".." or hidden file),
// and is short.
var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

const nameExpected = "1 to 63 of a-z, 0-9, '.', '-', beginning with a letter or digit"

// CheckName says what is wrong with the name of a cluster, node, group or
// service; nil if nothing.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%q is no name; expected %s", printable(name), nameExpected)
	}
	return nil
}

// An entry of the exec directory: one path element, no hidden file.
var scriptPattern = regexp.MustCompile(`^[a-z0-9_-][a-z0-9_.-]{0,63}$`)

// interfaceNameSize is IFNAMSIZ - 1 (linux/if.h): the longest name of an
// interface, and the longest label of an address.
const interfaceNameSize = 15

// CheckInterface says what is wrong with the name of a network interface (the
// kernel's dev_valid_name); nil if nothing.
func CheckInterface(name string) error {
	bad := name == "" || name == "." || name == ".." || len(name) > interfaceNameSize ||
		strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '/' || c == ':' })
	if bad {
		return fmt.Errorf("%q is no interface; expected 1 to %d characters without '/', ':' or blanks, such as eth0", printable(name), interfaceNameSize)
	}
	return nil
}

// CheckLabel says what is wrong with label as the label of an address on
// interface iface; nil if nothing. Tools such as ifconfig take the text up to
// the colon for the interface, and so does the kernel's old ioctl interface.
// With iface "" only the form is checked.
func CheckLabel(label, iface string) error {
	before, alias, found := strings.Cut(label, ":")
	bad := !found || alias == "" || len(label) > interfaceNameSize || CheckInterface(before) != nil ||
		strings.ContainsFunc(alias, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '/' || c == ':' })
	if bad {
		return fmt.Errorf("%q is no label; expected an interface, a colon and a word, %d characters at most, such as \"eth0:2\"", printable(label), interfaceNameSize)
	}
	if iface != "" && before != iface {
		return fmt.Errorf("%q does not begin with the interface; expected \"%s:%s\"", label, iface, alias)
	}
	return nil
}

// nearest returns the one of words that s most likely means: one that begins
// with s, or differs in about a third of the letters at most; "" if there is
// none.
func nearest(s string, words []string) string {
	best, bestDistance := "", 1+(len(s)+1)/3
	if len(s) > 40 {
		return ""
	}
	for _, w := range words {
		if len(s) >= 3 && strings.HasPrefix(w, s) {
			return w
		}
		if d := distance(s, w); d < bestDistance {
			best, bestDistance = w, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbor to make b out of a (optimal string alignment).
func distance(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}

// DidYouMean is the hint after a word that is not among words.
func DidYouMean(s string, words []string) string {
	if w := nearest(s, words); w != "" {
		return fmt.Sprintf(" (did you mean %q?)", w)
	}
	return ""
}
