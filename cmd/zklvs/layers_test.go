package main

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/fence/deadman"
	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/guard"
	"github.com/zklvs/zklvs/internal/lab"
)

// A word that is no setting never switches a layer off: it is refused, with the
// place where it stands.
func TestFenceLayersMisspelt(t *testing.T) {
	const head = "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\n"
	for name, c := range map[string]struct{ line, want string }{
		"watchdog":       {"watchdog: requird", `FILE:3: watchdog: "requird" is no use of the watchdog; expected one of off, automatic, required (did you mean "required"?)`},
		"watchdog yes":   {"watchdog: yes", `FILE:3: watchdog: `},
		"watchdog empty": {"watchdog:", `FILE:3: watchdog`},
		"gate":           {"gate: nftable", `FILE:3: gate: "nftable" is no gate; expected one of auto, nftables, none (did you mean "nftables"?)`},
		"gate off":       {"gate: off", `FILE:3: gate: `},
		"key":            {"watchdogs: required", `FILE:3: unknown key "watchdogs"; expected one of`},
	} {
		t.Run(name, func(t *testing.T) {
			config := file(t, "zklvs.yaml", head+c.line+"\n")
			_, stderr, code := runCommandLine(t, "run", "-c", config)
			if want := strings.ReplaceAll(c.want, "FILE", config); code != exitBadInput || !strings.HasPrefix(stderr, want) {
				t.Errorf("code %d, stderr %q, want %d and %q", code, stderr, exitBadInput, want)
			}
		})
	}
}

// A lease that the layers cannot keep is refused by apply.
func TestLeaseOutOfRange(t *testing.T) {
	config := file(t, "zklvs.yaml", "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\n")
	for lease, want := range map[string]string{
		"900ms": "web.yaml:1: cluster.lease: 900ms is out of range; expected a duration with its unit from 1s to ",
		"0s":    "web.yaml:1: cluster.lease: 0s is out of range; expected a duration with its unit from 1s to ",
		"60s":   "web.yaml:1: cluster.lease: 60s is out of range; expected a duration with its unit from 1s to ",
		"3":     "web.yaml:1: cluster.lease: ",
	} {
		t.Run(lease, func(t *testing.T) {
			document := file(t, "web.yaml", "cluster: {lease: "+lease+"}\ngroups: {web: {vips: [192.0.2.100]}}\n")
			_, stderr, code := runCommandLine(t, "apply", "-c", config, "-f", document, "--timeout", "100ms")
			if code != exitBadInput || !strings.Contains(stderr, want) {
				t.Errorf("code %d, stderr %q, want %d and %q", code, stderr, exitBadInput, want)
			}
		})
	}
}

// A guard of another version is not worked with, and neither works for another
// one: here a real guard gets the settings of a director of another version.
func TestGuardOfAnotherVersion(t *testing.T) {
	supervisor := guard.NewSupervisor(guard.SupervisorConfig{
		Launch:    guard.Command{Path: thisProgram, Name: os.Args[0], Args: []string{"guard"}, Life: os.Stdin}.Launch,
		Settings:  guard.Settings{Version: "v9.9.9", Cluster: "web", Node: "node01"},
		FenceHere: func() error { return nil }, Lost: func(string) {},
		Alarm: deadman.NewTracker(nil), Now: boottime.Now, Logger: zap.NewNop(),
	})
	_, err := supervisor.Start()
	want := "start the guard: the guard is of version " + versionString() + ", the director of v9.9.9: install one version of zklvs and start the director again"
	if err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if pid := supervisor.Status().PID; pid != 0 {
		t.Errorf("the guard runs: process %d", pid)
	}
}

// lone is a host with a director's file, and no ZooKeeper that could be reached.
func lone(t *testing.T, settings string) *lab.Host {
	t.Helper()
	hosts, err := newLab(t).AddNodes(demo.First)
	if err == nil {
		err = hosts[0].WriteFile(demo.ConfigPath, "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\ninterface: eth0\n"+settings)
	}
	if err != nil {
		t.Fatal(err)
	}
	return hosts[0]
}

// started starts a director and returns when it says which layers it has; the
// error is that of one that ended instead.
func started(t *testing.T, h *lab.Host, argv ...string) (*lab.Process, error) {
	t.Helper()
	p, err := h.Start(append(argv, program(t), "run", "--config", demo.ConfigPath, "--log-format", "json")...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return p, p.WaitLog(ctx, `"msg":"starting"`)
}

var layersSaid = regexp.MustCompile(`"fence_layers":\[(.*?)\]`)

func layersOf(t *testing.T, p *lab.Process) string {
	t.Helper()
	said := layersSaid.FindStringSubmatch(p.Log())
	if said == nil {
		t.Fatalf("the log names no layers:\n%s", p.Log())
	}
	return said[1]
}

// wantRefusal wants a director that ended and said why, and what to do.
func wantRefusal(t *testing.T, p *lab.Process, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("it runs, with the layers %s", layersOf(t, p))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if code, err := p.Wait(ctx); err != nil || code != exitFailed {
		t.Errorf("exit status %d, %v; want %d", code, err, exitFailed)
	}
	_, said, _ := strings.Cut(p.Log(), "zklvs: ")
	for _, text := range want {
		if !strings.Contains(said, text) {
			t.Errorf("it ended with %q, which lacks %q", said, text)
		}
	}
}

func TestHostWatchdogRequired(t *testing.T) {
	requireHost(t)
	h := lone(t, "watchdog: required\nwatchdog_device: /nowhere/watchdog\n")
	p, err := started(t, h)
	wantRefusal(t, p, err, "start the guard: ", "/nowhere/watchdog", "no such file", "modprobe softdog", "name the right device")
}

// One that is only wanted if there is one is done without, and that is said.
func TestHostWatchdogAutomatic(t *testing.T) {
	requireHost(t)
	p, err := started(t, lone(t, "watchdog: automatic\nwatchdog_device: /nowhere/watchdog\n"))
	if err != nil {
		t.Fatal(err)
	}
	if layers := layersOf(t, p); strings.Contains(layers, "watchdog") {
		t.Errorf("layers %s", layers)
	}
	if !strings.Contains(p.Log(), "going on without a watchdog") {
		t.Errorf("nothing is said of the watchdog:\n%s", p.Log())
	}
}

// withoutBPF runs a program that may not load eBPF: it has neither CAP_BPF nor
// CAP_SYS_ADMIN.
var withoutBPF = []string{"setpriv", "--bounding-set", "-bpf,-sys_admin"}

// Where eBPF is refused the gate is made of nftables, and that is said; where
// both are, see TestKernelGateRefused.
func TestHostGateFallsBack(t *testing.T) {
	requireHost(t)
	p, err := started(t, lone(t, ""), withoutBPF...)
	if err != nil {
		if !strings.Contains(p.Log(), "gate: none") {
			t.Fatal(err)
		}
		t.Skipf("SKIP: this kernel has no nftables for network devices either: %s", p.Log())
	}
	if layers := layersOf(t, p); !strings.Contains(layers, `"kernel gate (nftables)"`) {
		t.Errorf("layers %s", layers)
	}
}

// The kernel of the wrapper has no nftables for network devices: with eBPF
// refused too, no director starts but one that is told to do without a gate.
func TestKernelGateRefused(t *testing.T) {
	requireIPVS(t)
	h := lone(t, "")
	p, err := started(t, h, withoutBPF...)
	wantRefusal(t, p, err, "start the guard: this kernel refuses the gate: ", "gate: none", "docs/SAFETY.md")

	if err := h.WriteFile(demo.ConfigPath, "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\ninterface: eth0\ngate: none\n"); err != nil {
		t.Fatal(err)
	}
	p, err = started(t, h, withoutBPF...)
	if err != nil {
		t.Fatal(err)
	}
	wantUngated(t, p)
}

func wantUngated(t *testing.T, p *lab.Process) {
	t.Helper()
	if layers, want := layersOf(t, p), `"director step-down","guard","address lifetime","process timers"`; layers != want {
		t.Errorf("layers %s, want %s", layers, want)
	}
	if !regexp.MustCompile(`"level":"warn".*"msg":"no kernel gate, as configured`).MatchString(p.Log()) {
		t.Errorf("no warning:\n%s", p.Log())
	}
}

// A director without a gate says so at its start, and everybody's status shows
// who has which layers.
func TestHostGateNone(t *testing.T) {
	requireHost(t)
	k := startPlain(t)
	_, err := k.Apply(k.ctx, "cluster: {lease: 8s}\ngroups:\n  web: {vips: [192.168.150.100]}\n")
	if want := "lease 8s plus a fence lateness of 2.5s is above 10s: shorten the lease to at most 7.5s"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("apply: %v, want %q", err, want)
	}
	k.must1(k.Apply(k.ctx, "groups:\n  web: {vips: [192.168.150.100]}\n"))
	h := k.Lab.Host(demo.RealServer1)
	k.must(h.WriteFile(demo.ConfigPath, "cluster: web\nzookeeper: {servers: ["+strings.Join(k.ZooKeeper.Servers(), ", ")+"]}\ninterface: eth0\ngate: none\n"))
	p, err := started(t, h)
	k.must(err)
	wantUngated(t, p)
	k.until("status shows the layers", func() error {
		out, err := k.Zklvs(k.ctx, demo.First, "status")
		switch {
		case err != nil:
			return err
		case !regexp.MustCompile(`(?m)^` + demo.RealServer1 + ` .*  director step-down, guard, address lifetime, process timers  `).MatchString(out),
			!regexp.MustCompile(`(?m)^` + demo.First + ` .*  director step-down, guard, kernel gate \(\w+\), address lifetime, process timers  `).MatchString(out):
			return errors.New("it does not:\n" + out)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	k.must(p.Stop(ctx))
}
