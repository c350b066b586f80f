package lockservice

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/election"
)

func record() election.Key { return election.Key{Group: "web", Kind: election.NodeRecord} }

func lock(name string) election.Key {
	return election.Key{Group: "web", Kind: election.NodeLock, Lock: name}
}

func applied() *Service {
	s := New()
	s.Apply("web", election.NewRecord(true, time.Unix(0, 0)))
	return s
}

func (s *Service) fresh() election.Observation {
	return s.Observe(election.Request{Observe: "web", WithQueueVersion: true}, s.Zxid)
}

// A transaction of which one operation refuses changes nothing.
func TestTransactionsAreAtomic(t *testing.T) {
	s := applied()
	name := s.Commit(1, []election.Op{{Kind: election.OpCreateLock, Key: lock("node-")}}).Created
	before := s.fresh()
	unknown := election.NewRecord(false, time.Unix(0, 0)).Encode()
	for _, c := range []struct {
		name string
		last election.Op
		want election.Code
	}{
		{"check of another version", election.Op{Kind: election.OpCheck, Key: lock(name), Version: 3}, election.CodeBadVersion},
		{"set of what is not there", election.Op{Kind: election.OpSet, Key: lock("gone"), Version: election.AnyVersion}, election.CodeNoNode},
		{"delete of another version", election.Op{Kind: election.OpDelete, Key: record(), Version: 0}, election.CodeBadVersion},
		{"create of what is there", election.Op{Kind: election.OpCreate, Key: record()}, election.CodeNodeExists},
	} {
		got := s.Commit(1, []election.Op{{Kind: election.OpSet, Key: record(), Version: 0, Data: unknown}, c.last})
		if diff := cmp.Diff(election.Reply{Outcome: election.OutcomeConflict, FailedOp: 1, Code: c.want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if diff := cmp.Diff(before, s.fresh()); diff != "" {
		t.Errorf("refused transactions left something (-before +after):\n%s", diff)
	}
}

// A set raises the version, tells it, and a group that exists is not applied again.
func TestVersions(t *testing.T) {
	s := applied()
	reply := s.Commit(0, []election.Op{{Kind: election.OpSet, Key: record(), Version: 0, Data: election.NewRecord(false, time.Unix(0, 0)).Encode()}})
	if reply.RecordVersion != 1 || reply.RecordZxid != s.Zxid() {
		t.Errorf("got version %d at zxid %d, want 1 at %d", reply.RecordVersion, reply.RecordZxid, s.Zxid())
	}
	s.Apply("web", election.NewRecord(true, time.Unix(0, 0)))
	if r, _ := s.Record("web"); r.State != election.StateUnknown {
		t.Errorf("applying a group that exists wrote its record: %v", r.State)
	}
}

// Locks go with their session, and sequence numbers are never given twice.
func TestLocksAreEphemeral(t *testing.T) {
	s := applied()
	create := []election.Op{{Kind: election.OpCreateLock, Key: lock("node-")}}
	first, second := s.Commit(1, create).Created, s.Commit(2, create).Created
	s.Expire(1)
	want := []election.LockSeen{{Name: second}}
	if diff := cmp.Diff(want, s.fresh().Locks); diff != "" {
		t.Errorf("locks after session 1 expired (-want +got):\n%s", diff)
	}
	s.Remove(func(n Node) bool { return n.Kind == election.NodeQueue })
	if reply := s.Commit(1, create); reply.Code != election.CodeNoNode {
		t.Errorf("created a lock without a queue: %+v", reply)
	}
	s.Commit(0, []election.Op{{Kind: election.OpCreate, Key: election.Key{Group: "web", Kind: election.NodeQueue}}})
	if third := s.Commit(1, create).Created; third != "node-0000000002" || first != "node-0000000000" {
		t.Errorf("got sequence numbers %s and %s", first, third)
	}
}

// Each read of an observation is of the state that the caller names.
func TestReadsMayBeStale(t *testing.T) {
	s := applied()
	created := s.Zxid()
	name := s.Commit(1, []election.Op{{Kind: election.OpCreateLock, Key: lock("node-0000000000000001-0000000000000001-")}}).Created
	held := election.Record{Format: 1, State: election.StateHolding, Lock: name, LeaseMS: 3000}
	s.Commit(1, []election.Op{{Kind: election.OpSet, Key: record(), Version: 0, Data: held.Encode()}})
	holding := s.Zxid()
	s.Expire(1)
	o := s.Observe(election.Request{Observe: "web"}, func() int64 { return created })
	if o.NamedExists || len(o.Locks) != 0 || o.RecordVersion != 0 {
		t.Errorf("a server that lags shows what came later: %+v", o)
	}
	at := []int64{holding, holding, holding + 1}
	o = s.Observe(election.Request{Observe: "web"}, func() int64 { next := at[0]; at = at[1:]; return next })
	if len(o.Locks) != 1 || o.NamedExists {
		t.Errorf("the lock went between the reads: %+v", o)
	}
}

func TestKinds(t *testing.T) {
	set := election.Op{Kind: election.OpSet, Key: record()}
	del := election.Op{Kind: election.OpDelete, Key: lock("x")}
	check := election.Op{Kind: election.OpCheck, Key: lock("x")}
	for _, c := range []struct {
		txn  []election.Op
		want Kind
	}{
		{nil, Read},
		{[]election.Op{set, del}, Receipt},
		{[]election.Op{check, del, set}, Take},
		{[]election.Op{{Kind: election.OpCheck, Key: record()}, {Kind: election.OpSet, Key: lock("x")}}, Renew},
		{[]election.Op{check, {Kind: election.OpCreate, Key: record()}, del}, Replace},
		{[]election.Op{del}, Queue},
	} {
		if got := KindOf(c.txn); got != c.want {
			t.Errorf("%v: got %s, want %s", c.txn, got, c.want)
		}
	}
}
