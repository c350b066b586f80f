package zk

import (
	"fmt"
	"regexp"
	"strings"
)

// Base is the znode under which every cluster has its own.
const Base = "/zklvs"

// Tree is one cluster's part of ZooKeeper: every path that this project uses
// is built here. A name that is no plain name (see CheckName) is escaped, so
// that whatever stands in a document or in a list of children cannot reach
// another part of the tree.
type Tree struct{ root string }

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// CheckName refuses what is not 1 to 128 letters, digits, dots, dashes and
// underscores beginning with a letter or digit. kind is the word for it.
func CheckName(kind, name string) error {
	if plainName.MatchString(name) {
		return nil
	}
	return fmt.Errorf("%s name %q: expected 1 to 128 letters, digits, '.', '-' and '_', beginning with a letter or digit", kind, name)
}

// NewTree is the tree of a cluster.
func NewTree(cluster string) (Tree, error) {
	if err := CheckName("cluster", cluster); err != nil {
		return Tree{}, err
	}
	return Tree{root: Base + "/" + cluster}, nil
}

// join appends escaped names to the root.
func (t Tree) join(names ...string) string {
	var b strings.Builder
	b.WriteString(t.root)
	for _, n := range names {
		b.WriteByte('/')
		b.WriteString(escape(n))
	}
	return b.String()
}

// Root returns /zklvs/<cluster>.
func (t Tree) Root() string { return t.root }

// Spec returns the parent of the desired state. Its data is the revision (see Revision).
func (t Tree) Spec() string { return t.join("spec") }

// SpecGroups returns the parent of the groups' documents.
func (t Tree) SpecGroups() string { return t.join("spec", "groups") }

// SpecServices returns the parent of the services' documents.
func (t Tree) SpecServices() string { return t.join("spec", "services") }

// Directors returns the parent of the directors' ephemeral znodes.
func (t Tree) Directors() string { return t.join("directors") }

// Director returns a director's ephemeral znode.
func (t Tree) Director(node string) string { return t.join("directors", node) }

// Groups returns the parent of the groups' elections.
func (t Tree) Groups() string { return t.join("groups") }

// Group returns a group's znode.
func (t Tree) Group(g string) string { return t.join("groups", g) }

// Election returns a group's queue, the parent of the locks.
func (t Tree) Election(g string) string { return t.join("groups", g, "election") }

// Lock returns a lock, or the path to create it under, given its name or prefix.
func (t Tree) Lock(g, name string) string { return t.join("groups", g, "election", name) }

// Record returns a group's record.
func (t Tree) Record(g string) string { return t.join("groups", g, "leader") }

// VotersRoot returns the parent of the lists of voters. They stand outside of
// the groups, so that they outlive what is deleted there.
func (t Tree) VotersRoot() string { return t.join("voters") }

// Voters returns a group's list of voters.
func (t Tree) Voters(g string) string { return t.join("voters", g) }

// Key returns the znode of the key with which directors authenticate what they
// tell each other.
func (t Tree) Key() string { return t.join("key") }

// HealthRoot returns the parent of all verdicts.
func (t Tree) HealthRoot() string { return t.join("health") }

// HealthService returns one director's verdicts on one service.
func (t Tree) HealthService(node, service string) string { return t.join("health", node, service) }

// DrainedRoot returns the parent of the real servers that are drained.
func (t Tree) DrainedRoot() string { return t.join("operator", "drained") }

// Drained returns the entry of a real server that is drained.
func (t Tree) Drained(name string) string { return t.join("operator", "drained", name) }

// dirs are the persistent parents that every cluster has, parents first,
// without the root.
func (t Tree) dirs() []string {
	return []string{t.Spec(), t.SpecGroups(), t.SpecServices(), t.Directors(), t.Groups(), t.VotersRoot(), t.HealthRoot(), t.join("realservers"), t.join("operator")}
}

const hexDigits = "0123456789ABCDEF"

// escape turns a name into one path element: letters, digits and ._-:[] stand
// for themselves (an address with port needs the last three), every other byte
// becomes %XX, and so do the dots of "." and "..". The empty name is "%".
// Different names give different elements.
func escape(name string) string {
	if name == "" {
		return "%"
	}
	var b strings.Builder
	dots := name == "." || name == ".."
	for i := range len(name) {
		c := name[i]
		if plainByte(c) && !dots {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-:[]", c) >= 0
}

// NameOf is the name that was escaped into a path element, such as one of a
// list of children. An element that no name gives is returned as it stands.
func NameOf(element string) string {
	if element == "%" {
		return ""
	}
	if !strings.Contains(element, "%") {
		return element
	}
	var b strings.Builder
	for i := 0; i < len(element); i++ {
		if element[i] != '%' {
			b.WriteByte(element[i])
			continue
		}
		if i+2 >= len(element) {
			return element
		}
		hi, lo := strings.IndexByte(hexDigits, element[i+1]), strings.IndexByte(hexDigits, element[i+2])
		if hi < 0 || lo < 0 {
			return element
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	if escape(b.String()) != element {
		return element
	}
	return b.String()
}

// groupOf returns the group to whose election a path belongs.
func (t Tree) groupOf(p string) (string, bool) {
	rest, ok := strings.CutPrefix(p, t.Groups()+"/")
	if !ok {
		return "", false
	}
	element, _, _ := strings.Cut(rest, "/")
	return NameOf(element), true
}
