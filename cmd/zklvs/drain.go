package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zklvs/zklvs/internal/drain"
	"github.com/zklvs/zklvs/internal/zk"
)

// maxDeadline keeps a typing error from becoming a drain for ever.
const maxDeadline = 31 * 24 * time.Hour

// drainFlags are those of `drain`.
type drainFlags struct {
	clusterFlags
	service     string
	deadline    time.Duration
	wait, force bool
	list        bool
}

func drainCommand() *cobra.Command {
	var f drainFlags
	out := outputFlag{}
	cmd := &cobra.Command{
		Use:   "drain REAL-SERVER",
		Short: "Take a real server out of use without cutting its connections",
		Long: `REAL-SERVER is IP or IP:port as in the documents; an IP alone means all its
ports. It gets no new connections from now on (weight 0) in every service, or in
that of --service. When no connection is left, or at the deadline, it leaves the
table; what is left at the deadline is cut. The directors do this by themselves,
also over a fail-over: the command only waits and shows how far they are.
"zklvs undrain" brings the real server back.

Exit code 3 says that connections were cut at the deadline.`,
		Example: `  zklvs drain 192.168.150.12 --deadline 10m
  zklvs drain "[2001:db8::12]:80" --service web-http --wait=false
  zklvs drain --list`,
		Args: args(func(cmd *cobra.Command, a []string) error {
			if f.list {
				return cobra.NoArgs(cmd, a)
			}
			return cobra.ExactArgs(1)(cmd, a)
		}),
		RunE: func(cmd *cobra.Command, a []string) error {
			if f.list {
				return listDrains(cmd, &f.clusterFlags, &out)
			}
			return f.run(cmd, a[0])
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.service, "service", "", "only in this service")
	cmd.Flags().DurationVar(&f.deadline, "deadline", 0, "cut what is left after this time; 0 waits for ever")
	cmd.Flags().BoolVar(&f.wait, "wait", true, "wait until it is drained; else only until a director has begun")
	cmd.Flags().BoolVar(&f.force, "force", false, "also if a service has no other real server left")
	cmd.Flags().BoolVar(&f.list, "list", false, "list what is drained")
	out.add(cmd)
	return cmd
}

func (f *drainFlags) run(cmd *cobra.Command, realServer string) error {
	target, err := drain.ParseTarget(realServer, f.service)
	if err != nil {
		return badInput(err)
	}
	if f.deadline < 0 || f.deadline > maxDeadline || f.deadline%time.Second != 0 {
		return badInput(fmt.Errorf("--deadline %v: expected whole seconds, at most %v", f.deadline, maxDeadline))
	}
	c, err := f.connect(cmd.Context())
	if err != nil {
		return err
	}
	defer c.stop()
	d := &draining{cmd: cmd, c: c, timeout: f.timeout, target: target, show: newProgressLine(cmd.ErrOrStderr())}
	if err := d.begin(f); err != nil {
		return err
	}
	if !f.wait {
		return d.confirmed()
	}
	return d.untilDrained()
}

// draining is one `drain` or `undrain` under way.
type draining struct {
	cmd     *cobra.Command
	c       *connection
	timeout time.Duration
	target  drain.Target
	item    drain.Entry
	meant   []meant
	show    *progressLine
}

func (d *draining) warn(format string, a ...any) {
	d.cmd.PrintErrf("warning: "+format+"\n", a...)
}

func (d *draining) say(format string, a ...any) error {
	_, err := fmt.Fprintf(d.cmd.OutOrStdout(), format+"\n", a...)
	return err
}

// command is what brings the real server back.
func (d *draining) undo() string { return "zklvs undrain " + arguments(d.target) }

func arguments(t drain.Target) string {
	if t.Service == "" {
		return t.RealServer()
	}
	return t.RealServer() + " --service " + t.Service
}

// begin stores the entry. Another drain at the same moment makes it look again.
func (d *draining) begin(f *drainFlags) error {
	ctx, cancel := context.WithTimeout(d.cmd.Context(), f.timeout)
	defer cancel()
	for {
		err := d.tryBegin(ctx, f)
		if !errors.Is(err, zk.ErrConflict) || ctx.Err() != nil {
			return refusedWrite(err)
		}
	}
}

// refusedWrite adds the remedy where the world may read, but not write.
func refusedWrite(err error) error {
	if errors.Is(err, zk.ErrAuth) {
		return fmt.Errorf("%w: nothing was written; check zookeeper.credentials on this host", err)
	}
	return err
}

func (d *draining) tryBegin(ctx context.Context, f *drainFlags) error {
	s, err := readSurvey(ctx, d.c)
	if err != nil {
		return err
	}
	if d.meant, err = s.find(d.target); err != nil {
		return badInput(err)
	}
	stored, known := s.set.Find(d.target.Name())
	d.item = stored.Entry
	if !known {
		if err := s.refuseLast(d.target, d.meant); err != nil && !f.force {
			return badInput(fmt.Errorf("%w: expected another real server that takes clients, or --force", err))
		}
		d.item = drain.New(d.target, rand.Text(), author(), time.Now(), time.Time{})
	}
	if known && f.deadline == 0 {
		return d.say("%s is being drained already, since %s by %s", d.target, stored.Since, stored.By)
	}
	if f.deadline > 0 {
		d.item = d.item.Until(time.Now().Add(f.deadline))
	}
	data, err := d.item.Encode()
	if err != nil {
		return err
	}
	if err := d.c.drains().WriteDrained(context.WithoutCancel(ctx), s.stored, d.target.Name(), data); err != nil {
		return err
	}
	for _, w := range s.warnings(d.meant) {
		d.warn("%s", w)
	}
	return d.say("draining %s: no new connections in %s%s", d.target.RealServer(), serviceNames(d.meant), deadlineText(d.item))
}

func serviceNames(list []meant) string {
	const most = 8
	var names []string
	for _, m := range list {
		if !slices.Contains(names, m.service) {
			names = append(names, m.service)
		}
	}
	if len(names) > most {
		return fmt.Sprintf("%s and %d more services", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func deadlineText(e drain.Entry) string {
	if e.Deadline == "" {
		return "; there is no deadline"
	}
	return "; what is left at " + e.Deadline + " is cut"
}

// author is who asks, for people.
func author() string {
	name := os.Getenv("SUDO_USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	return cmp.Or(name, "somebody") + "@" + hostName()
}
