package zk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"
)

// Drained is every entry about a real server that is drained, as it stands in
// ZooKeeper, by name.
type Drained struct {
	Entries map[string]Document
	version int32 // of the parent; -1: it is missing
}

// NewDrained is a copy of the entries about drained real servers that Run fills.
// DrainedOf takes its snapshots.
func NewDrained(st *Store, log *zap.Logger) *Documents {
	return newCopy(st, log, subtree{name: "the drained real servers", dirs: []string{drainedDocs}, limit: maxDrained, top: st.readDrainedTop})
}

// DrainedOf is the entries in a snapshot.
func DrainedOf(snap Snapshot) Drained {
	d := Drained{Entries: make(map[string]Document, len(snap.Documents)), version: snap.version}
	for path, doc := range snap.Documents {
		d.Entries[NameOf(strings.TrimPrefix(path, drainedDocs))] = doc
	}
	return d
}

func (st *Store) readDrainedTop(ctx context.Context, get getter) (Snapshot, error) {
	snap, _, err := readTop(ctx, st.tree.DrainedRoot(), get)
	return snap, err
}

// ReadDrained reads every entry, up to date with whatever was committed when it
// was called.
func (st *Store) ReadDrained(ctx context.Context) (Drained, error) {
	if err := st.s.Sync(ctx, st.tree.Root()); err != nil {
		return Drained{}, err
	}
	snap, err := st.readDrainedTop(ctx, st.s.Get)
	if err != nil {
		return Drained{}, err
	}
	names, _, err := st.s.Children(ctx, st.tree.DrainedRoot())
	if err != nil && !errors.Is(err, ErrNoNode) {
		return Drained{}, err
	}
	if len(names) > maxDrained {
		return Drained{}, errTooMany(st.tree.DrainedRoot(), len(names), maxDrained)
	}
	paths := make([]string, len(names))
	for i, n := range names {
		paths[i] = drainedDocs + n
	}
	if snap.Documents, err = st.readAll(ctx, paths, st.s.Get); err != nil {
		return Drained{}, err
	}
	return DrainedOf(snap), nil
}

// WriteDrained makes or changes one entry, worked out from base. It is
// ErrConflict if any entry was made, or this one changed, since base was read: two
// drains at once would each count on the other's real server. A lost reply is
// settled by reading back, for as long as ctx allows.
func (st *Store) WriteDrained(ctx context.Context, base Drained, name string, data []byte) error {
	var ops []Op
	if base.version < 0 {
		ops = append(ops, OpCreate(st.tree.DrainedRoot(), nil, Persistent))
	} else {
		ops = append(ops, OpSet(st.tree.DrainedRoot(), nil, base.version))
	}
	if old, ok := base.Entries[name]; ok {
		ops = append(ops, OpSet(st.tree.Drained(name), data, old.Version))
	} else {
		ops = append(ops, OpCreate(st.tree.Drained(name), data, Persistent))
	}
	return st.settle(ctx, name, ops, func(now Document, ok bool) bool { return ok && bytes.Equal(now.Data, data) })
}

// RemoveDrained removes the entry of base. It is ErrConflict if it has changed.
func (st *Store) RemoveDrained(ctx context.Context, base Drained, name string) error {
	old, ok := base.Entries[name]
	if !ok {
		return fmt.Errorf("%s: %w", st.tree.Drained(name), ErrNoNode)
	}
	return st.settle(ctx, name, []Op{OpDelete(st.tree.Drained(name), old.Version)}, func(_ Document, ok bool) bool { return !ok })
}

// FinishDrained writes the entry of that version, provided that the director
// still has the lock under which it counted the group's connections: one that has
// lost it says nothing about them.
func (st *Store) FinishDrained(ctx context.Context, name string, version int32, data []byte, group, lock string) error {
	_, err := st.s.Multi(ctx, OpCheck(st.tree.Lock(group, lock), AnyVersion), OpSet(st.tree.Drained(name), data, version))
	return err
}

// settle commits operations on one entry; done tells from the entry whether they
// were committed when a reply was lost.
func (st *Store) settle(ctx context.Context, name string, ops []Op, done func(Document, bool) bool) error {
	for repeated := false; ; repeated = true {
		_, err := st.s.Multi(ctx, ops...)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrUnknown), errors.Is(err, ErrDisconnected):
			if werr := st.again(ctx); werr != nil {
				return fmt.Errorf("%w; it may have been written: %w", err, werr)
			}
		case errors.Is(err, ErrBadVersion), errors.Is(err, ErrNodeExists), errors.Is(err, ErrNoNode):
			if repeated {
				now, rerr := st.ReadDrained(ctx)
				doc, ok := now.Entries[name]
				if rerr != nil || done(doc, ok) {
					return rerr
				}
			}
			return fmt.Errorf("%w (%w)", ErrConflict, err)
		default:
			return err
		}
	}
}
