package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/drain"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

const drainLook = 500 * time.Millisecond // between two looks at a drain

// row is how far the drain of one real server of a service is.
type row struct {
	meant
	holder string // "": nobody holds the group
	// drain is what the holder's table makes of it, nil if it does not know of it.
	drain *director.DrainHealth
	end   *drain.End // not nil: it is over
}

// look is what is known of a drain at one moment.
type look struct {
	entry drain.Entry
	found bool // the entry is there
	rows  []row
}

// look reads how far the drain is. What the documents no longer have is left out.
func (d *draining) look(ctx context.Context) (l look, err error) {
	err = d.c.read(ctx, func(ctx context.Context) error {
		l, err = d.lookOnce(ctx)
		return err
	})
	return l, err
}

func (d *draining) lookOnce(ctx context.Context) (look, error) {
	var l look
	data, err := d.get(ctx, d.c.tree.Drained(d.target.Name()))
	if err != nil {
		return l, err
	}
	if data != nil {
		if l.entry, err = drain.Decode(d.target.Name(), data); err != nil {
			return l, fmt.Errorf("%s: %w", d.c.tree.Drained(d.target.Name()), err)
		}
		l.found = true
	}
	holders := map[string]string{}
	for _, m := range d.meant {
		if _, known := holders[m.group]; !known {
			if holders[m.group], err = d.holder(ctx, m.group); err != nil {
				return l, err
			}
		}
		there, err := d.still(ctx, m)
		if err != nil {
			return l, err
		}
		if !there {
			continue
		}
		r := row{meant: m, holder: holders[m.group]}
		if end, over := l.entry.Drained[m.group]; over {
			r.end = &end
		}
		if r.drain, err = d.published(ctx, r); err != nil {
			return l, err
		}
		l.rows = append(l.rows, r)
	}
	return l, nil
}

// get reads a znode; nil if it is not there.
func (d *draining) get(ctx context.Context, path string) ([]byte, error) {
	data, _, err := d.c.session.Get(ctx, path)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err == nil && data == nil {
		data = []byte{}
	}
	return data, err
}

// holder reads who holds a group, "" for nobody.
func (d *draining) holder(ctx context.Context, group string) (string, error) {
	data, err := d.get(ctx, d.c.tree.Record(group))
	if err != nil || data == nil {
		return "", err
	}
	rec, err := election.DecodeRecord(data)
	if err != nil || rec.State != election.StateHolding {
		return "", nil //nolint:nilerr // status tells of a record that is not understood
	}
	return rec.Node, nil
}

// still tells whether the documents have the real server.
func (d *draining) still(ctx context.Context, m meant) (bool, error) {
	path := spec.ServicePath(m.service)
	data, err := d.get(ctx, d.c.tree.Root()+"/"+path)
	if err != nil || data == nil {
		return false, err
	}
	docs, err := spec.Decode(path, data)
	if err != nil {
		return true, nil //nolint:nilerr // the directors keep the last good one
	}
	sv := docs.Spec().Services[m.service]
	return sv.Group == m.group && slices.ContainsFunc(sv.RealServers, func(rs spec.RealServer) bool { return rs.String() == m.server }), nil
}

// published is what the holder says of the drain of a real server.
func (d *draining) published(ctx context.Context, r row) (*director.DrainHealth, error) {
	if r.holder == "" {
		return nil, nil
	}
	data, err := d.get(ctx, d.c.tree.HealthService(r.holder, r.service))
	var h director.ServiceHealth
	if err != nil || data == nil || json.Unmarshal(data, &h) != nil {
		return nil, err
	}
	for _, rs := range h.RealServers {
		if rs.Address == r.server && rs.Drain != nil && slices.Contains(rs.Drain.Drains, d.item.ID) {
			return rs.Drain, nil
		}
	}
	return nil, nil
}

// over tells whether every part of the drain has ended.
func (l look) over() bool {
	return !slices.ContainsFunc(l.rows, func(r row) bool { return r.end == nil })
}

// unconfirmed lists the holders that do not say what is wanted, and the groups
// that have none.
func (l look) unconfirmed(wanted func(row) bool) (holders, groups []string) {
	for _, r := range l.rows {
		switch {
		case r.holder == "" && !slices.Contains(groups, r.group):
			groups = append(groups, r.group)
		case r.holder != "" && !wanted(r) && !slices.Contains(holders, r.holder):
			holders = append(holders, r.holder)
		}
	}
	return holders, groups
}

func begun(r row) bool { return r.drain != nil }
func gone(r row) bool  { return r.drain == nil }

// text is the progress on one line.
func (l look) text() string {
	holders, groups := l.unconfirmed(func(r row) bool { return r.end != nil || begun(r) })
	switch {
	case len(groups) > 0:
		return fmt.Sprintf("waiting for a holder of group %s", strings.Join(groups, ", "))
	case len(holders) > 0:
		return fmt.Sprintf("waiting for %s to set weight 0", strings.Join(holders, ", "))
	}
	active, templates := 0, 0
	var on []string
	for _, r := range l.rows {
		if r.end != nil {
			continue
		}
		active += r.drain.Active
		templates += r.drain.Persistent
		if !slices.Contains(on, r.holder) {
			on = append(on, r.holder)
		}
	}
	text := plural(active, "connection") + " left on " + strings.Join(on, ", ")
	if templates > 0 {
		text += fmt.Sprintf(" (%s bound by persistence)", plural(templates, "client"))
	}
	return text
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// every calls step until it is done or ctx ends.
func every(ctx context.Context, pause time.Duration, step func() (done bool, err error)) error {
	for {
		done, err := step()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// untilDrained shows progress until the drain is over.
func (d *draining) untilDrained() error {
	ctx := d.cmd.Context()
	var last look
	err := every(ctx, drainLook, func() (bool, error) {
		l, err := d.look(ctx)
		if err != nil {
			return false, err
		}
		if !l.found || l.entry.ID != d.item.ID {
			return false, fmt.Errorf("%s was brought back by somebody else before it was drained", d.target)
		}
		last = l
		if l.over() {
			return true, nil
		}
		d.show.set(l.text())
		return false, nil
	})
	d.show.end()
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %s goes on draining; `%s` brings it back", d.target, d.undo())
	}
	if err != nil {
		return err
	}
	return d.summary(last)
}

// summary tells how the drain ended.
func (d *draining) summary(l look) error {
	if len(l.rows) == 0 {
		return d.say("the documents no longer have %s: `%s` removes the drain", d.target, d.undo())
	}
	cut, kept, ended := 0, 0, map[string]bool{}
	for _, r := range l.rows {
		if !ended[r.group] {
			ended[r.group] = true
			cut += r.end.Cut
			kept += r.end.Kept
		}
	}
	took := ""
	if since, err := time.Parse(time.RFC3339, l.entry.Since); err == nil {
		took = fmt.Sprintf(" after %v", time.Since(since).Round(time.Second))
	}
	if cut+kept == 0 {
		return d.say("drained %s%s: no connections were left", d.target, took)
	}
	if kept > 0 {
		d.warn("%s that an earlier holder began could not be cut, for the kernel does not count them to the real server (warm_standby: true makes it): stop the server to end them", plural(kept, "connection"))
	}
	if err := d.say("drained %s%s: %s cut at the deadline", d.target, took, plural(cut, "connection")); err != nil {
		return err
	}
	return finished(exitCut)
}

// confirmed waits until the holders say that the drain has begun.
func (d *draining) confirmed() error {
	l, err := d.await(begun)
	if err != nil {
		return fmt.Errorf("%w; the drain of %s stays in force, `%s` takes it back", err, d.target, d.undo())
	}
	return d.sayHolders(l, "weight 0 is in force on %s", "nobody holds group %s: it comes into force with the next holder")
}

// await waits, within the timeout, until every holder says what is wanted.
func (d *draining) await(wanted func(row) bool) (l look, err error) {
	ctx, cancel := context.WithTimeout(d.cmd.Context(), d.timeout)
	defer cancel()
	var late []string
	err = every(ctx, drainLook/2, func() (bool, error) {
		if l, err = d.look(ctx); err != nil {
			return false, err
		}
		late, _ = l.unconfirmed(wanted)
		return len(late) == 0, nil
	})
	switch {
	case d.cmd.Context().Err() != nil:
		return l, errors.New("interrupted")
	case errors.Is(err, context.DeadlineExceeded) && len(late) > 0:
		return l, fmt.Errorf("not confirmed by %s within %v: check that it runs and reaches ZooKeeper", strings.Join(late, ", "), d.timeout)
	}
	return l, err
}

// sayHolders tells where something is in force, and where not yet.
func (d *draining) sayHolders(l look, inForce, nobody string) error {
	var on []string
	for _, r := range l.rows {
		if r.holder != "" && !slices.Contains(on, r.holder) {
			on = append(on, r.holder)
		}
	}
	_, groups := l.unconfirmed(begun)
	if len(on) > 0 {
		if err := d.say(inForce, strings.Join(on, ", ")); err != nil {
			return err
		}
	}
	if len(groups) > 0 {
		return d.say(nobody, strings.Join(groups, ", "))
	}
	return nil
}
