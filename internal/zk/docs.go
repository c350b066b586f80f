package zk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
)

const (
	// maxDocuments and maxSpecBytes bound what a director holds in memory,
	// whatever somebody writes into ZooKeeper.
	maxDocuments = 20_000
	maxSpecBytes = 64 << 20
	maxDrained   = 1_000
	readAttempts = 5 // to get documents between two applies
)

const (
	clusterDoc  = "spec/cluster"
	groupDocs   = "spec/groups/"
	serviceDocs = "spec/services/"
	drainedDocs = "operator/drained/"
	noVersion   = -1 // the version of a spec znode that is not there
)

// ErrConflict says that the documents are not the ones that the apply started from.
var ErrConflict = errors.New("the documents were changed meanwhile: read them again and repeat")

// ErrTooMuch says that there is more under spec than a director takes.
var ErrTooMuch = errors.New("too many documents")

// Document is one stored document.
type Document struct {
	Data    []byte
	Version int32
}

// Revision is the data of the znode spec: the count of applies. Each apply
// writes it together with the documents, so that two applies cannot mix and
// one watch tells of all changes. What is written by hand leaves it as it was.
type Revision struct {
	Number  int64  `json:"revision"`
	Apply   string `json:"apply"`             // random, to know one's own after a lost reply
	Pending bool   `json:"pending,omitempty"` // a large apply is under way: more follows
}

// Snapshot is every document of a cluster.
type Snapshot struct {
	// Documents by path below the cluster's root: spec/cluster,
	// spec/groups/<group>, spec/services/<service>.
	Documents map[string]Document
	Revision  Revision
	// Note is empty if all documents belong together, and else says why they
	// may not (an apply was under way).
	Note string

	version int32 // of spec; -1: it is missing
	data    map[string][]byte
}

// Exists reports whether anything was ever applied.
func (s Snapshot) Exists() bool { return s.version >= 0 }

// Data is the documents' contents, by path. It is not to be changed: copies of the
// snapshot may share it.
func (s Snapshot) Data() map[string][]byte {
	if s.data != nil {
		return s.data
	}
	m := make(map[string][]byte, len(s.Documents))
	for p, d := range s.Documents {
		m[p] = d.Data
	}
	return m
}

// Store reads and applies the documents of one cluster.
type Store struct {
	s    *Session
	tree Tree
}

// NewStore is the store of the cluster over a session.
func NewStore(s *Session, tree Tree) *Store { return &Store{s: s, tree: tree} }

// ReadSpec reads every document, up to date with whatever was committed when
// it was called. A cluster that does not exist has none.
func (st *Store) ReadSpec(ctx context.Context) (Snapshot, error) {
	if err := st.s.Sync(ctx, st.tree.Root()); err != nil {
		return Snapshot{}, err
	}
	for attempt := 1; ; attempt++ {
		snap, err := st.readOnce(ctx)
		if err != nil || snap.Note == "" || attempt == readAttempts {
			return snap, err
		}
	}
}

// readOnce reads revision, lists, documents and the revision again.
func (st *Store) readOnce(ctx context.Context) (Snapshot, error) {
	snap, err := st.readRevision(ctx, st.s.Get)
	if err != nil || !snap.Exists() {
		return snap, err
	}
	paths := []string{clusterDoc}
	for _, dir := range []string{groupDocs, serviceDocs} {
		names, _, err := st.s.Children(ctx, st.path(dir))
		if err != nil && !errors.Is(err, ErrNoNode) {
			return Snapshot{}, err
		}
		for _, n := range names {
			paths = append(paths, dir+n)
		}
	}
	if snap.Documents, err = st.readAll(ctx, paths, st.s.Get); err != nil {
		return Snapshot{}, err
	}
	after, err := st.readRevision(ctx, st.s.Get)
	snap.Note = note(snap, after)
	return snap, err
}

type getter func(context.Context, string) ([]byte, Stat, error)

// readRevision is a snapshot without documents.
func (st *Store) readRevision(ctx context.Context, get getter) (Snapshot, error) {
	snap, data, err := readTop(ctx, st.tree.Spec(), get)
	if err != nil {
		return Snapshot{}, err
	}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &snap.Revision); err != nil {
			snap.Note = fmt.Sprintf("%s: no revision in it: %v: apply again", st.tree.Spec(), err)
		}
	}
	return snap, nil
}

// readTop is a snapshot of a subtree without documents, and the data of its top.
func readTop(ctx context.Context, top string, get getter) (Snapshot, []byte, error) {
	data, stat, err := get(ctx, top)
	if errors.Is(err, ErrNoNode) {
		return Snapshot{version: noVersion, Documents: map[string]Document{}}, nil, nil
	}
	if err != nil {
		return Snapshot{}, nil, err
	}
	return Snapshot{version: stat.Version, Documents: map[string]Document{}}, data, nil
}

// note says why documents read between two looks at the revision may not
// belong together.
func note(before, after Snapshot) string {
	switch {
	case before.Note != "":
		return before.Note
	case before.version != after.version:
		return "an apply was under way while the documents were read"
	case after.Revision.Pending:
		return fmt.Sprintf("apply %s has not finished: if it failed, apply again", after.Revision.Apply)
	}
	return ""
}

// readAll reads the documents that exist among paths.
func (st *Store) readAll(ctx context.Context, paths []string, get getter) (map[string]Document, error) {
	if len(paths) > maxDocuments {
		return nil, errTooMany(st.tree.Root(), len(paths), maxDocuments)
	}
	found := make([]*Document, len(paths))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxReads)
	for i, p := range paths {
		group.Go(func() error {
			data, stat, err := get(ctx, st.path(p))
			if errors.Is(err, ErrNoNode) {
				return nil
			}
			if err == nil {
				found[i] = &Document{Data: data, Version: stat.Version}
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	docs, size := make(map[string]Document, len(paths)), 0
	for i, d := range found {
		if d != nil {
			docs[paths[i]] = *d
			size += len(d.Data)
		}
	}
	if size > maxSpecBytes {
		return nil, fmt.Errorf("zookeeper: %s: %w: %d bytes, at most %d are taken", st.tree.Spec(), ErrTooMuch, size, maxSpecBytes)
	}
	return docs, nil
}

func errTooMany(what string, n, limit int) error {
	return fmt.Errorf("zookeeper: %s: %w: %d, at most %d are taken", what, ErrTooMuch, n, limit)
}

// missingDirs lists which of the cluster's root, parents and key are absent,
// parents first. The znode of all clusters is made at once.
func (st *Store) missingDirs(ctx context.Context) ([]string, error) {
	if err := st.makeBase(ctx); err != nil {
		return nil, err
	}
	var missing []string
	for _, p := range append(append([]string{st.tree.Root()}, st.tree.dirs()...), st.tree.Key()) {
		_, ok, err := st.s.Exists(ctx, p)
		if err != nil {
			return nil, err
		}
		if !ok {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

func (st *Store) makeBase(ctx context.Context) error {
	_, ok, err := st.s.Exists(ctx, Base)
	if err != nil || ok {
		return err
	}
	if _, err := st.s.Create(ctx, Base, nil, Persistent); !errors.Is(err, ErrNodeExists) {
		return err
	}
	return nil
}

// path is the znode of a document. The names of children are taken as they
// stand: they came from ZooKeeper, or checkDocPath has seen them.
func (st *Store) path(doc string) string {
	return st.tree.Root() + "/" + strings.TrimSuffix(doc, "/")
}

// checkDocPath refuses what is no document's path.
func checkDocPath(p string) error {
	if p == clusterDoc {
		return nil
	}
	for _, dir := range []string{groupDocs, serviceDocs} {
		if name, ok := strings.CutPrefix(p, dir); ok {
			return CheckName("document", name)
		}
	}
	return fmt.Errorf("document %q: expected %s, %s<group> or %s<service>", p, clusterDoc, groupDocs, serviceDocs)
}
