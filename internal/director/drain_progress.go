package director

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/drain"
	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/ipvs"
)

// part is what of a drain goes on in one holding: another one counts for itself.
type part struct{ id, group, lock string }

// progress is how far a part is.
type progress struct {
	since    time.Duration // when weight 0 was first seen to be in the kernel
	empty    int           // looks in a row that found no connection
	listed   time.Duration // when the list of connections may be read again
	finished bool          // the entry was written; the copy of it follows
}

// outcome is what a look at a part leads to.
type outcome int

const (
	goOn     outcome = iota
	confirm          // nothing is left by the counters: the list of connections decides
	deadline         // what is left is cut
)

// look takes in how many connections are left. No connection counts when it is
// seen twice in a row.
func (p *progress) look(now time.Duration, wall time.Time, e drain.Entry, left int) outcome {
	if until, ok := e.DeadlineTime(); ok && !wall.Before(until) {
		return deadline
	}
	if left > 0 || now-p.since < drainSettle {
		p.empty = 0
		return goOn
	}
	if p.empty++; p.empty < 2 || now < p.listed {
		return goOn
	}
	return confirm
}

// run counts connections while something drains, and ends drains. answering
// returns the lock under which this director answers for a group, "" if it does
// not.
func (d *drains) run(ctx context.Context, answering func(group string) string) error {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	defer func() {
		if d.views != nil {
			d.views.Close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := d.look(ctx, answering); err != nil && ctx.Err() == nil {
				d.log.Warn("a drain does not go on", zap.Error(err))
			}
		}
	}
}

// look counts once, and ends what is at its end.
func (d *drains) look(ctx context.Context, answering func(group string) string) error {
	parts, items := d.parts(answering)
	if len(parts) == 0 {
		clear(d.progress)
		d.publishCounts(nil)
		return nil
	}
	if err := d.openViews(); err != nil {
		return err
	}
	counts, err := d.count(parts)
	if err != nil {
		d.views.Close() // ip_vs may have been unloaded: opened anew next time
		d.views = nil
		return err
	}
	d.publishCounts(counts)
	now := d.now()
	for p := range d.progress {
		if parts[p] == nil {
			delete(d.progress, p)
		}
	}
	var errs []error
	for p, places := range parts {
		if d.progress[p] == nil {
			d.progress[p] = &progress{since: now}
		}
		errs = append(errs, d.step(ctx, p, items[p.id], places, counts))
	}
	return errors.Join(errs...)
}

// parts are the destinations that drain in groups for which this director
// answers, and the entries that they are about.
func (d *drains) parts(answering func(group string) string) (map[part][]drained, map[string]drain.Item) {
	d.mu.Lock()
	installed := d.installed
	d.mu.Unlock()
	parts, items := map[part][]drained{}, map[string]drain.Item{}
	for _, one := range installed {
		lock := answering(one.group)
		for _, item := range one.items {
			if _, over := item.Drained[one.group]; over || lock == "" {
				continue
			}
			p := part{item.ID, one.group, lock}
			parts[p] = append(parts[p], one)
			items[item.ID] = item
		}
	}
	return parts, items
}

func (d *drains) openViews() error {
	if d.views != nil {
		return nil
	}
	v, err := d.open()
	if err != nil {
		return fmt.Errorf("count connections: %w", err)
	}
	d.views = v
	return nil
}

// count reads the counters of everything that drains.
func (d *drains) count(parts map[part][]drained) (map[place]Counts, error) {
	wanted := map[ipvs.Key]bool{}
	var keys []ipvs.Key
	for _, places := range parts {
		for _, one := range places {
			if !wanted[one.key] {
				wanted[one.key] = true
				keys = append(keys, one.key)
			}
		}
	}
	found, err := d.views.Counts(keys...)
	if err != nil {
		return nil, fmt.Errorf("count connections: %w", err)
	}
	out := map[place]Counts{}
	for _, places := range parts {
		for _, one := range places {
			out[one.place] = found[one.key][one.destination]
		}
	}
	return out, nil
}

func (d *drains) publishCounts(counts map[place]Counts) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(counts) > 0 || len(d.counts) > 0 {
		d.counts = counts
		d.hint()
	}
}

// step looks at one part and ends it where it is over.
func (d *drains) step(ctx context.Context, p part, item drain.Item, places []drained, counts map[place]Counts) error {
	state := d.progress[p]
	if state.finished {
		return nil
	}
	left, templates := 0, 0
	for _, one := range places {
		left += connections(one.place, counts[one.place])
		templates += counts[one.place].Persistent
	}
	if d.views.TemplatesExpire() {
		templates = 0 // they bring nobody back
	}
	end := drain.End{Reason: drain.Empty, At: time.Now().UTC().Format(time.RFC3339), Node: d.node}
	switch state.look(d.now(), time.Now(), item.Entry, left+templates) {
	case goOn:
		return nil
	case deadline:
		unseen, err := d.unseen(state, places, counts)
		if err != nil {
			d.log.Warn("how many connections outlive the deadline is not known", zap.Error(err))
		}
		end.Reason, end.Cut, end.Kept = drain.Deadline, left, max(0, unseen-left)
	case confirm:
		if unseen, err := d.unseen(state, places, counts); err != nil || unseen > 0 {
			return err
		}
	}
	if err := d.finish(ctx, p, item, end); err != nil {
		return err
	}
	state.finished = true
	d.log.Info("drained", zap.String(logfield.RealServer, item.Target().String()), zap.String(logfield.Group, p.group),
		zap.String(logfield.Reason, string(end.Reason)), zap.Int("cut", end.Cut), zap.Int("kept", end.Kept))
	return nil
}

// connections are what a destination's counters show that can carry data. A flow
// of UDP never counts as active.
func connections(p place, c Counts) int {
	if p.key.Protocol == ipvs.UDP {
		return c.Active + c.Inactive
	}
	return c.Active
}

// unseen counts connections that no destination's counters show: a connection that
// was synchronized before the destination stood in the table belongs to none
// (ip_vs_sync.c, ip_vs_proc_conn), and is forwarded all the same. The list is slow
// where it is long: it is read for a tenth of the time at most.
func (d *drains) unseen(state *progress, places []drained, counts map[place]Counts) (int, error) {
	begun := d.now()
	n, err := d.views.Established(func(c Connection) bool {
		for _, one := range places {
			if one.carries(c) {
				return true
			}
		}
		return false
	})
	state.listed = d.now() + 9*(d.now()-begun)
	if err != nil {
		return 0, fmt.Errorf("list connections: %w", err)
	}
	if n > 0 {
		shown := maps.Clone(counts)
		shown[places[0].place] = Counts{Active: max(n, counts[places[0].place].Active)}
		d.publishCounts(shown)
	}
	return n, nil
}

// carries tells whether a connection goes to the destination. With a mark, or
// port 0, the service takes more than one virtual address or port.
func (p place) carries(c Connection) bool {
	to := p.destination
	if c.Destination.Addr() != to.Addr() || to.Port() != 0 && c.Destination.Port() != to.Port() {
		return false
	}
	if p.key.Mark != 0 {
		return true
	}
	return c.Protocol == p.key.Protocol && c.Virtual.Addr() == p.key.Address && (p.key.Port == 0 || c.Virtual.Port() == p.key.Port)
}

// finish writes that a drain is over in a group.
func (d *drains) finish(ctx context.Context, p part, item drain.Item, end drain.End) error {
	data, err := item.With(p.group, end).Encode()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	if err := d.source.Finish(ctx, item.Name, item.Version, data, p.group, p.lock); err != nil {
		return fmt.Errorf("end the drain of %s in group %s: %w", item.Target(), p.group, err)
	}
	return nil
}
