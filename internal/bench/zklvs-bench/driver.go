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

	"github.com/zklvs/zklvs/internal/bench"
)

// driver runs each section in surroundings that leave nothing behind, and writes the
// pages. It changes no result of a section that did not come to its end.
type driver struct {
	options
	out io.Writer
}

func (d *driver) run(ctx context.Context, sections []bench.Section) error {
	if os.Geteuid() != 0 {
		return errors.New("must run as root, for namespaces and IPVS: use sudo")
	}
	data := filepath.Join(d.options.out, bench.DataDir)
	if err := os.MkdirAll(data, 0o755); err != nil {
		return fmt.Errorf("make the folder of results: %w", err)
	}
	for _, s := range sections {
		fmt.Fprintf(d.out, "\n=== %s: %s\n", s.Name(), s.Title())
		r, err := d.section(ctx, s)
		if err != nil {
			return fmt.Errorf("section %s: %w", s.Name(), err)
		}
		if err := r.Save(data); err != nil {
			return err
		}
		fmt.Fprintf(d.out, "\n%s\n", bench.Table(s, r))
		for _, t := range s.Targets() {
			if v, ok := t.Judge(r); ok {
				fmt.Fprintf(d.out, "target met: %t: %s\n", v.Met, v.Text)
			}
		}
		if err := bench.WritePages(d.options.out, bench.Sections()); err != nil {
			return err
		}
	}
	return nil
}

// section runs one in a process of its own. What it leaves in its folder, results of
// a section that broke off and logs, is kept where the user is told.
func (d *driver) section(ctx context.Context, s bench.Section) (*bench.Result, error) {
	folder, err := os.MkdirTemp("", "zklvs-bench-")
	if err != nil {
		return nil, err
	}
	host, err := bench.ThisMachine(ctx, d.zklvs)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := d.command(ctx, s, folder).Run(); err != nil {
		return nil, d.broken(ctx, folder, err)
	}
	r, err := bench.Load(folder, s.Name())
	if err != nil {
		return nil, err
	}
	r.Host, r.Begun, r.Seconds, r.Runs = &host, begun, time.Since(begun).Seconds(), d.runs
	if !r.Machine.UML {
		r.Machine.Load = host.Load
	}
	r.Command = fmt.Sprintf("make bench SECTION=%s RUNS=%d", s.Name(), d.runs)
	if d.logs {
		fmt.Fprintf(d.out, "logs: %s\n", folder)
		return r, nil
	}
	return r, os.RemoveAll(folder)
}

// command runs this program again, in a kernel with IPVS or in namespaces of this one.
func (d *driver) command(ctx context.Context, s bench.Section, folder string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.kernel, "/proc/self/exe")
	if self, err := os.Executable(); err == nil {
		cmd.Args[1] = self
	}
	cmd.Args = append(cmd.Args, "-measure", "-section", s.Name(), "-runs", fmt.Sprint(d.runs), "-zklvs", d.zklvs, "-logs="+fmt.Sprint(d.logs))
	kernel := os.Getenv("ZKLVS_KERNEL")
	if !s.NeedsIPVS() {
		kernel = "host"
	}
	cmd.Env = append(os.Environ(), "ZKLVS_OUT="+folder, "ZKLVS_KERNEL="+kernel)
	cmd.Stdout, cmd.Stderr = d.out, os.Stderr
	// The script takes everything in its namespaces with it.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C comes once, from us
	return cmd
}

// broken tells what a section that failed has left.
func (d *driver) broken(ctx context.Context, folder string, err error) error {
	left, _ := filepath.Glob(filepath.Join(folder, "*"))
	if ctx.Err() != nil || len(left) == 0 {
		return errors.Join(err, context.Cause(ctx), os.RemoveAll(folder))
	}
	return fmt.Errorf("%w; what is left of it: %s", err, strings.Join(left, " "))
}

// measure runs the sections here and leaves their results in ZKLVS_OUT.
func measure(ctx context.Context, o options, sections []bench.Section, w io.Writer) error {
	folder := os.Getenv("ZKLVS_OUT")
	begun := time.Now()
	for _, s := range sections {
		machine, err := bench.ThisMachine(ctx, o.zklvs)
		if err != nil {
			return err
		}
		r, err := s.Run(ctx, bench.Env{Zklvs: o.zklvs, Runs: o.runs, Keep: folder, Logs: o.logs, Progress: func(format string, a ...any) {
			fmt.Fprintf(w, "[%6.1f s] %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, a...))
		}})
		r.Section, r.Machine = s.Name(), machine
		if err := errors.Join(err, r.Save(folder)); err != nil {
			return err
		}
	}
	return nil
}
