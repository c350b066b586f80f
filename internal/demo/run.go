package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/internal/spec"
)

// patience bounds every wait that is not itself what a step shows.
const patience = 30 * time.Second

// FailoverBound is how long a take-over without a receipt may take with default
// settings: W, and a second for looking, binding and announcing.
func FailoverBound(c spec.Cluster) time.Duration {
	t := director.Timing(c, fence.LatenessGated)
	return t.Wait(t.Lease+t.Lateness) + time.Second
}

// Run builds the exercise, walks through it and takes it down again. It returns
// the first thing that did not hold.
func Run(ctx context.Context, options Options, w io.Writer) (err error) {
	n := &narrator{w: w, begun: time.Now()}
	options.Progress = n.progress
	c, err := Start(ctx, options)
	defer func() { err = errors.Join(err, c.Close()) }()
	if err != nil {
		return err
	}
	t := &tour{narrator: n, c: c}
	for _, step := range []func(context.Context) error{
		t.apply, t.roundRobin, t.inspect, t.cardDown, t.preempt, t.realServerDies, t.daemonKilled, t.activeActive,
	} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("step %d did not hold: %w\n%s", n.step, err, t.logs())
		}
	}
	n.heading("Everything held")
	n.progress("taking it all down")
	return nil
}

// tour is the state of a walk through the exercise.
type tour struct {
	*narrator
	c *Cluster
}

func (t *tour) logs() string {
	var b strings.Builder
	for _, name := range []string{First, Second} {
		lines := strings.Split(strings.TrimSpace(t.c.Director(name).Log()), "\n")
		fmt.Fprintf(&b, "--- %s, the end of its log:\n%s\n", name, strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
	return b.String()
}

func (t *tour) apply(ctx context.Context) error {
	t.heading("The notes' exercise: VIP %s, label eth0:2, direct routing, round robin, GET / must give 200", lab.VIP)
	text := Documents(t.c.options.ClusterSection, Web())
	t.ran(First, "cat web.yaml", text)
	out, err := t.c.Apply(ctx, text)
	t.ran(First, "zklvs apply -f web.yaml", out)
	if err != nil {
		return err
	}
	wait, cancel := Within(ctx, patience)
	defer cancel()
	if err := lab.WaitUntil(wait, "a director holds", func() error {
		name, err := t.c.Answerer(lab.VIP)
		if err == nil && name == "" {
			err = errors.New("none does")
		}
		return err
	}); err != nil {
		return err
	}
	holder, err := t.c.Answerer(lab.VIP)
	if err != nil {
		return err
	}
	if err := t.run(ctx, t.c, holder, "ip", "-4", "address", "show", "dev", "eth0"); err != nil {
		return err
	}
	return t.run(ctx, t.c, RealServer1, "ip", "-4", "address", "show", "dev", "lo")
}

func (t *tour) roundRobin(ctx context.Context) error {
	t.heading("A client: the two real servers take turns")
	wait, cancel := Within(ctx, patience)
	defer cancel()
	if _, err := t.c.WaitServed(wait, lab.VIP, RealServer1, RealServer2); err != nil {
		return err
	}
	var got []string
	for range 6 {
		answer, err := t.c.Curl(ctx, lab.VIP)
		if err != nil {
			return err
		}
		t.ran(Client, "curl http://"+lab.VIP.String()+"/", answer)
		got = append(got, answer)
	}
	for i := 1; i < len(got); i++ {
		if got[i] == got[i-1] {
			return fmt.Errorf("answers do not alternate: %v", got)
		}
	}
	holder, err := t.c.Answerer(lab.VIP)
	if err != nil {
		return err
	}
	return t.run(ctx, t.c, holder, "ipvsadm", "-L", "-n")
}

func (t *tour) inspect(ctx context.Context) error {
	t.heading("What zklvs and ZooKeeper say")
	if err := t.run(ctx, t.c, First, "zklvs", "status"); err != nil {
		return err
	}
	server := t.c.ZooKeeper.Servers()[0]
	for _, command := range [][]string{{"ls", "-R", "/zklvs/web"}, {"get", "/zklvs/web/groups/web/leader"}} {
		out, err := lab.ZkCli(ctx, t.c.Lab.Host(First), server, command...)
		t.ran(First, "zkCli.sh -server "+server+" "+strings.Join(command, " "), out)
		if err != nil {
			return err
		}
		if !strings.Contains(out, "leader") && !strings.Contains(out, `"state":"holding"`) {
			return fmt.Errorf("zkCli shows no holder: %s", out)
		}
	}
	return nil
}

// other returns the other director.
func other(name string) string {
	if name == First {
		return Second
	}
	return First
}

// cardDown is the notes' experiment 1.
func (t *tour) cardDown(ctx context.Context) error {
	holder, err := t.c.Answerer(lab.VIP)
	if err != nil {
		return err
	}
	next := other(holder)
	t.heading("Experiment 1: the network card of the holder, %s, goes down", holder)
	begun := time.Now()
	if err := t.c.Lab.Host(holder).LinkDown("eth0"); err != nil {
		return err
	}
	wait, cancel := Within(ctx, patience)
	defer cancel()
	if err := t.c.WaitAnswerer(wait, lab.VIP, next); err != nil {
		return err
	}
	t.say("the VIP is bound on %s %.2f s later", next, time.Since(begun).Seconds())
	if _, err := t.c.WaitServed(wait, lab.VIP, RealServer1, RealServer2); err != nil {
		return err
	}
	t.say("the client is served by both real servers again after %.2f s", time.Since(begun).Seconds())
	if err := t.c.Lab.Host(holder).LinkUp("eth0"); err != nil {
		return err
	}
	if err := t.waitQueued(wait, holder); err != nil {
		return err
	}
	t.say("the card is up again and %s waits as standby; preempt is off, so the VIP must not jump back", holder)
	if err := t.stays(ctx, next, 3*time.Second); err != nil {
		return err
	}
	return t.run(ctx, t.c, First, "zklvs", "status")
}

// waitQueued waits until a director is a standby of group web.
func (t *tour) waitQueued(ctx context.Context, name string) error {
	return lab.WaitUntil(ctx, name+" is a standby", func() error {
		out, err := t.c.Zklvs(ctx, name, "status", "-o", "json")
		if err == nil && !strings.Contains(out, `"phase": "standby"`) {
			err = errors.New("it is not")
		}
		return err
	})
}

// stays watches that a director keeps the VIP.
func (t *tour) stays(ctx context.Context, name string, d time.Duration) error {
	wait, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for wait.Err() == nil {
		holder, err := t.c.Answerer(lab.VIP)
		if err != nil {
			return err
		}
		if holder != name {
			return fmt.Errorf("the VIP left %s for %q", name, holder)
		}
	}
	t.say("after %v it is still on %s", d, name)
	return nil
}

func (t *tour) preempt(ctx context.Context) error {
	t.heading("Fail-back on request: with preempt the director of higher priority gets it back")
	g := Web()
	g.Preempt = true
	begun := time.Now()
	out, err := t.c.Apply(ctx, Documents(t.c.options.ClusterSection, g))
	t.ran(First, "zklvs apply -f web.yaml", out)
	if err != nil {
		return err
	}
	wait, cancel := Within(ctx, patience)
	defer cancel()
	if err := t.c.WaitAnswerer(wait, lab.VIP, First); err != nil {
		return err
	}
	t.say("%s (priority 150) holds %.2f s after apply", First, time.Since(begun).Seconds())
	_, err = t.c.WaitServed(wait, lab.VIP, RealServer1, RealServer2)
	return err
}

func (t *tour) realServerDies(ctx context.Context) error {
	t.heading("A real server dies, and comes back")
	wait, cancel := Within(ctx, 2*patience)
	defer cancel()
	begun := time.Now()
	if err := t.c.Nginx(RealServer1).Kill(); err != nil {
		return err
	}
	got, err := t.c.WaitServed(wait, lab.VIP, RealServer2)
	if err != nil {
		return err
	}
	t.say("nginx on %s killed: out of the rotation after %.2f s, answers now come from %v", RealServer1, time.Since(begun).Seconds(), slices.Compact(got))
	if err := t.run(ctx, t.c, First, "ipvsadm", "-L", "-n"); err != nil {
		return err
	}
	begun = time.Now()
	if err := t.c.StartNginx(wait, RealServer1); err != nil {
		return err
	}
	if _, err = t.c.WaitServed(wait, lab.VIP, RealServer1, RealServer2); err != nil {
		return err
	}
	t.say("nginx on %s started again: back in the rotation after %.2f s", RealServer1, time.Since(begun).Seconds())
	return nil
}

// daemonKilled is the notes' experiment 2: the fault that keepalived has.
func (t *tour) daemonKilled(ctx context.Context) error {
	holder, err := t.c.Answerer(lab.VIP)
	if err != nil {
		return err
	}
	next := other(holder)
	t.heading("Experiment 2: the daemon of the holder, %s, is killed with SIGKILL", holder)
	prober, err := lab.NewARPProber(t.c.Lab.Host(Client), "eth0", lab.VIP, 0)
	if err != nil {
		return err
	}
	probing, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- prober.Run(probing) }()
	killed, err := t.killAndWait(ctx, holder, next)
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	if n := len(prober.Conflicts()); n > 0 {
		return fmt.Errorf("%d ARP requests of the client were answered by two hosts", n)
	}
	mac, err := t.c.Lab.Host(next).MAC("eth0")
	if err != nil {
		return err
	}
	if late := prober.MACs(killed+FailoverBound(spec.DefaultCluster()), boottime.Now()); !slices.Equal(late, []string{mac.String()}) {
		return fmt.Errorf("after the take-over ARP was answered by %v, expected only %s (%s)", late, mac, next)
	}
	t.say("the client asked for the VIP every 5 ms: %d answers since the kill, never two to one request; now only %s (%s) answers",
		len(prober.Answers(killed)), mac, next)
	return t.c.StartDirector(holder)
}

// killAndWait kills a director and returns when it was killed.
func (t *tour) killAndWait(ctx context.Context, holder, next string) (time.Duration, error) {
	bound := FailoverBound(spec.DefaultCluster())
	wait, cancel := Within(ctx, bound)
	defer cancel()
	killed := boottime.Now()
	if err := t.c.Director(holder).Kill(); err != nil {
		return killed, err
	}
	if err := t.c.WaitAnswerer(wait, lab.VIP, next); err != nil {
		return killed, err
	}
	t.say("the VIP is bound on %s %.2f s later (W + 1 s is %.2f s)", next, (boottime.Now() - killed).Seconds(), bound.Seconds())
	served, cancelServed := Within(ctx, patience)
	defer cancelServed()
	err := lab.WaitUntil(served, "the client is served again", func() error {
		_, err := t.c.Curl(served, lab.VIP)
		return err
	})
	if err != nil {
		return killed, err
	}
	t.say("the client is served again after %.2f s", (boottime.Now() - killed).Seconds())
	if _, err := t.c.WaitServed(served, lab.VIP, RealServer1, RealServer2); err != nil {
		return killed, err
	}
	t.say("and by both real servers in turn after %.2f s", (boottime.Now() - killed).Seconds())
	return killed, lab.WaitUntil(served, "the client has asked for a while after the bound", func() error {
		if boottime.Now() < killed+bound+time.Second {
			return errors.New("not yet")
		}
		return nil
	})
}

func (t *tour) activeActive(ctx context.Context) error {
	t.heading("Active/active: two groups, each on the director that it prefers")
	web, files := Web(), GroupSettings{Name: "files", VIP: SecondVIP.String(), Label: "eth0:3", Preferred: Second, Preempt: true}
	web.Preempt = true
	out, err := t.c.Apply(ctx, Documents(t.c.options.ClusterSection, web, files))
	t.ran(First, "zklvs apply -f web-and-files.yaml", out)
	if err != nil {
		return err
	}
	wait, cancel := Within(ctx, 2*patience)
	defer cancel()
	if err := errors.Join(t.c.WaitAnswerer(wait, lab.VIP, First), t.c.WaitAnswerer(wait, SecondVIP, Second)); err != nil {
		return err
	}
	if _, err := t.c.WaitServed(wait, lab.VIP, RealServer1, RealServer2); err != nil {
		return err
	}
	if _, err := t.c.WaitServed(wait, SecondVIP, RealServer1, RealServer2); err != nil {
		return err
	}
	return t.run(ctx, t.c, Second, "zklvs", "status")
}
