package kernel_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The kernels that every case runs in. uml is what machines without ip_vs get;
// host is the path of those that have it, which needs no ip_vs by itself.
var kernels = []string{"host", "uml"}

type result struct {
	Stdout, Stderr string
	Status         int
}

// wrapper returns with-ipvs for one kernel, or skips where it cannot run.
func wrapper(tb testing.TB, kernel string, args ...string) *exec.Cmd {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("SKIP: with-ipvs needs root: run make test as root")
	}
	if _, err := exec.LookPath("linux.uml"); kernel == "uml" && err != nil {
		tb.Skip("SKIP: user-mode-linux is not installed (this kernel has ip_vs?): apt-get install user-mode-linux")
	}
	// Go runs a cached test anew only if a file that it opened has changed.
	for _, script := range []string{"with-ipvs", "inside", "guest-init"} {
		if _, err := os.ReadFile(script); err != nil {
			tb.Fatal(err)
		}
	}
	cmd := exec.Command("./with-ipvs", args...)
	cmd.Env = append(os.Environ(), "ZKLVS_KERNEL="+kernel, "ZKLVS_MEM=512M")
	return cmd
}

func run(tb testing.TB, cmd *exec.Cmd) result {
	tb.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		tb.Fatalf("run %v: %v", cmd.Args, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// inEach runs one case in both kernels, side by side.
func inEach(t *testing.T, test func(t *testing.T, kernel string)) {
	t.Parallel()
	for _, kernel := range kernels {
		t.Run(kernel, func(t *testing.T) {
			t.Parallel()
			test(t, kernel)
		})
	}
}

func TestWrapperPassesArgumentsStreamsAndStatus(t *testing.T) {
	inEach(t, func(t *testing.T, kernel string) {
		cwd, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"a b", "new\nline", `q'"$HOME`, "", "*", "\xff\x01", `\n`}
		script := `pwd; printf '<%s>' "$@"; echo "odd=$ODD" >&2; exit 42`
		cmd := wrapper(t, kernel, append([]string{"sh", "-c", script, "sh"}, args...)...)
		cmd.Env = append(cmd.Env, "ODD=two\nlines 'and' \"quotes\"")
		want := result{
			Stdout: cwd + "\n<" + strings.Join(args, "><") + ">",
			Stderr: "odd=two\nlines 'and' \"quotes\"\n",
			Status: 42,
		}
		if diff := cmp.Diff(want, run(t, cmd)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestWrapperExitStatus(t *testing.T) {
	notExecutable := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notExecutable, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		args []string
		want int
	}{
		{"success", []string{"true"}, 0},
		{"killed", []string{"sh", "-c", "kill -KILL $$"}, 128 + 9},
		{"interrupted", []string{"sh", "-c", "kill -INT $$"}, 128 + 2},
		{"no such command", []string{"/nonexistent"}, 127},
		{"not executable", []string{notExecutable}, 126},
		{"leaves a process behind", []string{"sh", "-c", "sleep 1000 & exit 3"}, 3},
	}
	inEach(t, func(t *testing.T, kernel string) {
		for _, c := range cases {
			if got := run(t, wrapper(t, kernel, c.args...)); got.Status != c.want {
				t.Errorf("%s: status %d, want %d; stderr: %s", c.name, got.Status, c.want, got.Stderr)
			}
		}
	})
}

func TestWrapperLosesNoOutput(t *testing.T) {
	const size = 5_000_000
	script := fmt.Sprintf(`for f in out err; do head -c %d /dev/urandom >"$TMPDIR/$f"; done
		cat "$TMPDIR/err" >&2 & cat "$TMPDIR/out"; wait
		cd "$TMPDIR" && sha256sum out err >"$ZKLVS_OUT/sums"`, size)
	inEach(t, func(t *testing.T, kernel string) {
		out := t.TempDir()
		cmd := wrapper(t, kernel, "sh", "-c", script)
		cmd.Env = append(cmd.Env, "ZKLVS_OUT="+out)
		got := run(t, cmd)
		want, err := os.ReadFile(filepath.Join(out, "sums"))
		if err != nil {
			t.Fatal(err)
		}
		sums := fmt.Sprintf("%x  out\n%x  err\n", sha256.Sum256([]byte(got.Stdout)), sha256.Sum256([]byte(got.Stderr)))
		if diff := cmp.Diff(string(want), sums); diff != "" || len(got.Stdout) != size {
			t.Errorf("%d and %d bytes arrived (-sent +received):\n%s", len(got.Stdout), len(got.Stderr), diff)
		}
	})
}

// Everything the command is promised, and IPVS where it is user-mode Linux.
func TestWrapperSurroundings(t *testing.T) {
	script := `set -e
		test "$TMPDIR" = /run/tmp && touch "$TMPDIR/x" && touch "$HOME/x" && touch "$ZKLVS_OUT/x"
		test ! -e /run/systemd && test ! -e /run/adduser
		test "$(cat /proc/sys/kernel/hostname)" = zklvs-lab
		ip link show lo | grep -q LOWER_UP
		test "$ZKLVS_INSIDE" = host || { ipvsadm -A -t 127.0.0.1:80 -s wlc && ipvsadm -Sn; }
		cat; echo "in $ZKLVS_INSIDE"`
	inEach(t, func(t *testing.T, kernel string) {
		input := filepath.Join(t.TempDir(), "input")
		if err := os.WriteFile(input, []byte("from stdin\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		stdin, err := os.Open(input)
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		cmd := wrapper(t, kernel, "sh", "-c", script)
		cmd.Stdin = stdin
		want := result{Stdout: "from stdin\nin " + kernel + "\n"}
		if kernel == "uml" {
			want.Stdout = "-A -t 127.0.0.1:80 -s wlc\n" + want.Stdout
		}
		if diff := cmp.Diff(want, run(t, cmd)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestWrapperRefuses(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		args []string
		env  string
		want string
	}{
		{"no command", nil, "", "with-ipvs: usage: with-ipvs CMD [ARG...]\n"},
		{"unknown kernel", []string{"true"}, "ZKLVS_KERNEL=qemu", "with-ipvs: ZKLVS_KERNEL=qemu: expected auto, host or uml\n"},
		{"bad memory", []string{"true"}, "ZKLVS_MEM=much", "with-ipvs: ZKLVS_MEM=much: expected a number of M or G, as in 2G\n"},
		{"no such directory", []string{"true"}, "ZKLVS_OUT=/nonexistent", "with-ipvs: ZKLVS_OUT=/nonexistent: not a directory: create it first\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cmd := wrapper(t, "uml", c.args...)
			cmd.Env = append(cmd.Env, c.env)
			if diff := cmp.Diff(result{Stderr: c.want, Status: 125}, run(t, cmd)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWrapperReportsAPanic(t *testing.T) {
	t.Parallel()
	got := run(t, wrapper(t, "uml", "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 60"))
	if got.Status != 125 || !strings.Contains(got.Stderr, "without an exit status") || !strings.Contains(got.Stderr, "Kernel panic") {
		t.Errorf("status %d, stderr: %s", got.Status, got.Stderr)
	}
}

func TestWrapperEndsWhenNobodyReads(t *testing.T) {
	inEach(t, func(t *testing.T, kernel string) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := wrapper(t, kernel, "yes")
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		context.AfterFunc(ctx, func() { cmd.Process.Kill() })
		if _, err := io.ReadFull(stdout, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		stdout.Close()
		cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 128+13 && got != 1 {
			t.Errorf("exit status %d, want 141 (SIGPIPE)", got)
		}
	})
}

func TestWrapperStoppedLeavesNothing(t *testing.T) {
	cases := []struct {
		signal syscall.Signal
		want   int
	}{{syscall.SIGINT, 130}, {syscall.SIGTERM, 143}, {syscall.SIGHUP, 129}, {syscall.SIGKILL, -1}}
	inEach(t, func(t *testing.T, kernel string) {
		for _, c := range cases {
			temp := t.TempDir()
			cmd := wrapper(t, kernel, "sh", "-c", "sleep 1000 & echo ready; sleep 1000")
			cmd.Env = append(cmd.Env, "TMPDIR="+temp)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
				t.Fatalf("got %q, want ready", line)
			}
			tree := descendants(cmd.Process.Pid)
			if len(tree) < 3 {
				t.Fatalf("only %v below the wrapper: the test looks at the wrong thing", tree)
			}
			cmd.Process.Signal(c.signal)
			cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != c.want {
				t.Errorf("%v: exit status %d, want %d", c.signal, got, c.want)
			}
			// SIGKILL gives the script no time to wait for the kernel.
			for start := time.Now(); c.signal == syscall.SIGKILL && len(alive(tree)) > 0 && time.Since(start) < 10*time.Second; {
				<-time.After(10 * time.Millisecond)
			}
			if left := alive(tree); len(left) > 0 {
				t.Errorf("%v: processes left: %v", c.signal, left)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("%v: files left: %v (%v)", c.signal, left, err)
			}
		}
	})
}

// process tells two users of one pid apart by the time they started at.
type process struct {
	pid   int
	start string
}

// parentAndStart reads /proc/PID/stat (proc(5), fields 4 and 22).
func parentAndStart(pid int) (parent int, start string, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", false
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	parent, err = strconv.Atoi(fields[1])
	return parent, fields[19], err == nil
}

func descendants(root int) []process {
	names, _ := filepath.Glob("/proc/[0-9]*")
	children := map[int][]process{}
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(name))
		if parent, start, ok := parentAndStart(pid); ok {
			children[parent] = append(children[parent], process{pid, start})
		}
	}
	var tree []process
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		for _, child := range children[queue[0]] {
			tree = append(tree, child)
			queue = append(queue, child.pid)
		}
	}
	return tree
}

func alive(tree []process) []process {
	return slices.DeleteFunc(slices.Clone(tree), func(p process) bool {
		_, start, ok := parentAndStart(p.pid)
		return !ok || start != p.start
	})
}
