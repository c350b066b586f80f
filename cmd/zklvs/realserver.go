package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/realserver"
	"github.com/zklvs/zklvs/internal/spec"
)

func realserverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "realserver",
		Short: "Prepare this host to be a real server for direct routing",
		Long: `Hides VIPs on this host's lo so that it accepts packets for them and never
answers ARP: arp_ignore=1 and arp_announce=2 on "all" and the interface first,
then VIP/32 on lo. What was there before is written down and put back by down.`,
		Example: `  zklvs realserver up --vip 192.168.150.100 --interface eth0
  zklvs realserver down`,
	}
	cmd.AddCommand(
		realserverAction("up", "Prepare the host and return", (*realserver.Agent).Up),
		realserverAction("down", "Undo up: restore what was there before", (*realserver.Agent).Down),
		realserverRun())
	return family(cmd)
}

// realserverFlags say what to prepare.
type realserverFlags struct {
	vips         []string
	iface, label string
	runDir       string
	logs         logFlags
	needsVIPs    bool
}

func (f *realserverFlags) add(cmd *cobra.Command) {
	f.needsVIPs = cmd.Name() != "down"
	if f.needsVIPs {
		cmd.Flags().StringSliceVar(&f.vips, "vip", nil, "VIP to hide on lo (repeatable)")
		cmd.Flags().StringVar(&f.iface, "interface", "", "interface on which the director's packets arrive")
		cmd.Flags().StringVar(&f.label, "label", "", "label of the addresses, such as lo:1")
	}
	cmd.Flags().StringVar(&f.runDir, "run-dir", spec.DefaultLocal().RunDir, "where to write down what was there before")
	f.logs.add(cmd)
}

// agent makes the agent; the returned function releases it.
func (f *realserverFlags) agent() (*realserver.Agent, func(), error) {
	cfg := realserver.Config{Interface: f.iface, Label: f.label, StatePath: filepath.Join(f.runDir, "realserver")}
	if f.needsVIPs && (len(f.vips) == 0 || f.iface == "") {
		return nil, nil, badInput(errors.New("which addresses, arriving where? Expected --vip ADDRESS and --interface NAME"))
	}
	for _, text := range f.vips {
		vip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, nil, badInput(fmt.Errorf("--vip %q: expected an IPv4 address without prefix", text))
		}
		cfg.VIPs = append(cfg.VIPs, vip)
	}
	var err error
	if cfg.Logger, err = f.logs.logger(); err != nil {
		return nil, nil, err
	}
	if os.Geteuid() != 0 {
		return nil, nil, errors.New("changing addresses and sysctls needs root: run as root")
	}
	if err := os.MkdirAll(f.runDir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("--run-dir: %w", err)
	}
	netlink, err := fence.NewNetlink()
	if err != nil {
		return nil, nil, err
	}
	cfg.Kernel = netlink
	agent, err := realserver.New(cfg)
	if err != nil {
		netlink.Close()
		return nil, nil, badInput(err)
	}
	return agent, func() {
		if err := agent.Close(); err != nil {
			cfg.Logger.Warn("close", zap.Error(err))
		}
		netlink.Close()
	}, nil
}

func realserverAction(use, short string, act func(*realserver.Agent) error) *cobra.Command {
	return realserverSub(use, short, func(_ context.Context, a *realserver.Agent) error { return act(a) })
}

func realserverRun() *cobra.Command {
	return realserverSub("run", "Prepare the host and keep it so against drift; the end leaves it up",
		func(ctx context.Context, a *realserver.Agent) error {
			err := a.Run(ctx)
			if errors.Is(err, realserver.ErrTakenDown) {
				return nil // somebody wants it down: a service manager must not start it again
			}
			return err
		})
}

func realserverSub(use, short string, act func(context.Context, *realserver.Agent) error) *cobra.Command {
	var f realserverFlags
	example := "  zklvs realserver " + use
	if use != "down" {
		example += " --vip 192.168.150.100 --interface eth0 --label lo:1"
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example, Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			agent, release, err := f.agent()
			if err != nil {
				return err
			}
			defer release()
			return act(cmd.Context(), agent)
		},
	}
	f.add(cmd)
	return cmd
}
