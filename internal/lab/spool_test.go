package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// here is a Commander that knows one host: this machine.
func here(ctx context.Context, host string, argv ...string) (*exec.Cmd, error) {
	if host != "here" {
		return nil, errors.New("no such host")
	}
	return exec.CommandContext(ctx, argv[0], argv[1:]...), nil
}

// served serves a spool until the test ends.
func served(t *testing.T) (spool string, ended <-chan error) {
	t.Helper()
	spool = t.TempDir()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { done <- Serve(ctx, spool, here) }()
	waitUp(t, spool)
	return spool, done
}

func waitUp(t *testing.T, spool string) {
	t.Helper()
	err := WaitUntil(minute(t), "the spool is served", func() error {
		if Up(spool) {
			return nil
		}
		return ErrNoLab
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSpoolRunsCommands(t *testing.T) {
	t.Parallel()
	spool, _ := served(t)
	cases := []struct {
		name, stdin    string
		request        Request
		stdout, stderr string
		status         int
		wantErr        string
	}{
		{"streams and status", "", Request{"here", []string{"sh", "-c", `printf '<%s>' "$@"; echo err >&2; exit 9`, "sh", "a b", "c\nd", ""}, nil}, "<a b><c\nd><>", "err\n", 9, ""},
		{"stdin", "input", Request{"here", []string{"cat"}, nil}, "input", "", 0, ""},
		{"environment", "", Request{"here", []string{"sh", "-c", "echo $ADDED"}, []string{"ADDED=x y"}}, "x y\n", "", 0, ""},
		{"killed", "", Request{"here", []string{"sh", "-c", "kill -9 $$"}, nil}, "", "", 137, ""},
		{"no such host", "", Request{"there", []string{"true"}, nil}, "", "", 0, "there: true: no such host"},
		{"no such program", "", Request{"here", []string{"/nonexistent"}, nil}, "", "", 0, "here: /nonexistent: fork/exec /nonexistent: no such file or directory"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			status, err := Exec(minute(t), spool, c.request, strings.NewReader(c.stdin), &stdout, &stderr)
			if c.wantErr != "" {
				if err == nil || err.Error() != c.wantErr {
					t.Errorf("error %v, want %s", err, c.wantErr)
				}
				return
			}
			if err != nil || status != c.status {
				t.Errorf("status %d, %v, want %d", status, err, c.status)
			}
			if diff := cmp.Diff([]string{c.stdout, c.stderr}, []string{stdout.String(), stderr.String()}); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSpoolIsCleanAfterwards(t *testing.T) {
	t.Parallel()
	spool, ended := served(t)
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan struct{})
	var stdout notifier = func() { close(seen) }
	failed := make(chan error, 1)
	go func() {
		_, err := Exec(ctx, spool, Request{Host: "here", Argv: []string{"sh", "-c", "echo begun; exec sleep 1000"}}, nil, stdout, os.Stderr)
		failed <- err
	}()
	<-seen // output arrives while the command runs
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("Exec: %v, want it canceled", err)
	}
	err := WaitUntil(minute(t), "the job's files are gone", func() error {
		if left, err := os.ReadDir(filepath.Join(spool, spoolJobs)); err != nil || len(left) > 0 {
			return fmt.Errorf("%v, %v", left, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := Down(minute(t), spool); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := Exec(minute(t), spool, Request{Host: "here", Argv: []string{"true"}}, nil, nil, nil); !errors.Is(err, ErrNoLab) {
		t.Errorf("Exec after the end: %v, want %v", err, ErrNoLab)
	}
	if err := Down(minute(t), spool); !errors.Is(err, ErrNoLab) {
		t.Errorf("Down after the end: %v, want %v", err, ErrNoLab)
	}
}

// notifier is a Writer that tells of its first write.
type notifier func()

func (n notifier) Write(p []byte) (int, error) {
	n()
	return len(p), nil
}

// The two sides in two kernels: the lab in user-mode Linux, Exec here.
func TestSpoolReachesAnotherKernel(t *testing.T) {
	t.Parallel()
	if os.Getenv("ZKLVS_INSIDE") != "" || os.Geteuid() != 0 {
		t.Skip("SKIP: starts a kernel itself: needs root, outside with-ipvs")
	}
	if _, err := exec.LookPath("linux.uml"); err != nil {
		t.Skip("SKIP: user-mode-linux is not installed (this kernel has ip_vs?): apt-get install user-mode-linux")
	}
	// Not this program itself: the race detector does not run in the guest.
	exe := filepath.Join(t.TempDir(), "lab.test")
	if output, err := exec.Command("go", "test", "-c", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the other side: %v\n%s", err, output)
	}
	spool := t.TempDir()
	cmd := exec.Command("../../deploy/kernel/with-ipvs", exe, "-test.run=^TestServeForAnotherKernel$")
	cmd.Env = append(os.Environ(), "ZKLVS_KERNEL=uml", "ZKLVS_MEM=512M", "ZKLVS_OUT="+spool, "ZKLVS_SERVE=1")
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt) // no harm where it has ended
		_ = cmd.Wait()
	}()
	waitUp(t, spool)
	var stdout strings.Builder
	status, err := Exec(minute(t), spool, Request{Host: "node01", Argv: []string{"sh", "-c", "cat; uname -m; cat /proc/sys/kernel/hostname; exit 4"}},
		strings.NewReader("from here\n"), &stdout, os.Stderr)
	if err != nil || status != 4 || !strings.HasSuffix(stdout.String(), "\nnode01\n") || !strings.HasPrefix(stdout.String(), "from here\n") {
		t.Errorf("status %d, %v, output %q", status, err, stdout.String())
	}
	if err := Down(minute(t), spool); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the other kernel: %v\n%s", err, output.String())
	}
	if left, err := filepath.Glob(filepath.Join(spool, "*")); err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}

// TestServeForAnotherKernel is the other side of the test above.
func TestServeForAnotherKernel(t *testing.T) {
	if os.Getenv("ZKLVS_SERVE") == "" {
		return
	}
	l, _ := newLab(t, Options{}, "node01")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := Serve(ctx, os.Getenv("ZKLVS_OUT"), l.Command); err != nil {
		t.Fatal(err)
	}
}
