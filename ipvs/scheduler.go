package ipvs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// Schedulers lists the kernel's schedulers by name (net/netfilter/ipvs/,
// Linux 6.12). A kernel may be built without some of them: Debian's has no
// twos.
func Schedulers() []string { return slices.Clone(schedulers[:]) }

var schedulers = [...]string{"dh", "fo", "lblc", "lblcr", "lc", "mh", "nq", "ovf", "rr", "sed", "sh", "twos", "wlc", "wrr"}

// schedulerName is the name in b, without a copy where we know it.
func schedulerName(b []byte) string {
	for _, known := range schedulers {
		if string(b) == known {
			return known
		}
	}
	return string(b)
}

// SchedulerModule is the kernel module that holds a scheduler.
func SchedulerModule(scheduler string) string { return "ip_vs_" + scheduler }

// SchedulerAvailable tells whether this kernel has the scheduler's module,
// loaded or to be loaded, and wraps ErrNoScheduler with the module's name if
// not. It loads nothing. It is a hint for a check before the start: in a
// container without /lib/modules only adding a service tells.
func SchedulerAvailable(ctx context.Context, scheduler string) error {
	return schedulerAvailable(ctx, scheduler, "/sys/module", dryModprobe)
}

func schedulerAvailable(ctx context.Context, scheduler, sysModule string, modprobe func(context.Context, string) error) error {
	if !slices.Contains(Schedulers(), scheduler) {
		return fmt.Errorf("scheduler %q: %w: expected one of %v", scheduler, ErrNoScheduler, Schedulers())
	}
	module := SchedulerModule(scheduler)
	if _, err := os.Stat(filepath.Join(sysModule, module)); err == nil {
		return nil
	}
	if err := modprobe(ctx, module); err != nil {
		return fmt.Errorf("scheduler %q: %w: module %s: %w", scheduler, ErrNoScheduler, module, err)
	}
	return nil
}

// prepare loads the schedulers that the kernel must not load itself. It does so
// under its lock on all tables (ip_vs_genl_set_cmd), and the modules of lblc and
// lblcr wait for the lock on network namespaces (register_pernet_subsys); where
// one is being removed meanwhile, its removal holds the latter and waits for the
// former (ip_vs_service_nets_cleanup): from then on nothing about IPVS or network
// namespaces ever ends, until the machine is restarted. Seen on Linux 6.1.
func (t *Table) prepare(ctx context.Context, plan Plan) {
	if t.ready == nil {
		return
	}
	for _, s := range plan {
		if s.Op == AddService || s.Op == EditService {
			switch s.Service.Scheduler {
			case "lblc", "lblcr":
				t.ready(ctx, s.Service.Scheduler)
			}
		}
	}
}

// loadScheduler loads a scheduler's module if it is not there. Where that fails,
// the kernel tells when it is asked for the scheduler.
func loadScheduler(ctx context.Context, scheduler string) {
	module := SchedulerModule(scheduler)
	if _, err := os.Stat("/sys/module/" + module); err != nil {
		_ = runModprobe(ctx, "--quiet", module)
	}
}

// dryModprobe asks whether modprobe would find the module, built in or not.
func dryModprobe(ctx context.Context, module string) error {
	return runModprobe(ctx, "--dry-run", "--quiet", module)
}

// runModprobe runs modprobe, for ten seconds at most.
func runModprobe(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "modprobe", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("modprobe: %w%s", err, quoted(out))
	}
	return nil
}
