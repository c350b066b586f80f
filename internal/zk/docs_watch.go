package zk

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	specPoll     = 30 * time.Second       // everything is read again, whatever the watches said,
	specShare    = 50                     // but for at most a fiftieth of the time
	specRetry    = 200 * time.Millisecond // after a failed reading
	pendingLimit = 5 * time.Second        // for the rest of a large apply, before what is there counts
)

// Documents keeps a copy of a cluster's documents, or of another subtree. It
// follows watches, so that an apply is seen at once, reads everything again after
// each reconnect and every 30 s (less often where that takes long), and never shows half of an apply (but for one
// that was broken off, after 5 s, with a Note).
type Documents struct {
	st   *Store
	what subtree
	log  *zap.Logger

	mu      sync.Mutex
	snap    Snapshot
	known   bool
	err     error
	changes chan struct{}

	// Run's own.
	conn    uint64 // the connection that carries the watches
	revSeen Snapshot
	copy    map[string]Document
	dirty   map[string]bool // documents to read
	lists   bool            // the lists of names are to be read
	pending time.Time       // since when an unfinished apply is seen
}

// subtree is a part of a cluster's tree of which a copy can be kept.
type subtree struct {
	name  string // for messages
	docs  []string
	dirs  []string // whose children are documents
	limit int      // of those
	// top reads what stands above all of them, whose version changes with them.
	top func(context.Context, getter) (Snapshot, error)
}

// NewDocuments is a copy of the documents that Run fills.
func NewDocuments(st *Store, log *zap.Logger) *Documents {
	return newCopy(st, log, subtree{name: "the documents", docs: []string{clusterDoc}, dirs: []string{groupDocs, serviceDocs},
		limit: maxDocuments, top: st.readRevision})
}

func newCopy(st *Store, log *zap.Logger, what subtree) *Documents {
	return &Documents{st: st, what: what, log: log, changes: make(chan struct{}, 1)}
}

// Snapshot is the copy; false until the first was read. It must not be
// changed.
func (d *Documents) Snapshot() (Snapshot, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.snap, d.known
}

// Err says why the copy may be old, nil if it is up to date as far as is known.
func (d *Documents) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Changes receives after the copy has changed; many changes make one receive.
func (d *Documents) Changes() <-chan struct{} { return d.changes }

// Run keeps the copy until ctx ends and returns its error.
func (d *Documents) Run(ctx context.Context) error {
	sub := d.st.s.Subscribe()
	defer sub.Close()
	var read uint64 // the connection on which everything was read last
	poll := time.NewTimer(specPoll)
	defer poll.Stop()
	for {
		var retry <-chan time.Time
		begun := time.Now()
		if again := d.follow(ctx, sub); again {
			retry = time.After(specRetry)
		}
		if d.conn != read { // everything was read
			read = d.conn
			poll.Reset(max(specPoll, specShare*time.Since(begun)))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
			d.conn, read = 0, 0
			poll.Reset(specPoll) // if it cannot be read now
		case <-sub.Changes():
		case <-retry:
		}
	}
}

// follow brings the copy up to date; again asks to be called soon.
func (d *Documents) follow(ctx context.Context, sub *Subscription) (again bool) {
	st := d.st.s.State()
	if !st.Connected {
		return false
	}
	if st.Connection != d.conn {
		d.conn, d.lists = st.Connection, true
		d.dirty = map[string]bool{}
		for _, p := range d.what.docs {
			d.dirty[p] = true
		}
		for p := range d.copy {
			d.dirty[p] = true
		}
		d.revSeen = Snapshot{version: noVersion - 1}
	}
	snap, err := d.refresh(ctx, sub)
	d.fail(err)
	if err != nil {
		return true
	}
	if snap.Note != "" && time.Since(d.firstPending()) < pendingLimit {
		return true
	}
	if snap.Note == "" {
		d.pending = time.Time{}
	}
	d.publish(snap)
	return snap.Note != ""
}

func (d *Documents) firstPending() time.Time {
	if d.pending.IsZero() {
		d.pending = time.Now()
	}
	return d.pending
}

func (d *Documents) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && (d.err == nil || d.err.Error() != err.Error()) && !errors.Is(err, ErrDisconnected) {
		d.log.Warn(d.what.name+" cannot be read: the last ones stay in force", zap.Error(err))
	}
	d.err = err
}

// refresh reads what the watches named. The revision comes first: the events
// of the changes that it tells of have arrived before it.
func (d *Documents) refresh(ctx context.Context, sub *Subscription) (Snapshot, error) {
	for attempt := 1; ; attempt++ {
		before, err := d.what.top(ctx, d.st.s.getOrAwait)
		if err != nil {
			return Snapshot{}, err
		}
		d.mark(sub.Fired())
		if err := d.readDirty(ctx, before); err != nil {
			return Snapshot{}, err
		}
		after, err := d.what.top(ctx, d.st.s.Get)
		if err != nil {
			return Snapshot{}, err
		}
		after.Note = note(before, after)
		if after.version == before.version || attempt == readAttempts {
			after.Documents = d.copy
			return after, nil
		}
	}
}

// mark notes what is to be read. Other consumers' paths do no harm: only
// documents in the copy or in a list are read.
func (d *Documents) mark(fired []string) {
	for _, path := range fired {
		doc, ok := cutRoot(d.st.tree, path)
		_, have := d.copy[doc]
		switch {
		case !ok:
		case have, slices.Contains(d.what.docs, doc):
			d.dirty[doc] = true
		case slices.Contains(d.what.dirs, doc+"/"):
			d.lists = true
		}
	}
}

func cutRoot(t Tree, path string) (string, bool) {
	n := len(t.Root()) + 1
	if len(path) <= n || path[:n] != t.Root()+"/" {
		return "", false
	}
	return path[n:], true
}

// readDirty reads lists and documents; what fails stays dirty.
func (d *Documents) readDirty(ctx context.Context, rev Snapshot) error {
	if rev.Exists() != d.revSeen.Exists() {
		d.lists = true
	}
	if d.lists {
		if err := d.readLists(ctx); err != nil {
			return err
		}
	}
	paths := make([]string, 0, len(d.dirty))
	for p := range d.dirty {
		paths = append(paths, p)
	}
	docs, err := d.st.readAll(ctx, paths, d.st.s.getOrAwait)
	if err != nil {
		return err
	}
	next := maps.Clone(d.copy) // the last one may be in a reader's hands
	if next == nil {
		next = make(map[string]Document)
	}
	for _, p := range paths {
		if doc, ok := docs[p]; ok {
			if was, had := next[p]; had && sameDocument(was, doc) {
				continue // readers have that one: one in memory is enough
			}
			next[p] = doc
		} else {
			delete(next, p)
		}
	}
	d.copy, d.revSeen = next, rev
	clear(d.dirty)
	return nil
}

// readLists marks documents that appeared or went.
func (d *Documents) readLists(ctx context.Context) error {
	there := make(map[string]bool)
	for _, dir := range d.what.dirs {
		names, _, err := d.st.s.ChildrenW(ctx, d.st.path(dir))
		if err != nil && !errors.Is(err, ErrNoNode) {
			return err
		}
		for _, n := range names {
			there[dir+n] = true
			if _, have := d.copy[dir+n]; !have {
				d.dirty[dir+n] = true
			}
		}
	}
	if len(there) > d.what.limit {
		return errTooMany(d.what.name, len(there), d.what.limit)
	}
	for p := range d.copy {
		if !there[p] {
			d.dirty[p] = true
		}
	}
	d.lists = false
	return nil
}

func sameDocument(a, b Document) bool { return a.Version == b.Version && bytes.Equal(a.Data, b.Data) }

func (d *Documents) publish(snap Snapshot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known && d.snap.Revision == snap.Revision && d.snap.Note == snap.Note && d.snap.version == snap.version &&
		maps.EqualFunc(d.snap.Documents, snap.Documents, sameDocument) {
		return
	}
	snap.data = snap.Data() // once, for all who ask
	d.snap, d.known = snap, true
	select {
	case d.changes <- struct{}{}:
	default:
	}
}
