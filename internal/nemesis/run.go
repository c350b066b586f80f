package nemesis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/internal/spec"
)

// Options shape a run.
type Options struct {
	// Zklvs is the program under test, Version what it says of itself.
	Zklvs, Version string
	Seed           uint64
	// Faults is their number, Only the numbers of those that are played; none: all.
	Faults int
	Only   []int
	// Duration is after how long no other fault is begun; 0: however long they take.
	Duration time.Duration
	// Kinds are drawn from; none: the usual ones that can be injected here.
	Kinds []string
	Lease time.Duration
	// OnZooKeeperLoss goes into the cluster's document; "": not mentioned.
	OnZooKeeperLoss string
	// Interval is the time between two requests through each VIP.
	Interval time.Duration
	// Dir gets what is kept of violations, "" for nothing.
	Dir string
	// Progress is told what happens, a line at a time; may be nil.
	Progress func(format string, a ...any)
}

func (o *Options) complete() error {
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	if o.Lease == 0 {
		o.Lease = time.Second
	}
	if o.Interval == 0 {
		o.Interval = usualInterval
	}
	return o.validate()
}

// validate refuses what cannot be played, before anything is started.
func (o *Options) validate() error {
	switch {
	case o.Faults < 1:
		return errors.New("the number of faults must be at least 1")
	case o.Lease < spec.MinLease || o.Lease+fence.LatenessGated > spec.MaxLease:
		return fmt.Errorf("the lease of %v is out of range: expected %v to %v", o.Lease, spec.MinLease, spec.MaxLease-fence.LatenessGated)
	}
	if policy := spec.LossPolicy(o.OnZooKeeperLoss); policy != spec.Automatic && policy != spec.Hold && policy != spec.Fence {
		words := []string{string(spec.Hold), string(spec.Fence)}
		return fmt.Errorf("%q is no policy; expected one of %s%s", policy, strings.Join(words, ", "), spec.DidYouMean(string(policy), words))
	}
	for _, n := range o.Only {
		if n < 1 || n > o.Faults {
			return fmt.Errorf("there is no fault %d: they are numbered from 1 to %d", n, o.Faults)
		}
	}
	_, err := choose(append(slices.Clone(o.Kinds), usualKinds()...))
	return err
}

// ErrOptions says that a run was asked for that cannot be played.
var ErrOptions = errors.New("nemesis")

// usualInterval is the time between two requests where none is given.
const usualInterval = 20 * time.Millisecond

// startPatience is for a cluster to come up; patience for anything that is not
// itself judged.
const (
	startPatience = 2 * time.Minute
	patience      = time.Minute
)

// run is a run under way.
type run struct {
	Options
	*observers
	site   *site
	timing election.Timing
	report *Report
	begun  time.Duration
	// judged is the time until which overlaps have been reported, by group.
	judged [2]time.Duration
}

// Run builds a cluster, breaks it as drawn and takes it down again. The report is
// there after an error too, as far as it came; a violation is no error.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	s, err := newSite(ctx, o)
	if s != nil {
		defer func() {
			err = errors.Join(err, s.Close())
			if report != nil {
				report.processors()
			}
		}()
	}
	if err != nil {
		return nil, err
	}
	observers, err := newObservers(s, o.Interval)
	if err != nil {
		return nil, err
	}
	s.holder = observers.holder
	cluster := spec.DefaultCluster()
	cluster.Lease = o.Lease
	cluster.Renew = election.DefaultRenew(o.Lease)
	r := &run{Options: o, observers: observers, site: s, timing: director.Timing(cluster, fence.LatenessGated), begun: boottime.Now()}
	r.report = r.newReport()
	watching, stop := observers.start(ctx)
	err = r.play(watching)
	err = errors.Join(err, stop())
	r.finish()
	return r.report, err
}

func (r *run) newReport() *Report {
	return &Report{
		Command: strings.Join(r.command(nil), " "), Seed: r.Seed, Version: r.Version, Kernel: kernel(), Date: time.Now().UTC().Format(time.DateOnly),
		Services: r.site.ipvs, LeaseMS: millis(r.Lease), WaitMS: millis(r.timing.Wait(r.timing.Lease + r.timing.Lateness)),
		BoundMS: millis(Bound(r.timing, false)), LostMS: millis(Bound(r.timing, true)), IntervalMS: millis(r.Interval), LeftOut: map[string]string{},
	}
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	name := unix.ByteSliceToString(u.Release[:])
	if strings.Contains(unix.ByteSliceToString(u.Version[:]), "UML") || needsOwnClockHere() == "" {
		name += " (user-mode Linux)"
	}
	return name
}

// play begins when all is well.
func (r *run) play(ctx context.Context) error {
	r.Progress("waiting until all is well")
	wait, cancel := demo.Within(ctx, startPatience)
	defer cancel()
	if err := lab.WaitUntil(wait, "all is well before the first fault", func() error { return r.ready(wait) }); err != nil {
		return err
	}
	faults, err := Draw(r.Seed, r.Faults, r.available())
	if err != nil {
		return err
	}
	if len(r.Only) > 0 {
		faults = slices.DeleteFunc(faults, func(f Fault) bool { return !slices.Contains(r.Only, f.Number) })
	}
	begun := boottime.Now()
	for _, f := range faults {
		if ctx.Err() != nil || r.Duration > 0 && boottime.Now()-begun > r.Duration {
			break
		}
		if err := r.suffer(ctx, f); err != nil {
			return fmt.Errorf("fault %d (%s): %w", f.Number, f.Name(), err)
		}
	}
	return context.Cause(ctx)
}

// available are the names of the kinds that can be injected here; the others are
// told about.
func (r *run) available() (names []string) {
	wanted := r.Kinds
	if len(wanted) == 0 {
		wanted = usualKinds()
	}
	for _, name := range wanted {
		why := ""
		if k := kindOf(name); k.missing != nil {
			why = k.missing(r.site)
		}
		if why != "" {
			r.report.LeftOut[name] = why
			r.Progress("LEFT OUT: %s: %s", name, why)
			continue
		}
		names = append(names, name)
	}
	return names
}

// ready is an error until the client is served through both VIPs, and every
// director is in its place.
func (r *run) ready(ctx context.Context) error {
	rest(ctx, 200*time.Millisecond)
	ended, err := r.site.mend(ctx)
	for _, e := range ended {
		r.Progress("%s", e)
	}
	if err != nil {
		return err
	}
	since := boottime.Now() - 2*steady
	for i, g := range r.site.groups {
		if _, ok := servedFrom(r.requesters[i].Outcomes(since), since); !ok {
			return fmt.Errorf("the client is not served by group %s", g.name)
		}
	}
	return r.site.settled(ctx)
}

// at is a time as the report tells it.
func (r *run) at(t time.Duration) float64 {
	return (t - r.begun).Round(10 * time.Microsecond).Seconds()
}

// command is the one that plays faults again; all of the run's if none is named.
func (r *run) command(numbers []int) []string {
	words := []string{"--seed", fmt.Sprint(r.Seed), "--faults", fmt.Sprint(r.Faults), "--lease", r.Lease.String()}
	if len(r.Kinds) > 0 {
		words = append(words, "--kinds", strings.Join(r.Kinds, ","))
	}
	if r.Interval != usualInterval {
		words = append(words, "--request-interval", r.Interval.String())
	}
	if r.OnZooKeeperLoss != "" {
		words = append(words, "--on-zookeeper-loss", r.OnZooKeeperLoss)
	}
	for _, n := range numbers {
		words = append(words, "--only", fmt.Sprint(n))
	}
	kernel := "host"
	if needsOwnClockHere() == "" {
		kernel = "uml"
	}
	return []string{"ZKLVS_KERNEL=" + kernel, "make nemesis-run", "NEMESIS='" + strings.Join(words, " ") + "'"}
}

// processors notes what the run cost, once all processes have ended.
func (r *Report) processors() {
	var own, others unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &own) != nil || unix.Getrusage(unix.RUSAGE_CHILDREN, &others) != nil {
		return
	}
	share := func(u unix.Rusage) float64 {
		return float64((u.Utime.Nano()+u.Stime.Nano())/int64(time.Millisecond)) / 1000 / r.Seconds
	}
	r.ObserversCPU, r.ClusterCPU = share(own), share(others)
}

// finish completes the report.
func (r *run) finish() {
	r.report.Seconds = r.at(boottime.Now())
	for i, g := range r.site.groups {
		tally := r.requesters[i].Tally()
		r.report.Requests += tally.Sent
		r.report.Answered += tally.Answered
		r.report.Probes += len(r.witnesses[i].Sent(0))
		r.report.Lanes = append(r.report.Lanes, Lane{Group: g.name, VIP: g.vip.String(), Spans: r.spans(i)})
	}
	r.report.summarize()
}

// pause is how long nobody may answer before a new span begins.
const pause = 100 * time.Millisecond

func (r *run) spans(group int) (spans []Span) {
	open := map[string]int{} // by host: its newest span
	claims := r.claims(group, 0)
	slices.SortFunc(claims, func(a, b Claim) int { return cmp.Compare(a.At, b.At) })
	for _, c := range claims {
		if c.announced() {
			continue
		}
		if i, ok := open[c.Host]; ok && r.at(c.At)-spans[i].Until < pause.Seconds() {
			spans[i].Until = r.at(c.At)
			continue
		}
		open[c.Host] = len(spans)
		spans = append(spans, Span{Host: c.Host, From: r.at(c.At), Until: r.at(c.At)})
	}
	return spans
}
