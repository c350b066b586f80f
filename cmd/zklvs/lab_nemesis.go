package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/zklvs/zklvs/internal/nemesis"
)

func labNemesisCommand() *cobra.Command {
	var o nemesis.Options
	var out outputFlag
	cmd := &cobra.Command{
		Use:   "nemesis",
		Short: "Break a cluster in every way and watch from outside that never two directors answer",
		Long: `Three directors, three ZooKeeper servers, two groups and a client, struck by faults
that are drawn from a seed, alone and in pairs. Must run in namespaces that
vanish with it: through deploy/kernel/with-ipvs, as "make nemesis" does. With
ZKLVS_KERNEL=host it also runs on a kernel without IPVS: the groups then have no
services. Fails on any violation; each tells the line that plays it again.

Kinds of faults:
` + nemesis.KindsText(),
		Example: `  deploy/kernel/with-ipvs bin/zklvs lab nemesis --faults 20
  deploy/kernel/with-ipvs bin/zklvs lab nemesis --seed 7 --faults 120 --only 17 --report /tmp/nemesis
  ZKLVS_KERNEL=host deploy/kernel/with-ipvs bin/zklvs lab nemesis --kinds zk-leader-freeze,both-stop`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Getenv("ZKLVS_INSIDE") == "" {
				return badInput(errors.New("run it as `make nemesis`, or through deploy/kernel/with-ipvs"))
			}
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			o.Zklvs, o.Version = exe, versionString()
			return runNemesis(cmd, o, out)
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&o.Seed, "seed", 1, "the faults are drawn from it")
	f.IntVar(&o.Faults, "faults", 120, "how many")
	f.IntSliceVar(&o.Only, "only", nil, "play these of them only, by their numbers")
	f.DurationVar(&o.Duration, "duration", 0, "begin no other fault after this time; 0: play all")
	f.StringSliceVar(&o.Kinds, "kinds", nil, "draw from these kinds only")
	f.DurationVar(&o.Lease, "lease", time.Second, "the cluster's lease")
	f.StringVar(&o.OnZooKeeperLoss, "on-zookeeper-loss", "", "the cluster's policy, if not the default: fence or hold")
	f.DurationVar(&o.Interval, "request-interval", 20*time.Millisecond, "time between two requests of the client through each VIP")
	f.StringVar(&o.Dir, "report", "", "directory for report.json, timeline.svg, README.md, and the captures and logs of violations")
	out.add(cmd)
	return cmd
}

// runNemesis plays, and shows and writes the report, of a run that was cut short too.
func runNemesis(cmd *cobra.Command, o nemesis.Options, out outputFlag) error {
	progress := cmd.OutOrStdout()
	if out.format != "table" {
		progress = cmd.ErrOrStderr()
	}
	begun := time.Now()
	o.Progress = func(format string, a ...any) {
		fmt.Fprintf(progress, "[%6.1f s] %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, a...))
	}
	if o.Dir != "" {
		if err := os.MkdirAll(o.Dir, 0o755); err != nil {
			return err
		}
	}
	report, err := nemesis.Run(cmd.Context(), o)
	if errors.Is(err, nemesis.ErrOptions) {
		return badInput(err)
	}
	if report == nil {
		return err
	}
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("cut short after %d faults: %w", len(report.Faults), err)
	}
	if o.Dir != "" {
		err = errors.Join(err, report.Write(o.Dir))
	}
	err = errors.Join(err, out.print(cmd, report, func() error {
		_, err := fmt.Fprintf(progress, "\n%s\n%s\n", report.Table(), report.Verdict())
		return err
	}))
	if len(report.Violations) > 0 {
		err = errors.Join(err, fmt.Errorf("%d violations", len(report.Violations)))
	}
	return err
}
