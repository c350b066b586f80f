package zk

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestDecodeKey(t *testing.T) {
	digits := strings.Repeat("0f", keyBytes)
	for name, c := range map[string]struct {
		data string
		ok   bool
	}{
		"made":           {string(newKey()), true},
		"by hand":        {` {"format": 1, "key": "` + digits + `"} `, true},
		"nothing":        {"", false},
		"empty object":   {"{}", false},
		"other format":   {`{"format":2,"key":"` + digits + `"}`, false},
		"no format":      {`{"key":"` + digits + `"}`, false},
		"too short":      {`{"format":1,"key":"` + digits[2:] + `"}`, false},
		"too long":       {`{"format":1,"key":"` + digits + `00"}`, false},
		"no digits":      {`{"format":1,"key":"` + strings.Repeat("secret!!", keyBytes/4) + `"}`, false},
		"another field":  {`{"format":1,"key":"` + digits + `","more":1}`, false},
		"more after it":  {`{"format":1,"key":"` + digits + `"} {}`, false},
		"a bare key":     {digits, false},
		"much too large": {`{"format":1,"key":"` + digits + `"}` + strings.Repeat(" ", 1024), false},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := decodeKey([]byte(c.data))
			if (err == nil) != c.ok || c.ok != (len(key) == keyBytes) {
				t.Errorf("key of %d bytes, %v", len(key), err)
			}
			if err != nil && (strings.Contains(err.Error(), "0f0f") || strings.Contains(err.Error(), "secret")) {
				t.Errorf("the error holds what stands in the znode: %v", err)
			}
		})
	}
	if bytes.Equal(newKey(), newKey()) {
		t.Error("two keys are the same")
	}
}

func FuzzDecodeKey(f *testing.F) {
	f.Add(newKey())
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, err := decodeKey(data); err == nil && len(key) != keyBytes {
			t.Errorf("a key of %d bytes", len(key))
		}
	})
}

// keys collects what a KeyReader hands out.
type keys chan []byte

func (k keys) next(t *testing.T) []byte {
	t.Helper()
	select {
	case key := <-k:
		return key
	case <-time.After(5 * time.Second):
		t.Fatal("no other key within 5 s")
		return nil
	}
}

func TestKey(t *testing.T) {
	s, st, tree := cluster(t)
	ctx := context.Background()
	seen, logs := observer.New(zap.DebugLevel)
	got := make(keys, 8)
	reader := NewKeyReader(s, tree, zap.New(seen), func(key []byte) { got <- key })
	background(t, reader.Run)
	eventually(t, 5*time.Second, "its lack is known", func() bool { return strings.Contains(reader.Problem(), "`zklvs apply` makes one") })

	if done := must(st.Apply(ctx, must(st.ReadSpec(ctx))(t), []Change{put("spec/groups/web", "g")}, record))(t); !done.NewKey || done.Batches != 1 {
		t.Errorf("the first apply: %+v", done)
	}
	first := got.next(t)
	eventually(t, 5*time.Second, "no problem is left", func() bool { return reader.Problem() == "" })

	// A cluster of before, or whose key was deleted: apply makes it though nothing
	// else is to be changed.
	if err := s.Delete(ctx, tree.Key(), AnyVersion); err != nil {
		t.Fatal(err)
	}
	if key := got.next(t); key != nil {
		t.Errorf("a key of %d bytes after it was deleted", len(key))
	}
	again := func() Applied { return must(st.Apply(ctx, must(st.ReadSpec(ctx))(t), nil, record))(t) }
	if done := again(); !done.NewKey || done.Revision.Number != 2 {
		t.Errorf("apply without a key: %+v", done)
	}
	second := got.next(t)
	if len(first) != keyBytes || len(second) != keyBytes || bytes.Equal(first, second) {
		t.Error("the keys are not 32 bytes each, and different")
	}
	if done := again(); done.NewKey || done.Batches != 0 {
		t.Errorf("apply with a key: %+v", done)
	}

	_ = must(s.Set(ctx, tree.Key(), []byte(`{"format":1,"key":"secret"}`), AnyVersion))(t)
	if key := got.next(t); key != nil {
		t.Errorf("a key of %d bytes from nonsense", len(key))
	}
	if p := reader.Problem(); !strings.Contains(p, "not understood") {
		t.Errorf("problem %q", p)
	}
	_ = must(s.Set(ctx, tree.Key(), newKey(), AnyVersion))(t)
	got.next(t)
	for _, e := range logs.All() {
		for _, v := range e.ContextMap() {
			if text, ok := v.(string); ok && strings.Contains(text, "secret") {
				t.Errorf("the log says %q", text)
			}
		}
	}
}

// Whoever may read the tree may not read the key.
func TestKeyIsSecret(t *testing.T) {
	e := sharedEnsemble(t)
	owner := run(t, Config{Servers: e.Servers(), User: "web", Password: "secret", WorldRead: true})
	connected(t, owner)
	tree := must(NewTree(t.Name()))(t)
	ctx := context.Background()
	st := NewStore(owner, tree)
	_ = must(st.Apply(ctx, must(st.ReadSpec(ctx))(t), []Change{put("spec/groups/web", "g")}, record))(t)
	if data, _, err := owner.Get(ctx, tree.Key()); err != nil || len(data) == 0 {
		t.Errorf("its owner reads %d bytes, %v", len(data), err)
	}
	world := run(t, Config{Servers: e.Servers()})
	connected(t, world)
	_ = must("", world.Sync(ctx, tree.Root()))(t)
	if names, _, err := world.Children(ctx, tree.Root()); err != nil || !slices.Contains(names, "key") {
		t.Errorf("the world lists %v, %v", names, err)
	}
	if _, _, err := world.Get(ctx, tree.Spec()); err != nil {
		t.Errorf("the world reads the documents: %v", err)
	}
	if data, _, err := world.Get(ctx, tree.Key()); !errors.Is(err, ErrAuth) {
		t.Errorf("the world reads %d bytes of the key, %v", len(data), err)
	}
	reader := NewKeyReader(world, tree, zap.NewNop(), func([]byte) { t.Error("the world has the key") })
	background(t, reader.Run)
	eventually(t, 5*time.Second, "it knows why", func() bool { return strings.Contains(reader.Problem(), "check zookeeper.credentials") })
}
