package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/zklvs/zklvs/internal/spec"
)

func getCommand() *cobra.Command {
	var f clusterFlags
	out := outputFlag{}
	cmd := &cobra.Command{
		Use:   "get [DOCUMENT...]",
		Short: "Print stored documents, in the form that apply takes",
		Long: `Without arguments all documents are printed, as one file that apply takes.
A DOCUMENT is cluster, groups, services, groups/NAME or services/NAME.`,
		Example: `  zklvs get > backup.yaml
  zklvs get services/web-http -o json`,
		RunE: func(cmd *cobra.Command, names []string) error {
			c, err := f.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.stop()
			snap, err := f.documents(cmd.Context(), c)
			if err != nil {
				return err
			}
			if !snap.Exists() {
				return fmt.Errorf("cluster %q is not in ZooKeeper (%s): store its documents with `zklvs apply -f FILE`", c.local.Cluster, c.tree.Root())
			}
			docs, err := selectDocuments(snap.Data(), names)
			if err != nil {
				return err
			}
			text := spec.Join(docs)
			var v any
			if err := yaml.Unmarshal([]byte(text), &v); err != nil {
				return fmt.Errorf("a stored document is no YAML (zkCli.sh get %s/spec/... shows it): %w", c.tree.Root(), err)
			}
			return out.print(cmd, v, func() error {
				_, err := fmt.Fprint(cmd.OutOrStdout(), text)
				return err
			})
		},
	}
	f.add(cmd)
	out.add(cmd)
	return cmd
}

// selectDocuments picks documents by their path below spec.
func selectDocuments(all map[string][]byte, names []string) (map[string][]byte, error) {
	if len(names) == 0 {
		return all, nil
	}
	out := map[string][]byte{}
	for _, n := range names {
		found := false
		for path, data := range all {
			if path == "spec/"+n || strings.HasPrefix(path, "spec/"+n+"/") {
				out[path] = data
				found = true
			}
		}
		if !found && n != "cluster" && n != "groups" && n != "services" {
			return nil, badInput(fmt.Errorf("no document %q: expected cluster, groups, services, groups/NAME or services/NAME; stored are %s",
				n, strings.Join(documentNames(all), ", ")))
		}
	}
	return out, nil
}

func documentNames(all map[string][]byte) []string {
	names := []string{}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		names = append(names, strings.TrimPrefix(path, "spec/"))
	}
	return names
}
