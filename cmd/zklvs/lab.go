package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/zklvs/zklvs/internal/demo"
)

func labCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "A whole cluster in network namespaces of this machine, to try and to break",
	}
	cmd.AddCommand(labDemoCommand())
	return cmd
}

func labDemoCommand() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Walk through the main job with real parts; fails if any step does not hold",
		Example: "  deploy/kernel/with-ipvs bin/zklvs lab demo",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			o.Zklvs = exe
			return demo.Run(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().IntVar(&o.Servers, "zookeeper-servers", 1, "1 or 3")
	return cmd
}
