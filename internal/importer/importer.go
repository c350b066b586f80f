// Package importer turns other programs' tables into documents for `zklvs
// apply`.
//
// Guaranteed: the documents pass apply's own checks, and mean what the input
// means but for what the notes tell. Nothing of the input is left out without a
// note. Every error and note names the line of the input.
package importer

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/ipvs"
	"github.com/zklvs/zklvs/ipvs/ipvsadm"
)

// Options say what the input does not.
type Options struct {
	Group string // gets all VIPs and services
	// VIPs belong to the group besides the addresses that services listen on:
	// firewall marks have none.
	VIPs []netip.Addr
}

// Result is what an import makes.
type Result struct {
	Text  string         // YAML that `zklvs apply -f` takes
	Notes []spec.Problem // what was left out, or needs more than these documents
}

// Ipvsadm reads what ipvsadm -S -n prints. name stands for the input in
// messages. The error is a spec.Errors about the input, or that of r.
func Ipvsadm(name string, r io.Reader, o Options) (Result, error) {
	table, err := ipvsadm.Read(name, r)
	if err != nil {
		return Result{}, problems(err)
	}
	b := &builder{name: name, table: table, lines: map[string][]int{}, docs: &spec.Documents{
		Groups: map[string]spec.Group{}, Services: map[string]spec.Service{}}}
	for _, n := range table.Notes {
		b.note(n.Line, "%s", n.Text)
	}
	if err := b.group(o); err != nil {
		return Result{}, err
	}
	for _, s := range table.Services {
		b.service(o.Group, s)
	}
	return b.finish()
}

// problems makes faults of ipvsadm's words faults like all others.
func problems(err error) error {
	faults, ok := err.(ipvsadm.Errors) //nolint:errorlint // Read returns it as it is
	if !ok {
		return err
	}
	var out spec.Errors
	for _, f := range faults {
		out = append(out, spec.Problem{Pos: spec.Pos{File: f.File, Line: f.Line}, Text: f.Text})
	}
	return out
}

type builder struct {
	name  string
	table *ipvsadm.Table
	docs  *spec.Documents
	lines map[string][]int // by document: the line of the service and of each real server
	notes []spec.Problem
}

func (b *builder) note(line int, format string, args ...any) {
	b.notes = append(b.notes, spec.Problem{Pos: spec.Pos{File: b.name, Line: line}, Text: fmt.Sprintf(format, args...)})
}

// group collects the VIPs in the order in which they come.
func (b *builder) group(o Options) error {
	g := spec.DefaultGroup()
	seen := map[netip.Addr]bool{}
	add := func(a netip.Addr) {
		if a.IsValid() && !seen[a] {
			seen[a] = true
			g.VIPs = append(g.VIPs, spec.VIP{Address: a})
		}
	}
	for _, s := range b.table.Services {
		add(s.Address)
	}
	for _, a := range o.VIPs {
		add(a)
	}
	switch {
	case len(b.table.Services) == 0:
		return spec.Errors{{Pos: spec.Pos{File: b.name, Line: 1}, Text: "there is no service; expected what ipvsadm -S -n prints"}}
	case len(g.VIPs) == 0:
		return spec.Errors{{Pos: spec.Pos{File: b.name, Line: b.table.Line(b.table.Services[0].Key)},
			Text: "all services are of firewall marks, which do not say for which addresses; expected --vip ADDRESS"}}
	}
	b.docs.Groups[o.Group] = g
	return nil
}

func (b *builder) service(group string, s ipvs.Service) {
	name := serviceName(s.Key)
	out := spec.DefaultService()
	out.Group, out.Listen = group, []spec.Listen{listen(s.Key)}
	out.Scheduler, out.OnePacket = s.Scheduler, s.OnePacket
	out.Persistence, out.PersistencePrefix, out.PersistenceEngine = s.Persistence, s.PersistencePrefix, s.Engine
	words := s.SchedulerFlags.Words(s.Scheduler)
	if s.Scheduler == "sh" || s.Scheduler == "mh" {
		out.SchedulerFlags = words
	} else if words != nil {
		b.note(b.table.Line(s.Key), "-b %s is left out: scheduler %s looks at no flags", strings.Join(words, ","), s.Scheduler)
	}
	lines := []int{b.table.Line(s.Key)}
	out.Forward, out.Tunnel = methods(s.Destinations)
	for _, d := range s.Destinations {
		line := b.table.DestinationLine(s.Key, d.AddrPort())
		lines = append(lines, line)
		if s.Mark != 0 && d.Forward != ipvs.NAT && d.Port != 0 {
			b.note(line, "port %d of real server %s is left out: with a firewall mark %s leaves the port as it comes", d.Port, d.AddrPort(), d.Forward)
			d.Port = 0
		}
		out.RealServers = append(out.RealServers, realServer(out, d))
	}
	b.docs.Services[name] = out
	b.lines[spec.ServicePath(name)] = lines
}
