package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/leaktest"
)

// scripts makes a directory of executable scripts that can be trusted.
func scripts(t *testing.T, bodies map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "exec.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	chmod(t, filepath.Dir(dir), 0o755) // whatever the umask
	chmod(t, dir, 0o755)
	for name, body := range bodies {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		chmod(t, path, 0o755)
	}
	return dir
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestExecProberTellsTheExitStatus(t *testing.T) {
	t.Setenv("SECRET", "x")
	p := &ExecProber{Dir: scripts(t, map[string]string{
		"well":    "exit 0",
		"sick":    "echo disk full >&2; echo more; exit 2",
		"chatty":  "yes 'much' | head -c 3000000; exit 3",
		"clean":   `[ -z "$SECRET" ] && [ $# = 0 ] && [ "$PWD" = / ] && ! read line`,
		"suicide": "kill -9 $$",
	})}
	for script, want := range map[string]string{
		"well":    "",
		"clean":   "",
		"sick":    `exec "sick": exit status 2, expected exit status 0 (it said "disk full")`,
		"chatty":  `exec "chatty": exit status 3, expected exit status 0 (it said "much")`,
		"suicide": `exec "suicide": signal: killed, expected exit status 0`,
		"missing": "no such file or directory",
	} {
		t.Run(script, func(t *testing.T) {
			leaktest.Check(t)
			target := execTarget(script)
			target.Timeout = patience
			assertProbe(t, p, target, want, false)
		})
	}
}

func TestExecProberRefusesWhatOthersCouldHaveWritten(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, dir, file string)
		want   string
	}{
		{"file writable by group", func(t *testing.T, _, file string) { chmod(t, file, 0o775) },
			"check: mode -rwxrwxr-x lets group or world write, expected it not to (chmod go-w)"},
		{"file writable by world", func(t *testing.T, _, file string) { chmod(t, file, 0o757) }, "lets group or world write"},
		{"directory writable by group", func(t *testing.T, dir, _ string) { chmod(t, dir, 0o775) }, "exec.d: mode drwxrwxr-x lets"},
		{"parent writable by world", func(t *testing.T, dir, _ string) { chmod(t, filepath.Dir(dir), 0o777) }, "lets group or world write"},
		{"file not executable", func(t *testing.T, _, file string) { chmod(t, file, 0o644) }, "expected it to be executable"},
		{"file is a link", func(t *testing.T, _, file string) {
			replace(t, file, func() error { return os.Symlink("/bin/true", file) })
		}, "expected a regular file"},
		{"file is a directory", func(t *testing.T, _, file string) {
			replace(t, file, func() error { return os.Mkdir(file, 0o755) })
		}, "expected a regular file"},
		{"directory is a link", func(t *testing.T, dir, _ string) {
			if err := os.Rename(dir, dir+".real"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(dir+".real", dir); err != nil {
				t.Fatal(err)
			}
		}, "expected a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := scripts(t, map[string]string{"check": "exit 0"})
			p := &ExecProber{Dir: dir}
			target := execTarget("check")
			target.Timeout = patience
			assertProbe(t, p, target, "", false)
			tt.change(t, dir, filepath.Join(dir, "check"))
			assertProbe(t, p, target, tt.want, false)
		})
	}
}

func replace(t *testing.T, path string, with func() error) {
	t.Helper()
	if err := errors.Join(os.Remove(path), with()); err != nil {
		t.Fatal(err)
	}
}

func TestKernelExecProberRefusesOtherOwners(t *testing.T) {
	needRoot(t)
	dir := scripts(t, map[string]string{"check": "exit 0"})
	target := execTarget("check")
	target.Timeout = patience
	for _, path := range []string{filepath.Join(dir, "check"), dir, filepath.Dir(dir)} {
		if err := os.Chown(path, 12345, 0); err != nil {
			t.Fatal(err)
		}
		assertProbe(t, &ExecProber{Dir: dir}, target, path+": belongs to user 12345, expected root", false)
		if err := os.Chown(path, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	assertProbe(t, &ExecProber{Dir: dir}, target, "", false)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: needs root")
	}
}

func TestExecProberRefusesBadNamesAndDirectories(t *testing.T) {
	p := &ExecProber{Dir: scripts(t, nil)}
	for _, name := range []string{"", ".", "..", "../exec.d/check", "/bin/true", "a b", "a\x00", "-c", "$(id)"} {
		target := execTarget(name)
		target.Timeout = patience
		assertProbe(t, p, target, "expected a file name", false)
	}
	target := execTarget("check")
	target.Timeout = patience
	assertProbe(t, &ExecProber{Dir: "exec.d"}, target, `directory "exec.d": expected an absolute path`, false)
	assertProbe(t, &ExecProber{Dir: "/nonexistent/exec.d"}, target, "lstat /nonexistent/exec.d: no such file or directory", false)
}

func TestTailKeepsTheFirstBytes(t *testing.T) {
	var o tail
	for i := range 3 {
		text := strings.Repeat(strconv.Itoa(i), maxOutput-100)
		if n, err := o.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
	}
	if got, want := o.buf.String(), strings.Repeat("0", maxOutput-100)+strings.Repeat("1", 100); got != want {
		t.Errorf("kept %d bytes, want %d", len(got), len(want))
	}
}

// A descendant in a session of its own escapes; it must not hold up the probe
// by the output pipe that it has inherited.
func TestExecProberDoesNotWaitForAStray(t *testing.T) {
	leaktest.Check(t)
	stray := filepath.Join(t.TempDir(), "stray")
	p := &ExecProber{Dir: scripts(t, map[string]string{
		"strays": "setsid sh -c 'echo $$ >" + stray + "; exec sleep 1000' & while [ ! -s " + stray + " ]; do :; done",
	})}
	target := execTarget("strays")
	target.Timeout = patience
	assertProbe(t, p, target, "", false)
	text, err := os.ReadFile(stray)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Errorf("the stray: %v", err)
	}
}

func written(file string) bool {
	text, _ := os.ReadFile(file)
	return bytes.HasSuffix(text, []byte("\n"))
}

// gone reports whether the process whose id is in file has ended; false while
// the file is not yet written.
func gone(file string) bool {
	text, _ := os.ReadFile(file)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) || bytes.HasPrefix(state, []byte("Z"))
}

func TestExecProberKillsTheWholeGroup(t *testing.T) {
	child := filepath.Join(t.TempDir(), "child")
	p := &ExecProber{Dir: scripts(t, map[string]string{
		"hangs":   "sleep 1000 & echo $! >" + child + "; wait",
		"deserts": "sleep 1000 & echo $! >" + child,
	})}
	t.Run("when its time is over", func(t *testing.T) {
		leaktest.Check(t)
		ctx, over := context.WithCancel(t.Context())
		go func() {
			defer over()
			waitUntil(t, "the child has started", func() bool { return written(child) })
		}()
		target := execTarget("hangs")
		target.Timeout = patience
		if err := p.Probe(ctx, target); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want canceled", err)
		}
		waitUntil(t, "the child is gone", func() bool { return gone(child) })
	})
	t.Run("when its leader has ended", func(t *testing.T) {
		leaktest.Check(t)
		target := execTarget("deserts")
		target.Timeout = patience
		assertProbe(t, p, target, "", false)
		waitUntil(t, "the child is gone", func() bool { return gone(child) })
	})
}

func TestExecProberKeepsItsTime(t *testing.T) {
	leaktest.Check(t)
	p := &ExecProber{Dir: scripts(t, map[string]string{"hangs": "sleep 1000"})}
	target := execTarget("hangs")
	target.Timeout = 200 * time.Millisecond
	assertProbe(t, p, target, "no exit status within 200ms, expected 0: killed", true)
}

// A script that survives SIGKILL, as one in state D does, ends its probe all
// the same and is not started a second time beside itself.
func TestExecProberGivesUpWhatCannotBeKilled(t *testing.T) {
	leaktest.Check(t)
	var group atomic.Int64
	p := &ExecProber{
		Dir:  scripts(t, map[string]string{"hangs": "sleep 1000"}),
		kill: func(g int) error { group.Store(int64(g)); return nil },
	}
	target := execTarget("hangs")
	target.Timeout = 100 * time.Millisecond
	assertProbe(t, p, target, "cannot be killed", true)
	assertProbe(t, p, target, "not started: the run before, process "+strconv.Itoa(int(group.Load())), false)
	if err := unix.Kill(-int(group.Load()), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the script may run again", func() bool { return p.stuck("hangs") == 0 })
}
