package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zklvs/zklvs/internal/control"
	"github.com/zklvs/zklvs/internal/spec"
)

const viewsHelp = `

With --stats, --rate, --connections or --timeout it shows the kernel's table of
this host, as ipvsadm does, asked of the director that runs here:

  --stats        since a service or real server was added (ipvsadm -Ln --stats)
                   CONNS     connections
                   INPKTS    packets from clients; OUTPKTS to them, with nat only:
                             dr and tun answers do not pass the director
                   INBYTES   bytes likewise; OUTBYTES
  --rate         the same a second, averaged by the kernel (ipvsadm -Ln --rate):
                   CPS, INPPS, OUTPPS, INBPS, OUTBPS
  --connections  the list of connections (ipvsadm -Lnc)
                   EXPIRE    until the entry goes if nothing passes, minutes:seconds
                   STATE     of TCP. SYN_RECV: the client's SYN was passed on, and the
                             client has not gone on; if that lasts, the network
                             behind this director is at fault
                   SOURCE    the client; VIRTUAL what it asked for; DESTINATION the
                             real server. A source with port 0 is a persistence
                             template: it binds that client to its real server
                 A long list is shown in part, as a sample: the kernel takes the
                 square of its length to show it
  --timeout      for how long the kernel remembers an idle connection
                 (ipvsadm -Ln --timeout): established TCP, TCP after a FIN, UDP
                 With a duration, --timeout is how long to wait for ZooKeeper

Without them, the services held by this host's director have columns of the
kernel's table:
  KERNEL         weight in the kernel's table; none: not in it
  ACTIVECONN     TCP connections that are established, or about to be (SYN_RECV)
  INACTCONN      all others: closing ones, and all of UDP
  PERSISTCONN    clients that persistence binds to this real server`

// tableView is what of the kernel's table is asked for.
type tableView struct {
	stats, rate, connections, timeout bool
	exact, all                        bool
	limit                             int
}

func (v *tableView) add(cmd *cobra.Command, f *clusterFlags) {
	cmd.Flags().BoolVar(&v.stats, "stats", false, "show this host's counters")
	cmd.Flags().BoolVar(&v.rate, "rate", false, "show this host's rates")
	cmd.Flags().BoolVar(&v.connections, "connections", false, "list this host's connections")
	cmd.Flags().BoolVar(&v.exact, "exact", false, "with --stats or --rate: large numbers in full")
	cmd.Flags().BoolVar(&v.all, "all", false, "with --connections: all of them, however long that takes")
	cmd.Flags().IntVar(&v.limit, "limit", 0, "with --connections: at most so many")
	flag := cmd.Flags().Lookup("timeout")
	flag.Value, flag.NoOptDefVal = &timeoutFlag{&f.timeout, &v.timeout}, timeoutAlone
	flag.Usage = "alone: show this host's timeouts; with a value: " + flag.Usage
	cmd.Args = args(func(cmd *cobra.Command, a []string) error {
		if len(a) == 1 && v.timeout { // "--timeout 5s": the value stands alone
			v.timeout = false
			if err := cmd.Flags().Set("timeout", a[0]); err != nil {
				return err
			}
			a = nil
		}
		return cobra.NoArgs(cmd, a)
	})
	cmd.PreRunE = func(*cobra.Command, []string) error { return v.check(cmd.Flags()) }
}

// timeoutAlone is the value of --timeout without one.
const timeoutAlone = "show"

// timeoutFlag is a duration, or a view where no value is given.
type timeoutFlag struct {
	wait *time.Duration
	show *bool
}

// Set implements pflag.Value.
func (t *timeoutFlag) Set(s string) error {
	if s == timeoutAlone {
		*t.show = true
		return nil
	}
	d, err := time.ParseDuration(s)
	if err == nil {
		*t.wait = d
	}
	return err
}

// String implements pflag.Value.
func (t *timeoutFlag) String() string {
	if t.wait == nil {
		return ""
	}
	return t.wait.String()
}

// Type implements pflag.Value.
func (*timeoutFlag) Type() string { return "duration" }

func (v *tableView) check(flags *pflag.FlagSet) error {
	n := 0
	for _, chosen := range []bool{v.stats, v.rate, v.connections, v.timeout} {
		if chosen {
			n++
		}
	}
	switch {
	case n > 1:
		return badInput(errors.New("--stats, --rate, --connections, --timeout: expected one of them"))
	case v.exact && !v.stats && !v.rate:
		return badInput(errors.New("--exact: expected with --stats or --rate"))
	case (v.all || flags.Changed("limit")) && !v.connections:
		return badInput(errors.New("--all and --limit: expected with --connections"))
	case v.all && flags.Changed("limit"):
		return badInput(errors.New("--all and --limit: expected one of them"))
	case flags.Changed("limit") && v.limit < 1:
		return badInput(fmt.Errorf("--limit %d: expected a number from 1 on", v.limit))
	}
	return nil
}

// chosen tells whether a view is asked for instead of the cluster.
func (v *tableView) chosen() bool { return v.stats || v.rate || v.connections || v.timeout }

// shownTable, shownConnections are what -o json prints.
type shownTable struct {
	Node     string         `json:"node"`
	Services []tableService `json:"services"`
	note     string         // of the table for people
}

type shownConnections struct {
	connectionsEnd
	Connections []tableConnection `json:"connections"`
}

func (v *tableView) run(cmd *cobra.Command, f *clusterFlags, out *outputFlag) error {
	l, err := f.local()
	if err != nil {
		return err
	}
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	switch {
	case v.timeout:
		_, t, err := control.Ask[struct{}, tableTimeouts](ctx, l.Socket(), timeoutsView, nil)
		if err != nil {
			return f.noTable(ctx, l, err)
		}
		return out.print(cmd, t, func() error { return t.table(w) })
	case v.connections:
		list, end, err := control.Ask[tableConnection, connectionsEnd](ctx, l.Socket(), connectionsView, v.query())
		if err != nil {
			return f.noTable(ctx, l, err)
		}
		s := &shownConnections{end, list}
		s.sort()
		return out.print(cmd, s, func() error { return s.table(w, v.limit == 0) })
	}
	list, end, err := control.Ask[tableService, tableEnd](ctx, l.Socket(), statsView, nil)
	if err != nil {
		return f.noTable(ctx, l, err)
	}
	s := &shownTable{Node: end.Node, Services: append([]tableService{}, list...)}
	if !slices.ContainsFunc(list, func(t tableService) bool { return t.Service != "" }) {
		s.note = fmt.Sprintf("No service of the cluster's documents is in the table of %s%s.", end.Node, f.heldBy(ctx, "; "))
	}
	return out.print(cmd, s, func() error { return s.table(w, v) })
}

func (v *tableView) query() url.Values {
	q := url.Values{}
	if v.all {
		q.Set("all", "true")
	}
	if v.limit > 0 {
		q.Set("limit", fmt.Sprint(v.limit))
	}
	return q
}

// noTable makes one line of why there is no view, with what to do.
func (f *clusterFlags) noTable(ctx context.Context, l spec.Local, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: it is its owner's: run this as root", err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no director of cluster %s runs on this host (admin socket %s), and the kernel's table is each host's own: run this on a director%s", l.Cluster, l.Socket(), f.heldBy(ctx, ": "))
	case errors.Is(err, control.ErrNoView):
		return fmt.Errorf("%w: it is older than this command: restart it", err)
	}
	return err
}

// heldBy says who holds what, "" if ZooKeeper does not tell soon.
func (f *clusterFlags) heldBy(ctx context.Context, before string) string {
	const patience = 3 * time.Second
	quick := *f
	quick.timeout = min(f.timeout, patience)
	c, err := readCluster(ctx, &quick)
	if err != nil {
		return ""
	}
	var parts []string
	for _, g := range c.Groups {
		if g.Holder != "" {
			parts = append(parts, fmt.Sprintf("%s is held by %s", g.Name, printable(g.Holder)))
		}
	}
	if len(parts) == 0 {
		return before + "nobody holds a group now"
	}
	const most = 5
	if more := len(parts) - most; more > 0 {
		parts = append(parts[:most], fmt.Sprintf("and %d more groups, see `zklvs status`", more))
	}
	return before + strings.Join(parts, ", ")
}

func (t tableTimeouts) table(w io.Writer) error {
	var g grid
	g.add("TCP", "TCPFIN", "UDP")
	g.add(fmt.Sprintf("%ds", t.TCP), fmt.Sprintf("%ds", t.TCPFin), fmt.Sprintf("%ds", t.UDP))
	return g.write(w)
}

func (s *shownTable) table(w io.Writer, v *tableView) error {
	g := grid{numbers: 3}
	headings, of := []string{"CONNS", "INPKTS", "OUTPKTS", "INBYTES", "OUTBYTES"}, func(c counted) totals { return c.Total }
	if v.rate {
		headings, of = []string{"CPS", "INPPS", "OUTPPS", "INBPS", "OUTBPS"}, func(c counted) totals { return c.Rate }
	}
	row := func(c counted, head ...string) {
		n := of(c)
		for _, x := range []uint64{n.Connections, n.InPackets, n.OutPackets, n.InBytes, n.OutBytes} {
			head = append(head, short(x, v.exact))
		}
		g.add(head...)
	}
	g.add(append([]string{"SERVICE", "PROT", "LISTEN -> REAL SERVER"}, headings...)...)
	for _, t := range s.Services {
		row(t.counted, cmp.Or(t.Service, "(not ours)"), t.Protocol, t.Listen)
		for _, r := range t.RealServers {
			row(r.counted, "", "", "-> "+r.Address)
		}
	}
	if err := g.write(w); err != nil || s.note == "" {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", s.note)
	return err
}

// sort puts connections of one real server together.
func (s *shownConnections) sort() {
	if s.Connections == nil {
		s.Connections = []tableConnection{}
	}
	byAddress := func(a, b string) int {
		x, errX := netip.ParseAddrPort(a)
		y, errY := netip.ParseAddrPort(b)
		if errX != nil || errY != nil {
			return cmp.Compare(a, b)
		}
		return x.Compare(y)
	}
	slices.SortStableFunc(s.Connections, func(a, b tableConnection) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), byAddress(a.Virtual, b.Virtual), byAddress(a.Server, b.Server), byAddress(a.Client, b.Client))
	})
}

func (s *shownConnections) table(w io.Writer, advise bool) error {
	g := grid{numbers: 6}
	g.add("PRO", "EXPIRE", "STATE", "SOURCE", "VIRTUAL", "DESTINATION")
	for _, c := range s.Connections {
		g.add(printable(c.Protocol), fmt.Sprintf("%02d:%02d", c.Expires/60, c.Expires%60), printable(c.State), c.Client, c.Virtual, c.Server)
	}
	if err := g.write(w); err != nil {
		return err
	}
	text := fmt.Sprintf("%d connections on %s", len(s.Connections), s.Node)
	switch {
	case s.Sample && advise:
		text += ", a sample: there are more. --all lists them; the kernel takes the square of their number (100,000: seconds)"
	case s.Sample:
		text += "; there are more"
	}
	_, err := fmt.Fprintf(w, "\n%s\n", text)
	return err
}
