package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/control"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/overview"
)

// shown is what `status -o json` prints.
type shown struct {
	*overview.Cluster
	// Local is what the director on this host says, if one runs here.
	Local *localStatus `json:"local,omitempty"`
	// Table is this host's kernel table, if its director holds something.
	Table []tableService `json:"kernel_table,omitempty"`
	// TableError is why that could not be read.
	TableError string `json:"kernel_table_error,omitempty"`
	// ZooKeeperError is why only Local is known.
	ZooKeeperError string `json:"zookeeper_error,omitempty"`
}

func statusCommand() *cobra.Command {
	var f clusterFlags
	var view tableView
	out := outputFlag{}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show groups, holders, standbys, services and directors",
		Long: `Reads the cluster from ZooKeeper, so it works on any host that reaches it. On a
director its own view (from the admin socket) is shown too, also when ZooKeeper
is away.` + viewsHelp,
		Example: `  zklvs status
  zklvs status --stats
  zklvs status --connections --limit 100
  zklvs status --cluster web --zookeeper 10.0.0.1:2181 -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if view.chosen() {
				return view.run(cmd, &f, &out)
			}
			s, err := readStatus(cmd.Context(), &f)
			if err != nil {
				return err
			}
			return out.print(cmd, s, func() error { return s.table(cmd.OutOrStdout()) })
		},
	}
	f.add(cmd)
	view.add(cmd, &f)
	out.add(cmd)
	return cmd
}

func readStatus(ctx context.Context, f *clusterFlags) (*shown, error) {
	l, err := f.local()
	if err != nil {
		return nil, err
	}
	var s shown
	var here localStatus
	socketErr := control.Status(ctx, l.Socket(), &here)
	if socketErr == nil {
		s.Local = &here
		s.readTable(ctx, l.Socket())
	}
	if s.Cluster, err = readCluster(ctx, f); err != nil {
		if s.Local == nil {
			if errors.Is(socketErr, os.ErrPermission) {
				return nil, errors.Join(err, socketErr)
			}
			return nil, err
		}
		s.ZooKeeperError = err.Error()
	}
	return &s, nil
}

func readCluster(ctx context.Context, f *clusterFlags) (*overview.Cluster, error) {
	c, err := f.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	var o *overview.Cluster
	err = c.read(ctx, func(ctx context.Context) (err error) {
		o, err = overview.Read(ctx, c.local.Cluster, c.session, c.tree)
		return err
	})
	return o, err
}

func (s *shown) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if s.Cluster != nil {
		s.clusterTable(t)
	}
	if s.Local != nil {
		s.localTable(t)
	}
	if s.Cluster == nil {
		s.kernelTable(t)
	}
	if s.TableError != "" {
		fmt.Fprintf(t, "\nthe kernel's table cannot be read: %s\n", s.TableError)
	}
	if s.ZooKeeperError != "" {
		fmt.Fprintf(t, "\nZooKeeper cannot be read: %s\n", s.ZooKeeperError)
	}
	return t.Flush()
}

func (s *shown) clusterTable(t io.Writer) {
	fmt.Fprintln(t, "GROUP\tVIPS\tHOLDER\tEPOCH\tSINCE\tSTANDBYS\tWITHOUT ZOOKEEPER")
	for _, g := range s.Groups {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", g.Name, strings.Join(g.VIPs, ","), holder(g), g.Epoch, printable(g.Since), standbys(g), printable(g.OnZooKeeperLoss))
	}
	headings, cells := s.tableCells()
	fmt.Fprintf(t, "\nSERVICE\tLISTEN\tGROUP\tSCHED\tFORWARD\tREAL SERVER\tWEIGHT%s\tSTATE\n", headings)
	for _, v := range s.Services {
		head := strings.Join([]string{v.Name, v.Listen, v.Group, v.Scheduler, v.Forward}, "\t")
		for i, rs := range v.RealServers {
			if i > 0 {
				head = strings.Repeat("\t", 4)
			}
			fmt.Fprintf(t, "%s\t%s\t%d%s\t%s\n", head, rs.Address, rs.Weight, cells(v.Name, v.Group, rs.Address), printable(rs.Text()))
		}
		if len(v.RealServers) == 0 {
			fmt.Fprintf(t, "%s\t-\t-\t-\n", head)
		}
	}
	fmt.Fprintln(t, "\nDIRECTOR\tSINCE\tFENCE LAYERS\tFIT")
	for _, d := range s.Directors {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", d.Node, printable(d.Since), printable(strings.Join(d.FenceLayers, ", ")), fitness(d))
	}
	if len(s.Directors) == 0 {
		fmt.Fprintln(t, "none: start `zklvs run` on the directors")
	}
	for _, p := range s.Problems {
		fmt.Fprintf(t, "\nproblem: %s\n", p)
	}
}

func holder(g overview.Group) string {
	switch {
	case g.LockGone:
		return "none (the lock of " + g.Holder + " is gone; its lease is waited out)"
	case g.Holder != "":
		return g.Holder
	case g.State == "":
		return "none (no record)"
	}
	return fmt.Sprintf("none (%s)", g.State)
}

func standbys(g overview.Group) string {
	if len(g.Standbys) == 0 {
		return "none"
	}
	names := make([]string, len(g.Standbys))
	for i, e := range g.Standbys {
		names[i] = fmt.Sprintf("%s(%d)", e.Node, e.Priority)
	}
	return strings.Join(names, " ")
}

// printable makes text out of ZooKeeper safe to show on a terminal.
func printable(text string) string {
	const limit = 300
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "..."
	}
	return text
}

func fitness(d director.Presence) string {
	if len(d.Unfit) == 0 {
		return "yes"
	}
	var parts []string
	for _, group := range slices.Sorted(maps.Keys(d.Unfit)) {
		parts = append(parts, printable(group+": "+d.Unfit[group]))
	}
	return "no (" + strings.Join(parts, "; ") + ")"
}

func (s *shown) localTable(t io.Writer) {
	fmt.Fprintf(t, "\nTHIS DIRECTOR (%s)\tPHASE\tLEASE LEFT\tWITHOUT ZOOKEEPER\tWHY\n", s.Local.Node)
	for _, g := range s.Local.Groups {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", g.Group, g.Phase, leaseLeft(g), printable(g.OnZooKeeperLoss), g.Why)
	}
	fmt.Fprintf(t, "\nguard: %s\n", guardLine(s.Local.Guard))
	if s.Local.OnZooKeeperLoss != "" {
		fmt.Fprintf(t, "without ZooKeeper: %s\n", printable(s.Local.OnZooKeeperLoss))
	}
	if s.Local.Drift > 0 {
		fmt.Fprintf(t, "IPVS: %d changes by other programs to what is ours, since the director's start; the log names them\n", s.Local.Drift)
	}
	for _, p := range s.Local.Problems {
		fmt.Fprintf(t, "\nproblem: %s\n", p)
	}
	for _, h := range s.Local.Hanging {
		fmt.Fprintf(t, "\n%s\n  since %s; %s\n", h, h.Since, h.Evidence)
	}
}

func guardLine(g director.GuardStatus) string {
	state := fmt.Sprintf("process %d", g.PID)
	if g.PID == 0 {
		state = "none runs: this director can hold nothing"
	}
	if g.Restarts > 0 {
		state += fmt.Sprintf(", started again %d times since the director's start", g.Restarts)
	}
	return state
}

func leaseLeft(g election.GroupStatus) string {
	if g.LeaseLeft == "" {
		return "-"
	}
	return g.LeaseLeft
}
