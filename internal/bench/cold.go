package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/ipvs"
)

// cold is a take-over of many services of which the heir's kernel knows nothing.
type cold struct{}

// ColdTakeover is the section of it.
func ColdTakeover() Section { return cold{} }

const (
	coldServices, coldDestinations = 10_000, 2

	caseCold   = "SIGKILL, 10,000 services x 2"
	caseFew    = "SIGKILL, 1 service x 2"
	caseMemory = "holding 10,000 services x 2"

	bareTime     = "bare batches of as many"
	directorSize = "memory of the director (RSS)"
	guardSize    = "memory of the guard (RSS)"
)

// trashed is for how long the kernel keeps destinations that were removed and searches
// them for each that is added (IP_VS_DEST_TRASH_PERIOD in include/net/ip_vs.h): the heir
// may have been the holder before.
const trashed = 125 * time.Second

// Name is a word.
func (cold) Name() string { return "cold" }

// Title heads the section's part of the page.
func (cold) Title() string { return "Taking over 10,000 services, and the memory that they take" }

// Page names the page.
func (cold) Page() string { return "table" }

// NeedsIPVS is true.
func (cold) NeedsIPVS() bool { return true }

// About says what is measured.
func (cold) About() string { return aboutCold }

// Measures are the rows of the table.
func (cold) Measures() []Measure {
	return []Measure{{Name: takenOver}, {Name: bareTime}, {Name: directorSize}, {Name: guardSize}}
}

// Plots are none.
func (cold) Plots() []Plot { return nil }

// Targets bounds the director's memory; how the take-over compares stands in the table.
func (cold) Targets() []Target {
	return []Target{{Case: caseMemory, Measure: directorSize, Contender: Zklvs, AtMost: 60}}
}

// Run measures fail-overs with one service, then with many.
func (s cold) Run(ctx context.Context, env Env) (Result, error) {
	return inNetwork(ctx, env, networkOptions{lease: usualLease, contenders: []string{Zklvs}}, func(n *network, r *Result) error { return s.measure(ctx, env, n, r) })
}

func (s cold) measure(ctx context.Context, env Env, n *network, r *Result) error {
	for _, size := range []struct {
		name     string
		services int
	}{{caseFew, 1}, {caseCold, coldServices}} {
		env.Progress("storing the documents of %d services", size.services)
		services := manyServices(size.services, coldDestinations)
		n.zklvs.documents = manyDocuments(services)
		if err := n.zklvs.apply(ctx, usualLease); err != nil {
			return err
		}
		for i := range env.Runs {
			if err := s.run(ctx, env, n, services, size.name, i, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// run kills the holder once all its rules stand, and measures the batches alone on a host
// that has nothing else to do with it.
func (s cold) run(ctx context.Context, env Env, n *network, services []ipvs.Service, name string, i int, r *Result) error {
	holder, err := s.standing(ctx, n, len(services))
	if err != nil {
		return err
	}
	if len(services) == coldServices {
		if err := errors.Join(s.memory(ctx, n, holder, r), pause(ctx, trashed)); err != nil {
			return err
		}
	}
	out, err := strike{network: n, contender: n.zklvs, fault: killed, settle: time.Second}.run(ctx)
	if err != nil {
		return err
	}
	r.Add(name, takenOver, Zklvs, "s", out.takenOver)
	if _, err := s.standing(ctx, n, len(services)); err != nil {
		return err
	}
	bare, err := n.lab.AddHost(fmt.Sprintf("bare%d-%d", len(services), i+1))
	if err != nil {
		return err
	}
	took, err := bareInstall(ctx, bare, services)
	if err != nil {
		return err
	}
	r.Add(name, bareTime, Zklvs, "s", Value{V: took.Seconds()})
	env.Progress("%s, run %d of %d: taken over after %s, the bare batches take %s", name, i+1, env.Runs,
		show(out.takenOver, "s", roundingOf(Zklvs)), took.Round(time.Millisecond))
	return nil
}

// standing waits until both directors are ready and the holder's kernel has every service.
func (s cold) standing(ctx context.Context, n *network, services int) (holder *lab.Host, err error) {
	long, cancel := within(ctx, 5*time.Minute)
	defer cancel()
	err = lab.WaitUntil(long, fmt.Sprintf("the holder has %d services", services), func() error {
		if holder, _, err = n.zklvs.ready(long); err != nil {
			return err
		}
		text, err := holder.Run(long, "cat", "/proc/net/ip_vs")
		if err != nil {
			return err
		}
		if found := strings.Count(text, "\nTCP "); found != services {
			return fmt.Errorf("%s has %d", holder.Name(), found)
		}
		return nil
	})
	return holder, err
}

func (s cold) memory(ctx context.Context, n *network, holder *lab.Host, r *Result) error {
	i := n.zklvs.index(holder)
	status, err := n.zklvs.status(ctx, i)
	if err != nil {
		return err
	}
	for _, p := range []struct {
		measure string
		pid     int
	}{{directorSize, n.zklvs.daemons[i].PID()}, {guardSize, status.Guard.PID}} {
		size, err := residentSize(p.pid)
		if err != nil {
			return err
		}
		r.Add(caseMemory, p.measure, Zklvs, "MiB", Value{V: size})
	}
	return nil
}

// residentSize is a process's VmRSS in MiB (proc(5), /proc/pid/status).
func residentSize(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(text), "\nVmRSS:")
	fields := strings.Fields(rest)
	if len(fields) < 2 || fields[1] != "kB" {
		return 0, fmt.Errorf("the memory of process %d is not in its status", pid)
	}
	kib, err := strconv.ParseFloat(fields[0], 64)
	return kib / 1024, err
}

// bareInstall writes the services on a host and removes them again; it returns how long
// the writing took.
func bareInstall(ctx context.Context, h *lab.Host, services []ipvs.Service) (time.Duration, error) {
	t := &bareTool{host: h}
	begun := boottime.Now()
	if err := t.install(ctx, services); err != nil {
		return 0, err
	}
	took := boottime.Now() - begun
	return took, t.remove(ctx, services)
}

// manyDocuments is one group with a document for each service, and %s for the lease.
func manyDocuments(services []ipvs.Service) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster: {lease: %%s}\ngroups:\n  web: {vips: [%s], label: \"eth0:2\"}\nservices:\n", vips[Zklvs])
	for _, s := range services {
		fmt.Fprintf(&b, "  s%d: {group: web, listen: %s:%d/tcp, scheduler: %s, forward: dr, real_servers: [", s.Port, s.Address, s.Port, s.Scheduler)
		for _, d := range s.Destinations {
			fmt.Fprintf(&b, "{address: \"%s\"}, ", d.AddrPort())
		}
		b.WriteString("]}\n")
	}
	return b.String()
}
