package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Commander makes a command that runs on a host, and is killed with ctx.
type Commander func(ctx context.Context, host string, argv ...string) (*exec.Cmd, error)

// Command is a Commander for the hosts of the lab.
func (l *Lab) Command(ctx context.Context, host string, argv ...string) (*exec.Cmd, error) {
	h := l.Host(host)
	if h == nil {
		var names []string
		for _, h := range l.Hosts() {
			names = append(names, h.name)
		}
		return nil, fmt.Errorf("there is no host %q: there are %s", host, strings.Join(names, ", "))
	}
	return h.Command(ctx, argv...), nil
}

// Serve runs the commands that Exec hands over through the spool, until Down is
// called there or ctx ends; commands that still run are killed then. The
// directory must exist; what an earlier life left in it is removed.
func Serve(ctx context.Context, spool string, command Commander) error {
	s := &server{spool: spool, command: command, running: map[string]func(){}}
	if err := errors.Join(s.clear(), os.Mkdir(s.path(spoolJobs), 0o700)); err != nil {
		return fmt.Errorf("serve the lab on %s: %w", spool, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	err := s.loop(ctx)
	cancel()
	s.jobs.Wait()
	if err := errors.Join(err, s.clear()); err != nil {
		return fmt.Errorf("serve the lab on %s: %w", spool, err)
	}
	return nil
}

type server struct {
	spool   string
	command Commander
	running map[string]func() // by job, each kills and waits; the loop's alone
	jobs    sync.WaitGroup
	beats   int
}

func (s *server) path(name string) string { return filepath.Join(s.spool, name) }

// clear removes the files of a spool, and nothing else that may be there.
func (s *server) clear() error {
	var errs []error
	for _, name := range []string{spoolReady, spoolAlive, spoolStop, spoolJobs} {
		errs = append(errs, os.RemoveAll(s.path(name)))
	}
	return errors.Join(errs...)
}

func (s *server) loop(ctx context.Context) error {
	var beat time.Time
	for {
		if time.Since(beat) >= aliveEvery {
			if err := s.beat(); err != nil {
				return err
			}
			beat = time.Now()
		}
		stop, err := s.look(ctx)
		if err != nil || stop {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(spoolPoll):
		}
	}
}

// beat shows that the lab is up. The first one comes before "ready".
func (s *server) beat() error {
	s.beats++
	if err := writeWhole(s.path(spoolAlive), []byte(strconv.Itoa(s.beats))); err != nil {
		return err
	}
	if s.beats > 1 {
		return nil
	}
	return writeWhole(s.path(spoolReady), nil)
}

// look takes what has come into the spool.
func (s *server) look(ctx context.Context) (stop bool, err error) {
	if _, err := os.Stat(s.path(spoolStop)); err == nil {
		return true, nil
	}
	entries, err := os.ReadDir(s.path(spoolJobs))
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		id, kind, _ := strings.Cut(entry.Name(), ".")
		switch "." + kind {
		case requestFile:
			s.accept(ctx, id)
		case cancelFile:
			s.cancel(id)
		}
	}
	return false, nil
}

// accept takes one request out of the spool and runs it.
func (s *server) accept(ctx context.Context, id string) {
	job := s.path(filepath.Join(spoolJobs, id))
	data, err := os.ReadFile(job + requestFile)
	if err = errors.Join(err, os.Remove(job+requestFile)); err != nil {
		finish(job, 0, err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	s.running[id] = func() {
		cancel()
		<-ended
	}
	s.jobs.Go(func() {
		defer close(ended)
		defer cancel()
		status, err := s.run(ctx, job, data)
		finish(job, status, err)
	})
}

// cancel kills a command that its client has given up, and removes its files.
func (s *server) cancel(id string) {
	if kill := s.running[id]; kill != nil {
		kill()
	}
	delete(s.running, id)
	removeJob(s.path(filepath.Join(spoolJobs, id)))
}

func (s *server) run(ctx context.Context, job string, data []byte) (int, error) {
	var r Request
	if err := json.Unmarshal(data, &r); err != nil {
		return 0, fmt.Errorf("read the request: %w", err)
	}
	if len(r.Argv) == 0 {
		return 0, errors.New("no command is given")
	}
	cmd, err := s.command(ctx, r.Host, r.Argv...)
	if err != nil {
		return 0, err
	}
	cmd.Env = append(cmd.Environ(), r.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with its children
	out, err := os.Create(job + ".out")
	if err != nil {
		return 0, err
	}
	defer out.Close()
	errs, err := os.Create(job + ".err")
	if err != nil {
		return 0, err
	}
	defer errs.Close()
	// Through pipes, not straight into the files: what a guest's kernel has in
	// its cache is not on the host yet.
	cmd.Stdout, cmd.Stderr = synced{out}, synced{errs}
	cmd.WaitDelay = time.Second // a child that keeps the pipes is not waited for
	if stdin, err := os.Open(job + ".in"); err == nil {
		defer stdin.Close()
		cmd.Stdin = stdin
	}
	return runStatus(cmd)
}

// runStatus runs a command and returns its exit status as a shell would.
func runStatus(cmd *exec.Cmd) (int, error) {
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return 0, err
	}
	return exitStatus(cmd.ProcessState), nil
}

// finish writes the exit status. Nobody can be told where that fails; the
// client finds out by the lab's silence or its own limit.
func finish(job string, status int, err error) {
	text := strconv.Itoa(status)
	if err != nil {
		text = "error: " + err.Error()
	}
	_ = writeWhole(job+".exit", []byte(text))
}

// synced writes through to the host.
type synced struct{ file *os.File }

var _ io.Writer = synced{}

func (s synced) Write(data []byte) (int, error) {
	n, err := s.file.Write(data)
	return n, errors.Join(err, s.file.Sync())
}
