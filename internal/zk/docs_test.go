package zk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"
)

// cluster is a session and the store of a cluster of the test's own.
func cluster(t testing.TB) (*Session, *Store, Tree) {
	t.Helper()
	e := sharedEnsemble(t)
	s := run(t, Config{Servers: e.Servers()})
	connected(t, s)
	tree := must(NewTree(strings.ReplaceAll(t.Name(), "/", "-")))(t)
	return s, NewStore(s, tree), tree
}

// record stands for the codec of package election.
func record(group string, released bool) ([]byte, error) {
	return fmt.Appendf(nil, "%s released=%v", group, released), nil
}

func put(path, data string) Change { return Change{Path: path, Data: []byte(data)} }

func TestApply(t *testing.T) {
	s, st, tree := cluster(t)
	ctx := context.Background()
	empty := must(st.ReadSpec(ctx))(t)
	if empty.Exists() || len(empty.Documents) != 0 {
		t.Fatalf("%+v: expected no cluster", empty)
	}
	done := must(st.Apply(ctx, empty, []Change{put("spec/cluster", "c"), put("spec/groups/web", "g"), put("spec/services/http", "s")}, record))(t)
	if done.Batches != 1 || !slices.Equal(done.New, []string{"web"}) || len(done.Unknown) != 0 {
		t.Errorf("first apply: %+v", done)
	}
	data, _, err := s.Get(ctx, tree.Record("web"))
	if err != nil || string(data) != "web released=true" {
		t.Errorf("record %q %v", data, err)
	}

	first := must(st.ReadSpec(ctx))(t)
	done = must(st.Apply(ctx, first, []Change{
		put("spec/groups/web", "g"), put("spec/groups/db", "d"), put("spec/services/http", "s2"), {Path: "spec/cluster", Delete: true},
	}, record))(t)
	if len(done.New) != 0 || !slices.Equal(done.Unknown, []string{"db"}) {
		t.Errorf("second apply: %+v", done)
	}
	if data, _, err := s.Get(ctx, tree.Record("db")); err != nil || string(data) != "db released=false" {
		t.Errorf("record %q %v", data, err)
	}
	second := must(st.ReadSpec(ctx))(t)
	want := map[string]Document{
		"spec/groups/web":    {Data: []byte("g")},
		"spec/groups/db":     {Data: []byte("d")},
		"spec/services/http": {Data: []byte("s2"), Version: 1},
	}
	if diff := cmp.Diff(want, second.Documents); diff != "" || second.Note != "" || second.Revision.Number != 2 {
		t.Errorf("after the second apply: %+v\n%s", second, diff)
	}

	for _, doc := range []string{"spec/services/http", "spec/services/another"} {
		if _, err := st.Apply(ctx, first, []Change{put(doc, "s3")}, record); !errors.Is(err, ErrConflict) {
			t.Errorf("apply of %s from an old reading: %v", doc, err)
		}
	}
	if _, err := st.Apply(ctx, empty, []Change{put("spec/services/other", "x")}, record); !errors.Is(err, ErrConflict) {
		t.Errorf("apply as if there were no cluster: %v", err)
	}
	if done := must(st.Apply(ctx, second, []Change{put("spec/groups/db", "d")}, record))(t); done.Batches != 0 {
		t.Errorf("an apply without a change wrote: %+v", done)
	}
}

// A document that is deleted and applied again finds its old group, whose
// record nobody may touch.
func TestApplyKeepsGroups(t *testing.T) {
	s, st, tree := cluster(t)
	ctx := context.Background()
	step := func(c ...Change) Applied {
		t.Helper()
		return must(st.Apply(ctx, must(st.ReadSpec(ctx))(t), c, record))(t)
	}
	step(put("spec/groups/web", "g"))
	_ = must(s.Set(ctx, tree.Record("web"), []byte("holding"), 0))(t)
	step(Change{Path: "spec/groups/web", Delete: true})
	if done := step(put("spec/groups/web", "g")); len(done.New)+len(done.Unknown) != 0 {
		t.Errorf("apply made a group that was there: %+v", done)
	}
	if data, _, err := s.Get(ctx, tree.Record("web")); err != nil || string(data) != "holding" {
		t.Errorf("record %q %v", data, err)
	}
	if err := s.Delete(ctx, tree.Record("web"), AnyVersion); err != nil {
		t.Fatal(err)
	}
	step(put("spec/groups/web", "g2"))
	if _, ok, err := s.Exists(ctx, tree.Record("web")); ok || err != nil {
		t.Errorf("apply re-created a deleted record (%v)", err)
	}
}

func TestApplyRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change Change
		err    string
	}{
		{"outside", put("groups/web/leader", ""), `document "groups/web/leader": expected spec/cluster`},
		{"injection", put("spec/groups/../x", ""), `document name "../x"`},
		{"too large", Change{Path: "spec/cluster", Data: make([]byte, maxBatch)}, "524288 bytes: at most 262144"},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, "apply", checkChanges([]Change{c.change}), c.err) })
	}
	expect(t, "twice", checkChanges([]Change{put("spec/cluster", "a"), put("spec/cluster", "b")}), "changed twice")
}

// A large apply is several transactions; readers never show a part of it, and
// groups outside the one that makes the root are unknown.
func TestLargeApply(t *testing.T) {
	s, st, tree := cluster(t)
	ctx := within(t, 30*time.Second)
	s2 := run(t, Config{Servers: sharedEnsemble(t).Servers()})
	docs := NewDocuments(NewStore(s2, st.tree), zaptest.NewLogger(t))
	background(t, docs.Run)
	var changes []Change
	for i := range 6 {
		changes = append(changes, Change{Path: fmt.Sprintf("spec/groups/g%d", i), Data: bytes.Repeat([]byte("x"), 200<<10)})
	}
	done := must(st.Apply(ctx, must(st.ReadSpec(ctx))(t), changes, record))(t)
	want := Applied{Revision: done.Revision, Batches: 3, New: []string{"g0", "g1"}, Unknown: []string{"g2", "g3", "g4", "g5"}, NewKey: true}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Error(diff)
	}
	for g, released := range map[string]bool{"g1": true, "g2": false} {
		want := fmt.Sprintf("%s released=%v", g, released)
		if data, _, err := s.Get(ctx, tree.Record(g)); err != nil || string(data) != want {
			t.Errorf("record %q %v, expected %q", data, err, want)
		}
	}
	for snap, _ := docs.Snapshot(); len(snap.Documents) != 6; snap, _ = docs.Snapshot() {
		if len(snap.Documents) != 0 {
			t.Fatalf("%d documents of 6 are shown", len(snap.Documents))
		}
		select {
		case <-docs.Changes():
		case <-ctx.Done():
			t.Fatal("not seen")
		}
	}
}

// The reply of an apply is lost: whether it was written is found out, and it
// is written once.
func TestApplyWithLostReply(t *testing.T) {
	s, _, tree := cluster(t)
	ctx := within(t, 30*time.Second)
	links, addresses := proxies(t, sharedEnsemble(t).Servers())
	writer := run(t, Config{Servers: addresses, SessionTimeout: 2 * time.Second})
	connected(t, writer)
	st := NewStore(writer, tree)
	must(st.Apply(ctx, must(st.ReadSpec(ctx))(t), []Change{put("spec/cluster", "1")}, record))(t)
	for _, committed := range []bool{true, false} {
		t.Run(fmt.Sprintf("committed %v", committed), func(t *testing.T) {
			base := must(st.ReadSpec(ctx))(t)
			changes := []Change{put("spec/cluster", t.Name())}
			result := make(chan error, 1)
			done := must(st.plan(ctx, base, changes, record))(t)
			if committed {
				each(links, (*proxy).freezeReplies)
			} else {
				each(links, (*proxy).freeze)
			}
			go func() { result <- done.run(ctx) }()
			eventually(t, 5*time.Second, "the writer has lost its connection", func() bool {
				return !writer.State().Connected
			})
			data, _, err := s.Get(ctx, tree.Root()+"/spec/cluster")
			if now := string(data) == t.Name(); err != nil || now != committed {
				t.Errorf("written %v, expected %v (%v)", now, committed, err)
			}
			if !committed {
				each(links, (*proxy).cut) // what is on its way is lost
			}
			each(links, (*proxy).thaw)
			if err := <-result; err != nil {
				t.Error(err)
			}
			after := must(st.ReadSpec(ctx))(t)
			if after.Revision.Number != base.Revision.Number+1 || string(after.Documents["spec/cluster"].Data) != t.Name() {
				t.Errorf("after %+v: %+v", base.Revision, after)
			}
		})
	}
}

func TestDocumentsFollow(t *testing.T) {
	s, st, tree := cluster(t)
	ctx := within(t, 30*time.Second)
	links, addresses := proxies(t, sharedEnsemble(t).Servers())
	reader := run(t, Config{Servers: addresses, SessionTimeout: time.Second})
	docs := NewDocuments(NewStore(reader, tree), zaptest.NewLogger(t))
	background(t, docs.Run)
	shows := func(what string, limit time.Duration, want map[string]string) {
		t.Helper()
		start := time.Now()
		eventually(t, limit, what, func() bool {
			snap, ok := docs.Snapshot()
			got := make(map[string]string)
			for p, d := range snap.Documents {
				got[p] = string(d.Data)
			}
			return ok && cmp.Equal(want, got)
		})
		t.Logf("%s: %s", what, time.Since(start).Round(time.Millisecond))
	}
	step := func(c ...Change) { t.Helper(); must(st.Apply(ctx, must(st.ReadSpec(ctx))(t), c, record))(t) }
	shows("no cluster", 5*time.Second, map[string]string{})
	step(put("spec/groups/web", "g"), put("spec/services/http", "s"))
	shows("the first apply", time.Second, map[string]string{"spec/groups/web": "g", "spec/services/http": "s"})
	step(put("spec/services/http", "s2"), put("spec/cluster", "c"))
	shows("a change", time.Second, map[string]string{"spec/cluster": "c", "spec/groups/web": "g", "spec/services/http": "s2"})
	_ = must(s.Set(ctx, tree.Root()+"/spec/services/http", []byte("by hand"), AnyVersion))(t)
	shows("a change by hand", time.Second, map[string]string{"spec/cluster": "c", "spec/groups/web": "g", "spec/services/http": "by hand"})
	step(Change{Path: "spec/services/http", Delete: true}, Change{Path: "spec/cluster", Delete: true})
	shows("a deletion", time.Second, map[string]string{"spec/groups/web": "g"})
	each(links, (*proxy).freeze)
	step(put("spec/services/http", "s3"))
	eventually(t, 5*time.Second, "the reader is cut off", func() bool { return !reader.State().Connected })
	each(links, (*proxy).thaw)
	shows("a change while cut off", 5*time.Second, map[string]string{"spec/groups/web": "g", "spec/services/http": "s3"})
}

func TestPublisher(t *testing.T) {
	s, st, tree := cluster(t)
	ctx := within(t, 30*time.Second)
	links, addresses := proxies(t, sharedEnsemble(t).Servers())
	director, end := runUntil(t, Config{Servers: addresses, SessionTimeout: time.Second})
	p := NewPublisher(director, zaptest.NewLogger(t))
	background(t, p.Run)
	p.Publish(tree.Director("node01"), []byte("here"))
	stands := func(path, want string) {
		t.Helper()
		eventually(t, 10*time.Second, path+" says "+want, func() bool {
			data, _, err := s.Get(ctx, path)
			return err == nil && string(data) == want || want == "" && errors.Is(err, ErrNoNode)
		})
	}
	if _, ok, err := s.Exists(ctx, tree.Root()); ok || err != nil {
		t.Fatalf("publishing made the cluster's root (%v)", err)
	}
	must(st.Apply(ctx, must(st.ReadSpec(ctx))(t), []Change{put("spec/cluster", "")}, record))(t)
	stands(tree.Director("node01"), "here")
	for i := range 150 {
		p.Publish(tree.HealthService("node01", fmt.Sprint("s", i)), []byte("up"))
	}
	p.Publish(tree.HealthService("node01", "s7"), []byte("down"))
	stands(tree.HealthService("node01", "s149"), "up")
	stands(tree.HealthService("node01", "s7"), "down")
	p.Withdraw(tree.HealthService("node01", "s7"))
	stands(tree.HealthService("node01", "s7"), "")

	before := director.State()
	each(links, (*proxy).freeze)
	stands(tree.Director("node01"), "") // the session has expired
	p.Publish(tree.Director("node01"), []byte("back"))
	each(links, (*proxy).thaw)
	stands(tree.Director("node01"), "back")
	stands(tree.HealthService("node01", "s149"), "up") // though nobody published it again
	if now := director.State(); now.Generation == before.Generation {
		t.Errorf("state %+v: expected another session", now)
	}

	second := NewPublisher(s, zaptest.NewLogger(t))
	background(t, second.Run)
	second.Publish(tree.Director("node01"), []byte("me too"))
	eventually(t, 5*time.Second, "the other director is reported", func() bool {
		return second.Foreign()[tree.Director("node01")] == director.State().ID
	})
	stands(tree.Director("node01"), "back")
	end() // an orderly end removes the znodes at once
	stands(tree.Director("node01"), "me too")
	if len(second.Foreign()) != 0 {
		t.Errorf("foreign: %v", second.Foreign())
	}
}
