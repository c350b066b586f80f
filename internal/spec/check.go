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
	listens map[Listen]string     // by key with one port, the service that has it
	list    []Problem

	kernel, destinations int  // entries of a kernel's table so far
	full                 bool // there are too many
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
	g, exists := c.spec.Groups[s.Group]
	known := exists && !c.spec.faulty[GroupPath(s.Group)]
	for i, l := range s.Listen {
		if !l.valid() {
			continue
		}
		c.listen(name, doc, i, l)
		isVIP := func(v VIP) bool { return v.Address == l.Address }
		if known && l.Mark == 0 && !slices.ContainsFunc(g.VIPs, isVIP) {
			c.failf(doc, "listen", i, "listens on %s, which is no VIP of group %s; expected one of %s", l, s.Group, addresses(g.VIPs))
		}
		c.kernel += l.Count()
		c.destinations += l.Count() * len(s.RealServers)
	}
	if s.Group != "" && !exists {
		groups := slices.Sorted(maps.Keys(c.spec.Groups))
		c.failf(doc, "group", -1, "group %q does not exist; expected a group of the cluster%s", s.Group, DidYouMean(s.Group, groups))
	}
	for i, rs := range s.RealServers {
		if group, ok := c.vips[rs.Address.Addr()]; ok {
			c.failf(doc, "real_servers", i, "real server %s is a VIP of group %s; expected the server's own address", rs, group)
		}
		c.mixed(doc, i, s, rs)
	}
	c.bounds(doc)
}

// mixed: ip_vs_ctl.c takes no destination of another family beside the sync
// daemons (ip_vs_add_dest, and the other way round IPVS_CMD_NEW_DAEMON).
func (c *checker) mixed(doc string, i int, s Service, rs RealServer) {
	other := func(l Listen) bool { return l.valid() && l.Is6() != rs.Address.Addr().Is6() }
	if j := slices.IndexFunc(s.Listen, other); j >= 0 && rs.Address.IsValid() && c.spec.Cluster.IPVS.Sync.Enabled {
		c.failf(doc, "real_servers", i, "real server %s is %s but listen %s is %s, which the kernel refuses beside connection synchronization; expected one family, or ipvs: {sync: {enabled: false}} in the cluster's document",
			rs, family(rs.Address.Addr()), s.Listen[j], familyName(s.Listen[j].Is6()))
	}
}

// listen notes the services of the kernel's that a Listen is, each once.
func (c *checker) listen(name, doc string, i int, l Listen) {
	one := l
	one.PortHigh = 0
	for port := int(l.Port); port <= int(l.High()) && len(c.listens) <= maxKernelServices; port++ {
		one.Port = uint16(port)
		other, taken := c.listens[one]
		if taken && other != name { // twice in one service: its own rule
			c.failf(doc, "listen", i, "listens on %s, as service %s does%s; expected each VIP:port/protocol once",
				one, other, c.where(ServicePath(other), "listen"))
			return
		}
		c.listens[one] = name
	}
}

// What one cluster may put into a kernel's table: lists and ranges multiply.
const (
	maxKernelServices     = 100_000
	maxKernelDestinations = 400_000
)

// bounds blames the document that goes beyond what the table may hold.
func (c *checker) bounds(doc string) {
	if c.full {
		return
	}
	switch {
	case c.kernel > maxKernelServices:
		c.full = true
		c.failf(doc, "listen", -1, "with this document the services come to more than %d ports; expected fewer, or port 0 (all ports) with persistence, or marks", maxKernelServices)
	case c.destinations > maxKernelDestinations:
		c.full = true
		c.failf(doc, "real_servers", -1, "with this document the services come to more than %d real servers, one for each port; expected fewer, or port 0 (all ports) with persistence, or marks", maxKernelDestinations)
	}
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
