package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/fence/gate/nft"
	"github.com/zklvs/zklvs/internal/guard"
	"github.com/zklvs/zklvs/internal/spec"
)

func fenceCommand() *cobra.Command {
	var config string
	var remove bool
	cmd := &cobra.Command{
		Use:   "fence",
		Short: "Make this host stop answering, where no daemon runs any more",
		Long: `Removes the VIPs and the IPVS services that a daemon of this host left behind,
verified. It refuses while a daemon runs: stop that, which does the same in
order. The systemd unit calls it when the daemon has ended.

The kernel gate stays, shut: a VIP that is bound here by another program, say
keepalived, does not answer. --remove takes it off, for a host that is to be no
director any more.`,
		Example: `  zklvs fence
  zklvs fence --remove      # before this host is given to another use`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			local, err := readLocal(config)
			if err != nil {
				return err
			}
			return fenceHost(cmd.Context(), cmd.OutOrStdout(), local, remove)
		},
	}
	addConfig(cmd, &config, "this director's file")
	cmd.Flags().BoolVar(&remove, "remove", false, "also take the kernel gate off every interface")
	return cmd
}

func fenceHost(ctx context.Context, out io.Writer, local spec.Local, remove bool) error {
	log := zap.NewNop()
	claim, err := takeLife(ctx, local, log)
	if err != nil {
		return err
	}
	defer claim.Close()
	p := &parts{local: local, log: log}
	if p.netlink, err = fence.NewNetlink(); err != nil {
		return err
	}
	defer p.netlink.Close()
	host, err := p.localHost()
	if err != nil {
		return err
	}
	left, err := host.Sweep()
	for _, v := range left {
		fmt.Fprintf(out, "removed %v\n", v)
	}
	if err := errors.Join(err, guard.ClearRules(ctx, p.state("services"))); err != nil {
		return err
	}
	fmt.Fprintln(out, "no VIP and no IPVS service of zklvs is left on this host")
	if !remove {
		return nil
	}
	if err := removeGates(); err != nil {
		return err
	}
	fmt.Fprintln(out, "the kernel gate is removed")
	return nil
}

// removeGates takes off whichever gate there is.
func removeGates() error {
	err := gate.Remove()
	if nft.Supported() == nil {
		err = errors.Join(err, nft.Remove())
	}
	return err
}
