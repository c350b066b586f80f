package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

func applyCommand() *cobra.Command {
	var f clusterFlags
	var files []string
	var prune, dryRun bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Store documents in ZooKeeper; directors follow within a second",
		Long: `Validates the documents together with those already stored, shows the
difference, and writes what changed in one transaction (up to 512 KiB). A new
group gets its queue and record in it. Nothing is written if anything is wrong.

Groups and services that the files do not name stay as they are, unless --prune
is given.`,
		Example: `  zklvs apply -f web.yaml
  zklvs apply -f /etc/zklvs/documents --dry-run
  zklvs apply -f - --prune < all.yaml`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, snap, p, err := prepare(cmd, &f, files, prune)
			if err != nil {
				return err
			}
			defer c.stop()
			if err := p.show(cmd); err != nil {
				return err
			}
			switch {
			case len(p.changes) == 0 && (dryRun || !snap.Exists()):
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "nothing to change")
			case dryRun:
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "dry run: %s; nothing was written\n", summary(p.shown))
			default:
				err = store(cmd, c, snap, p)
			}
			return err
		},
	}
	f.add(cmd)
	addFiles(cmd, &files)
	cmd.Flags().BoolVar(&prune, "prune", false, "also remove stored documents that the files do not name")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change and write nothing")
	return cmd
}

func addFiles(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "filename", "f", nil, "file, directory, or - for standard input (repeatable)")
}

func diffCommand() *cobra.Command {
	var f clusterFlags
	var files []string
	var prune bool
	cmd := &cobra.Command{
		Use:     "diff -f FILE",
		Short:   "Show what apply would change; exit code 3 if anything",
		Example: "  zklvs diff -f web.yaml",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, p, err := prepare(cmd, &f, files, prune)
			if err != nil {
				return err
			}
			defer c.stop()
			if err := p.show(cmd); err != nil {
				return err
			}
			if len(p.changes) > 0 {
				return finished(exitDiffers)
			}
			return nil
		},
	}
	f.add(cmd)
	addFiles(cmd, &files)
	cmd.Flags().BoolVar(&prune, "prune", false, "compare as apply --prune would")
	return cmd
}

// prepare reads files and store, and works out the changes. What is wrong in
// the files is told even where ZooKeeper cannot be reached.
func prepare(cmd *cobra.Command, f *clusterFlags, files []string, prune bool) (*connection, zk.Snapshot, *planned, error) {
	none := zk.Snapshot{}
	if len(files) == 0 {
		return nil, none, nil, badInput(errors.New("which documents? Expected -f FILE, -f DIRECTORY, or -f - for standard input"))
	}
	docs, parse := readDocuments(files, cmd.InOrStdin())
	if docs == nil {
		return nil, none, nil, parse
	}
	c, err := f.connect(cmd.Context())
	if err != nil {
		if parse != nil {
			err = parse
		}
		return nil, none, nil, err
	}
	snap, err := f.documents(cmd.Context(), c)
	if err != nil {
		c.stop()
		return nil, none, nil, err
	}
	p, err := plan(snap, docs, parse, prune)
	if err != nil {
		c.stop()
		return nil, none, nil, err
	}
	return c, snap, p, nil
}

// store writes the changes. Ctrl-C is honored before the transaction is sent;
// its outcome is waited for.
func store(cmd *cobra.Command, c *connection, snap zk.Snapshot, p *planned) error {
	ctx := cmd.Context()
	if err := ctx.Err(); err != nil {
		return errors.New("interrupted: nothing was written")
	}
	done, err := zk.NewStore(c.session, c.tree).Apply(context.WithoutCancel(ctx), snap, p.changes,
		func(_ string, released bool) ([]byte, error) {
			return election.NewRecord(released, time.Now()).Encode(), nil
		})
	if errors.Is(err, zk.ErrAuth) { // world_read lets anybody come this far
		return fmt.Errorf("%w: nothing was written; check zookeeper.credentials on this host", err)
	}
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if done.Batches == 0 {
		_, err = fmt.Fprintln(out, "nothing to change")
		return err
	}
	if _, err := fmt.Fprintf(out, "applied revision %d to %s: %s\n", done.Revision.Number, c.tree.Root(), summary(p.shown)); err != nil {
		return err
	}
	if len(done.Unknown) > 0 {
		wait := election.Timing{Drift: spec.DefaultCluster().Drift}.Wait(election.MaxLease)
		if _, err = fmt.Fprintf(out, "new groups %s: an earlier holder is not known, so the first take-over waits %v\n", strings.Join(done.Unknown, ", "), wait); err != nil {
			return err
		}
	}
	if done.NewKey {
		_, err = fmt.Fprintln(out, keyMade(c))
	}
	return err
}

// keyMade tells of the cluster's new key, and who can read it.
func keyMade(c *connection) string {
	text := fmt.Sprintf("made %s: with it directors ask each other while ZooKeeper is away (on_zookeeper_loss)", c.tree.Key())
	if c.local.ZooKeeper.Credentials == nil {
		text += "; without zookeeper.credentials whoever reaches ZooKeeper can read it, and change everything else"
	}
	return text
}

func summary(changes []spec.Change) string {
	n := map[spec.Kind]int{}
	for _, c := range changes {
		n[c.Kind]++
	}
	return fmt.Sprintf("%d added, %d changed, %d removed, %d unchanged", n[spec.Added], n[spec.Changed], n[spec.Removed], n[spec.Unchanged])
}
