package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/ipvs"
)

func clearCommand() *cobra.Command {
	var config string
	var dryRun bool
	var out outputFlag
	cmd := &cobra.Command{
		Use:   "clear",
		Short: "Remove our IPVS services from this host's table, where no director runs",
		Long: `Removes the IPVS services that a director of this host left behind, and no
others: ipvsadm -C for what is ours. Connections through them end. It refuses
while a director runs, which would put them back: stop that, and it removes them
itself. VIPs are not touched; zklvs fence removes them as well.`,
		Example: `  zklvs clear --dry-run
  zklvs clear`,
		Args:              args(cobra.NoArgs),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			local, err := readLocal(config)
			if err != nil {
				return err
			}
			done, err := clearHost(cmd.Context(), local, dryRun)
			if err != nil && len(done.Removed) == 0 {
				return err
			}
			return errors.Join(err, out.print(cmd, done, func() error { return done.table(cmd) }))
		},
	}
	addConfig(cmd, &config, "this director's file")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be removed, and remove nothing")
	out.add(cmd)
	return cmd
}

// cleared is what a clear removed, or would.
type cleared struct {
	Removed []clearedService `json:"removed"`
	DryRun  bool             `json:"dry_run"`
}

type clearedService struct {
	Service     string `json:"service"` // as ipvsadm -Ln prints it
	RealServers int    `json:"real_servers"`
}

func (c cleared) table(cmd *cobra.Command) error {
	verb := "removed"
	if c.DryRun {
		verb = "would remove"
	}
	for _, s := range c.Removed {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s with %d real servers\n", verb, s.Service, s.RealServers); err != nil {
			return err
		}
	}
	last := "no IPVS service of zklvs is left on this host"
	if c.DryRun {
		last = fmt.Sprintf("dry run: %d services; nothing was removed", len(c.Removed))
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), last)
	return err
}

func clearHost(ctx context.Context, local spec.Local, dryRun bool) (cleared, error) {
	done := cleared{Removed: []clearedService{}, DryRun: dryRun}
	if os.Geteuid() != 0 {
		return done, errors.New("changing IPVS needs root: run as root")
	}
	if !dryRun {
		claim, err := takeLife(ctx, local, zap.NewNop())
		if err != nil {
			return done, err
		}
		defer claim.Close()
	}
	scope, err := ipvs.HostScope()
	if err != nil {
		return done, err
	}
	owned, err := ipvs.OpenOwned(servicesFile(local), scope)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(owned.Keys()) == 0 {
		return done, nil
	}
	if err != nil {
		return done, err
	}
	ours, err := kernelServices(ctx, owned.Has)
	if err != nil {
		return done, err
	}
	if !dryRun {
		err = ipvs.RemoveOwned(ctx, owned)
	}
	// After a failure, those that stand are still listed as not removed.
	if err != nil {
		left, lerr := kernelServices(context.WithoutCancel(ctx), owned.Has)
		return done.without(ours, left), errors.Join(err, lerr)
	}
	return done.without(ours, nil), nil
}

// without lists the services that are gone: those of before that are not left.
func (c cleared) without(before, left []ipvs.Service) cleared {
	stands := map[ipvs.Key]bool{}
	for _, s := range left {
		stands[s.Key] = true
	}
	for _, s := range before {
		if !stands[s.Key] {
			c.Removed = append(c.Removed, clearedService{s.Key.String(), len(s.Destinations)})
		}
	}
	return c
}
