package spec

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Spec is everything that is desired of a cluster.
type Spec struct {
	Cluster  Cluster
	Groups   map[string]Group
	Services map[string]Service

	marks  marks
	faulty map[string]bool
}

// Spec gives the set as a whole, with defaults for a missing cluster document.
func (d *Documents) Spec() *Spec {
	s := &Spec{Cluster: DefaultCluster(), Groups: d.Groups, Services: d.Services, marks: d.marks, faulty: d.faulty}
	if d.Cluster != nil {
		s.Cluster = *d.Cluster
	}
	return s
}

// Check finds what is wrong between documents, each of which is right for
// itself: groups that do not exist, VIPs in two groups, services that listen on
// the same address or on none of their group's VIPs, real servers that are
// VIPs. The error is an Errors; a Problem's Document tells which document to
// leave out. What follows from a fault that ParseFile reported is left out.
func (s *Spec) Check() error {
	c := &checker{spec: s, vips: map[netip.Addr]string{}, listens: map[Listen]string{}}
	for _, name := range slices.Sorted(maps.Keys(s.Groups)) {
		c.group(name, s.Groups[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		c.service(name, s.Services[name])
	}
	return problems(c.list)
}

type checker struct {
	spec    *Spec
	vips    map[netip.Addr]string // by VIP, the group that has it
	listens map[Listen]string     // by key, the service that has it
	list    []Problem
}

func (c *checker) failf(doc, field string, index int, format string, args ...any) {
	c.list = append(c.list, Problem{
		Pos:      c.spec.marks.at(doc, field, index),
		Document: doc,
		Text:     kindAndName(doc) + ": " + fmt.Sprintf(format, args...),
	})
}

// where is " (file:line)" of a field, "" if unknown.
func (c *checker) where(doc, field string) string {
	if pos := c.spec.marks.at(doc, field, -1); pos.Line > 0 {
		return fmt.Sprintf(" (%s)", pos)
	}
	return ""
}

func (c *checker) group(name string, g Group) {
	doc := GroupPath(name)
	for i, vip := range g.VIPs {
		if !vip.Address.IsValid() {
			continue
		}
		other, taken := c.vips[vip.Address]
		if !taken {
			c.vips[vip.Address] = name
		} else if other != name {
			c.failf(doc, "vips", i, "VIP %s is also in group %s%s; expected each VIP in one group",
				vip.Address, other, c.where(GroupPath(other), "vips"))
		}
	}
}

func (c *checker) service(name string, s Service) {
	doc := ServicePath(name)
	if s.Listen.Address.IsValid() {
		c.listen(name, doc, s)
	}
	g, exists := c.spec.Groups[s.Group]
	switch {
	case s.Group == "":
	case !exists:
		groups := slices.Sorted(maps.Keys(c.spec.Groups))
		c.failf(doc, "group", -1, "group %q does not exist; expected a group of the cluster%s", s.Group, DidYouMean(s.Group, groups))
	case s.Listen.Address.IsValid() && !c.spec.faulty[GroupPath(s.Group)] && !slices.Contains(g.VIPs, VIP{s.Listen.Address}):
		c.failf(doc, "listen", -1, "listens on %s, which is no VIP of group %s; expected one of %s", s.Listen, s.Group, addresses(g.VIPs))
	}
	for i, rs := range s.RealServers {
		if group, ok := c.vips[rs.Address.Addr()]; ok {
			c.failf(doc, "real_servers", i, "real server %s is a VIP of group %s; expected the server's own address", rs.Address, group)
		}
	}
}

func (c *checker) listen(name, doc string, s Service) {
	if other, taken := c.listens[s.Listen]; taken {
		c.failf(doc, "listen", -1, "listens on %s, as service %s does%s; expected each VIP:port/protocol once",
			s.Listen, other, c.where(ServicePath(other), "listen"))
		return
	}
	c.listens[s.Listen] = name
}

// addresses lists up to five VIPs.
func addresses(vips []VIP) string {
	text := ""
	for i, v := range vips {
		if i == 5 {
			return text + ", ..."
		}
		if i > 0 {
			text += ", "
		}
		text += v.Address.String()
	}
	return text
}
