package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// failover compares what faults of the holder cost its clients.
type failover struct {
	ipvs    bool
	cases   []failoverCase
	targets []Target
}

// failoverCase is a row: a fault under a lease.
type failoverCase struct {
	name  string
	fault fault
	lease time.Duration // of zklvs
	// as is the case whose series of keepalived this one is compared with, because
	// keepalived has no such fault of its own; "" for its own.
	as string
}

// usualLease is zklvs's default.
const usualLease = 3 * time.Second

// caseCut is the case of a host that is cut off.
const caseCut = "host cut off, lease 1 s"

// IPVSFailover is failover with an HTTP service behind each VIP.
func IPVSFailover() Section {
	return failover{ipvs: true, cases: []failoverCase{
		{name: string(killed), fault: killed, lease: usualLease},
		{name: string(killedBoth), fault: killedBoth, lease: usualLease, as: string(killed)},
		{name: string(frozen), fault: frozen, lease: usualLease},
		{name: string(frozenBoth), fault: frozenBoth, lease: usualLease, as: string(frozen)},
		{name: string(stopped), fault: stopped, lease: usualLease},
		{name: caseCut, fault: cutOff, lease: time.Second},
	}, targets: []Target{
		{Case: string(killed), Measure: takenOver, Contender: Zklvs, Against: Notes, AtLeast: 20},
		{Case: caseCut, Measure: noAnswer, Contender: Zklvs, Against: Notes, AtLeast: 2},
	}}
}

// HostFailover is failover of VIPs without services, on the machine's own kernel.
func HostFailover() Section {
	return failover{cases: []failoverCase{
		{name: string(killed), fault: killed, lease: usualLease},
		{name: string(frozen), fault: frozen, lease: usualLease},
		{name: string(stopped), fault: stopped, lease: usualLease},
		{name: caseCut, fault: cutOff, lease: time.Second},
	}, targets: []Target{
		{Case: string(stopped), Measure: noAnswer, Contender: Zklvs, AtMost: 0.020},
		{Case: string(stopped), Measure: takenOver, Contender: Zklvs, AtMost: 0.020},
	}}
}

// Title heads the section's part of the page.
func (s failover) Title() string {
	if s.ipvs {
		return "Fail-over with IPVS services"
	}
	return "Fail-over on the machine's own kernel"
}

// About says what is measured.
func (s failover) About() string {
	if s.ipvs {
		return fmt.Sprintf(aboutFailover, behindIPVS, bothToo)
	}
	return fmt.Sprintf(aboutFailover, behindHost, "")
}

// Name is a word.
func (s failover) Name() string {
	if s.ipvs {
		return "failover-ipvs"
	}
	return "failover-host"
}

// Page names the page.
func (s failover) Page() string { return "failover" }

// NeedsIPVS is true where there are services.
func (s failover) NeedsIPVS() bool { return s.ipvs }

// Targets are those of the kernel it runs on.
func (s failover) Targets() []Target { return s.targets }

// Measures are the rows of each case.
func (s failover) Measures() []Measure {
	return []Measure{{Name: takenOver}, {Name: noAnswer}, {Name: twoAnswer}}
}

// Plots are two: when another host is there, and how long none was.
func (s failover) Plots() []Plot {
	where := "VIPs without services, the machine's own kernel"
	if s.ipvs {
		where = "IPVS services"
	}
	return []Plot{
		{Measure: takenOver, Name: "taken-over", Title: "From the fault until the next host claims the VIP (" + where + ")"},
		{Measure: noAnswer, Name: "no-answer", Title: "Longest time without an answer from the VIP (" + where + ")",
			Note: "After SIGKILL and SIGSTOP keepalived's earlier master goes on answering beside the next one: two hosts, and no gap."},
	}
}

// Run does every case in turn, and in each round of a case every contender in turn.
func (s failover) Run(ctx context.Context, env Env) (Result, error) {
	options := networkOptions{lease: s.cases[0].lease, contenders: []string{Zklvs, Notes, Tuned}}
	if s.ipvs {
		options.scheduler = "rr"
	}
	return inNetwork(ctx, env, options, func(n *network, r *Result) error { return s.measure(ctx, env, n, r) })
}

func (s failover) measure(ctx context.Context, env Env, n *network, r *Result) error {
	lease := s.cases[0].lease
	for _, c := range s.cases {
		if c.lease != lease {
			env.Progress("zklvs: lease %v", c.lease)
			if err := n.newLease(ctx, c.lease); err != nil {
				return err
			}
			lease = c.lease
		}
		for i := range env.Runs {
			for _, who := range n.contenders {
				if !who.suffers(c.fault) {
					continue
				}
				out, err := strike{network: n, contender: who, fault: c.fault, settle: time.Second}.run(ctx)
				if err != nil {
					return err
				}
				env.Progress("%s, run %d of %d (struck at %s): %s: %s %s, %s %s, %s %s", c.name, i+1, env.Runs, out.at.UTC().Format("15:04:05.000"), who.name(),
					takenOver, show(out.takenOver, "s", roundingOf(who.name())), noAnswer, show(out.noAnswer, "s", roundingOf(who.name())),
					twoAnswer, show(out.twoAnswer, "s", roundingOf(who.name())))
				r.Add(c.name, takenOver, who.name(), "s", out.takenOver)
				r.Add(c.name, noAnswer, who.name(), "s", out.noAnswer)
				r.Add(c.name, twoAnswer, who.name(), "s", out.twoAnswer)
			}
		}
		r.copy(c.as, c.name)
	}
	return nil
}

// copy gives a case the series of another case that it has none of.
func (r *Result) copy(from, to string) {
	if from == "" {
		return
	}
	for _, s := range r.Series {
		if s.Case == from && r.Find(to, s.Measure, s.Contender) == nil {
			s.Case = to
			r.Series = append(r.Series, s)
		}
	}
	r.Remarks = append(r.Remarks, fmt.Sprintf("%s: keepalived's figures are those of %s.", to, from))
}

// newLease changes zklvs's lease and begins a new epoch with it.
func (n *network) newLease(ctx context.Context, lease time.Duration) error {
	if n.zklvs == nil {
		return nil
	}
	if err := n.zklvs.apply(ctx, lease); err != nil {
		return err
	}
	holder, _, err := n.zklvs.ready(ctx)
	if err != nil {
		return err
	}
	if err := n.zklvs.strike(stopped, holder); err != nil {
		return err
	}
	if err := n.zklvs.repair(ctx, stopped, holder); err != nil {
		return err
	}
	_, _, err = n.zklvs.ready(ctx)
	return err
}

// keepLogs copies the logs of every daemon, of earlier lives too.
func (n *network) keepLogs(env Env) error {
	if env.Keep == "" || n.lab == nil {
		return nil
	}
	env.Progress("logs: %s", env.Keep)
	if err := os.CopyFS(filepath.Join(env.Keep, "log"), os.DirFS(filepath.Join(n.lab.Dir(), "log"))); err != nil {
		return fmt.Errorf("keep the logs: %w", err)
	}
	return nil
}
