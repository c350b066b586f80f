package overview

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/internal/zk"
)

// site is one cluster in a real ZooKeeper whose znodes a test writes by hand.
type site struct {
	t    *testing.T
	s    *zk.Session
	tree zk.Tree
}

func TestRead(t *testing.T) {
	ensemble, err := lab.StartLocalZooKeeper(t.Context(), t.TempDir(), 1, lab.ZooKeeperOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := zk.New(zk.Config{Servers: ensemble.Servers(), Now: boottime.Now})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	t.Cleanup(func() {
		stop()
		<-ended // the context's error only
		if err := ensemble.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.WaitConnected(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, story := range map[string]func(*site){
		"nothing":          nothingThere,
		"held":             held,
		"lock gone":        lockGone,
		"voters":           votersOfAGroup,
		"fence":            fencePolicy,
		"released":         releasedWithQueue,
		"no record":        noRecord,
		"record garbage":   recordGarbage,
		"verdicts":         verdictsThatCount,
		"bad documents":    badDocuments,
		"garbage":          garbage,
		"hostile presence": hostilePresence,
		"drains":           drains,
	} {
		t.Run(name, func(t *testing.T) {
			tree, err := zk.NewTree(strings.ReplaceAll(name, " ", "-"))
			if err != nil {
				t.Fatal(err)
			}
			story(&site{t: t, s: s, tree: tree})
		})
	}
}

// documents stores them as apply would, without checking any.
func (s *site) documents(docs map[string]string) {
	s.t.Helper()
	store := zk.NewStore(s.s, s.tree)
	snap, err := store.ReadSpec(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	var changes []zk.Change
	for path, text := range docs {
		changes = append(changes, zk.Change{Path: path, Data: []byte(text)})
	}
	_, err = store.Apply(s.t.Context(), snap, changes, func(_ string, released bool) ([]byte, error) {
		return election.NewRecord(released, time.Unix(1e9, 0)).Encode(), nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// put writes a znode, making it and its parents where they are missing.
func (s *site) put(path, data string) {
	s.t.Helper()
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			s.create(path[:i])
		}
	}
	s.create(path)
	if _, err := s.s.Set(s.t.Context(), path, []byte(data), -1); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) create(path string) {
	s.t.Helper()
	if _, exists, err := s.s.Exists(s.t.Context(), path); err != nil || exists {
		if err != nil {
			s.t.Fatal(err)
		}
		return
	}
	if _, err := s.s.Create(s.t.Context(), path, nil, zk.Persistent); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) read() *Cluster {
	s.t.Helper()
	c, err := Read(s.t.Context(), "test", s.s, s.tree)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *site) wantProblems(c *Cluster, parts ...string) {
	s.t.Helper()
	for _, p := range parts {
		if !slices.ContainsFunc(c.Problems, func(text string) bool { return strings.Contains(text, p) }) {
			s.t.Errorf("missing problem %q among %q", p, c.Problems)
		}
	}
	if len(parts) != len(c.Problems) {
		s.t.Errorf("%d problems, want %d: %q", len(c.Problems), len(parts), c.Problems)
	}
}

const (
	group   = "vips: [192.0.2.100, 192.0.2.101]\n"
	service = "group: web\nlisten: 192.0.2.100:80/tcp\nscheduler: rr\nforward: dr\ncheck: {tcp: {}}\nreal_servers:\n  - {address: 192.0.2.11:80, weight: 3}\n  - {address: 192.0.2.12:80, weight: 1}\n"
)

func docs() map[string]string {
	return map[string]string{"spec/groups/web": group, "spec/services/http": service}
}

func lock(node string, seq int64) string {
	return election.LockName{Node: node, Session: 0x10, Random: 0x20, Sequence: seq}.String()
}

// lockData is what stands in a lock.
func lockData(node string, priority int) string {
	return fmt.Sprintf(`{"node":%q,"priority":%d}`, node, priority)
}

func holding(node, lock string) string {
	return string(election.Record{Format: election.RecordFormat, State: election.StateHolding, Epoch: 7, Node: node, Lock: lock,
		LeaseMS: 5500, Since: "2026-01-02T03:04:05Z", Reason: "taken over"}.Encode())
}

func nothingThere(s *site) {
	_, err := Read(s.t.Context(), "nothing", s.s, s.tree)
	want := `cluster "nothing" is not in ZooKeeper (/zklvs/nothing): store its documents with ` + "`zklvs apply -f FILE`"
	if err == nil || err.Error() != want {
		s.t.Errorf("error %v, want %s", err, want)
	}
}

func held(s *site) {
	s.documents(docs())
	s.put(s.tree.Record("web"), holding("node02", lock("node02", 5)))
	s.put(s.tree.Lock("web", lock("node02", 5)), lockData("node02", 100))
	s.put(s.tree.Lock("web", lock("node03", 12)), lockData("node03", 50))
	s.put(s.tree.Lock("web", lock("node01", 9)), lockData("node01", 150))
	s.put(s.tree.Election("web")+"/what-is-this", "?")
	s.put(s.tree.Director("node02"), `{"node":"node02","version":"v1","since":"x","fence_layers":["a"],"unfit":{"two":"eth1 is down"}}`)
	want := &Cluster{
		Name: "test", Revision: 1, Directors: []director.Presence{{Node: "node02", Version: "v1", Since: "x", FenceLayers: []string{"a"}, Unfit: map[string]string{"two": "eth1 is down"}}},
		Groups: []Group{{Name: "web", VIPs: []string{"192.0.2.100", "192.0.2.101"}, Holder: "node02", State: election.StateHolding, Epoch: 7,
			Since: "2026-01-02T03:04:05Z", Reason: "taken over", OnZooKeeperLoss: "fence: no other director could promise not to take", Standbys: []election.QueueEntry{
				{Node: "node01", Priority: 150, Lock: lock("node01", 9)}, {Node: "node03", Priority: 50, Lock: lock("node03", 12)}}}},
		Services: []Service{{Name: "http", Group: "web", Listen: "192.0.2.100:80/tcp", Scheduler: "rr", Forward: "dr", RealServers: []RealServer{
			{Weight: 3, RealServerHealth: director.RealServerHealth{Address: "192.0.2.11:80", State: "unknown"}},
			{Weight: 1, RealServerHealth: director.RealServerHealth{Address: "192.0.2.12:80", State: "unknown"}}}}},
	}
	if diff := cmp.Diff(want, s.read()); diff != "" {
		s.t.Errorf("(-want +got):\n%s", diff)
	}
}

// What becomes of a group without ZooKeeper, and why.
func votersOfAGroup(s *site) {
	s.documents(docs())
	loss := func(want string, problems ...string) {
		s.t.Helper()
		c := s.read()
		if got := c.Groups[0].OnZooKeeperLoss; got != want {
			s.t.Errorf("without ZooKeeper: %q, want %q", got, want)
		}
		s.wantProblems(c, problems...)
	}
	loss("fence: nobody holds")
	s.put(s.tree.Record("web"), holding("node01", lock("node01", 5)))
	s.put(s.tree.Director("node01"), `{"on_zookeeper_loss":"fence: the cluster has no key"}`)
	s.put(s.tree.Director("node02"), `{"on_zookeeper_loss":"fence: another reason"}`)
	loss("fence: the cluster has no key")
	s.put(s.tree.Director("node01"), `{"on_zookeeper_loss":"hold"}`)
	loss("fence: no other director could promise not to take",
		"node02 cannot promise others anything while ZooKeeper is away, so that nobody can hold then: another reason")
	s.put(s.tree.Director("node02"), `{"on_zookeeper_loss":"hold"}`)
	list := election.NewVoters()
	list.Voters = []election.Voter{{Node: "node01", MachineID: "a", Address: "10.0.0.1:7363"}, {Node: "node02", MachineID: "b"}}
	s.put(s.tree.Voters("web"), string(list.Encode()))
	loss("hold")
	if got := s.read().Groups[0].Voters; !slices.Equal(got, []string{"node01", "node02"}) {
		s.t.Errorf("voters %v", got)
	}
	s.put(s.tree.Voters("web"), "{")
	loss("fence: the list of voters is not understood", "group web: list of voters is not understood")
	if err := s.s.Delete(s.t.Context(), s.tree.Voters("web"), zk.AnyVersion); err != nil {
		s.t.Fatal(err)
	}
	loss("fence: the list of voters is missing", "group web has no list of voters")
}

// A policy of the documents is no lack of anything.
func fencePolicy(s *site) {
	s.documents(map[string]string{"spec/cluster": "on_zookeeper_loss: fence\n", "spec/groups/web": group})
	s.put(s.tree.Record("web"), holding("node01", lock("node01", 5)))
	if got := s.read().Groups[0].OnZooKeeperLoss; got != "fence" {
		s.t.Errorf("without ZooKeeper: %q, want fence", got)
	}
}

func lockGone(s *site) {
	s.documents(docs())
	s.put(s.tree.Record("web"), holding("node02", lock("node02", 5)))
	s.put(s.tree.Lock("web", lock("node02", 8)), "not JSON") // a later lock of the same node: a waiter
	g := s.read().Groups[0]
	if !g.LockGone || g.Holder != "node02" {
		s.t.Errorf("group %+v, want its lock gone", g)
	}
	if len(g.Standbys) != 1 || g.Standbys[0].Priority != 0 || g.Standbys[0].Node != "node02" {
		s.t.Errorf("standbys %+v", g.Standbys)
	}
}

func releasedWithQueue(s *site) {
	s.documents(docs())
	s.put(s.tree.Lock("web", lock("node01", 1)), lockData("node01", 100))
	g := s.read().Groups[0]
	if g.State != election.StateReleased || g.Holder != "" || g.LockGone || len(g.Standbys) != 1 {
		s.t.Errorf("group %+v", g)
	}
}

func noRecord(s *site) {
	s.documents(docs())
	if err := s.s.Delete(s.t.Context(), s.tree.Record("web"), -1); err != nil {
		s.t.Fatal(err)
	}
	c := s.read()
	s.wantProblems(c, "group web has no record")
	if g := c.Groups[0]; g.State != "" || g.Holder != "" {
		s.t.Errorf("group %+v", g)
	}
}

func recordGarbage(s *site) {
	for _, text := range []string{"", "{", "null", "[]", `{"format":99}`, `{"format":1,"state":"holding","lock":"../../x"}`,
		strings.Repeat("[", 20000), strings.Repeat("x", 20000), "\x00\xff"} {
		s.documents(docs())
		s.put(s.tree.Record("web"), text)
		c := s.read()
		s.wantProblems(c, "group web: record")
		s.wantSmall(c)
	}
}

// The verdicts of the holder count; without one, those of the first director
// that has any.
func verdictsThatCount(s *site) {
	s.documents(docs())
	verdict := func(node, state string) {
		s.put(s.tree.Director(node), fmt.Sprintf(`{"node":%q}`, node))
		s.put(s.tree.HealthService(node, "http"), fmt.Sprintf(
			`{"service":"http","real_servers":[{"address":"192.0.2.11:80","state":%q,"error":"refused"},{"address":"192.0.2.99:80","state":"up"}]}`, state))
	}
	s.put(s.tree.Director("node01"), `{"node":"node01"}`) // has none
	verdict("node02", "down")
	verdict("node03", "up")
	want := func(of, first string) {
		s.t.Helper()
		got := s.read().Services[0]
		if got.Verdicts != of || got.RealServers[0].State != first || got.RealServers[1].State != "unknown" || len(got.RealServers) != 2 {
			s.t.Errorf("service %+v, want the verdicts of %s: %s, unknown", got, of, first)
		}
	}
	want("node02", "down")
	s.put(s.tree.Record("web"), holding("node03", lock("node03", 5)))
	want("node03", "up")
	s.put(s.tree.HealthService("node03", "http"), `{"real_servers":"many"}`)
	c := s.read()
	s.wantProblems(c, "verdicts of node03 on http: not understood")
	if c.Services[0].Verdicts != "node02" {
		s.t.Errorf("verdicts of %q, want another director's", c.Services[0].Verdicts)
	}
}

func badDocuments(s *site) {
	all := docs()
	all["spec/groups/bad"] = "vips: nowhere\n"
	all["spec/groups/two"] = "vips: [192.0.2.101]\n"
	s.documents(all)
	c := s.read()
	s.wantProblems(c, "spec/groups/bad:1", "VIP 192.0.2.101 is also in group")
	if len(c.Groups) != 2 || len(c.Services) != 1 {
		s.t.Errorf("%d groups and %d services are shown, want 2 and 1", len(c.Groups), len(c.Services))
	}
}

// hostile are contents that no director writes.
func hostile() []string {
	return []string{"", "null", "0", `"text"`, "[]", "{", "}", "\x00\xff\xfe", strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000),
		`{"node":1}`, `{"node":"n","problems":"none"}`, `{"unfit":[]}`, `{"groups":{"a":null}}`, strings.Repeat("x", 900_000)}
}

// Whatever stands in the znodes of directors, locks and verdicts: Read says so,
// shows the rest, and what it shows is bounded.
func garbage(s *site) {
	s.documents(docs())
	s.put(s.tree.Record("web"), holding("node00", lock("node00", 0)))
	for i, text := range hostile() {
		node := fmt.Sprintf("node%02d", i)
		s.put(s.tree.Director(node), text)
		s.put(s.tree.HealthService(node, "http"), text)
		s.put(s.tree.Lock("web", lock(node, int64(i))), text)
	}
	s.put(s.tree.Director("a/../b\x01"), "{}")
	s.put(s.tree.Directors()+"/%zz", "{}")
	c := s.read()
	if len(c.Problems) < 10 {
		s.t.Errorf("only %d problems: %q", len(c.Problems), c.Problems)
	}
	if len(c.Groups) != 1 || len(c.Groups[0].Standbys) != len(hostile())-1 || len(c.Services) != 1 {
		s.t.Errorf("groups and services are not shown: %+v %+v", c.Groups, c.Services)
	}
	for _, d := range c.Directors {
		if d.Node == "" {
			s.t.Errorf("a director without a name: %+v", d)
		}
	}
	s.wantSmall(c)
}

// wantSmall checks what ends on a terminal: problems are few, short, printable.
func (s *site) wantSmall(c *Cluster) {
	s.t.Helper()
	if len(c.Problems) > maxProblems+1 {
		s.t.Errorf("%d problems", len(c.Problems))
	}
	for _, p := range c.Problems {
		if len(p) > maxProblemText+20 || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
			s.t.Errorf("problem of %d bytes: %.200q", len(p), p)
		}
	}
	if _, err := json.Marshal(c); err != nil {
		s.t.Error(err)
	}
}

// A director's own words are bounded and cannot steer the terminal.
func hostilePresence(s *site) {
	s.documents(docs())
	problems := make([]string, 5000)
	for i := range problems {
		problems[i] = fmt.Sprintf("\x1b[2J%d", i)
	}
	problems[0] = strings.Repeat("x", 100_000)
	data, err := json.Marshal(director.Presence{Node: "evil\x1b[31m", Problems: problems})
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(s.tree.Director("node01"), string(data))
	c := s.read()
	if len(c.Directors) != 1 || c.Directors[0].Node != "node01" {
		s.t.Errorf("directors %+v, want the znode's name", len(c.Directors))
	}
	s.wantSmall(c)
	if last := c.Problems[len(c.Problems)-1]; last != fmt.Sprintf("... and %d more problems", len(problems)-maxProblems) {
		s.t.Errorf("the last problem is %q", last)
	}
}
