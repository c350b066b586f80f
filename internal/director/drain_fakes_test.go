package director

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zklvs/zklvs/internal/drain"
	"github.com/zklvs/zklvs/ipvs"
)

// fakeDrains is operator/drained: it compares and sets like ZooKeeper.
type fakeDrains struct {
	changes chan struct{}

	mu      sync.Mutex
	unread  bool
	entries map[string]drain.Stored
	locks   map[string]bool // that are gone
	fail    error           // of the next Finish
	refused []string
}

func newFakeDrains() *fakeDrains {
	return &fakeDrains{changes: make(chan struct{}, 1), entries: map[string]drain.Stored{}, locks: map[string]bool{}}
}

func (f *fakeDrains) Entries() (map[string]drain.Stored, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.entries), !f.unread
}

func (f *fakeDrains) Changes() <-chan struct{} { return f.changes }

func (f *fakeDrains) Finish(_ context.Context, name string, version int32, data []byte, group, lock string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		err := f.fail
		f.fail = nil
		return err
	}
	if e, ok := f.entries[name]; !ok || e.Version != version || f.locks[lock] {
		f.refused = append(f.refused, name+" "+group)
		return errors.New("refused")
	}
	f.put(name, data)
	return nil
}

// put needs f.mu.
func (f *fakeDrains) put(name string, data []byte) {
	f.entries[name] = drain.Stored{Data: data, Version: f.entries[name].Version + 1}
	select {
	case f.changes <- struct{}{}:
	default:
	}
}

func (f *fakeDrains) remove(name string) {
	f.mu.Lock()
	delete(f.entries, name)
	f.mu.Unlock()
	f.changes <- struct{}{}
	synctest.Wait()
}

// write makes an entry as the command does.
func (f *fakeDrains) write(t *testing.T, server, service string, deadline time.Duration) drain.Target {
	t.Helper()
	target, err := drain.ParseTarget(server, service)
	if err != nil {
		t.Fatal(err)
	}
	var until time.Time
	if deadline > 0 {
		until = time.Now().Add(deadline)
	}
	data, err := drain.New(target, "id of "+target.Name(), "root@node01", time.Now(), until).Encode()
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.put(target.Name(), data)
	f.mu.Unlock()
	synctest.Wait()
	return target
}

// ends are how an entry says that it ended, by group.
func (f *fakeDrains) ends(t *testing.T, target drain.Target) map[string]drain.End {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := drain.Decode(target.Name(), f.entries[target.Name()].Data)
	if err != nil {
		t.Fatal(err)
	}
	for g, end := range e.Drained {
		end.At = ""
		e.Drained[g] = end
	}
	return e.Drained
}

// fakeViews is what the kernel counts, by destination.
type fakeViews struct {
	mu        sync.Mutex
	counts    map[string]Counts
	listed    []Connection
	templates bool // they bring clients back
	err       error
	reads     int
	lists     int
}

func (f *fakeViews) Counts(keys ...ipvs.Key) (map[ipvs.Key]map[netip.AddrPort]Counts, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	out := map[ipvs.Key]map[netip.AddrPort]Counts{}
	for _, k := range keys {
		out[k] = map[netip.AddrPort]Counts{}
		for d, c := range f.counts {
			out[k][netip.MustParseAddrPort(d)] = c
		}
	}
	return out, f.err
}

func (f *fakeViews) Established(match func(Connection) bool) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	n := 0
	for _, c := range f.listed {
		if match(c) {
			n++
		}
	}
	return n, f.err
}

func (f *fakeViews) TemplatesExpire() bool { return !f.templates }
func (f *fakeViews) Close()                {}

func (f *fakeViews) set(destination string, c Counts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[destination] = c
}

func (f *fakeViews) list(c ...Connection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listed = c
}
