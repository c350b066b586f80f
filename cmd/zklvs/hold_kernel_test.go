package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/control"
	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/internal/spec"
)

const (
	// usualHold is for how long ZooKeeper is away in `make test`, three times the
	// session timeout; ZKLVS_HOLD=60s is a minute.
	usualHold = 20 * time.Second
	// plainHold is the same on this machine's own kernel, where less is looked at.
	plainHold = 8 * time.Second
)

// holding is a cluster of three directors whose ZooKeeper goes away.
type holding struct {
	*cluster
	holder string
}

// All three ZooKeeper servers are killed and started again: the holder goes on,
// one host answers all the time, and no request is lost. Then they are killed
// once more, and a director with them: the group is given up, and nobody takes
// it. With ZooKeeper back there is a holder again.
//
//	ZKLVS_HOLD=60s go test -exec "$PWD/deploy/kernel/with-ipvs" -count=1 -v -timeout 6m -run '^TestKernelHold$' ./cmd/zklvs
func TestKernelHold(t *testing.T) {
	requireIPVS(t)
	away := usualHold
	if text := os.Getenv("ZKLVS_HOLD"); text != "" {
		var err error
		if away, err = time.ParseDuration(text); err != nil || away < usualHold {
			t.Fatalf("ZKLVS_HOLD=%s: expected a duration of at least %v", text, usualHold)
		}
	}
	k := startHolding(t, demo.Options{})
	k.must1(k.Apply(k.ctx, demo.Documents("", demo.Web())))
	k.settle()
	k.until("the VIP is served", func() error {
		_, err := k.Curl(k.ctx, lab.VIP)
		return err
	})
	requester, err := lab.NewRequester(k.Lab.Host(demo.Client), lab.RequesterOptions{Target: netip.AddrPortFrom(lab.VIP, 80), Interval: 50 * time.Millisecond})
	k.must(err)
	stop := k.background(requester.Run)
	k.live(away, func() {
		stop()
		tally := requester.Tally()
		if t.Logf("requests: %+v", tally); tally.Lost > 0 || tally.Answered < int(away/(100*time.Millisecond)) {
			t.Errorf("of %d requests %d were answered and %d lost: %v", tally.Sent, tally.Answered, tally.Lost, firstLost(requester))
		}
	})
}

// The same without IPVS, on this machine's own kernel and with the race
// detector.
func TestHostHold(t *testing.T) {
	requireHost(t)
	k := startHolding(t, demo.Options{NoRealServers: true})
	k.must1(k.Apply(k.ctx, "groups:\n  web: {vips: [192.168.150.100]}\n"))
	k.settle()
	k.live(plainHold, func() {})
}

// cutOffHolds takes the holder's way to ZooKeeper, and to nothing else: the other
// director promises not to take, for longer than it would have waited.
func (k *cluster) cutOffHolds() {
	h := &holding{k, k.holder()}
	other := standbyOf(h.holder)
	k.waitStandby(other)
	h.waitLoss("hold", 2)
	w := newWitness(k.T, k.Lab.Host(demo.Client), lab.VIP, 20*time.Millisecond, k.Lab.Host(h.holder), k.Lab.Host(other))
	w.waitAnyAnswer()
	begun := boottime.Now()
	k.must(k.Lab.Host(h.holder).Cut("eth1"))
	h.waitTime(begun + demo.FailoverBound(spec.DefaultCluster()))
	h.onlyHolder(w, begun)
	k.must(k.Lab.Host(h.holder).Heal("eth1"))
	// Its session may have expired: then it gives up, and the other one waits.
	k.until("one holds and the other one is a standby", func() error {
		now, err := k.Answerer(lab.VIP)
		if err == nil && now == "" {
			err = errors.New("nobody holds")
		}
		if err == nil {
			err = k.wantStatus(standbyOf(now), `"phase": "standby"`)
		}
		return err
	})
	w.stop()
	if n := len(w.Conflicts()); n > 0 {
		k.Errorf("%d requests were answered by two hosts\n%s", n, w.BoundText())
	}
}

func startHolding(t *testing.T, o demo.Options) *holding {
	t.Helper()
	o.Servers, o.Directors, o.Progress = 3, 3, t.Logf
	k := &holding{cluster: startCluster(t, o)}
	t.Cleanup(func() {
		for _, name := range k.Directors() {
			k.logs(k.Director(name).Log, k.said(name))
		}
	})
	return k
}

// said returns what a director says of itself.
func (k *holding) said(name string) func() string {
	return func() string {
		var s localStatus
		socket := spec.Local{Cluster: "web", RunDir: "/run/zklvs"}.Socket()
		err := control.Status(context.WithoutCancel(k.ctx), k.Lab.Host(name).Path(socket), &s)
		text, _ := json.Marshal(s) // plain data
		return fmt.Sprintf("%s\n%v", text, err)
	}
}

// settle waits for a holder that may hold without ZooKeeper.
func (k *holding) settle() {
	k.Helper()
	k.holder = k.waitAnyHolder()
	for _, name := range k.others() {
		k.waitPhase(name, "web", "standby")
	}
	k.waitLoss("hold", 3)
}

func (k *holding) others() []string {
	return slices.DeleteFunc(k.Directors(), func(name string) bool { return name == k.holder })
}

// waitLoss waits until the holder says so of the group, with so many voters.
func (k *holding) waitLoss(want string, voters int) {
	k.Helper()
	k.until("the holder says "+want, func() error {
		s, err := k.status(k.holder)
		if err != nil {
			return err
		}
		g := s.Groups[0]
		if !strings.HasPrefix(g.OnZooKeeperLoss, want) || len(g.Voters) != voters {
			return fmt.Errorf("without ZooKeeper: %q, voters %+v", g.OnZooKeeperLoss, g.Voters)
		}
		return nil
	})
}

// live takes ZooKeeper away for a time, and once more together with a director.
func (k *holding) live(away time.Duration, served func()) {
	k.Helper()
	hosts := make([]*lab.Host, 0, 3)
	for _, name := range k.Directors() {
		hosts = append(hosts, k.Lab.Host(name))
	}
	w := newWitness(k.T, k.Lab.Host(demo.Client), lab.VIP, 20*time.Millisecond, hosts...)
	w.waitAnyAnswer()
	k.survive(w, away, served)
	k.zookeeper((*lab.Ensemble).Kill)
	k.waitLoss("hold", 3)
	victim := k.others()[0]
	killed := boottime.Now()
	k.must(k.KillBoth(victim))
	k.until("nobody has the VIP bound", func() error {
		name, err := k.Answerer(lab.VIP)
		if err == nil && name != "" {
			err = fmt.Errorf("%s has it", name)
		}
		return err
	})
	// Nobody takes it: no other director can write, and all have promised.
	k.waitTime(killed + 2*spec.MaxLease/3)
	const late = 200 * time.Millisecond // from reading the clock to the last promise
	last := w.newest()
	k.Logf("the last answer was given %v after a director was killed too", last-killed)
	if bound := spec.DefaultCluster().Lease + late; last-killed > bound {
		k.Errorf("somebody answered %v after the death of a voter, want at most %v", last-killed, bound)
	}
	k.recover(w)
}

// survive takes ZooKeeper away and brings it back: the holding outlives it, and
// is renewed in the session in which it began.
func (k *holding) survive(w *witness, away time.Duration, served func()) {
	k.Helper()
	epoch := k.epoch()
	begun := boottime.Now()
	k.zookeeper((*lab.Ensemble).Kill)
	k.waitLoss("hold", 3)
	k.waitTime(begun + away)
	k.zookeeper((*lab.Ensemble).Start)
	ctx, cancel := demo.Within(k.ctx, 2*patience)
	defer cancel()
	k.must(k.ZooKeeper.WaitReady(ctx))
	// An expired session would be known by now, and its lock gone.
	k.waitTime(boottime.Now() + spec.DefaultLocal().ZooKeeper.SessionTimeout + 2*time.Second)
	k.Logf("ZooKeeper was killed, and started again after %v", away)
	k.onlyHolder(w, begun)
	served()
	if now := k.epoch(); now != epoch {
		k.Errorf("epoch %d, before %d", now, epoch)
	}
}

func (k *holding) zookeeper(do func(*lab.Ensemble, int) error) {
	k.Helper()
	for i := range 3 {
		k.must(do(k.ZooKeeper, i))
	}
}

// epoch returns the group's epoch as it stands in ZooKeeper.
func (k *holding) epoch() uint64 {
	k.Helper()
	out, err := k.Zklvs(k.ctx, k.holder, "status", "-o", "json")
	k.must(err)
	var s shown
	k.must(json.Unmarshal([]byte(out), &s))
	if s.Cluster == nil || s.Groups[0].Holder != k.holder || s.Groups[0].LockGone {
		k.Fatalf("%s does not hold:\n%s", k.holder, out)
	}
	return s.Groups[0].Epoch
}

// recover starts ZooKeeper again, the killed director, and the holder where its
// own timer has killed it: on a busy machine it may be late to step down.
func (k *holding) recover(w *witness) {
	k.Helper()
	k.zookeeper((*lab.Ensemble).Start)
	heir := k.waitAnyHolder()
	w.waitAnswered(k.Lab.Host(heir), 5)
	for _, name := range k.Directors() {
		if !k.Director(name).Running() {
			k.must(k.StartDirector(name))
		}
	}
	earlier := k.holder
	k.settle()
	w.stop()
	if n := len(w.Conflicts()); n > 0 {
		k.Errorf("%d requests were answered by two hosts\n%s", n, w.BoundText())
	}
	if heir != earlier {
		w.neverTwo(k.Lab.Host(earlier), k.Lab.Host(heir))
	}
}

// waitTime waits until a time on the witness's clock.
func (k *holding) waitTime(at time.Duration) {
	k.Helper()
	ctx, cancel := demo.Within(k.ctx, at-boottime.Now()+patience)
	defer cancel()
	k.must(lab.WaitUntil(ctx, "time has passed", func() error {
		if boottime.Now() < at {
			return errors.New("not yet")
		}
		return nil
	}))
}

// onlyHolder wants answers of the holder, and of nobody else. On a busy machine
// the witness stands still too: it is its requests that must not go unanswered.
func (k *holding) onlyHolder(w *witness, since time.Duration) {
	k.Helper()
	const lost = 10 // requests in a row, 200 ms
	answers := w.Answers(since)
	if len(answers) == 0 {
		k.Fatalf("nobody answered\n%s", w.BoundText())
	}
	last, worst, gap := answers[0], 0, time.Duration(0)
	for _, a := range answers {
		if h := w.HostOf(a.MAC); h != k.Lab.Host(k.holder) {
			k.Fatalf("%s answered, which is not %s\n%s", a.MAC, k.holder, w.BoundText())
		}
		worst, gap = max(worst, int(a.Request)-int(last.Request)-1), max(gap, a.Asked-last.Asked)
		last = a
	}
	k.Logf("%d answers, all of %s; at most %d requests in a row without one, %v", len(answers), k.holder, worst, gap)
	if worst > lost || len(w.Sent(last.Asked)) > lost {
		k.Errorf("%d requests in a row were not answered, or the last %d\n%s", worst, len(w.Sent(last.Asked)), w.BoundText())
	}
}

// newest is when the newest request was sent that anybody answered.
func (w *witness) newest() (at time.Duration) {
	for _, a := range w.Answers(0) {
		at = max(at, a.Asked)
	}
	return at
}

// background runs something until the returned function is called.
func (k *holding) background(do func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(k.ctx)
	ended := make(chan error, 1)
	go func() { ended <- do(ctx) }()
	return func() {
		k.Helper()
		cancel()
		k.must(<-ended)
	}
}

func firstLost(r *lab.Requester) error {
	for _, o := range r.Outcomes(0) {
		if o.Err != nil {
			return o.Err
		}
	}
	return nil
}
