package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zklvs/zklvs/internal/importer"
	"github.com/zklvs/zklvs/internal/spec"
)

func importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "import",
		Short:   "Make documents of what other programs have configured",
		Example: "  ipvsadm -S -n | zklvs import ipvsadm > web.yaml",
	}
	cmd.AddCommand(importIpvsadmCommand())
	return family(cmd)
}

func importIpvsadmCommand() *cobra.Command {
	var group string
	var vips []string
	cmd := &cobra.Command{
		Use:   "ipvsadm [FILE]",
		Short: "Make documents of what ipvsadm -S -n prints",
		Long: `Reads what ipvsadm -S -n prints, or a file for ipvsadm -R, from FILE or from
standard input, and prints documents for zklvs apply. All addresses become VIPs
of one group. Services are named after what they listen on, and have no checks:
their real servers always count as healthy until you give them one.

What apply would refuse is an error with its line, and nothing is printed. What
documents have no place for is told with its line on stderr, and the exit code
is 3. zklvs export ipvsadm -f prints the same table again.`,
		Example: `  ipvsadm -S -n | zklvs import ipvsadm > web.yaml
  zklvs import ipvsadm /etc/ipvsadm.rules --group web > web.yaml
  zklvs import ipvsadm marks.rules --vip 192.168.150.100`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			o, err := importOptions(group, vips)
			if err != nil {
				return badInput(err)
			}
			name := "-"
			if len(files) > 0 {
				name = files[0]
			}
			return importIpvsadm(cmd, name, o)
		},
	}
	cmd.Flags().StringVar(&group, "group", "imported", "name of the group that gets the VIPs and services")
	cmd.Flags().StringSliceVar(&vips, "vip", nil, "further VIP of the group, such as for firewall marks (repeatable)")
	completeNothing(cmd, "group", "vip")
	return cmd
}

// completeNothing keeps the shell from offering files for values of flags that
// are none.
func completeNothing(cmd *cobra.Command, flags ...string) {
	for _, f := range flags {
		_ = cmd.RegisterFlagCompletionFunc(f, cobra.NoFileCompletions) // the only error is an unknown flag
	}
}

func importOptions(group string, vips []string) (importer.Options, error) {
	o := importer.Options{Group: group}
	if err := spec.CheckName(group); err != nil {
		return o, fmt.Errorf("--group: %w", err)
	}
	for _, text := range vips {
		vip, err := netip.ParseAddr(text)
		if err != nil {
			return o, fmt.Errorf("--vip %q: expected an address such as 192.168.150.100", text)
		}
		o.VIPs = append(o.VIPs, vip)
	}
	return o, nil
}

func importIpvsadm(cmd *cobra.Command, file string, o importer.Options) error {
	in, name := cmd.InOrStdin(), "standard input"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return badInput(err)
		}
		defer f.Close()
		in, name = f, file
	}
	made, err := importer.Ipvsadm(name, in, o)
	if err != nil {
		return badInput(err)
	}
	header := fmt.Sprintf("# Made of %s by zklvs import ipvsadm.\n# Services without a check count all their real servers as healthy.\n", strings.ToValidUTF8(name, "?"))
	if _, err := io.WriteString(cmd.OutOrStdout(), header+made.Text); err != nil {
		return err
	}
	for _, n := range made.Notes {
		cmd.PrintErrln("note:", n)
	}
	if len(made.Notes) > 0 {
		return finished(exitNoted)
	}
	return nil
}
