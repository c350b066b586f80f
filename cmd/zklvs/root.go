package main

import (
	"github.com/spf13/cobra"
)

func rootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "zklvs",
		Short: "Virtual IPs for Linux Virtual Server, answered by exactly one live director",
		Long: `zklvs keeps the virtual IPs of a Linux Virtual Server cluster answered by
exactly one live director. Directors compete for a lock in ZooKeeper; only the
holder binds the VIPs and installs the IPVS rules, and it stops answering when
its lease is not renewed.

` + exitCodesHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return badInput(err) })
	cmd.AddCommand(
		runCommand(), guardCommand(), fenceCommand(), realserverCommand(),
		applyCommand(), diffCommand(), getCommand(), statusCommand(),
		drainCommand(), undrainCommand(),
		importCommand(), exportCommand(), clearCommand(),
		labCommand(), versionCommand(),
	)
	return cmd
}

// args is cobra's check as bad input.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return badInput(err)
		}
		return nil
	}
}

// family makes a command that only holds others refuse words that it does not know.
func family(cmd *cobra.Command) *cobra.Command {
	cmd.Args = args(cobra.NoArgs)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}
