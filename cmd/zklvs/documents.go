package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

// maxFile bounds what is read from one document file, in bytes.
const maxFile = 64 << 20

// readDocuments reads every file; a directory means its *.yaml and *.yml, "-"
// standard input. The documents are returned beside an error about them, so
// that what is wrong between them can be told with it.
func readDocuments(files []string, stdin io.Reader) (*spec.Documents, error) {
	paths, err := expand(files)
	if err != nil {
		return nil, badInput(err)
	}
	var sets []*spec.Documents
	var errs []error
	for _, p := range paths {
		data, name, err := readFile(p, stdin)
		if err != nil {
			return nil, badInput(err)
		}
		docs, err := spec.ParseFile(name, data)
		errs = append(errs, err)
		if docs != nil {
			sets = append(sets, docs)
		}
	}
	merged, err := spec.Merge(sets...)
	return merged, spec.JoinErrors(append(errs, err)...)
}

func expand(files []string) ([]string, error) {
	var out []string
	for _, f := range files {
		st, err := os.Stat(f)
		switch {
		case f == "-", err == nil && !st.IsDir():
			out = append(out, f)
			continue
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%s: no such file", f)
		case err != nil:
			return nil, err
		}
		found, err := documentFiles(f)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s: no *.yaml or *.yml in it", f)
		}
		out = append(out, found...)
	}
	return out, nil
}

// documentFiles lists a directory's document files by name.
func documentFiles(dir string) (found []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	return found, err
}

func readFile(p string, stdin io.Reader) (data []byte, name string, err error) {
	if p == "-" {
		data, err = io.ReadAll(io.LimitReader(stdin, maxFile+1))
		name = "standard input"
	} else {
		data, err = os.ReadFile(p)
		name = p
	}
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: more than %d bytes", name, maxFile)
	}
	return data, name, err
}

// planned is what an apply would do.
type planned struct {
	changes  []zk.Change
	shown    []spec.Change
	warnings []spec.Problem
}

// plan works out what changes when applied documents meet the stored ones.
// parse is what was wrong in the files by themselves.
func plan(snap zk.Snapshot, applied *spec.Documents, parse error, prune bool) (*planned, error) {
	stored, err := decodeStored(snap, applied, prune)
	if err != nil {
		return nil, errors.Join(parse, err)
	}
	whole := applied
	if !prune {
		whole = spec.Overlay(stored, applied)
	}
	sp := whole.Spec()
	if err := spec.JoinErrors(parse, sp.Check()); err != nil {
		return nil, err
	}
	if err := refuseMoves(snap, whole, sp); err != nil {
		return nil, err
	}
	// A director without a kernel gate must be able to hold as well.
	if err := director.Timing(sp.Cluster, fence.LatenessUngated).Validate(); err != nil {
		return nil, badInput(fmt.Errorf("%s: %w", whole.Pos(spec.ClusterPath), err))
	}
	before, after := snap.Data(), maps.Clone(applied.Encode())
	if !prune {
		for path, data := range before {
			if _, ok := after[path]; !ok {
				after[path] = data
			}
		}
	}
	p := &planned{shown: spec.Diff(before, after), warnings: applied.Warnings}
	for _, c := range p.shown {
		if c.Kind != spec.Unchanged {
			p.changes = append(p.changes, zk.Change{Path: c.Path, Data: after[c.Path], Delete: c.Kind == spec.Removed})
		}
	}
	return p, nil
}

// refuseMoves refuses a VIP that goes from one group to another in one step: the
// new group's holder could bind it before the old one's has read of it. The
// groups' records protect each group, not an address that changes groups.
func refuseMoves(snap zk.Snapshot, whole *spec.Documents, after *spec.Spec) error {
	owner := map[netip.Addr]string{}
	for path, data := range snap.Data() {
		name, isGroup := strings.CutPrefix(path, spec.GroupPath(""))
		before, err := spec.DecodeGroup(name, data)
		if !isGroup || err != nil {
			continue // a document that is not understood binds nothing
		}
		for _, v := range before.VIPs {
			owner[v.Address] = name
		}
	}
	var faults spec.Errors
	for _, name := range slices.Sorted(maps.Keys(after.Groups)) {
		for _, v := range after.Groups[name].VIPs {
			if was := owner[v.Address]; was != "" && was != name {
				faults = append(faults, spec.Problem{Pos: whole.Pos(spec.GroupPath(name)), Document: spec.GroupPath(name),
					Text: fmt.Sprintf("group %s: VIP %v belongs to group %s now, and two directors could answer for it while it moves; expected two steps: apply without it, wait until no director has it bound, then apply this", name, v.Address, was)})
			}
		}
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

// decodeStored reads the stored documents that stay.
func decodeStored(snap zk.Snapshot, applied *spec.Documents, prune bool) (*spec.Documents, error) {
	var sets []*spec.Documents
	for path, data := range snap.Data() {
		if prune || applied.Has(path) {
			continue
		}
		doc, err := spec.Decode(path, data)
		if err != nil {
			return nil, fmt.Errorf("a stored document is not usable, apply a good one in its place or use --prune: %w", err)
		}
		sets = append(sets, doc)
	}
	return spec.Merge(sets...)
}

// show prints warnings and the difference.
func (p *planned) show(cmd *cobra.Command) error {
	for _, w := range p.warnings {
		cmd.PrintErrln("warning:", w)
	}
	for _, c := range p.shown {
		if c.Kind == spec.Unchanged {
			continue
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n%s", c.Kind, c.Path, c.Text); err != nil {
			return err
		}
	}
	return nil
}
