package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/control"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

// site is one cluster in a real ZooKeeper and a host's file that names it.
type site struct {
	t       *testing.T
	cluster string
	server  string
	config  string
	dir     string
}

// The commands against a real ZooKeeper on loopback; each test has a cluster of
// its own.
func TestAgainstZooKeeper(t *testing.T) {
	ensemble, err := lab.StartLocalZooKeeper(t.Context(), t.TempDir(), 1, lab.ZooKeeperOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ensemble.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, story := range map[string]func(*site){
		"first apply":       firstApply,
		"dry run":           dryRun,
		"later group":       laterGroup,
		"removed and again": removedAndAgain,
		"prune":             prune,
		"diff":              differences,
		"get":               getAndApplyAgain,
		"conflict":          conflict,
		"credentials":       credentials,
		"key":               keyOfACluster,
		"bad stored":        badStored,
		"moved vip":         movedVIP,
		"nothing applied":   nothingApplied,
		"status":            statusFromAnyHost,
		"local":             statusOfADirector,
		"export":            exportDocuments,
		"drain":             drainAndBack,
		"drain deadline":    drainDeadline,
		"drain no holder":   drainWithoutHolder,
		"drain unknown":     drainUnknown,
		"drain last":        drainLast,
		"drain moot":        drainMoot,
		"drain both":        drainBothAtOnce,
		"drain interrupted": drainInterrupted,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := strings.ReplaceAll(name, " ", "-")
			s := &site{t: t, cluster: cluster, server: ensemble.Servers()[0], dir: t.TempDir()}
			s.config = s.write("zklvs.yaml", s.local(""))
			story(s)
		})
	}
}

func (s *site) local(zookeeper string) string {
	return fmt.Sprintf("cluster: %s\nzookeeper: {servers: [%s]%s}\nrun_dir: %s\n", s.cluster, s.server, zookeeper, s.dir)
}

func (s *site) write(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// run runs a command line and wants an exit code; it returns both outputs.
func (s *site) run(code int, stdin string, args ...string) (stdout, stderr string) {
	s.t.Helper()
	stdout, stderr, got := runWithInput(s.t, strings.NewReader(stdin), append(args, "-c", s.config)...)
	if got != code {
		s.t.Fatalf("%v: exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", args, got, code, stdout, stderr)
	}
	return stdout, stderr
}

// apply applies text and returns what was printed.
func (s *site) apply(text string, args ...string) string {
	s.t.Helper()
	stdout, stderr := s.run(exitOK, text, append([]string{"apply", "-f", "-"}, args...)...)
	if stderr != "" {
		s.t.Errorf("stderr: %s", stderr)
	}
	return stdout
}

// session opens a session as some command would.
func (s *site) session() *connection {
	s.t.Helper()
	f := clusterFlags{config: s.config, timeout: 10 * time.Second}
	c, err := f.connect(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.stop)
	return c
}

func (s *site) record(group string) election.Record {
	s.t.Helper()
	c := s.session()
	data, _, err := c.session.Get(s.t.Context(), c.tree.Record(group))
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := election.DecodeRecord(data)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *site) want(text string, parts ...string) {
	s.t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			s.t.Errorf("missing %q in:\n%s", p, text)
		}
	}
}

// A new cluster: nobody can hold its groups, so they may be taken at once.
func firstApply(s *site) {
	out := s.apply(webFile)
	s.want(out, "added spec/groups/web\n", "+vips: [192.0.2.100]\n", "added spec/services/http\n",
		"applied revision 1 to /zklvs/first-apply: 2 added, 0 changed, 0 removed, 0 unchanged\n")
	if strings.Contains(out, "waits") {
		s.t.Errorf("a new cluster has nothing to wait for:\n%s", out)
	}
	if r := s.record("web"); r.State != election.StateReleased || r.Epoch != 0 {
		s.t.Errorf("record %+v", r)
	}
	if out := s.apply(webFile); out != "nothing to change\n" {
		s.t.Errorf("again: %q", out)
	}
	out = s.apply(strings.Replace(webFile, "rr", "wlc", 1))
	s.want(out, "changed spec/services/http\n", "-scheduler: rr\n", "+scheduler: wlc\n",
		"applied revision 2 to /zklvs/first-apply: 0 added, 1 changed, 0 removed, 1 unchanged\n")
}

func dryRun(s *site) {
	out := s.apply(webFile, "--dry-run")
	s.want(out, "added spec/groups/web\n", "dry run: 2 added, 0 changed, 0 removed, 0 unchanged; nothing was written\n")
	c := s.session()
	if _, exists, err := c.session.Exists(s.t.Context(), c.tree.Root()); err != nil || exists {
		s.t.Errorf("the cluster's root exists: %v, %v", exists, err)
	}
}

// A group that comes later may have a holder that nobody remembers.
func laterGroup(s *site) {
	s.apply(webFile)
	out := s.apply(twoFile)
	s.want(out, "applied revision 2", "1 added, 0 changed, 0 removed, 2 unchanged",
		"new groups two: an earlier holder is not known, so the first take-over waits 12.25s\n")
	if r := s.record("two"); r.State != election.StateUnknown || r.Lease() != election.MaxLease {
		s.t.Errorf("record %+v", r)
	}
	if r := s.record("web"); r.State != election.StateReleased {
		s.t.Errorf("the record of the other group: %+v", r)
	}
}

// A group that is removed and applied again keeps its record: no apply writes
// one that is there.
func removedAndAgain(s *site) {
	s.apply(webFile)
	c := s.session()
	holding := election.Record{Format: election.RecordFormat, State: election.StateHolding, Epoch: 7, Node: "node01",
		Lock: election.LockName{Node: "node01", Session: 1, Random: 2, Sequence: 3}.String(), LeaseMS: 5500}
	if _, err := c.session.Set(s.t.Context(), c.tree.Record("web"), holding.Encode(), -1); err != nil {
		s.t.Fatal(err)
	}
	s.apply(twoFile, "--prune")
	if out := s.apply(webFile); strings.Contains(out, "waits") {
		s.t.Errorf("it is no new group:\n%s", out)
	}
	if diff := cmp.Diff(holding, s.record("web")); diff != "" {
		s.t.Errorf("record (-before +after):\n%s", diff)
	}
}

func prune(s *site) {
	s.apply(webFile + "cluster: {lease: 2s}\n")
	out := s.apply(twoFile, "--prune")
	s.want(out, "removed spec/cluster\n", "removed spec/groups/web\n", "removed spec/services/http\n", "added spec/groups/two\n",
		"1 added, 0 changed, 3 removed, 0 unchanged")
	stdout, _ := s.run(exitOK, "", "get")
	if stdout != "groups:\n  two:\n    vips: [192.0.2.101]\n" {
		s.t.Errorf("left are:\n%s", stdout)
	}
}

func differences(s *site) {
	stdout, _ := s.run(exitDiffers, webFile, "diff", "-f", "-")
	s.want(stdout, "added spec/groups/web\n")
	s.apply(webFile)
	if stdout, stderr := s.run(exitOK, webFile, "diff", "-f", "-"); stdout != "" || stderr != "" {
		s.t.Errorf("no difference, yet: %q, %q", stdout, stderr)
	}
	stdout, stderr := s.run(exitDiffers, strings.Replace(webFile, "rr", "wlc", 1), "diff", "-f", "-")
	s.want(stdout, "changed spec/services/http\n", "-scheduler: rr\n+scheduler: wlc\n")
	if stderr != "" {
		s.t.Errorf("stderr: %q", stderr)
	}
	stdout, _ = s.run(exitDiffers, "groups: {web: {vips: [192.0.2.100]}}\n", "diff", "-f", "-", "--prune")
	s.want(stdout, "removed spec/services/http\n")
	s.run(exitBadInput, "groups: {web: {vips: []}}\n", "diff", "-f", "-")
	if out := s.apply(webFile); out != "nothing to change\n" {
		s.t.Errorf("diff has changed something: %s", out)
	}
}

// What get prints can be applied: to the same cluster nothing changes, to
// another it makes the same.
func getAndApplyAgain(s *site) {
	s.apply(webFile + "cluster: {lease: 2s}\n")
	all, _ := s.run(exitOK, "", "get")
	if out := s.apply(all, "--prune"); out != "nothing to change\n" {
		s.t.Errorf("applied again: %s", out)
	}
	copied := *s
	copied.cluster += "-copy"
	copied.config = s.write("copy.yaml", copied.local(""))
	copied.apply(all)
	if again, _ := copied.run(exitOK, "", "get"); again != all {
		s.t.Errorf("the copy (-original +copy):\n%s", cmp.Diff(all, again))
	}
	one, _ := s.run(exitOK, "", "get", "services/http")
	s.want(one, "services:\n  http:\n", "scheduler: rr")
	var asJSON, asYAML map[string]any
	j, _ := s.run(exitOK, "", "get", "-o", "json")
	y, _ := s.run(exitOK, "", "get", "-o", "yaml")
	if err := errors.Join(json.Unmarshal([]byte(j), &asJSON), yaml.Unmarshal([]byte(y), &asYAML)); err != nil {
		s.t.Fatal(err)
	}
	for _, v := range []map[string]any{asJSON, asYAML} {
		if len(v) != 3 || v["cluster"].(map[string]any)["lease"] != "2s" {
			s.t.Errorf("printed: %v", v)
		}
	}
	if out := s.apply(y, "--prune"); out != "nothing to change\n" {
		s.t.Errorf("-o yaml applied again: %s", out)
	}
	_, stderr := s.run(exitBadInput, "", "get", "services/web")
	s.want(stderr, `no document "services/web"`, "stored are cluster, groups/web, services/http")
}

// Two that start from the same documents: the second writes nothing.
func conflict(s *site) {
	s.apply(webFile)
	f := clusterFlags{config: s.config, timeout: 10 * time.Second}
	c := s.session()
	snap, err := f.documents(s.t.Context(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := plan(snap, parsed(s.t, strings.Replace(webFile, "rr", "wlc", 1)), nil, false)
	if err != nil {
		s.t.Fatal(err)
	}
	s.apply(twoFile) // somebody else
	cmd := &cobra.Command{}
	cmd.SetOut(io.Discard)
	cmd.SetContext(s.t.Context())
	err = store(cmd, c, snap, p)
	if !errors.Is(err, zk.ErrConflict) || exitCode(err) != exitFailed {
		s.t.Errorf("error %v (code %d), want a conflict", err, exitCode(err))
	}
	s.want(fmt.Sprint(err), "changed meanwhile: read them again and repeat")
	stdout, _ := s.run(exitOK, "", "get", "services/http")
	s.want(stdout, "scheduler: rr")
	interrupted, cancel := context.WithCancel(s.t.Context())
	cancel()
	cmd.SetContext(interrupted)
	if err := store(cmd, c, snap, p); err == nil || err.Error() != "interrupted: nothing was written" {
		s.t.Errorf("after Ctrl-C: %v", err)
	}
}

// Whoever has no or the wrong password is told so in one line.
func credentials(s *site) {
	open := s.config
	as := func(password, more string) string {
		file := s.write("password-"+password, password+"\n")
		return s.write("as-"+password+".yaml", s.local(fmt.Sprintf(", credentials: {user: zklvs, password_file: %s}%s", file, more)))
	}
	s.config = as("right", "")
	s.apply(webFile)
	for name, config := range map[string]string{"none": open, "wrong": as("wrong", "")} {
		for _, command := range []string{"get", "status", "diff -f -", "apply -f -"} {
			s.config = config
			stdout, stderr := s.run(exitFailed, twoFile, strings.Fields(command)...)
			if stdout != "" || strings.Count(stderr, "\n") != 1 {
				s.t.Errorf("%s, %s: stdout %q, stderr %q", name, command, stdout, stderr)
			}
			s.want(stderr, "check zookeeper.credentials on this host")
		}
	}
	s.config = as("right", "")
	if stdout, _ := s.run(exitOK, "", "get"); strings.Contains(stdout, "two") {
		s.t.Errorf("it was written:\n%s", stdout)
	}
	// Where the world may read, only the write is refused.
	s.cluster += "-readable"
	s.config = as("right", ", world_read: true")
	s.apply(webFile)
	s.config = as("wrong", ", world_read: true")
	_, stderr := s.run(exitFailed, twoFile, "apply", "-f", "-")
	s.want(stderr, "nothing was written; check zookeeper.credentials on this host")
}

// The first apply makes the cluster's key, and so does one that finds none; it is
// never printed.
func keyOfACluster(s *site) {
	made := "made /zklvs/key/key: with it directors ask each other while ZooKeeper is away (on_zookeeper_loss)"
	s.want(s.apply(webFile), made+"; without zookeeper.credentials whoever reaches ZooKeeper can read it")
	c := s.session()
	data, _, err := c.session.Get(s.t.Context(), c.tree.Key())
	var stored struct{ Key string }
	if err != nil || json.Unmarshal(data, &stored) != nil || len(stored.Key) != 64 {
		s.t.Fatalf("a key of %d bytes, %v", len(stored.Key), err)
	}
	for _, command := range []string{"get", "get -o json", "status -o json", "diff -f -"} {
		stdout, stderr := s.run(exitOK, webFile, strings.Fields(command)...)
		if strings.Contains(stdout+stderr, stored.Key) {
			s.t.Errorf("%s prints the key", command)
		}
	}
	if out := s.apply(webFile, "--dry-run"); out != "nothing to change\n" {
		s.t.Errorf("dry run: %q", out)
	}
	if err := c.session.Delete(s.t.Context(), c.tree.Key(), zk.AnyVersion); err != nil {
		s.t.Fatal(err)
	}
	s.want(s.apply(webFile), "applied revision 2 to /zklvs/key: 0 added, 0 changed, 0 removed, 2 unchanged\n", made)
	if out := s.apply(webFile); out != "nothing to change\n" {
		s.t.Errorf("again: %q", out)
	}
	password := s.write("password", "secret\n")
	s.cluster += "-protected"
	s.config = s.write("protected.yaml", s.local(", credentials: {user: zklvs, password_file: "+password+"}"))
	if out := s.apply(webFile); !strings.Contains(out, "(on_zookeeper_loss)\n") {
		s.t.Errorf("with credentials: %q", out)
	}
}

// A document that somebody wrote by hand and that is wrong.
func badStored(s *site) {
	s.apply(webFile)
	c := s.session()
	if _, err := c.session.Set(s.t.Context(), c.tree.Root()+"/spec/services/http", []byte("group: web\nlisten: nowhere\n"), -1); err != nil {
		s.t.Fatal(err)
	}
	_, stderr := s.run(exitBadInput, twoFile, "apply", "-f", "-")
	s.want(stderr, "a stored document is not usable, apply a good one in its place or use --prune", "spec/services/http:2: ")
	stdout, _ := s.run(exitOK, "", "status")
	s.want(stdout, "problem: spec/services/http:2: ", "web")
	out := s.apply(webFile)
	s.want(out, "changed spec/services/http\n", "-listen: nowhere\n")
	stdout, _ = s.run(exitOK, "", "status")
	if strings.Contains(stdout, "problem") {
		s.t.Errorf("still a problem:\n%s", stdout)
	}
}

func nothingApplied(s *site) {
	for _, command := range []string{"status", "get"} {
		_, stderr := s.run(exitFailed, "", command)
		s.want(stderr, `cluster "nothing-applied" is not in ZooKeeper (/zklvs/nothing-applied): store its documents with `+"`zklvs apply -f FILE`\n")
	}
	if out := s.apply("groups: {}\n"); out != "nothing to change\n" {
		s.t.Errorf("an empty file: %q", out)
	}
}

// Status needs no file of this host, and no director.
func statusFromAnyHost(s *site) {
	s.apply(webFile)
	args := []string{"status", "--cluster", s.cluster, "--zookeeper", s.server}
	s.config = "/nowhere/zklvs.yaml"
	stdout, stderr := s.run(exitOK, "", args...)
	s.want(stdout, "none (released)", "192.0.2.100:80/tcp", "192.0.2.11:80", "unchecked", "none: start `zklvs run` on the directors")
	if stderr != "" {
		s.t.Errorf("stderr %q", stderr)
	}
	stdout, _ = s.run(exitOK, "", append(args, "-o", "json")...)
	var v struct {
		Cluster  string `json:"cluster"`
		Revision int
		Groups   []struct {
			Group, State string
			VIPs         []string
		}
	}
	if err := json.Unmarshal([]byte(stdout), &v); err != nil {
		s.t.Fatal(err)
	}
	if v.Cluster != s.cluster || v.Revision != 1 || len(v.Groups) != 1 || v.Groups[0].Group != "web" || v.Groups[0].State != "released" {
		s.t.Errorf("-o json: %+v", v)
	}
	stdout, _ = s.run(exitOK, "", append(args, "-o", "yaml")...)
	s.want(stdout, "cluster: status\n", "state: released\n")
}

// On a director its own view is shown, also while ZooKeeper is away.
func statusOfADirector(s *site) {
	s.apply(webFile)
	socket := spec.Local{RunDir: s.dir, Cluster: s.cluster}
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- control.NewServer(socket.Socket(), func() any {
			return map[string]any{"node": "node01", "groups": []map[string]any{{"group": "web", "phase": "holder", "lease_left": "2.7s", "why": "it is ours"}}}
		}, nil).Run(ctx)
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	}()
	err := lab.WaitUntil(s.t.Context(), "the socket is there", func() error {
		_, err := os.Stat(socket.Socket())
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, _ := s.run(exitOK, "", "status")
	s.want(stdout, "HOLDER", "THIS DIRECTOR (node01)", "2.7s", "it is ours")
	other := *s
	other.cluster += "-other"
	other.config = s.write("other.yaml", other.local(""))
	other.apply(twoFile)
	stdout, _ = s.run(exitOK, "", "status", "--cluster", other.cluster)
	if strings.Contains(stdout, "THIS DIRECTOR") {
		s.t.Errorf("the director of one cluster is shown as another's:\n%s", stdout)
	}
	stdout, _ = s.run(exitOK, "", "status", "--zookeeper", "127.0.0.1:1", "--timeout", "200ms")
	s.want(stdout, "THIS DIRECTOR (node01)", "it is ours", "ZooKeeper cannot be read: zookeeper: no session with 127.0.0.1:1")
}
