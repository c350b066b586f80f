package ipvs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"syscall"

	"github.com/zklvs/zklvs/ipvs/genl"
)

// Table is the IPVS table of one network namespace. Its methods may be called
// from several goroutines; they take turns.
type Table struct {
	mu     sync.Mutex
	conn   *genl.Conn // nil after Close
	family genl.Family
	load   func() error // loads ip_vs into the kernel
	batch  genl.Batch
	dests  []rawDest                 // for one read
	file   *procFile                 // nil where there is none
	proc   func() (io.Reader, error) // reads /proc/net/ip_vs from its start
	cookie uint64                    // names the network namespace, 0 if nothing does
	// ready loads a scheduler's module, nil if nothing is to be loaded.
	ready func(ctx context.Context, scheduler string)
}

// Open opens the table of the calling thread's network namespace. Where the
// kernel does not have ip_vs loaded it runs modprobe; if that does not help
// the error wraps ErrNoKernelSupport, without the right to use the table
// ErrPermission.
func Open() (*Table, error) {
	runtime.LockOSThread() // socket and file are of one namespace
	defer runtime.UnlockOSThread()
	conn, err := genl.Dial()
	if err != nil {
		return nil, fmt.Errorf("open the IPVS table: %w", err)
	}
	t := newTable(conn, func() error { return runModprobe(context.Background(), "ip_vs") })
	if err := t.resolve(); err != nil {
		t.Close()
		return nil, fmt.Errorf("open the IPVS table: %w", err)
	}
	if _, err := t.Timeouts(); err != nil { // may we?
		t.Close()
		return nil, fmt.Errorf("open the IPVS table: %w", err)
	}
	t.ready = loadScheduler
	t.cookie, _ = netnsCookie() // 0 where the kernel has none
	t.file = openProc()
	t.proc = t.reopen
	return t, nil
}

func newTable(conn *genl.Conn, load func() error) *Table {
	return &Table{conn: conn, load: load, proc: (*procFile)(nil).reader}
}

// Close frees what was opened. The kernel's table stays as it is.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		_ = t.conn.Close() // nothing is buffered
		t.file.close()
		t.conn = nil
	}
}

// Services reads the whole table, sorted by name. The kernel gives services in
// one dump, but destinations by the service.
func (t *Table) Services() ([]Service, error) { return t.services(nil, nil) }

// services is Services for these keys, or for all if keys is nil, with the
// destinations of those for which the func is true, or of all if it is nil. A
// service that the kernel does not have is left out.
func (t *Table) services(keys []Key, destinations func(Key) bool) ([]Service, error) {
	var out []Service
	err := t.each(keys, reading{destinations: destinations}, func(s *rawService, ds []rawDest) { out = append(out, s.service(ds)) })
	if err != nil {
		return nil, err
	}
	sortTable(out)
	return out, nil
}

// reading is how much is read.
type reading struct {
	stats        bool
	destinations func(Key) bool // of which services; nil: of all
}

// each calls f for every service with these keys, or every one if keys is nil.
// The destinations are valid in that call only.
func (t *Table) each(keys []Key, how reading, f func(*rawService, []rawDest)) error {
	return t.call("read the IPVS table", func() error {
		services, err := t.heads(keys, how.stats)
		if err != nil {
			return err
		}
		for i := range services {
			s := &services[i]
			t.dests = t.dests[:0]
			if key := s.key(); how.destinations == nil || how.destinations(key) {
				// One removed since the dump has no destinations and no error
				// here; the next read does not find it at all.
				if err := t.destinations(key, how.stats); err != nil {
					return fmt.Errorf("destinations of %v: %w", key, err)
				}
			}
			f(s, t.dests)
		}
		return nil
	})
}

// heads reads services without their destinations.
func (t *Table) heads(keys []Key, stats bool) ([]rawService, error) {
	var out []rawService
	add := func(d *genl.Decoder) {
		out = append(out, rawService{})
		out[len(out)-1].decode(d, stats)
	}
	if keys == nil {
		err := t.conn.Dump(t.family, cmdGetService, func(*genl.Encoder) {}, func() { out = out[:0] }, add)
		return out, err
	}
	for _, k := range keys {
		err := t.conn.Get(t.family, cmdGetService, func(e *genl.Encoder) { e.End(k.encodeKey(e)) }, add)
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			return nil, err
		}
	}
	return out, nil
}

// destinations reads those of a service into t.dests.
func (t *Table) destinations(key Key, stats bool) error {
	return t.conn.Dump(t.family, cmdGetDest,
		func(e *genl.Encoder) { e.End(key.encodeKey(e)) },
		func() { t.dests = t.dests[:0] },
		func(d *genl.Decoder) {
			t.dests = append(t.dests, rawDest{})
			t.dests[len(t.dests)-1].decode(d, stats)
		})
}

// call runs one operation. Where the family is not the one that we know any
// more, because ip_vs was unloaded and loaded, it is run again with the new one.
func (t *Table) call(operation string, f func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		return fmt.Errorf("%s: %w", operation, ErrClosed)
	}
	err := f()
	if familyGone(err) {
		changed, rerr := t.resolveAnew()
		if rerr != nil {
			return fmt.Errorf("%s: %w", operation, rerr)
		}
		if changed {
			err = f()
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: %w (%w)", operation, ErrPermission, err)
	}
	return fmt.Errorf("%s: %w", operation, err)
}

// familyGone tells whether an error may be that of a family that is not there,
// or of another one in its place (genetlink.c, genl_rcv_msg).
func familyGone(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EOPNOTSUPP)
}

// resolveAnew asks for the family again and tells whether it is another one.
func (t *Table) resolveAnew() (changed bool, err error) {
	old := t.family
	err = t.resolve()
	return t.family != old, err
}

// resolve asks the kernel for the family, and loads its module if it is missing.
func (t *Table) resolve() error {
	f, err := t.conn.Family(familyName)
	if errors.Is(err, syscall.ENOENT) {
		if lerr := t.load(); lerr != nil {
			return fmt.Errorf("%w: %w", ErrNoKernelSupport, lerr)
		}
		f, err = t.conn.Family(familyName)
	}
	switch {
	case errors.Is(err, syscall.ENOENT):
		return ErrNoKernelSupport
	case err != nil:
		return err
	}
	t.family = f
	return nil
}
