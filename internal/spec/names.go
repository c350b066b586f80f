package spec

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/zklvs/zklvs/internal/nearest"
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

// DidYouMean is the hint after a word that is not among words.
func DidYouMean(s string, words []string) string { return nearest.DidYouMean(s, words) }
