package zk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"
)

func texts(d Drained) map[string]string {
	out := map[string]string{}
	for name, doc := range d.Entries {
		out[name] = string(doc.Data)
	}
	return out
}

// A copy follows entries from before their parent is there.
func TestDrainedFollow(t *testing.T) {
	s, st, tree := cluster(t)
	ctx := within(t, 30*time.Second)
	must(st.Apply(ctx, must(st.ReadSpec(ctx))(t), []Change{put("spec/cluster", "c")}, record))(t)
	reader := run(t, Config{Servers: sharedEnsemble(t).Servers()})
	drained := NewDrained(NewStore(reader, tree), zaptest.NewLogger(t))
	background(t, drained.Run)
	shows := func(what string, want map[string]string) {
		t.Helper()
		eventually(t, 5*time.Second, what, func() bool {
			snap, ok := drained.Snapshot()
			return ok && cmp.Equal(want, texts(DrainedOf(snap)))
		})
		if diff := cmp.Diff(want, texts(must(st.ReadDrained(ctx))(t))); diff != "" {
			t.Errorf("%s, read (-want +got):\n%s", what, diff)
		}
	}
	write := func(name, data string) {
		t.Helper()
		if err := st.WriteDrained(ctx, must(st.ReadDrained(ctx))(t), name, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	shows("nothing", map[string]string{})
	write("[2001:db8::1]:80_web", "one")
	shows("the first", map[string]string{"[2001:db8::1]:80_web": "one"})
	write("192.0.2.12", "two")
	write("[2001:db8::1]:80_web", "changed")
	shows("two", map[string]string{"[2001:db8::1]:80_web": "changed", "192.0.2.12": "two"})
	_ = must(s.Set(ctx, tree.Drained("192.0.2.12"), []byte("by hand"), AnyVersion))(t)
	shows("by hand", map[string]string{"[2001:db8::1]:80_web": "changed", "192.0.2.12": "by hand"})
	if err := st.RemoveDrained(ctx, must(st.ReadDrained(ctx))(t), "192.0.2.12"); err != nil {
		t.Fatal(err)
	}
	shows("removed", map[string]string{"[2001:db8::1]:80_web": "changed"})
}

// Whatever was worked out from an old reading is refused.
func TestDrainedConflicts(t *testing.T) {
	s, st, tree := cluster(t)
	ctx := context.Background()
	empty := must(st.ReadDrained(ctx))(t)
	if err := st.WriteDrained(ctx, empty, "192.0.2.12", []byte("one")); err == nil {
		t.Error("an entry was made in a cluster that was never applied")
	}
	must(st.Apply(ctx, must(st.ReadSpec(ctx))(t), []Change{put("spec/groups/web", "g")}, record))(t)
	if err := st.WriteDrained(ctx, empty, "192.0.2.12", []byte("one")); err != nil {
		t.Fatal(err)
	}
	one := must(st.ReadDrained(ctx))(t)
	if err := st.WriteDrained(ctx, one, "192.0.2.13", []byte("two")); err != nil {
		t.Fatal(err)
	}
	lock := must(s.Create(ctx, tree.Lock("web", "lock1"), nil, Persistent))(t)
	for name, c := range map[string]struct {
		do   func() error
		want error
	}{
		"another was made":    {func() error { return st.WriteDrained(ctx, one, "192.0.2.14", []byte("x")) }, ErrConflict},
		"remove, not there":   {func() error { return st.RemoveDrained(ctx, one, "192.0.2.14") }, ErrNoNode},
		"finish, lock gone":   {func() error { return st.FinishDrained(ctx, "192.0.2.12", 0, []byte("x"), "web", "lock2") }, ErrNoNode},
		"finish, was changed": {func() error { return st.FinishDrained(ctx, "192.0.2.12", 7, []byte("x"), "web", "lock1") }, ErrBadVersion},
		"finish":              {func() error { return st.FinishDrained(ctx, "192.0.2.12", 0, []byte("over"), "web", "lock1") }, nil},
	} {
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := st.RemoveDrained(ctx, one, "192.0.2.12"); !errors.Is(err, ErrConflict) {
		t.Errorf("remove what was changed meanwhile: %v", err)
	}
	if diff := cmp.Diff(map[string]string{"192.0.2.12": "over", "192.0.2.13": "two"}, texts(must(st.ReadDrained(ctx))(t))); diff != "" {
		t.Errorf("after %s (-want +got):\n%s", lock, diff)
	}
}

// More than a director takes: the last copy stays, and the error says so.
func TestDrainedIsBounded(t *testing.T) {
	_, st, _ := cluster(t)
	paths := make([]string, maxDocuments+1)
	if _, err := st.readAll(context.Background(), paths, nil); !errors.Is(err, ErrTooMuch) {
		t.Error(err)
	}
	large := func(context.Context, string) ([]byte, Stat, error) {
		return bytes.Repeat([]byte("x"), 1<<20), Stat{}, nil
	}
	for i := range 70 {
		paths[i] = fmt.Sprint(drainedDocs, i)
	}
	if _, err := st.readAll(context.Background(), paths[:70], large); !errors.Is(err, ErrTooMuch) {
		t.Error(err)
	}
}
