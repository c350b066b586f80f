package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/drain"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

const drainFile = `groups:
  web: {vips: [192.0.2.100]}
  mail: {vips: [192.0.2.101]}
services:
  http: {group: web, listen: 192.0.2.100:80/tcp, scheduler: rr, real_servers: [{address: 192.0.2.11:80}, {address: 192.0.2.12:80}]}
  https: {group: web, listen: 192.0.2.100:443/tcp, scheduler: rr, real_servers: [{address: 192.0.2.11:443}, {address: 192.0.2.12:443}]}
  smtp: {group: mail, listen: 192.0.2.101:25/tcp, scheduler: rr, real_servers: [{address: 192.0.2.13:25}, {address: 192.0.2.14:25}]}
`

// player plays the holder of a group for the commands: it publishes what a
// director would, with a number of connections that the test sets.
type player struct {
	s      *site
	c      *connection
	group  string
	lock   string
	active atomic.Int64
	deaf   atomic.Bool // it does nothing
}

// play makes node01 the holder of a group until the test ends.
func (s *site) play(group string) *player {
	s.t.Helper()
	p := &player{s: s, c: s.session(), group: group, lock: election.LockName{Node: "node01", Session: 1, Random: 2, Sequence: 3}.String()}
	ctx := s.t.Context()
	record := election.Record{Format: election.RecordFormat, State: election.StateHolding, Epoch: 1, Node: "node01", Lock: p.lock, LeaseMS: 3000}
	_, err1 := p.c.session.Set(ctx, p.c.tree.Record(group), record.Encode(), zk.AnyVersion)
	_, err2 := p.c.session.Create(ctx, p.c.tree.Lock(group, p.lock), nil, zk.Ephemeral)
	_, err3 := p.c.session.Create(ctx, p.c.tree.HealthRoot()+"/node01", nil, zk.Persistent)
	if err := errors.Join(err1, err2); err != nil || err3 != nil && !errors.Is(err3, zk.ErrNodeExists) {
		s.t.Fatal(err, err3)
	}
	ctx, stop := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() {
		for ctx.Err() == nil {
			if !p.deaf.Load() {
				if err := p.look(ctx); err != nil && ctx.Err() == nil {
					s.t.Error(err)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	s.t.Cleanup(func() { stop(); ended.Wait() })
	return p
}

// look publishes, and ends what has no connections or is at its deadline.
func (p *player) look(ctx context.Context) error {
	store := p.c.drains()
	stored, err1 := store.ReadDrained(ctx)
	snap, err2 := store.ReadSpec(ctx)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	set := drain.Load(storedDrains(stored))
	for name, sv := range usableSpec(snap).Services {
		if sv.Group != p.group {
			continue
		}
		if err := p.publish(ctx, name, sv, set); err != nil {
			return err
		}
	}
	for _, item := range set.Items {
		end := drain.End{Reason: drain.Empty, At: time.Now().Format(time.RFC3339), Node: "node01"}
		until, limited := item.DeadlineTime()
		if late := limited && time.Now().After(until); late {
			end.Reason, end.Cut = drain.Deadline, int(p.active.Load())
		} else if p.active.Load() > 0 {
			continue
		}
		if _, over := item.Drained[p.group]; over {
			continue
		}
		data, err := item.With(p.group, end).Encode()
		if err != nil {
			return err
		}
		if err := store.FinishDrained(ctx, item.Name, item.Version, data, p.group, p.lock); err != nil && !errors.Is(err, zk.ErrBadVersion) && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
	}
	return nil
}

func (p *player) publish(ctx context.Context, name string, sv spec.Service, set drain.Set) error {
	h := director.ServiceHealth{Service: name}
	for _, rs := range sv.RealServers {
		one := director.RealServerHealth{Address: rs.String(), State: "up"}
		for _, item := range set.Items {
			if director.DrainMeans(item.Target(), name, sv, rs) {
				one.Drain = &director.DrainHealth{State: "draining", Drains: []string{item.ID}, Active: int(p.active.Load())}
				if _, over := item.Drained[p.group]; over {
					one.Drain.State = "drained"
				}
			}
		}
		h.RealServers = append(h.RealServers, one)
	}
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	path := p.c.tree.HealthService("node01", name)
	if _, err = p.c.session.Create(ctx, path, data, zk.Ephemeral); errors.Is(err, zk.ErrNodeExists) {
		_, err = p.c.session.Set(ctx, path, data, zk.AnyVersion)
	}
	return err
}

// drainAndBack: the connections go, the command ends, undrain brings it back.
func drainAndBack(s *site) {
	s.apply(drainFile)
	p := s.play("web")
	p.active.Store(3)
	stdout, stderr := s.run(exitOK, "", "drain", "192.0.2.11", "--wait=false")
	s.want(stdout, "draining 192.0.2.11: no new connections in http, https; there is no deadline\n", "weight 0 is in force on node01\n")
	if stderr != "" {
		s.t.Errorf("stderr %q", stderr)
	}
	stdout, _ = s.run(exitOK, "", "status")
	s.want(stdout, "192.0.2.11:80", "draining (3 active)", "192.0.2.12:80", "up\n")
	stdout, _ = s.run(exitOK, "", "drain", "--list")
	s.want(stdout, "192.0.2.11", "all", "draining (6 active)", "none")
	emptied := time.AfterFunc(700*time.Millisecond, func() { p.active.Store(0) })
	defer emptied.Stop()
	stdout, stderr = s.run(exitOK, "", "drain", "192.0.2.11")
	s.want(stdout, "192.0.2.11 is being drained already", "drained 192.0.2.11 after", "no connections were left\n")
	s.want(stderr, "6 connections left on node01\n")
	stdout, _ = s.run(exitOK, "", "status")
	s.want(stdout, "drained\n")
	stdout, _ = s.run(exitOK, "", "drain", "--list", "-o", "json")
	var listed []struct {
		Name, State string
		Services    []string
		Drained     map[string]drain.End
	}
	if err := json.Unmarshal([]byte(stdout), &listed); err != nil || len(listed) != 1 || listed[0].State != "drained" || listed[0].Drained["web"].Node != "node01" {
		s.t.Errorf("listed: %+v, %v", listed, err)
	}
	stdout, _ = s.run(exitOK, "", "undrain", "192.0.2.11")
	s.want(stdout, "removed the drain of 192.0.2.11\n", "it is back in the table of node01\n")
	stdout, _ = s.run(exitOK, "", "drain", "--list")
	s.want(stdout, "nothing is drained\n")
	_, stderr = s.run(exitBadInput, "", "undrain", "192.0.2.11")
	s.want(stderr, "192.0.2.11 is not drained: nothing is\n")
}

// What is left at the deadline is cut, and that is a finding.
func drainDeadline(s *site) {
	s.apply(drainFile)
	s.play("web").active.Store(5)
	stdout, _ := s.run(exitCut, "", "drain", "192.0.2.11:80", "--deadline", "1s")
	s.want(stdout, "what is left at ", "drained 192.0.2.11:80 after", "5 connections cut at the deadline\n")
	stdout, _ = s.run(exitOK, "", "drain", "--list")
	s.want(stdout, "drained (5 connections cut, 0 went on)")
}

// Who has no holder waits for one; a holder that says nothing is named.
func drainWithoutHolder(s *site) {
	s.apply(drainFile)
	stdout, _ := s.run(exitOK, "", "drain", "192.0.2.13", "--wait=false")
	s.want(stdout, "nobody holds group mail: it comes into force with the next holder\n")
	s.play("web").deaf.Store(true)
	_, stderr := s.run(exitFailed, "", "drain", "192.0.2.11", "--wait=false", "--timeout", "1s")
	s.want(stderr, "not confirmed by node01 within 1s", "the drain of 192.0.2.11 stays in force, `zklvs undrain 192.0.2.11` takes it back")
	stdout, _ = s.run(exitOK, "", "undrain", "192.0.2.13")
	s.want(stdout, "nobody holds group mail: it comes back with the next holder\n")
}

// Names that are not, with what is there.
func drainUnknown(s *site) {
	s.apply(drainFile)
	for args, want := range map[string][]string{
		"drain 192.0.2.21":                  {`there is no real server 192.0.2.21 (did you mean "192.0.2.11"?): there are 192.0.2.11:80, 192.0.2.11:443, 192.0.2.12:80`},
		"drain 192.0.2.11:8":                {`there is no real server 192.0.2.11:8 (did you mean "192.0.2.11:80"?)`},
		"drain 192.0.2.13 --service http":   {"there is no real server 192.0.2.13 in service http", "there are 192.0.2.11:80, 192.0.2.12:80"},
		"drain 192.0.2.11 --service htp":    {`there is no service "htp" (did you mean "http"?): there are http, https, smtp`},
		"drain rs1":                         {`"rs1" is no real server; expected IP or IP:port`},
		"drain 192.0.2.11:0":                {"has port 0; expected another, or the address alone for all ports"},
		"drain 192.0.2.11 --deadline 0.5s":  {"--deadline 500ms: expected whole seconds"},
		"drain 192.0.2.11 --deadline -1s":   {"--deadline -1s"},
		"drain 192.0.2.11 --deadline 9000h": {"at most 744h0m0s"},
		"undrain 192.0.2.11":                {"192.0.2.11 is not drained: nothing is"},
		"drain":                             {"accepts 1 arg"},
		"drain --list 192.0.2.11":           {"192.0.2.11"},
	} {
		_, stderr := s.run(exitBadInput, "", strings.Fields(args)...)
		s.want(stderr, want...)
	}
	if stdout, _ := s.run(exitOK, "", "drain", "--list", "-o", "json"); stdout != "[]\n" {
		s.t.Errorf("something was written: %s", stdout)
	}
}

// The last real server that takes clients is refused: all its clients would be.
func drainLast(s *site) {
	s.apply(drainFile)
	s.run(exitOK, "", "drain", "192.0.2.11", "--service", "http", "--wait=false")
	_, stderr := s.run(exitBadInput, "", "drain", "192.0.2.12", "--wait=false")
	s.want(stderr, "service http would have no real server left that takes new clients: expected another real server that takes clients, or --force")
	s.run(exitOK, "", "drain", "192.0.2.12", "--wait=false", "--force")
	s.run(exitOK, "", "undrain", "192.0.2.12")
	s.run(exitOK, "", "drain", "192.0.2.12:443", "--wait=false")
	_, stderr = s.run(exitOK, "", "undrain", "192.0.2.11", "--service", "http")
	if stderr != "" {
		s.t.Errorf("stderr %q", stderr)
	}
	// A real server that is down takes no clients.
	p := s.play("web")
	p.deaf.Store(true)
	down, err := json.Marshal(director.ServiceHealth{Service: "http", RealServers: []director.RealServerHealth{{Address: "192.0.2.12:80", State: "down"}}})
	if err != nil {
		s.t.Fatal(err)
	}
	path := p.c.tree.HealthService("node01", "http")
	if _, err := p.c.session.Create(s.t.Context(), path, down, zk.Persistent); errors.Is(err, zk.ErrNodeExists) {
		_, err = p.c.session.Set(s.t.Context(), path, down, zk.AnyVersion)
		if err != nil {
			s.t.Fatal(err)
		}
	}
	_, stderr = s.run(exitBadInput, "", "drain", "192.0.2.11:80", "--wait=false")
	s.want(stderr, "service http would have no real server left")
}

// Entries that have no effect: told, and removed by their names.
func drainMoot(s *site) {
	s.apply(drainFile)
	s.run(exitOK, "", "drain", "192.0.2.14", "--wait=false")
	c := s.session()
	if _, err := c.session.Create(s.t.Context(), c.tree.Drained("rubbish"), []byte("{"), zk.Persistent); err != nil {
		s.t.Fatal(err)
	}
	s.apply(strings.Replace(drainFile, ", {address: 192.0.2.14:25}", "", 1))
	stdout, _ := s.run(exitOK, "", "status")
	s.want(stdout, "problem: drain of 192.0.2.14: the documents have no such real server: `zklvs undrain 192.0.2.14` removes the entry",
		"problem: operator/drained/rubbish has no effect: not understood")
	stdout, _ = s.run(exitOK, "", "drain", "--list")
	s.want(stdout, "192.0.2.14", "moot (no such real server in the documents)")
	for _, name := range []string{"192.0.2.14", "rubbish"} {
		stdout, _ = s.run(exitOK, "", "undrain", name)
		s.want(stdout, "removed the drain of "+name+"\n")
	}
	stdout, _ = s.run(exitOK, "", "status")
	if strings.Contains(stdout, "problem") {
		s.t.Errorf("still a problem:\n%s", stdout)
	}
}

// Two drains of one service at once: one of them sees the other.
func drainBothAtOnce(s *site) {
	s.apply(drainFile)
	codes := make([]int, 2)
	var wg sync.WaitGroup
	for i, server := range []string{"192.0.2.13", "192.0.2.14"} {
		wg.Go(func() {
			_, _, codes[i] = runCommandLine(s.t, "drain", server, "--wait=false", "-c", s.config)
		})
	}
	wg.Wait()
	if codes[0]+codes[1] != exitBadInput {
		s.t.Errorf("exit codes %v: one of the two was to be refused", codes)
	}
}

// Ctrl-C leaves the drain going and says how to take it back; a changed deadline
// goes into the entry.
func drainInterrupted(s *site) {
	s.apply(drainFile)
	s.play("web").active.Store(1)
	ctx, cancel := context.WithCancel(s.t.Context())
	time.AfterFunc(time.Second, cancel)
	root := rootCommand()
	root.SetArgs([]string{"drain", "192.0.2.11", "-c", s.config})
	var out, errs strings.Builder
	root.SetOut(&out)
	root.SetErr(&errs)
	err := root.ExecuteContext(ctx)
	if want := "interrupted: 192.0.2.11 goes on draining; `zklvs undrain 192.0.2.11` brings it back"; err == nil || err.Error() != want {
		s.t.Errorf("error %v, want %s", err, want)
	}
	stdout, _ := s.run(exitCut, "", "drain", "192.0.2.11", "--deadline", "1s")
	s.want(stdout, "1 connection cut at the deadline")
}

// Without a terminal a line comes at once, then at most every five seconds; on a
// terminal one line is overwritten.
func TestProgressLine(t *testing.T) {
	now := time.Unix(0, 0)
	play := func(terminal bool) string {
		var out strings.Builder
		p := &progressLine{w: &out, terminal: terminal, now: func() time.Time { return now }}
		for _, text := range []string{"a", "b", "b", "c"} {
			p.set(text)
			now = now.Add(3 * time.Second)
		}
		p.end()
		p.end()
		return out.String()
	}
	if diff := cmp.Diff("a\nb\n", play(false)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("\r\x1b[Ka\r\x1b[Kb\r\x1b[Kc\n", play(true)); diff != "" {
		t.Errorf("terminal (-want +got):\n%s", diff)
	}
}

func TestProgressText(t *testing.T) {
	at := func(group, holder string, h *director.DrainHealth, end *drain.End) row {
		return row{meant{"http", group, "192.0.2.11:80"}, holder, h, end}
	}
	three := &director.DrainHealth{State: "draining", Active: 3, Persistent: 1}
	for want, rows := range map[string][]row{
		"waiting for a holder of group web":                            {at("web", "", nil, nil), at("mail", "node02", three, nil)},
		"waiting for node01 to set weight 0":                           {at("web", "node01", nil, nil)},
		"3 connections left on node01 (1 client bound by persistence)": {at("web", "node01", three, nil)},
		"6 connections left on node01, node02 (2 clients bound by persistence)": {
			at("web", "node01", three, nil), at("mail", "node02", three, nil)},
		"0 connections left on node02": {at("web", "node01", three, &drain.End{}), at("mail", "node02", &director.DrainHealth{}, nil)},
	} {
		if got := (look{rows: rows}).text(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
