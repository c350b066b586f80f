package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/lab"
)

// The measures of a fault, as About explains them.
const (
	takenOver = "taken over after"
	noAnswer  = "no answer for"
	twoAnswer = "two hosts answer for"
)

// observers are a client's eyes on a VIP: who answers, and is there an answer.
type observers struct {
	witness *lab.Witness
	pinger  *pinger
	stop    func() error
}

// observe starts them. Call stop in the end, which may be repeated.
func (n *network) observe(ctx context.Context, c contender, hosts ...*lab.Host) (*observers, error) {
	every := askEvery
	if inUML() {
		every = askUMLEvery
	}
	w, err := lab.NewWitness(n.client, c.vip(), every, hosts...)
	if err != nil {
		return nil, err
	}
	p, err := newPinger(n.client, c.vip(), probeEvery)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.Run(ctx) })
	group.Go(func() error { return p.Run(ctx) })
	return &observers{w, p, func() error {
		cancel()
		return group.Wait()
	}}, nil
}

// strike is one run of one case: the holder suffers a fault, is watched for a while
// after the take-over, and is repaired.
type strike struct {
	*network
	contender
	fault fault
	// settle is how long is watched after the take-over.
	settle time.Duration
}

// outcome is what a strike gave.
type outcome struct {
	at                             time.Time // of the fault
	takenOver, noAnswer, twoAnswer Value
}

func (s strike) run(ctx context.Context) (outcome, error) {
	out, err := s.watched(ctx)
	if err != nil {
		return out, fmt.Errorf("%s, %s: %w", s.name(), s.fault, err)
	}
	return out, nil
}

func (s strike) watched(ctx context.Context) (out outcome, err error) {
	holder, heir, err := s.ready(ctx)
	if err != nil {
		return out, err
	}
	o, err := s.observe(ctx, s.contender, holder, heir)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, o.stop()) }()
	bounded, cancel := within(ctx, patience)
	defer cancel()
	if err := errors.Join(o.witness.WaitAnswered(bounded, holder, 5), o.pinger.waitAnswered(bounded, 0, 5)); err != nil {
		return out, err
	}
	// At any phase of advertisements and renewals.
	if err := pause(ctx, rand.N(time.Second)); err != nil {
		return out, err
	}
	out.at = time.Now()
	at := boottime.Now()
	if err := s.strike(s.fault, holder); err != nil {
		return out, err
	}
	claimed, err := o.witness.WaitClaim(bounded, heir, at)
	if err != nil {
		return out, err
	}
	if err := pause(ctx, s.settle); err != nil {
		return out, err
	}
	// A gap ends with an answer; one that does not come is a lower bound.
	answered, enough := within(ctx, lastAnswer)
	defer enough()
	if err := o.pinger.waitAnswered(answered, boottime.Now(), 1); err != nil && ctx.Err() != nil {
		return out, err
	}
	watched := boottime.Now()
	out.takenOver = Value{V: (claimed - at).Seconds()}
	out.noAnswer = o.pinger.gap(at, watched)
	if s.fault.heals() {
		if err := s.heal(ctx, holder); err != nil {
			return out, err
		}
	}
	if err := o.stop(); err != nil {
		return out, err
	}
	out.twoAnswer = both(o.witness.Prober, at, watched)
	if !s.fault.heals() {
		return out, s.repair(ctx, s.fault, holder)
	}
	return out, nil
}

// heal repairs while the observers watch, until all is as before.
func (s strike) heal(ctx context.Context, holder *lab.Host) error {
	if err := s.repair(ctx, s.fault, holder); err != nil {
		return err
	}
	if _, _, err := s.ready(ctx); err != nil {
		return err
	}
	return pause(ctx, 50*time.Millisecond)
}

// lastAnswer is how long an answer is waited for when the watch is over.
const lastAnswer = 2 * time.Second

// waitAnswered waits until n echo requests that were sent since a time are answered.
func (p *pinger) waitAnswered(ctx context.Context, since time.Duration, n int) error {
	return lab.WaitUntil(ctx, fmt.Sprintf("%s has answered %d echo requests", p.vip, n), func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		count := 0
		for i, at := range p.got {
			if at != 0 && p.sent[i] >= since {
				count++
			}
		}
		if count < n {
			return errNotYet
		}
		return nil
	})
}

// stillBoth is how close to the repair two hosts must have answered for their time to
// be a lower bound: it ended by the repair, not by itself.
const stillBoth = 100 * time.Millisecond

// both returns for how long two hosts answered: each request since a time that two
// answered counts until the next request if that was answered, else 10 ms (20 ms in
// user-mode Linux). It is a lower bound
// if it was so until the repair.
func both(p *lab.Prober, since, repaired time.Duration) Value {
	asked, conflicts := map[uint32]time.Duration{}, p.Conflicts()
	for _, a := range p.Answers(since) {
		asked[a.Request] = a.Asked
	}
	longest := 10 * time.Millisecond
	if inUML() {
		longest = 2 * askUMLEvery
	}
	var sum time.Duration
	var v Value
	for request := range conflicts {
		if asked[request] < since {
			continue
		}
		step := longest
		if next, ok := asked[request+1]; ok {
			step = min(step, next-asked[request])
		}
		sum += step
		if before := repaired - asked[request]; before > 0 && before < stillBoth {
			v.AtLeast = true
		}
	}
	v.V = sum.Seconds()
	return v
}
