package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/guard"
)

// guardCommand is the process that `zklvs run` starts beside itself.
func guardCommand() *cobra.Command {
	var logs logFlags
	cmd := &cobra.Command{
		Use:    "guard",
		Short:  "Bind and remove VIPs at a director's word (started by `zklvs run`)",
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			in, err := guard.Inherit()
			if err != nil {
				return badInput(err)
			}
			log, err := logs.logger()
			if err != nil {
				return err
			}
			if err := os.WriteFile("/proc/self/comm", []byte("zklvs-guard"), 0); err != nil { // it was started as /proc/self/exe
				log.Debug("the process keeps the name that it was started with", zap.Error(err))
			}
			// The director is the one that ends in order; the guard follows it.
			signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			log = log.Named("guard")
			return guard.NewProcess(guard.ProcessConfig{
				Conn: in.Conn, Director: in.Director, ID: random(), Version: versionString(),
				Assemble: guard.Assembler(log, boottime.Now), Now: boottime.Now, Logger: log,
			}).Run()
		},
	}
	logs.add(cmd)
	return cmd
}
