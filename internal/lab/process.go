package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Process is a program that runs in the background with its output in a log
// file. It is killed when the lab or ensemble that started it is closed.
type Process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed once the process is reaped
}

// startProcess starts cmd with stdout and stderr appended to the file log.
func startProcess(t *thread, name, log string, cmd *exec.Cmd) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer file.Close() // the child has its own descriptor
	cmd.Stdout, cmd.Stderr = file, file
	if err := t.start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{name: name, log: log, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // the outcome is in ProcessState
	}()
	return p, nil
}

// PID returns the process id as this process sees it.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// LogFile returns the path of the file that stdout and stderr go to.
func (p *Process) LogFile() string { return p.log }

// Log returns what was written so far.
func (p *Process) Log() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	return string(data)
}

// Done is closed once the process has ended and has been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running tells whether the process has not ended yet; a frozen one runs.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the process alone, not to its children. The error is
// os.ErrProcessDone if it has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %v to %s: %w", sig, p.name, err)
	}
	return nil
}

// Freeze stops the process (SIGSTOP) until Thaw.
func (p *Process) Freeze() error { return p.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on (SIGCONT).
func (p *Process) Thaw() error { return p.Signal(syscall.SIGCONT) }

// Kill ends the process with SIGKILL and waits until it is reaped. It is no
// error if the process has ended before.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// Stop asks the process to end (SIGTERM) and waits for it; when ctx ends first,
// it is killed and the error says so.
func (p *Process) Stop(ctx context.Context) error {
	err := p.Signal(syscall.SIGTERM)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if _, err := p.Wait(ctx); err != nil {
		return errors.Join(err, p.Kill())
	}
	return nil
}

// Wait waits for the end of the process and returns its exit status, 128 + N
// where signal N killed it.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return exitStatus(p.cmd.ProcessState), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for the end of %s: %w", p.name, context.Cause(ctx))
	}
}

// WaitLog waits until the log contains text; it fails at once when the process
// ends without it.
func (p *Process) WaitLog(ctx context.Context, text string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return WaitUntil(ctx, fmt.Sprintf("%s logs %q", p.name, text), func() error {
		running := p.Running() // before the read: its last words count
		log := p.Log()
		if strings.Contains(log, text) {
			return nil
		}
		if !running {
			cancel(errEnded)
		}
		return fmt.Errorf("its log ends:\n%s", tail(log, 20))
	})
}

var errEnded = errors.New("the process has ended")

func exitStatus(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// tail returns the last n lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
