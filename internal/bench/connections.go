package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/lab"
)

// connections counts the connections that a change of holder costs.
type connections struct {
	scheduler string
	// sysctls of keepalived's directors.
	sysctls []string
}

// ConnectionsRR is with the notes' scheduler: what saves a connection is that the
// next holder was told of it.
func ConnectionsRR() Section { return connections{scheduler: "rr"} }

// ConnectionsMH is with a scheduler that needs not be told.
func ConnectionsMH() Section {
	return connections{scheduler: "mh", sysctls: []string{sloppyTCP}}
}

const (
	lostOld   = "connections lost, older than 2 s"
	lostYoung = "connections lost, younger"
	longLost  = "long exchange lost"
	longPause = "longest pause of the long exchange"

	// Connections are opened at this rate until the holder is struck.
	openEvery   = 100 * time.Millisecond
	opened      = 80
	oldAfter    = 2 * time.Second
	talkEvery   = 50 * time.Millisecond
	talkTimeout = 20 * time.Second
)

// Name is a word.
func (s connections) Name() string { return "connections-" + s.scheduler }

// Title heads the section's part of the page.
func (s connections) Title() string {
	return "Connections through a change of holder, scheduler " + s.scheduler
}

// Page names the page.
func (s connections) Page() string { return "connections" }

// NeedsIPVS is true.
func (s connections) NeedsIPVS() bool { return true }

// About says what is measured.
func (s connections) About() string {
	if s.scheduler == "mh" {
		return aboutConnectionsMH
	}
	return aboutConnections
}

// Measures are the rows of the table.
func (s connections) Measures() []Measure {
	return []Measure{{Name: lostOld, Total: true}, {Name: lostYoung, Total: true}, {Name: longLost, Total: true}, {Name: longPause}}
}

// Plots are none: most values are zero.
func (s connections) Plots() []Plot { return nil }

// connectionFaults are the changes of holder.
var connectionFaults = []fault{stopped, killed, cutOff}

// Targets wants no old connection lost, and with mh none at all.
func (s connections) Targets() (list []Target) {
	measures := []string{lostOld, longLost}
	if s.scheduler == "mh" {
		measures = append(measures, lostYoung)
	}
	for _, f := range connectionFaults {
		for _, m := range measures {
			list = append(list, Target{Case: string(f), Measure: m, Contender: Zklvs, AtMost: 0, Total: true})
		}
	}
	return list
}

// Run strikes each contender in turn, in each round of each fault.
func (s connections) Run(ctx context.Context, env Env) (Result, error) {
	return inNetwork(ctx, env, networkOptions{
		scheduler: s.scheduler, lease: usualLease, sysctls: s.sysctls, contenders: []string{Zklvs, Synced},
	}, func(n *network, r *Result) error { return s.measure(ctx, env, n, r) })
}

func (s connections) measure(ctx context.Context, env Env, n *network, r *Result) error {
	for _, f := range connectionFaults {
		for i := range env.Runs {
			for _, c := range n.contenders {
				t, err := talked(ctx, n.client, c, f)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", c.name(), f, err)
				}
				env.Progress("%s, run %d of %d: %s: lost %d older than 2 s, %d younger; the long exchange: lost %t, pause %.2f s%s",
					f, i+1, env.Runs, c.name(), t.lostOld, t.lostYoung, t.longLost, t.longPause.V, t.why)
				t.add(r, string(f), c.name())
			}
		}
	}
	return nil
}

// talks is what became of the connections of one run.
type talks struct {
	lostOld, lostYoung int
	longLost           bool
	longPause          Value // a lower bound if the exchange was lost
	why                string
}

func (t talks) add(r *Result, kase, contender string) {
	r.Add(kase, lostOld, contender, "connections", Value{V: float64(t.lostOld)})
	r.Add(kase, lostYoung, contender, "connections", Value{V: float64(t.lostYoung)})
	lost := 0.0
	if t.longLost {
		lost = 1
	}
	r.Add(kase, longLost, contender, "exchanges", Value{V: lost})
	r.Add(kase, longPause, contender, "s", t.longPause)
}

// talked opens connections, strikes the holder, and asks each connection again.
func talked(ctx context.Context, client *lab.Host, c contender, f fault) (t talks, err error) {
	if err := served(ctx, client, c); err != nil {
		return t, err
	}
	holder, heir, err := c.ready(ctx)
	if err != nil {
		return t, err
	}
	target := netip.AddrPortFrom(c.vip(), 80)
	long, err := startExchange(ctx, client, target)
	if err != nil {
		return t, err
	}
	defer long.stop()
	set, err := openConnections(ctx, client, target)
	defer set.close()
	if err != nil {
		return t, err
	}
	at := boottime.Now()
	if err := c.strike(f, holder); err != nil {
		return t, err
	}
	moving, cancel := within(ctx, patience)
	defer cancel()
	if err := lab.WaitUntil(moving, heir.Name()+" has the VIP", func() error {
		if bound, err := heir.Bound("eth0", c.vip()); err != nil || !bound {
			return errors.Join(err, errNotYet)
		}
		return nil
	}); err != nil {
		return t, err
	}
	if err := pause(ctx, time.Second); err != nil {
		return t, err
	}
	set.askAgain(at, &t)
	t.longPause, t.longLost = long.stop()
	return t, c.repair(ctx, f, holder)
}

// connectionSet are connections with the times at which they stood.
type connectionSet struct {
	talks []*lab.Talk
	stood []time.Duration
}

// openConnections opens them at a steady rate; each asks once. Close them also after an
// error.
func openConnections(ctx context.Context, client *lab.Host, target netip.AddrPort) (set *connectionSet, err error) {
	set = &connectionSet{}
	due := time.Now()
	for range opened {
		talk, err := client.OpenTalk(ctx, target)
		if err != nil {
			return set, err
		}
		set.talks, set.stood = append(set.talks, talk), append(set.stood, boottime.Now())
		if _, err := talk.Ask(talkTimeout); err != nil {
			return set, fmt.Errorf("before the fault: %w", err)
		}
		due = due.Add(openEvery)
		if err := pause(ctx, time.Until(due)); err != nil {
			return set, err
		}
	}
	return set, nil
}

func (s *connectionSet) close() {
	for _, t := range s.talks {
		_ = t.Close() // it may have been reset
	}
}

// askAgain asks all at once, and counts those that get no answer.
func (s *connectionSet) askAgain(struck time.Duration, t *talks) {
	errs := make([]error, len(s.talks))
	var all sync.WaitGroup
	for i, talk := range s.talks {
		all.Go(func() { _, errs[i] = talk.Ask(talkTimeout) })
	}
	all.Wait()
	for i, err := range errs {
		switch {
		case err == nil:
			continue
		case struck-s.stood[i] > oldAfter:
			t.lostOld++
		default:
			t.lostYoung++
		}
		t.why = "; the last one: " + err.Error()
	}
}

// exchange is a request each talkEvery on one connection.
type exchange struct {
	talk   *lab.Talk
	cancel context.CancelFunc
	done   chan struct{}

	// The goroutine's until it is done.
	pause time.Duration
	err   error
}

func startExchange(ctx context.Context, client *lab.Host, target netip.AddrPort) (*exchange, error) {
	talk, err := client.OpenTalk(ctx, target)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	x := &exchange{talk: talk, cancel: cancel, done: make(chan struct{})}
	go x.run(ctx)
	return x, nil
}

func (x *exchange) run(ctx context.Context) {
	defer close(x.done)
	last := boottime.Now()
	for ctx.Err() == nil {
		_, err := x.talk.Ask(talkTimeout)
		now := boottime.Now()
		x.pause, last = max(x.pause, now-last), now
		if err != nil {
			x.err = err
			return
		}
		_ = pause(ctx, talkEvery)
	}
}

// stop ends it and tells the longest time between two answers. It may be repeated.
func (x *exchange) stop() (longest Value, lost bool) {
	x.cancel()
	<-x.done
	_ = x.talk.Close()
	return Value{V: x.pause.Seconds(), AtLeast: x.err != nil}, x.err != nil
}
