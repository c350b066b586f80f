package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/control"
	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/internal/spec"
)

// fault is what is done to the processes of the holder.
type fault struct {
	name            string
	director, guard syscall.Signal // 0: left alone
}

var faults = []fault{
	{"SIGKILL of the director", syscall.SIGKILL, 0},
	{"SIGKILL of the guard", 0, syscall.SIGKILL},
	{"SIGKILL of both", syscall.SIGKILL, syscall.SIGKILL},
	{"SIGSTOP of the director", syscall.SIGSTOP, 0},
	{"SIGSTOP of the guard", 0, syscall.SIGSTOP},
	{"SIGSTOP of both", syscall.SIGSTOP, syscall.SIGSTOP},
}

// moving is a group whose VIP a witness watches.
type moving struct {
	group string
	vip   netip.Addr
	every time.Duration // between two requests
}

// faulty is a cluster whose groups are watched while processes are struck.
type faulty struct {
	*cluster
	groups []moving
}

// Every process of the holder is killed and frozen: never two answer, and the
// other director takes over in time.
func TestKernelFaults(t *testing.T) {
	requireIPVS(t)
	k := &faulty{cluster: startCluster(t, demo.Options{Progress: t.Logf})}
	other := k.startPeer()
	web := moving{"web", lab.VIP, 5 * time.Millisecond}
	six := moving{"six", netip.MustParseAddr("fd00:150::100"), 20 * time.Millisecond}
	k.groups = []moving{web, six}
	documents := demo.Documents("", demo.Web())
	_, err := k.Apply(k.ctx, strings.Replace(documents, "groups:\n", fmt.Sprintf("groups:\n  six: {vips: [%q]}\n", six.vip), 1))
	k.must(err)
	k.waitAnyHolder()
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			k := k.in(t)
			defer k.logs(k.Director(demo.First).Log, k.Director(demo.Second).Log)
			k.suffer(f)
		})
	}
	k.prune(documents)
	k.groups = []moving{web}
	t.Run("against keepalived", func(t *testing.T) { k.in(t).against(other) })
}

// prune makes the documents all that there is.
func (k *faulty) prune(documents string) {
	k.Helper()
	const file = "/run/zklvs/documents.yaml"
	k.must(k.Lab.Host(demo.First).WriteFile(file, documents))
	_, err := k.Zklvs(k.ctx, demo.First, "apply", "--prune", "-f", file)
	k.must(err)
	for _, name := range []string{demo.First, demo.Second} {
		k.until("the groups are gone on "+name, func() error {
			s, err := k.status(name)
			if err == nil && len(s.Groups) != 1 {
				err = fmt.Errorf("its groups: %+v", s.Groups)
			}
			return err
		})
	}
}

// in is the same cluster for a part of the test.
func (k *faulty) in(t *testing.T) *faulty {
	return &faulty{&cluster{T: t, Cluster: k.Cluster, ctx: t.Context()}, k.groups}
}

// against lets keepalived suffer what our holder does, beside it: two answer for
// its VIP then, and never for ours. How long either takes is for `make bench`.
func (k *faulty) against(other *peer) {
	theirs := k.kill(other)
	ours := k.suffer(faults[0])
	k.Logf("take-over after SIGKILL: keepalived %v; zklvs %v", theirs, ours)
}

// logs shows the directors' logs of a case that failed.
func (k *cluster) logs(logs ...func() string) {
	if k.Failed() {
		for _, log := range logs {
			k.Logf("log of a director:\n%s", log())
		}
	}
}

// suffer lets the holder suffer a fault, and returns how long the take-over took.
// It leaves two healthy directors.
func (k *faulty) suffer(f fault) (took time.Duration) {
	name := k.waitAnyHolder()
	k.waitPhase(standbyOf(name), "web", "standby")
	holder, heir := k.Lab.Host(name), k.Lab.Host(standbyOf(name))
	guard, err := k.Guard(name)
	k.must(err)
	var witnesses []*witness
	var moves []bool
	for _, g := range k.groups {
		w := newWitness(k.T, k.Lab.Host(demo.Client), g.vip, g.every, holder, heir)
		w.waitAnyAnswer()
		witnesses = append(witnesses, w)
		moves = append(moves, k.holds(name, g.vip))
	}
	at := boottime.Now()
	k.must(k.inflict(f, name, guard))
	for i, w := range witnesses {
		if !moves[i] {
			continue
		}
		claimed := w.waitClaim(heir, at)
		k.Logf("%s, group %s: taken over after %v; no answer for %v", f.name, k.groups[i].group, claimed-at, w.Outage(holder, claimed))
		k.inTime(claimed - at)
		if i == 0 {
			took = claimed - at
		}
	}
	k.waitGone(f, name, guard)
	k.until("nothing is bound on the earlier holder", func() error { return k.wantUnbound(name) })
	for _, w := range witnesses {
		w.waitAnswered(heir, 5)
		w.stop()
		w.neverTwo(holder, heir)
	}
	k.restore(name)
	return took
}

// inTime wants a take-over within W + 0.5 s: what the other director waits where
// nobody is left to write a receipt, and some time to do it.
func (k *cluster) inTime(took time.Duration) {
	k.Helper()
	t := director.Timing(spec.DefaultCluster(), fence.LatenessGated)
	if bound := t.Wait(t.Lease+t.Lateness) + 500*time.Millisecond; took > bound {
		k.Errorf("the take-over took %v, more than W + 0.5 s = %v", took, bound)
	}
}

// inflict sends the signals. Where both get one, neither has time to notice the
// other's end.
func (k *cluster) inflict(f fault, name string, guard int) error {
	d := k.Director(name)
	if f.director != 0 && f.guard != 0 {
		if err := errors.Join(d.Freeze(), syscall.Kill(guard, syscall.SIGSTOP)); err != nil || f.director == syscall.SIGSTOP {
			return err
		}
	}
	if f.guard != 0 {
		if err := syscall.Kill(guard, f.guard); err != nil {
			return err
		}
	}
	if f.director != 0 {
		return d.Signal(f.director)
	}
	return nil
}

// waitGone waits until the processes that the fault struck have ended, and what
// cannot be without them: a frozen one is killed by its own timer, or by the
// other one. A director survives its guard.
func (k *cluster) waitGone(f fault, name string, guard int) {
	k.Helper()
	k.until("the guard has ended", func() error { return ended(guard) })
	if f.director == 0 {
		return
	}
	ctx, cancel := demo.Within(k.ctx, patience)
	defer cancel()
	if code, err := k.Director(name).Wait(ctx); err != nil || code != 128+int(syscall.SIGKILL) {
		k.Errorf("the director ended with %d, %v; want the exit status of SIGKILL", code, err)
	}
}

// ended is an error while a process runs or is stopped. One that has ended may
// wait for a parent to take note.
func ended(pid int) error {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	_, state, _ := strings.Cut(string(data), ") ")
	if strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X") {
		return nil
	}
	return fmt.Errorf("process %d is in state %.1s", pid, state)
}

func (k *cluster) holds(name string, vip netip.Addr) bool {
	k.Helper()
	bound, err := k.Lab.Host(name).Bound("eth0", vip)
	k.must(err)
	return bound
}

func (k *faulty) wantUnbound(name string) error {
	for _, g := range k.groups {
		if k.holds(name, g.vip) {
			return fmt.Errorf("%s is bound", g.vip)
		}
	}
	return nil
}

// restore makes a standby of a director again.
func (k *faulty) restore(name string) {
	k.Helper()
	if !k.Director(name).Running() {
		k.must(k.StartDirector(name))
	}
	for _, g := range k.groups {
		k.waitPhase(name, g.group, "standby")
	}
}

// status asks a director itself.
func (k *cluster) status(name string) (s director.Status, err error) {
	socket := spec.Local{Cluster: "web", RunDir: "/run/zklvs"}.Socket()
	err = control.Status(k.ctx, k.Lab.Host(name).Path(socket), &s)
	return s, err
}

// waitPhase waits until a director says that it is in one of the phases in a group.
func (k *cluster) waitPhase(name, group string, phases ...string) {
	k.Helper()
	k.until(fmt.Sprintf("%s is %s in group %s", name, strings.Join(phases, " or "), group), func() error {
		s, err := k.status(name)
		for _, g := range s.Groups {
			if g.Group == group && slices.Contains(phases, g.Phase) {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("its groups: %+v", s.Groups))
	})
}
