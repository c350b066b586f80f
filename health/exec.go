package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxOutput is how much of a script's output is kept; the rest is read and
// thrown away, so that the script does not block on a full pipe.
const maxOutput = 4 << 10

// killGrace is how long a killed script may take to be gone.
const killGrace = 500 * time.Millisecond

// ExecProber runs a script: exit status 0 is well.
//
// What runs is the entry named Target.Script of Dir and nothing else: no shell,
// no arguments, no path in the name. Dir with all its parents and the entry
// must belong to root (or to the user that this process runs as), and must not
// be writable by group or world, unless sticky: else whoever can write them
// could run programs with the rights of this process.
//
// The script runs in a process group of its own, with PATH as its only
// environment variable, in /. At its end, or at the timeout, the whole group is
// killed. A script that cannot be killed (state D, on a dead NFS mount for
// example) is given up half a second after its timeout, and not started again
// before it is gone.
type ExecProber struct {
	Dir string

	mu        sync.Mutex
	lingering map[string]int // script -> process id of a run that could not be killed

	kill func(group int) error // nil: SIGKILL; a test's way to a script that does not die
}

// Probe implements [Prober].
func (p *ExecProber) Probe(ctx context.Context, t Target) error {
	if err := p.probe(ctx, t); err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}
	return nil
}

func (p *ExecProber) probe(ctx context.Context, t Target) error {
	path, err := p.find(t.Script)
	if err != nil {
		return err
	}
	if pid := p.stuck(t.Script); pid != 0 {
		return fmt.Errorf("not started: the run before, process %d, was killed and is still there", pid)
	}
	var output tail
	cmd := exec.Command(path)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = killGrace // for a descendant that left the group and holds the pipe
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// Pdeathsig counts from the end of the thread that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start: %w", local(cause(err)))
	}
	return p.await(ctx, t, cmd, &output)
}

// await waits for the script and takes it down when ctx ends.
func (p *ExecProber) await(ctx context.Context, t Target, cmd *exec.Cmd, output *tail) error {
	exited := make(chan ending, 1)
	go func() { exited <- ending{p.reap(cmd)} }()
	select {
	case end := <-exited:
		return verdictOf(end.err, output)
	case <-ctx.Done():
	}
	killed := p.killGroup(cmd.Process.Pid)
	timer := time.NewTimer(killGrace)
	defer timer.Stop()
	select {
	case <-exited:
		return fmt.Errorf("no exit status within %s, expected 0: killed%s: %w", t.Timeout, output, ctx.Err())
	case <-timer.C:
	}
	p.linger(t.Script, cmd.Process.Pid, exited)
	return errors.Join(fmt.Errorf("no exit status within %s: process %d cannot be killed: %w",
		t.Timeout, cmd.Process.Pid, ctx.Err()), killed)
}

// ending is what waiting for a script has come to.
type ending struct{ err error }

// reap waits until the script has exited, kills what is left of its group while
// the zombie still keeps the group's number from being used anew, and collects
// the exit status.
func (p *ExecProber) reap(cmd *exec.Cmd) error {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_ = p.killGroup(cmd.Process.Pid) // of no consequence: an empty group is what is wanted
	return cmd.Wait()
}

func (p *ExecProber) killGroup(group int) error {
	if p.kill != nil {
		return p.kill(group)
	}
	return unix.Kill(-group, unix.SIGKILL)
}

// stuck returns the process id of a run of script that could not be killed.
func (p *ExecProber) stuck(script string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lingering[script]
}

// linger remembers pid until it has exited after all.
func (p *ExecProber) linger(script string, pid int, exited <-chan ending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lingering == nil {
		p.lingering = make(map[string]int)
	}
	p.lingering[script] = pid
	go func() {
		<-exited
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.lingering, script)
	}()
}

func verdictOf(err error, output *tail) error {
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay): // it exited with 0; a stray held the pipe
		return nil
	case errors.As(err, &exit):
		return fmt.Errorf("%s, expected exit status 0%s", exit.ProcessState, output)
	}
	return fmt.Errorf("wait: %w", err)
}

// find returns the path of script after checking that only root could have put
// it there.
func (p *ExecProber) find(script string) (string, error) {
	if err := validateScript(script); err != nil {
		return "", err
	}
	if !filepath.IsAbs(p.Dir) {
		return "", fmt.Errorf("directory %q: expected an absolute path", p.Dir)
	}
	for dir := filepath.Clean(p.Dir); ; dir = filepath.Dir(dir) {
		if err := trusted(dir, true); err != nil {
			return "", err
		}
		if dir == "/" {
			break
		}
	}
	path := filepath.Join(p.Dir, script)
	return path, trusted(path, false)
}

// trusted checks type, owner and mode without following a symbolic link.
func trusted(path string, dir bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err // names operation and path
	}
	mode, owner := info.Mode(), info.Sys().(*syscall.Stat_t).Uid
	switch {
	case dir && !mode.IsDir():
		return fmt.Errorf("%s: is %s, expected a directory", path, mode.Type())
	case !dir && !mode.IsRegular():
		return fmt.Errorf("%s: is %s, expected a regular file", path, mode.Type())
	case owner != 0 && owner != uint32(os.Geteuid()):
		return fmt.Errorf("%s: belongs to user %d, expected root", path, owner)
	case mode.Perm()&0o022 != 0 && (!dir || mode&os.ModeSticky == 0):
		return fmt.Errorf("%s: mode %s lets group or world write, expected it not to (chmod go-w)", path, mode)
	case !dir && mode.Perm()&0o100 == 0:
		return fmt.Errorf("%s: mode %s, expected it to be executable", path, mode)
	}
	return nil
}

// tail is a writer that keeps the first maxOutput bytes.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write never fails.
func (o *tail) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(data[:min(len(data), maxOutput-o.buf.Len())])
	return len(data), nil
}

// String is the first line, quoted, for the end of an error text.
func (o *tail) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	line, _, _ := bytes.Cut(bytes.TrimSpace(o.buf.Bytes()), []byte("\n"))
	if len(line) == 0 {
		return ""
	}
	return fmt.Sprintf(" (it said %q)", line[:min(len(line), 200)])
}
