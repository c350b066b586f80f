package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/control"
)

// tablePatience is how long the cluster's status waits for this host's table.
const tablePatience = 5 * time.Second

// readTable asks this host's director for its kernel's table, if it holds
// something. The status stands without.
func (s *shown) readTable(ctx context.Context, socket string) {
	if s.Local == nil || !slices.ContainsFunc(s.Local.Groups, func(g election.GroupStatus) bool { return g.Phase == "holder" }) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tablePatience)
	defer cancel()
	table, _, err := control.Ask[tableService, tableEnd](ctx, socket, statsView, nil)
	if err != nil {
		s.TableError = err.Error()
		return
	}
	s.Table = table
}

// holds tells whether this host's director holds a group.
func (s *shown) holds(group string) bool {
	return s.Local != nil && slices.ContainsFunc(s.Local.Groups, func(g election.GroupStatus) bool { return g.Group == group && g.Phase == "holder" })
}

// tableHeadings are the columns that the kernel's table adds.
const tableHeadings = "\tKERNEL\tACTIVECONN\tINACTCONN\tPERSISTCONN"

// tableCells gives those of a real server of a service, "" for all if this host's
// table is not known.
func (s *shown) tableCells() (headings string, cells func(service, group, server string) string) {
	if s.Table == nil {
		return "", func(_, _, _ string) string { return "" }
	}
	servers := map[string][]tableServer{} // by service: of all that it listens on
	for _, t := range s.Table {
		servers[t.Service] = append(servers[t.Service], t.RealServers...)
	}
	return tableHeadings, func(service, group, server string) string {
		if !s.holds(group) {
			return strings.Repeat("\t-", strings.Count(tableHeadings, "\t"))
		}
		return sumServers(servers[service], server)
	}
}

// sumServers are the cells of one real server.
func sumServers(servers []tableServer, server string) string {
	var sum tableServer
	weight := "none"
	for _, r := range servers {
		if !sameServer(server, r.Address) {
			continue
		}
		sum.Active, sum.Inactive, sum.Persistent = sum.Active+r.Active, sum.Inactive+r.Inactive, sum.Persistent+r.Persistent
		switch w := fmt.Sprint(r.Weight); weight {
		case "none", w:
			weight = w
		default: // one port's was changed by hand just now
			weight = "differs"
		}
	}
	return fmt.Sprintf("\t%s\t%d\t%d\t%d", weight, sum.Active, sum.Inactive, sum.Persistent)
}

// sameServer tells whether a destination is that of a real server, whose document
// may give no port.
func sameServer(server, destination string) bool {
	if server == destination {
		return true
	}
	to, err := netip.ParseAddrPort(destination)
	return err == nil && server == to.Addr().String()
}

// kernelTable shows the kernel's table by itself, where ZooKeeper tells no services.
func (s *shown) kernelTable(w io.Writer) {
	if len(s.Table) == 0 {
		return
	}
	fmt.Fprintln(w, "\nSERVICE\tPROT\tLISTEN\tSCHED\tREAL SERVER\tFORWARD\tWEIGHT\tACTIVECONN\tINACTCONN\tPERSISTCONN")
	for _, t := range s.Table {
		head := strings.Join([]string{t.Service, t.Protocol, t.Listen, t.Scheduler}, "\t")
		for i, r := range t.RealServers {
			if i > 0 {
				head = "\t\t\t"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\n", head, r.Address, r.Forward, r.Weight, r.Active, r.Inactive, r.Persistent)
		}
		if len(t.RealServers) == 0 {
			fmt.Fprintf(w, "%s\tnone\n", head)
		}
	}
}
