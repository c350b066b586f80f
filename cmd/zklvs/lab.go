package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/deploy/kernel"
	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
)

// labPatience is how long a lab may take to come up or go down.
const labPatience = 3 * time.Minute

func labCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "A whole cluster in network namespaces of this machine, to try and to break",
		Long: `Two directors (node01, node04), two real servers (node02, node03), a client and
ZooKeeper (zk1), each a host of its own in network namespaces, in a kernel with
IPVS: this one if it has ip_vs, else user-mode Linux. Needs root and the
packages that "make deps" installs.`,
		Example: `  zklvs lab up
  zklvs lab exec client curl http://192.168.150.100/
  zklvs lab exec node01 zklvs status
  zklvs lab exec node01 ip link set eth0 down
  zklvs lab down`,
	}
	cmd.AddCommand(labUpCommand(), labExecCommand(), labDownCommand(), labDemoCommand(), labNemesisCommand(), labServeCommand())
	return family(cmd)
}

// labDir is where a lab that is up keeps its spool, log and scripts.
func labDir(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "/run/zklvs-lab", "directory of the lab: one lab for each")
}

func spool(dir string) string { return filepath.Join(dir, "spool") }

func labUpCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Bring the demo's topology up and leave it up",
		Example: "  zklvs lab up && zklvs lab exec client curl http://192.168.150.100/",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if lab.Up(spool(dir)) {
				return badInput(fmt.Errorf("a lab is up in %s: use it with `zklvs lab exec`, or end it with `zklvs lab down`", dir))
			}
			if os.Geteuid() != 0 {
				return errors.New("network namespaces need root: use sudo")
			}
			return bringUp(cmd, dir)
		},
	}
	labDir(cmd, &dir)
	return cmd
}

// bringUp starts the lab's server in the background, in a kernel with IPVS, and
// follows its log until it serves. Ctrl-C takes it down again.
func bringUp(cmd *cobra.Command, dir string) error {
	if err := os.MkdirAll(spool(dir), 0o700); err != nil {
		return err
	}
	wrapper, err := kernel.Extract(dir)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	alive, err := lockLab(dir)
	if err != nil {
		return err
	}
	defer alive.Close()
	server := exec.Command(wrapper, exe, "lab", "serve", "--dir", dir)
	server.Env = append(os.Environ(), "ZKLVS_OUT="+spool(dir))
	server.Stdout, server.Stderr = log, log
	server.ExtraFiles = []*os.File{alive}                   // held until the last process of the lab is gone
	server.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives this command and its terminal
	if err := server.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- server.Wait()
		close(ended)
	}()
	if err := waitUp(cmd, dir, ended); err != nil {
		// SIGTERM lets the wrapper end everything that it started
		if kill := server.Process.Signal(syscall.SIGTERM); kill == nil {
			waitClosed(ended)
		}
		return err
	}
	where := ""
	if cmd.Flags().Changed("dir") {
		where = " --dir " + dir
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), `The lab is up. VIP %[1]s, group web; its log is %[2]s.
  zklvs lab exec%[3]s client curl http://%[1]s/
  zklvs lab exec%[3]s node01 zklvs status
  zklvs lab exec%[3]s node01 zkCli.sh -server 10.99.0.1:2181 ls -R /zklvs
  zklvs lab down%[3]s
`, lab.VIP, log.Name(), where)
	return err
}

// lockLab takes the lock that everything of a lab holds while it lives.
func lockLab(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("a lab in %s is coming up or going down: %w", dir, err)
	}
	return f, nil
}

// waitGone waits until the last process of a lab has ended.
func waitGone(ctx context.Context, dir string) error {
	return lab.WaitUntil(ctx, "the lab is gone", func() error {
		f, err := lockLab(dir)
		if err == nil {
			f.Close()
		}
		return err
	})
}

// waitClosed waits for the end of the server; why it ended is known better.
func waitClosed(ended <-chan error) {
	for open := true; open; {
		_, open = <-ended
	}
}

// waitUp shows the server's log until the lab is up.
func waitUp(cmd *cobra.Command, dir string, ended <-chan error) error {
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), labPatience, fmt.Errorf("not within %v", labPatience))
	defer cancel()
	shown := 0
	return lab.WaitUntil(ctx, "the lab is up", func() error {
		text, _ := os.ReadFile(filepath.Join(dir, "log")) // it was made before
		if _, err := cmd.OutOrStdout().Write(text[min(shown, len(text)):]); err != nil {
			return err
		}
		shown = len(text)
		select {
		case err := <-ended:
			cancel()
			return fmt.Errorf("it ended: %w (see %s)", errors.Join(err, errors.New("its log is above")), filepath.Join(dir, "log"))
		default:
		}
		if !lab.Up(spool(dir)) {
			return errors.New("it is not yet")
		}
		return nil
	})
}

func labServeCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "serve", Short: "Keep the demo's topology up (lab up starts this)", Hidden: true,
		Example: "  zklvs lab serve --dir /run/zklvs-lab",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			c, err := demo.Start(cmd.Context(), demo.Options{Zklvs: exe, Progress: func(format string, a ...any) {
				_, _ = fmt.Fprintf(out, format+"\n", a...) // progress, for people
			}})
			defer func() { err = errors.Join(err, c.Close()) }()
			if err != nil {
				return err
			}
			if _, err := c.Apply(cmd.Context(), demo.Documents("", demo.Web())); err != nil {
				return err
			}
			return lab.Serve(cmd.Context(), spool(dir), c.Lab.Command)
		},
	}
	labDir(cmd, &dir)
	return cmd
}

func labExecCommand() *cobra.Command {
	var dir string
	var stdin bool
	cmd := &cobra.Command{
		Use:   "exec HOST COMMAND...",
		Short: "Run a command on a host of the lab; its exit status becomes ours",
		Example: `  zklvs lab exec client curl http://192.168.150.100/
  zklvs lab exec node01 ipvsadm -L -n
  zklvs lab exec -i node01 zklvs apply -f - < web.yaml`,
		Args: args(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			if a[1] == "zklvs" { // the program is not on the PATH of the hosts
				a[1] = exe
			}
			var in io.Reader
			if stdin {
				in = cmd.InOrStdin()
			}
			request := lab.Request{Host: a[0], Argv: a[1:], Env: []string{
				"ZKLVS_CONFIG=" + demo.ConfigPath, "PATH=" + strings.Join([]string{os.Getenv("PATH"), "/usr/share/zookeeper/bin"}, ":")}}
			code, err := lab.Exec(cmd.Context(), spool(dir), request, in, cmd.OutOrStdout(), cmd.ErrOrStderr())
			switch {
			case errors.Is(err, lab.ErrNoLab):
				return badInput(fmt.Errorf("%w: bring it up with `zklvs lab up`", err))
			case err != nil:
				return err
			case code != 0:
				return finished(code)
			}
			return nil
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows HOST belongs to COMMAND
	cmd.Flags().BoolVarP(&stdin, "stdin", "i", false, "pass standard input, read to its end first")
	labDir(cmd, &dir)
	return cmd
}

func labDownCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "down",
		Short:   "End the lab and leave nothing behind",
		Example: "  zklvs lab down",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), labPatience, fmt.Errorf("not within %v", labPatience))
			defer cancel()
			err := lab.Down(ctx, spool(dir))
			if errors.Is(err, lab.ErrNoLab) {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "no lab is up in %s\n", dir)
				return err
			}
			if err := errors.Join(err, waitGone(ctx, dir)); err != nil {
				return err
			}
			return os.RemoveAll(dir)
		},
	}
	labDir(cmd, &dir)
	return cmd
}

func labDemoCommand() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Walk through the main job with real parts; fails if any step does not hold",
		Long: `Must run in a kernel with IPVS, in namespaces that vanish with it: through
deploy/kernel/with-ipvs, as "make demo" does.`,
		Example: "  deploy/kernel/with-ipvs bin/zklvs lab demo",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Getenv("ZKLVS_INSIDE") == "" {
				return badInput(errors.New("run it as `make demo`, or through deploy/kernel/with-ipvs"))
			}
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			o.Zklvs = exe
			return demo.Run(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().IntVar(&o.Servers, "zookeeper-servers", 1, "1 or 3")
	return cmd
}
