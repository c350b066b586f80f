package systemd_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	scenarioVariable = "ZKLVS_UNIT_SCENARIO"
	findingsFile     = "findings"
	systemdProgram   = "/lib/systemd/systemd"
)

// step is one part of the scenario. Each leaves a holding director behind, until
// the last.
type step struct {
	name string
	play func(*guest) error
}

var steps = []step{
	{"starts, is ready and holds", (*guest).starts},
	{"confined, and everything works", (*guest).confined},
	{"daemon killed", (*guest).daemonKilled},
	{"guard killed", (*guest).guardKilled},
	{"both killed", (*guest).bothKilled},
	{"daemon hung up", (*guest).daemonHungUp},
	{"memory short", (*guest).memoryShort},
	{"daemon frozen", (*guest).daemonFrozen},
	{"both frozen", (*guest).bothFrozen},
	{"stops in order", (*guest).stops},
	{"ready without ZooKeeper, and watched", (*guest).watched},
}

// playScenario plays every step, up to the first that fails.
func playScenario() (status int) {
	g, err := newGuest()
	for _, s := range steps {
		if err != nil {
			break
		}
		begun := time.Now()
		err = s.play(g)
		f := finding{Step: s.name, Took: time.Since(begun), Facts: g.facts}
		g.facts = nil
		if err != nil {
			f.Error = err.Error()
		}
		err = errors.Join(err, note(f))
	}
	if g != nil {
		err = errors.Join(err, g.close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	console, err := os.ReadFile("/run/ctl/console")
	err = errors.Join(err, os.WriteFile("/run/out/console", console, 0o644),
		os.WriteFile("/run/ctl/status", fmt.Appendln(nil, status), 0o644))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// starts: Type=notify works, a new cluster's groups are taken at once, and ip_vs
// is loaded when it is needed.
func (g *guest) starts() error {
	if _, err := os.Stat("/proc/net/ip_vs"); err == nil {
		return errors.New("ip_vs is loaded already: nothing is learned about loading it")
	}
	if err := g.run("zklvs", "apply", "-f", "/etc/zklvs/web.yaml"); err != nil {
		return err
	}
	begun := time.Now()
	if err := g.run("systemctl", "start", "zklvs"); err != nil {
		return err
	}
	g.factf("ready after %v", since(begun))
	if err := g.expect(map[string]string{"ActiveState": "active", "SubState": "running", "NRestarts": "0", "Type": "notify",
		"KillMode": "mixed", "FinalKillSignal": "1", "OOMPolicy": "continue", "WatchdogUSec": "20s", "WatchdogSignal": "9"}); err != nil {
		return err
	}
	if err := g.holds(); err != nil {
		return err
	}
	g.factf("holding after %v", since(begun))
	return nil
}

// confined: what the unit forbids is forbidden, and nothing that is needed is.
func (g *guest) confined() error {
	p, err := g.processes()
	if err != nil {
		return err
	}
	return errors.Join(
		g.output("kernel gate (eBPF)", "zklvs", "status"),
		contains("/proc/net/ip_vs", "0A630002:0050"),
		contains(procFile(p.guard, "status"), "CapPrm:\t0000000000003000", "CapEff:\t0000000000003000", "NoNewPrivs:\t1", "Seccomp:\t2"),
		contains(procFile(p.main, "status"), "NoNewPrivs:\t1", "Seccomp:\t2"),
		contains(procFile(p.main, "oom_score_adj"), "-900"), contains(procFile(p.guard, "oom_score_adj"), "-900"),
		readOnly(p.main, "/etc"), readOnly(p.guard, "/etc"),
		exist("/run/zklvs/web.vips", "/run/zklvs/web.services", "/run/zklvs/web.sock"),
		contains("/run/zklvs/script", "65534"),
	)
}

// daemonKilled: the guard fences and writes the receipts before systemd ends it.
func (g *guest) daemonKilled() error {
	before, err := g.disturb("kill the daemon", func(p processes) error { return syscall.Kill(p.main, syscall.SIGKILL) })
	if err != nil {
		return err
	}
	return g.recovered(before, true, "settled")
}

// guardKilled: the daemon fences in its place and takes again; systemd has
// nothing to do.
func (g *guest) guardKilled() error {
	before, err := g.disturb("kill the guard", func(p processes) error { return syscall.Kill(p.guard, syscall.SIGKILL) })
	if err != nil {
		return err
	}
	return g.recovered(before, false, "fencing in its place", "another guard runs")
}

// bothKilled: ExecStopPost fences.
func (g *guest) bothKilled() error {
	before, err := g.disturb("kill both", func(p processes) error {
		return errors.Join(syscall.Kill(p.guard, syscall.SIGKILL), syscall.Kill(p.main, syscall.SIGKILL))
	})
	if err != nil {
		return err
	}
	return g.recovered(before, true, "no VIP and no IPVS service of zklvs is left")
}

// daemonHungUp: FinalKillSignal= ends the daemon, and its guard goes on.
func (g *guest) daemonHungUp() error {
	before, err := g.disturb("SIGHUP to both", func(p processes) error {
		return errors.Join(syscall.Kill(p.guard, syscall.SIGHUP), syscall.Kill(p.main, syscall.SIGHUP))
	})
	if err != nil {
		return err
	}
	return g.recovered(before, true, "settled")
}

// memoryShort: the kernel kills one of the two, and OOMPolicy= lets the other
// live to fence for it.
func (g *guest) memoryShort() error {
	before, err := g.disturb("memory short", func(processes) error { return g.squeeze() })
	if err != nil {
		return err
	}
	if err := contains(cgroup+"/memory.events", "oom_group_kill 0"); err != nil {
		return err
	}
	_, err = g.holdsAgain(before) // whichever was killed, or both
	return err
}

// daemonFrozen: its own process timer kills it.
func (g *guest) daemonFrozen() error {
	before, err := g.disturb("freeze the daemon", func(p processes) error { return syscall.Kill(p.main, syscall.SIGSTOP) })
	if err != nil {
		return err
	}
	return g.recovered(before, true)
}

// bothFrozen: both process timers go off.
func (g *guest) bothFrozen() error {
	before, err := g.disturb("freeze both", func(p processes) error {
		return errors.Join(syscall.Kill(p.guard, syscall.SIGSTOP), syscall.Kill(p.main, syscall.SIGSTOP))
	})
	if err != nil {
		return err
	}
	return g.recovered(before, true)
}

// stops: released in order, and nothing is left.
func (g *guest) stops() error {
	begun := time.Now()
	if err := g.run("systemctl", "stop", "zklvs"); err != nil {
		return err
	}
	g.factf("stopped after %v", since(begun))
	left, err := g.members()
	if err != nil || len(left) > 0 {
		return fmt.Errorf("processes left in the unit: %v (%w)", left, err)
	}
	if bound, err := g.bound(); err != nil || len(bound) > 0 {
		return fmt.Errorf("still bound: %v (%w)", bound, err)
	}
	if table, err := os.ReadFile("/proc/net/ip_vs"); err != nil || strings.Contains(string(table), "0A630002") {
		return fmt.Errorf("rules left: %s (%w)", table, err)
	}
	return errors.Join(
		g.expect(map[string]string{"ActiveState": "inactive", "Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0"}),
		contains("/run/out/zklvs.log", "stopped in order"),
		g.released(),
	)
}

// watched: with no ZooKeeper the daemon is ready and holds nothing, so that no
// process timer ends it when it is stuck: systemd's watchdog does, and starts it
// again.
func (g *guest) watched() error {
	short := "[Service]\nWatchdogSec=3s\n"
	if err := errors.Join(g.zookeeper.Close(), os.WriteFile("/etc/systemd/system/zklvs.service.d/watchdog.conf", []byte(short), 0o644),
		g.run("systemctl", "daemon-reload")); err != nil {
		return err
	}
	begun := time.Now()
	if err := g.run("systemctl", "start", "zklvs"); err != nil {
		return err
	}
	g.factf("ready after %v", since(begun))
	p, err := g.processes()
	if err != nil {
		return err
	}
	begun = time.Now()
	if err := syscall.Kill(p.main, syscall.SIGSTOP); err != nil {
		return err
	}
	if err := g.until("systemd ends the frozen daemon and starts another", func() error {
		now, err := g.processes()
		if err == nil && now.main == p.main {
			err = errors.New("it is still there")
		}
		return err
	}); err != nil {
		return err
	}
	g.factf("another daemon runs %v after the freeze (WatchdogSec=3s)", since(begun))
	return errors.Join(g.run("systemctl", "stop", "zklvs"), g.expect(map[string]string{"ActiveState": "inactive"}))
}

// disturb does something to the processes of a unit that holds, and says what was
// before: it waits until no VIP is bound.
func (g *guest) disturb(what string, act func(processes) error) (disturbance, error) {
	var d disturbance
	var err error
	if err = g.holds(); err != nil {
		return d, err
	}
	if d.processes, err = g.processes(); err != nil {
		return d, err
	}
	if d.log, err = os.ReadFile("/run/out/zklvs.log"); err != nil {
		return d, err
	}
	d.what, d.at = what, time.Now()
	g.vips.forget()
	return d, act(d.processes)
}

// disturbance is a moment, and what was then.
type disturbance struct {
	processes

	what string
	at   time.Time
	log  []byte
}

// recovered waits until the unit holds again after all VIPs were gone, and looks
// whether it is another daemon now, and at what was logged meanwhile.
func (g *guest) recovered(d disturbance, restarted bool, logged ...string) error {
	now, err := g.holdsAgain(d)
	if err != nil {
		return err
	}
	if restarted != (now.main != d.main) {
		return fmt.Errorf("daemon %d before, %d now; wanted another: %v", d.main, now.main, restarted)
	}
	if now.guard == d.guard {
		return fmt.Errorf("guard %d survived", d.guard)
	}
	log, err := os.ReadFile("/run/out/zklvs.log")
	if err != nil {
		return err
	}
	fresh := string(log[len(d.log):])
	for _, text := range logged {
		if !strings.Contains(fresh, text) {
			err = errors.Join(err, fmt.Errorf("%q was not logged", text))
		}
	}
	return err
}

// holdsAgain waits until all VIPs were gone and are back, and says how long
// that took.
func (g *guest) holdsAgain(d disturbance) (processes, error) {
	if err := g.until("all VIPs were gone once after: "+d.what, g.vips.allGone); err != nil {
		return processes{}, err
	}
	if err := g.holds(); err != nil {
		return processes{}, err
	}
	gone, back := g.vips.interruption()
	g.factf("%s: last VIP gone after %v, all back after %v", d.what, gone.Sub(d.at).Round(time.Millisecond), back.Sub(d.at).Round(time.Millisecond))
	return g.processes()
}
