package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// runProgram runs the real program: this test binary acts as it, see TestMain.
func runProgram(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// runAsNobody runs the program without root's rights, on copies of the files
// among its arguments that everybody may read.
func runAsNobody(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "zklvs-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	copyFor := func(from, name string, mode os.FileMode) string {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(to, data, mode), os.Chmod(to, mode)); err != nil {
			t.Fatal(err)
		}
		return to
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, a := range args {
		if st, err := os.Stat(a); err == nil && st.Mode().IsRegular() {
			args[i] = copyFor(a, filepath.Base(a), 0o644)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copyFor(exe, "zklvs", 0o755), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return runProgram(t, cmd)
}

// What main adds to the commands: where messages go, and the exit code.
func TestProgram(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config := file(t, "zklvs.yaml", "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\nnode: \"\"\n")
	for name, c := range map[string]struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"done":            {[]string{"version"}, exitOK, "zklvs ", ""},
		"failed":          {[]string{"status", "--cluster", "web", "--zookeeper", "127.0.0.1:1", "-c", "/nowhere", "--timeout", "200ms"}, exitFailed, "", "zklvs: zookeeper: no session"},
		"completion":      {[]string{"__completeNoDesc", "import", "ipv"}, exitOK, "ipvsadm\n", "Completion ended"},
		"unknown command": {[]string{"frobnicate"}, exitBadInput, "", `zklvs: unknown command "frobnicate"`},
		"bad flag":        {[]string{"version", "--frobnicate"}, exitBadInput, "", "zklvs: unknown flag"},
		"bad file":        {[]string{"status", "-c", config}, exitBadInput, "", config + ":3: "},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := runProgram(t, exec.Command(exe, c.args...))
			if code != c.code || !strings.HasPrefix(stdout, c.stdout) || !strings.HasPrefix(stderr, c.stderr) || c.stderr == "" && stderr != "" {
				t.Errorf("code %d, stdout %q, stderr %q; want %d, %q, %q", code, stdout, stderr, c.code, c.stdout, c.stderr)
			}
		})
	}
}
