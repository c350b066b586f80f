package director

import (
	"context"
	"sync"

	"github.com/zklvs/zklvs/internal/ipvshost"
)

// fakeHost records what is desired of the host.
type fakeHost struct {
	journal *journal
	// before, if set, is called before each Apply.
	before func()

	mu      sync.Mutex
	err     error
	last    ipvshost.Desired
	applied int
}

func (f *fakeHost) Apply(_ context.Context, d ipvshost.Desired) error {
	if f.before != nil {
		f.before()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = d
	f.applied++
	return f.err
}

func (f *fakeHost) Restore(context.Context) error {
	f.journal.add("host restored")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = ipvshost.Desired{}
	return f.err
}

func (f *fakeHost) now() (ipvshost.Desired, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last, f.applied
}

func (f *fakeHost) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}
