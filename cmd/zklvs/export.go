package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
	"github.com/zklvs/zklvs/ipvs"
	"github.com/zklvs/zklvs/ipvs/ipvsadm"
)

func exportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "export",
		Short:   "Print the services in the words of other programs",
		Example: "  zklvs export ipvsadm > web.rules",
	}
	cmd.AddCommand(exportIpvsadmCommand())
	return family(cmd)
}

// exportFlags say what to export.
type exportFlags struct {
	cluster clusterFlags
	files   []string
	group   string
	kernel  bool
	all     bool
}

func exportIpvsadmCommand() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "ipvsadm",
		Short: "Print the services as ipvsadm -S -n does, for ipvsadm -R",
		Long: `Prints the services of the cluster's documents as ipvsadm -S -n does, with all
real servers, whatever their checks say: ipvsadm -R makes that table. With -f
the documents come from files instead of ZooKeeper.

With --kernel it is what stands in this host's table now: the services that are
ours, with --all also those of others. Settings that ipvsadm has no words for are
told on stderr, and the exit code is 3. Unlike ipvsadm -S, thresholds are printed.`,
		Example: `  zklvs export ipvsadm > web.rules
  zklvs export ipvsadm --group web
  zklvs export ipvsadm -f web.yaml
  zklvs export ipvsadm --kernel | diff web.rules -`,
		Args:              args(cobra.NoArgs),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.all && !f.kernel:
				return badInput(errors.New("--all is about the kernel's table; expected --kernel --all"))
			case f.kernel && (f.group != "" || len(f.files) > 0):
				return badInput(errors.New("--kernel prints what stands in the kernel, which knows no groups and files; expected it without --group and -f"))
			case f.kernel:
				return f.exportKernel(cmd)
			}
			return f.exportDocuments(cmd)
		},
	}
	f.cluster.add(cmd)
	addFiles(cmd, &f.files)
	cmd.Flags().StringVar(&f.group, "group", "", "only the services of this group")
	cmd.Flags().BoolVar(&f.kernel, "kernel", false, "what stands in this host's table, instead of the documents")
	cmd.Flags().BoolVar(&f.all, "all", false, "with --kernel: services that are not ours, too")
	completeNothing(cmd, "group")
	return cmd
}

func (f *exportFlags) exportDocuments(cmd *cobra.Command) error {
	sp, err := f.documents(cmd)
	if err != nil {
		return err
	}
	groups := slices.Sorted(maps.Keys(sp.Groups))
	if f.group != "" && !slices.Contains(groups, f.group) {
		return badInput(fmt.Errorf("--group %q: expected a group of the cluster%s", f.group, spec.DidYouMean(f.group, groups)))
	}
	held := map[string]bool{}
	for _, g := range groups {
		held[g] = f.group == "" || g == f.group
	}
	healthy := func(spec.Service, spec.RealServer) bool { return true }
	return ipvsadm.Format(cmd.OutOrStdout(), director.Rules(sp, held, healthy))
}

// documents are those of the files, or else those in ZooKeeper.
func (f *exportFlags) documents(cmd *cobra.Command) (*spec.Spec, error) {
	if len(f.files) > 0 {
		docs, err := readDocuments(f.files, cmd.InOrStdin())
		if docs == nil {
			return nil, err
		}
		sp := docs.Spec()
		if docs.Cluster == nil { // what the cluster synchronizes is not known
			sp.Cluster.IPVS.Sync.Enabled = false
		}
		return sp, spec.JoinErrors(err, sp.Check())
	}
	c, err := f.cluster.connect(cmd.Context())
	if err != nil {
		return nil, err
	}
	defer c.stop()
	snap, err := f.cluster.documents(cmd.Context(), c)
	if err != nil {
		return nil, err
	}
	if !snap.Exists() {
		return nil, fmt.Errorf("cluster %q is not in ZooKeeper (%s): store its documents with `zklvs apply -f FILE`", c.local.Cluster, c.tree.Root())
	}
	return storedSpec(snap)
}

func storedSpec(snap zk.Snapshot) (*spec.Spec, error) {
	var sets []*spec.Documents
	for path, data := range snap.Data() {
		doc, err := spec.Decode(path, data)
		if err != nil {
			return nil, fmt.Errorf("a stored document is not usable, apply a good one in its place: %w", err)
		}
		sets = append(sets, doc)
	}
	docs, err := spec.Merge(sets...)
	if err != nil {
		return nil, err
	}
	sp := docs.Spec()
	err = sp.Check()
	return sp, err
}

func (f *exportFlags) exportKernel(cmd *cobra.Command) error {
	ours := func(ipvs.Key) bool { return true }
	if !f.all {
		local, err := f.cluster.local()
		if err != nil {
			return err
		}
		owned, err := openOwned(local)
		if err != nil {
			return err
		}
		ours = owned
	}
	services, err := kernelServices(cmd.Context(), ours)
	if err != nil {
		return err
	}
	extras := takeExtras(services)
	if err := ipvsadm.Format(cmd.OutOrStdout(), services); err != nil {
		return err
	}
	for _, e := range extras {
		cmd.PrintErrln("note:", e)
	}
	if len(extras) > 0 {
		return finished(exitNoted)
	}
	return nil
}

// kernelServices are those of this host's table that satisfy want.
func kernelServices(ctx context.Context, want func(ipvs.Key) bool) ([]ipvs.Service, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("reading the IPVS table needs root: run as root")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	table, err := ipvs.Open()
	if err != nil {
		return nil, err
	}
	defer table.Close()
	all, err := table.Services()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(s ipvs.Service) bool { return !want(s.Key) }), nil
}

// openOwned tells which services are ours on this host. A director that never
// ran here has none.
func openOwned(local spec.Local) (func(ipvs.Key) bool, error) {
	scope, err := ipvs.HostScope()
	if err != nil {
		return nil, err
	}
	owned, err := ipvs.OpenOwned(servicesFile(local), scope)
	if errors.Is(err, fs.ErrNotExist) {
		return func(ipvs.Key) bool { return false }, nil
	}
	if err != nil {
		return nil, err
	}
	return owned.Has, nil
}

// servicesFile says which services are ours; run_dir holds it.
func servicesFile(local spec.Local) string {
	return filepath.Join(local.RunDir, local.Cluster+".services")
}

// takeExtras takes out of services what ipvsadm has no words for, and tells it.
func takeExtras(services []ipvs.Service) (told []string) {
	for i := range services {
		s := &services[i]
		if s.Extras != "" {
			told = append(told, fmt.Sprintf("service %v: settings that ipvsadm has no words for are left out: %s", s.Key, s.Extras))
			s.Extras = ""
		}
		for j := range s.Destinations {
			d := &s.Destinations[j]
			if d.Extras != "" {
				told = append(told, fmt.Sprintf("service %v: real server %v: settings that ipvsadm has no words for are left out: %s", s.Key, d.AddrPort(), d.Extras))
				d.Extras = ""
			}
		}
	}
	return told
}
