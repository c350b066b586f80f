package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=...
var version string

func versionString() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func versionCommand() *cobra.Command {
	var out outputFlag
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  zklvs version -o json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				Arch    string `json:"arch"`
			}{versionString(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return out.print(cmd, v, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "zklvs %s (%s, %s)\n", v.Version, v.Go, v.Arch)
				return err
			})
		},
	}
	out.add(cmd)
	return cmd
}
