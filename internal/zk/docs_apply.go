package zk

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zklvs/zklvs/election"
)

// maxBatch bounds one Multi, in bytes. Servers refuse packets above
// jute.maxbuffer, 1 MiB unless set, and close the connection; what they pass
// among themselves is a little larger than the request.
const maxBatch = 512 << 10

// Change is what an apply does to one document.
type Change struct {
	Path   string // as in Snapshot.Documents
	Data   []byte
	Delete bool
}

// Record makes the data of a new group's record: released only where nobody
// can hold the group, because the whole cluster is new; unknown otherwise.
type Record func(group string, released bool) ([]byte, error)

// Applied is what an apply did.
type Applied struct {
	Revision Revision
	Batches  int
	New      []string // groups whose record is `released`
	Unknown  []string // groups whose record is `unknown`: the first take-over waits
	NewKey   bool     // the cluster had no key and has one now
}

// unit is what must stand in one Multi together.
type unit struct {
	group  string // a new group's queue and record, made when the batch is known
	listed bool   // its list of voters is there: the group was deleted by hand
	ops    []Op
}

// Apply writes changes that were worked out from base. Up to 512 KiB they are
// one transaction; more are several, each checked against the one before, and
// readers wait for the last. It makes the cluster's parents and key, and, where a
// group's znode is absent, group, queue and record in one transaction with it.
// It never writes to a group that is there, and Delete removes a document and
// nothing else.
//
// If anything was applied since base was read, it is ErrConflict and, unless
// the error says so, nothing has been written. A lost reply is settled by
// reading back, for as long as ctx allows.
func (st *Store) Apply(ctx context.Context, base Snapshot, changes []Change, record Record) (Applied, error) {
	a, err := st.plan(ctx, base, changes, record)
	if err != nil {
		return Applied{}, err
	}
	err = a.run(ctx)
	return a.done, err
}

// plan works out the transactions and writes nothing but the znode of all
// clusters.
func (st *Store) plan(ctx context.Context, base Snapshot, changes []Change, record Record) (*apply, error) {
	if err := checkChanges(changes); err != nil {
		return nil, err
	}
	missing, err := st.missingDirs(ctx)
	if err != nil {
		return nil, err
	}
	if base.Exists() == slices.Contains(missing, st.tree.Spec()) {
		return nil, fmt.Errorf("apply to %s: %w", st.tree.Root(), ErrConflict)
	}
	units, err := st.units(ctx, base, changes, missing)
	if err != nil {
		return nil, err
	}
	a := &apply{st: st, record: record, fresh: slices.Contains(missing, st.tree.Root()), version: base.version}
	a.done.Revision = base.Revision
	if len(units) == 0 && len(missing) == 0 {
		return a, nil
	}
	a.done.Revision = Revision{Number: base.Revision.Number + 1, Apply: rand.Text()}
	a.todo, err = a.batches(missing, units)
	return a, err
}

// run writes the batches.
func (a *apply) run(ctx context.Context) error {
	for i, ops := range a.todo {
		if err := a.commit(ctx, ops, i < len(a.todo)-1); err != nil {
			if i > 0 {
				err = fmt.Errorf("%w (%d of %d parts were written)", err, i, len(a.todo))
			}
			return fmt.Errorf("apply to %s: %w", a.st.tree.Root(), err)
		}
		a.done.Batches++
	}
	return nil
}

func checkChanges(changes []Change) error {
	seen := make(map[string]bool)
	for _, c := range changes {
		if err := checkDocPath(c.Path); err != nil {
			return err
		}
		if seen[c.Path] {
			return fmt.Errorf("document %s: changed twice in one apply", c.Path)
		}
		seen[c.Path] = true
		if len(c.Data) > maxBatch/2 {
			return fmt.Errorf("document %s: %d bytes: at most %d are stored", c.Path, len(c.Data), maxBatch/2)
		}
	}
	return nil
}

// units turns changes into operations, and adds the groups whose znode is
// absent. Groups come first: as many of them as possible are to stand in the
// transaction that makes the cluster.
func (st *Store) units(ctx context.Context, base Snapshot, changes []Change, missing []string) ([]unit, error) {
	byPath := make(map[string]*unit)
	for _, c := range changes {
		if op, ok := st.docOp(base, c); ok {
			byPath[c.Path] = &unit{ops: []Op{op}}
		}
	}
	groups, err := st.absentGroups(ctx, base, changes, missing)
	if err != nil {
		return nil, err
	}
	listed, err := st.children(ctx, st.tree.VotersRoot(), missing)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		u := byPath[groupDocs+g]
		if u == nil {
			u = &unit{}
			byPath[groupDocs+g] = u
		}
		u.group, u.listed = g, listed[g]
	}
	paths := make([]string, 0, len(byPath))
	for p := range byPath {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	units := make([]unit, len(paths))
	for i, p := range paths {
		units[i] = *byPath[p]
	}
	return units, nil
}

func rank(path string) int {
	if strings.HasPrefix(path, serviceDocs) {
		return 1
	}
	return 0
}

func (st *Store) docOp(base Snapshot, c Change) (Op, bool) {
	old, ok := base.Documents[c.Path]
	switch {
	case c.Delete && !ok, !c.Delete && ok && bytes.Equal(old.Data, c.Data):
		return Op{}, false
	case c.Delete:
		return OpDelete(st.path(c.Path), old.Version), true
	case ok:
		return OpSet(st.path(c.Path), c.Data, old.Version), true
	}
	return OpCreate(st.path(c.Path), c.Data, Persistent), true
}

// absentGroups are the groups that will have a document and have no znode.
func (st *Store) absentGroups(ctx context.Context, base Snapshot, changes []Change, missing []string) ([]string, error) {
	want := make(map[string]bool)
	for p := range base.Documents {
		want[p] = true
	}
	for _, c := range changes {
		want[c.Path] = !c.Delete
	}
	there, err := st.children(ctx, st.tree.Groups(), missing)
	if err != nil {
		return nil, err
	}
	var absent []string
	for p, yes := range want {
		name, ok := strings.CutPrefix(p, groupDocs)
		if ok && yes && !there[name] && CheckName("group", name) == nil {
			absent = append(absent, name)
		}
	}
	slices.Sort(absent)
	return absent, nil
}

// children returns the names below one of the cluster's parents.
func (st *Store) children(ctx context.Context, parent string, missing []string) (map[string]bool, error) {
	there := make(map[string]bool)
	if slices.Contains(missing, parent) {
		return there, nil
	}
	names, _, err := st.s.Children(ctx, parent)
	for _, n := range names {
		there[n] = true
	}
	return there, err
}

// apply is one Apply under way.
type apply struct {
	st      *Store
	record  Record
	fresh   bool  // the first batch makes the cluster's root
	version int32 // of spec
	todo    [][]Op
	done    Applied
}

// batches fills transactions, each but the first beginning with the change of
// the revision, for which commit leaves room.
func (a *apply) batches(missing []string, units []unit) ([][]Op, error) {
	var first []Op
	for _, p := range missing {
		if p == a.st.tree.Key() {
			a.done.NewKey = true
			first = append(first, opCreateSecret(p, newKey()))
			continue
		}
		first = append(first, OpCreate(p, nil, Persistent))
	}
	all, size := [][]Op{first}, sizeOf(first)
	for _, u := range units {
		ops, err := a.expand(u, len(all) == 1)
		if err != nil {
			return nil, err
		}
		if size+sizeOf(ops) > maxBatch-1024 {
			all, size = append(all, nil), 0
			if ops, err = a.expand(u, false); err != nil {
				return nil, err
			}
		}
		if u.group != "" {
			a.note(u.group, a.fresh && len(all) == 1)
		}
		all[len(all)-1] = append(all[len(all)-1], ops...)
		size += sizeOf(ops)
	}
	return all, nil
}

func sizeOf(ops []Op) (n int) {
	for _, op := range ops {
		n += op.size()
	}
	return n
}

func (a *apply) note(group string, released bool) {
	if released {
		a.done.New = append(a.done.New, group)
	} else {
		a.done.Unknown = append(a.done.Unknown, group)
	}
}

// expand adds a new group's znodes. `released` is only for the transaction
// that creates the cluster's root.
func (a *apply) expand(u unit, inFirst bool) ([]Op, error) {
	if u.group == "" {
		return u.ops, nil
	}
	data, err := a.record(u.group, a.fresh && inFirst)
	if err != nil {
		return nil, fmt.Errorf("record of group %s: %w", u.group, err)
	}
	t := a.st.tree
	ops := append(slices.Clone(u.ops),
		OpCreate(t.Group(u.group), nil, Persistent),
		OpCreate(t.Election(u.group), nil, Persistent),
		OpCreate(t.Record(u.group), data, Persistent))
	if !u.listed {
		ops = append(ops, OpCreate(t.Voters(u.group), election.NewVoters().Encode(), Persistent))
	}
	return ops, nil
}

// commit writes one batch with the revision. After a lost reply the same
// transaction is sent again: at most one of the two can find the version that
// it names, and the revision tells whose it was.
func (a *apply) commit(ctx context.Context, ops []Op, more bool) error {
	rev := a.done.Revision
	rev.Pending = more
	data, err := json.Marshal(rev)
	if err != nil {
		return err
	}
	ops = a.withRevision(ops, data)
	for repeated := false; ; repeated = true {
		_, err := a.st.s.Multi(ctx, ops...)
		switch {
		case err == nil:
			a.version++
			return nil
		case errors.Is(err, ErrUnknown), errors.Is(err, ErrDisconnected):
			if werr := a.st.again(ctx); werr != nil {
				return fmt.Errorf("%w; it may have been written: read it: %w", err, werr)
			}
		case errors.Is(err, ErrBadVersion), errors.Is(err, ErrNodeExists), errors.Is(err, ErrNoNode):
			if mine, rerr := a.mine(ctx, rev, repeated); mine || rerr != nil {
				return rerr
			}
			return fmt.Errorf("%w (%w)", ErrConflict, err)
		default:
			return err
		}
	}
}

// withRevision puts the revision into the operations: into the creation of
// spec where it is new, else as a change of the version that was read.
func (a *apply) withRevision(ops []Op, data []byte) []Op {
	ops = slices.Clone(ops)
	for i, op := range ops {
		if op.kind == "create" && op.path == a.st.tree.Spec() {
			ops[i].data = data
			return ops
		}
	}
	return append([]Op{OpSet(a.st.tree.Spec(), data, a.version)}, ops...)
}

// again waits for a connection, and a little, before a request is repeated.
func (st *Store) again(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(roundPause):
	}
	_, err := st.s.WaitConnected(ctx)
	return err
}

// mine reports whether the revision that stands is the one of this batch,
// after a repeated request was refused.
func (a *apply) mine(ctx context.Context, rev Revision, repeated bool) (bool, error) {
	for repeated {
		err := a.st.s.Sync(ctx, a.st.tree.Root())
		if err == nil {
			var now Snapshot
			if now, err = a.st.readRevision(ctx, a.st.s.Get); err == nil {
				if now.Revision == rev {
					a.version = now.version
					return true, nil
				}
				return false, nil
			}
		}
		if !errors.Is(err, ErrDisconnected) {
			return false, err
		}
		if err := a.st.again(ctx); err != nil {
			return false, err
		}
	}
	return false, nil
}
