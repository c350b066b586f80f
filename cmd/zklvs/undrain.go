package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/zklvs/zklvs/internal/drain"
	"github.com/zklvs/zklvs/internal/overview"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

func undrainCommand() *cobra.Command {
	var f clusterFlags
	var service string
	var wait bool
	cmd := &cobra.Command{
		Use:   "undrain REAL-SERVER",
		Short: "Bring a drained real server back",
		Long: `REAL-SERVER and --service are those of "zklvs drain" (see "zklvs drain --list").
The command returns when the directors that hold its groups have put it back
into their tables.`,
		Example: `  zklvs undrain 192.168.150.12
  zklvs undrain 192.168.150.12:80 --service web-http`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			c, err := f.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.stop()
			d := &draining{cmd: cmd, c: c, timeout: f.timeout}
			if err := d.remove(a[0], service); err != nil || !wait {
				return err
			}
			return d.returned()
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&service, "service", "", "the service to which the drain is limited")
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until it gets connections again")
	return cmd
}

// remove removes the entry. One that is not understood is removed by its name.
func (d *draining) remove(realServer, service string) error {
	ctx, cancel := context.WithTimeout(d.cmd.Context(), d.timeout)
	defer cancel()
	name := realServer
	target, parsed := drain.ParseTarget(realServer, service)
	if parsed == nil {
		name, d.target = target.Name(), target
	}
	for {
		s, err := readSurvey(ctx, d.c)
		if err != nil {
			return err
		}
		if _, ok := s.stored.Entries[name]; !ok {
			return badInput(notDrained(name, parsed, s))
		}
		item, _ := s.set.Find(name)
		d.item = item.Entry
		if parsed == nil {
			d.meant, _ = s.find(target) // none: it is about nothing
		}
		err = d.c.drains().RemoveDrained(context.WithoutCancel(ctx), s.stored, name)
		if errors.Is(err, zk.ErrConflict) && ctx.Err() == nil {
			continue // a director has just ended it
		}
		if err == nil {
			d.stillDrained(s)
			err = d.say("removed the drain of %s", printable(name))
		}
		return refusedWrite(err)
	}
}

func notDrained(name string, parsed error, s *survey) error {
	var names []string
	for _, d := range s.cluster.Drains {
		names = append(names, d.Arguments())
	}
	if len(names) == 0 {
		return fmt.Errorf("%s is not drained: nothing is", printable(name))
	}
	if parsed != nil {
		return fmt.Errorf("%w; drained are %s", parsed, some(names))
	}
	return fmt.Errorf("%s is not drained%s: drained are %s", name, spec.DidYouMean(name, names), some(names))
}

// stillDrained warns of other entries about the same real servers.
func (d *draining) stillDrained(s *survey) {
	for _, item := range s.set.Items {
		if item.Name == d.target.Name() {
			continue
		}
		if others, _ := s.find(item.Target()); overlap(others, d.meant) {
			d.warn("%s is still drained: `zklvs undrain %s` takes that back", item.Target(), arguments(item.Target()))
		}
	}
}

func overlap(a, b []meant) bool {
	for _, one := range a {
		for _, other := range b {
			if one == other {
				return true
			}
		}
	}
	return false
}

// returned waits until no holder has the drain in force any more.
func (d *draining) returned() error {
	if len(d.meant) == 0 {
		return nil
	}
	l, err := d.await(gone)
	if err != nil {
		return fmt.Errorf("the drain is removed, but: %w", err)
	}
	return d.sayHolders(l, "it is back in the table of %s", "nobody holds group %s: it comes back with the next holder")
}

// listDrains prints what is drained.
func listDrains(cmd *cobra.Command, f *clusterFlags, out *outputFlag) error {
	o, err := readCluster(cmd.Context(), f)
	if err != nil {
		return err
	}
	if o.Drains == nil {
		o.Drains = []overview.Drain{}
	}
	return out.print(cmd, o.Drains, func() error { return drainTable(cmd.OutOrStdout(), o.Drains) })
}

func drainTable(w io.Writer, drains []overview.Drain) error {
	if len(drains) == 0 {
		_, err := fmt.Fprintln(w, "nothing is drained")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "REAL SERVER\tSERVICE\tSTATE\tSINCE\tDEADLINE\tBY")
	for _, d := range drains {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", d.RealServer, orWord(d.Service, "all"), drainState(d), d.Since, orWord(d.Deadline, "none"), printable(d.By))
	}
	return t.Flush()
}

func orWord(text, empty string) string {
	if text == "" {
		return empty
	}
	return text
}

func drainState(d overview.Drain) string {
	switch cut, kept := d.Cut(); {
	case d.State == "draining":
		return fmt.Sprintf("draining (%d active)", d.Active)
	case d.State == "drained" && cut+kept > 0:
		return fmt.Sprintf("drained (%s cut, %d went on)", plural(cut, "connection"), kept)
	case d.State == "moot":
		return "moot (no such real server in the documents)"
	}
	return d.State
}
