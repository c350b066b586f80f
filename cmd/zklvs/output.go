package main

import (
	"encoding/json"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// outputFlag is -o table|json|yaml.
type outputFlag struct{ format string }

func (o *outputFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "table, json or yaml")
	// the only error is an unknown flag
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	check := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		switch o.format {
		case "table", "json", "yaml":
		default:
			return badInput(fmt.Errorf("--output %q: expected table, json or yaml", o.format))
		}
		if check != nil {
			return check(cmd, args)
		}
		return nil
	}
}

// print writes v as data, or calls table.
func (o *outputFlag) print(cmd *cobra.Command, v any, table func() error) error {
	var b []byte
	var err error
	switch o.format {
	case "json":
		b, err = json.MarshalIndent(v, "", "  ")
		b = append(b, '\n')
	case "yaml":
		b, err = toYAML(v)
	default:
		return table()
	}
	if err != nil {
		return fmt.Errorf("print as %s: %w", o.format, err)
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

// toYAML goes through JSON, so that both formats have the same field names.
func toYAML(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(b)
}
