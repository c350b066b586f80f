package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// runCommandLine runs a command in this process, as main does.
func runCommandLine(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return runWithInput(t, strings.NewReader(""), args...)
}

func runWithInput(t *testing.T, stdin io.Reader, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	root := rootCommand()
	root.SetArgs(append([]string{}, args...)) // nil would mean those of the test
	root.SetIn(stdin)
	root.SetOut(&out)
	root.SetErr(&errs)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, _, err := root.Find(args)
	if err != nil {
		err = badInput(err)
	} else {
		err = root.ExecuteContext(ctx)
	}
	if err != nil && !isSilent(err) {
		errs.WriteString(err.Error() + "\n")
	}
	return out.String(), errs.String(), exitCode(err)
}

// file writes a file into a new directory and returns its path.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// everyCommand calls see for each command but cobra's own.
func everyCommand(cmd *cobra.Command, see func(*cobra.Command)) {
	for _, sub := range cmd.Commands() {
		if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
			continue
		}
		see(sub)
		everyCommand(sub, see)
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	n := 0
	everyCommand(rootCommand(), func(cmd *cobra.Command) {
		n++
		path := cmd.CommandPath()
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || len(cmd.Short) > 100 {
			t.Errorf("%s: Short is %q: expected one line without a full stop", path, cmd.Short)
		}
		if cmd.Example == "" {
			t.Errorf("%s has no example", path)
		}
		for line := range strings.Lines(cmd.Example) {
			if !strings.HasPrefix(line, "  ") || !strings.Contains(line, "zklvs "+strings.TrimPrefix(path, "zklvs ")) && !strings.Contains(line, "zklvs "+cmd.Name()) {
				t.Errorf("%s: the example %q does not call it, or is not indented", path, line)
			}
		}
		stdout, stderr, code := runCommandLine(t, append(strings.Fields(path)[1:], "--help")...)
		if code != exitOK || stderr != "" || !strings.Contains(stdout, "Usage:") {
			t.Errorf("%s --help: code %d, stderr %q", path, code, stderr)
		}
	})
	if n < 9 {
		t.Errorf("only %d commands were seen", n)
	}
}

func TestHelpDocumentsTheExitCodes(t *testing.T) {
	stdout, _, code := runCommandLine(t)
	if code != exitOK || !strings.Contains(stdout, "Exit codes:") || !strings.Contains(stdout, "Available Commands:") {
		t.Errorf("code %d, help:\n%s", code, stdout)
	}
}

// What is wrong with the command line is bad input, told in one line.
func TestBadCommandLines(t *testing.T) {
	config := file(t, "zklvs.yaml", "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\n")
	for name, c := range map[string]struct {
		args string
		want string
	}{
		"unknown command":        {"frobnicate", `unknown command "frobnicate"`},
		"unknown subcommand":     {"realserver frobnicate", `unknown command "frobnicate"`},
		"unknown lab command":    {"lab frobnicate", `unknown command "frobnicate"`},
		"unknown flag":           {"status --frobnicate", "unknown flag: --frobnicate"},
		"unknown flag of root":   {"--frobnicate", "unknown flag: --frobnicate"},
		"bad duration":           {"status --timeout soon", `invalid argument "soon"`},
		"bad output":             {"version -o toml", `--output "toml": expected table, json or yaml`},
		"bad output of status":   {"status -o xml", `--output "xml": expected table, json or yaml`},
		"surplus argument":       {"version now", "now"},
		"apply without file":     {"apply -c " + config, "-f"},
		"diff without file":      {"diff -c " + config, "-f"},
		"file that is not there": {"apply -c " + config + " -f /nowhere/web.yaml", "/nowhere/web.yaml: no such file"},
		"bad cluster":            {"get --cluster ../etc --zookeeper 127.0.0.1:1", `--cluster: "../etc"`},
		"bad server":             {"get --cluster web --zookeeper 127.0.0.1:port", "127.0.0.1:port"},
		"no VIP for realserver":  {"realserver up", "--vip ADDRESS and --interface NAME"},
		"bad VIP for realserver": {"realserver up --interface eth0 --vip 10.0.0.1/24", `--vip "10.0.0.1/24": expected an IPv4 address without prefix`},
		"bad log level":          {"run -c " + config + " --log-level loud", `--log-level "loud": expected debug, info, warn or error`},
		"bad log format":         {"run -c " + config + " --log-format xml", `--log-format "xml": expected console, json or auto`},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := runCommandLine(t, strings.Fields(c.args)...)
			if code != exitBadInput {
				t.Errorf("exit code %d, want %d", code, exitBadInput)
			}
			if stdout != "" {
				t.Errorf("stdout: %q", stdout)
			}
			if !strings.Contains(stderr, c.want) || strings.Count(strings.TrimSpace(stderr), "\n") > 0 && !strings.Contains(stderr, "Did you mean") {
				t.Errorf("stderr %q, want one line with %q", stderr, c.want)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	for format, want := range map[string]string{"table": "zklvs ", "json": `"version": "`, "yaml": "version: "} {
		stdout, stderr, code := runCommandLine(t, "version", "-o", format)
		if code != exitOK || stderr != "" || !strings.Contains(stdout, want) {
			t.Errorf("-o %s: code %d, stdout %q, stderr %q", format, code, stdout, stderr)
		}
	}
}

// This host's own file: each message names the file, the line and the remedy.
func TestLocalFile(t *testing.T) {
	const secure = "cluster: web\nzookeeper: {servers: [127.0.0.1:1], credentials: {user: zklvs, password_file: /nowhere/password}}\n"
	for name, c := range map[string]struct {
		content string // "" for no file
		want    string // %s is the file
	}{
		"missing":          {"", "open FILE: no such file or directory: write it (see the README)"},
		"empty":            {"# nothing\n", "FILE:1: "},
		"not YAML":         {"cluster: [web\n", "FILE:1"},
		"unknown key":      {"cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\nintreface: eth0\n", `FILE:3: unknown key "intreface"; expected one of cluster, node, zookeeper, interface`},
		"no servers":       {"cluster: web\nzookeeper: {servers: []}\n", "FILE:2: "},
		"no password file": {secure, "zookeeper.credentials.password_file: open /nowhere/password: no such file or directory"},
	} {
		for _, command := range []string{"run", "status", "get", "apply -f -", "diff -f -"} {
			t.Run(name+"/"+strings.Fields(command)[0], func(t *testing.T) {
				config := filepath.Join(t.TempDir(), "zklvs.yaml")
				if c.content != "" {
					config = file(t, "zklvs.yaml", c.content)
				}
				if command == "run" && name == "no password file" {
					t.Skip("run reads the password as root only, after taking its place on the host")
				}
				documents := strings.NewReader("groups: {web: {vips: [192.0.2.100]}}\n")
				_, stderr, code := runWithInput(t, documents, append(strings.Fields(command), "-c", config)...)
				want := strings.ReplaceAll(c.want, "FILE", config)
				if code != exitBadInput || !strings.Contains(stderr, want) {
					t.Errorf("code %d, stderr %q, want %d and %q", code, stderr, exitBadInput, want)
				}
			})
		}
	}
}

func TestConfigFromTheEnvironment(t *testing.T) {
	config := file(t, "other.yaml", "cluster: web\nzookeper: {}\n")
	t.Setenv("ZKLVS_CONFIG", config)
	_, stderr, code := runCommandLine(t, "status")
	if code != exitBadInput || !strings.Contains(stderr, config+":2: ") {
		t.Errorf("code %d, stderr %q", code, stderr)
	}
}

// ZooKeeper that cannot be reached: one line, soon, with the remedy.
func TestUnreachableZooKeeper(t *testing.T) {
	docs := file(t, "web.yaml", "groups: {web: {vips: [192.0.2.100]}}\n")
	config := file(t, "zklvs.yaml", "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\nrun_dir: "+t.TempDir()+"\n")
	for _, command := range []string{"apply -f " + docs, "diff -f " + docs, "get", "status"} {
		t.Run(strings.Fields(command)[0], func(t *testing.T) {
			stdout, stderr, code := runCommandLine(t, append(strings.Fields(command), "-c", config, "--timeout", "1s")...)
			if code != exitFailed || stdout != "" {
				t.Errorf("code %d, stdout %q", code, stdout)
			}
			if strings.Count(stderr, "\n") != 1 {
				t.Errorf("not one line: %q", stderr)
			}
			for _, want := range []string{"no session with 127.0.0.1:1", "refused", "check zookeeper.servers and that they run"} {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr %q, want %q", stderr, want)
				}
			}
		})
	}
}

// Faults of documents are told whether or not ZooKeeper can be reached, with
// the file as the command line named it.
func TestFaultsOfDocumentsNeedNoZooKeeper(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, content string) {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("zklvs.yaml", "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\n")
	write("a.yaml", "groups:\n  web: {vips: [192.0.2.100], lable: eth0:2}\n")
	write("b.yml", "groups:\n  two: {vips: [192.0.2.300]}\nservices:\n  http: {group: web}\n")
	write("notes.txt", "not read\n")
	for _, args := range [][]string{{"apply", "-f", "."}, {"diff", "-f", "a.yaml", "-f", "b.yml"}} {
		stdout, stderr, code := runCommandLine(t, append(args, "-c", "zklvs.yaml", "--timeout", "1s")...)
		if code != exitBadInput || stdout != "" {
			t.Errorf("%v: code %d, stdout %q", args, code, stdout)
		}
		lines := strings.Split(strings.TrimSpace(stderr), "\n")
		for i, want := range []string{"a.yaml:2: ", "b.yml:2: ", "b.yml:4: "} {
			if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
				t.Errorf("%v: line %d is to begin with %q:\n%s", args, i+1, want, stderr)
			}
		}
	}
}

func TestFaultsOnStandardInput(t *testing.T) {
	config := file(t, "zklvs.yaml", "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\n")
	_, stderr, code := runWithInput(t, strings.NewReader("groups:\n  web: {}\n"), "apply", "-f", "-", "-c", config, "--timeout", "1s")
	if code != exitBadInput || !strings.HasPrefix(stderr, "standard input:2: ") {
		t.Errorf("code %d, stderr %q", code, stderr)
	}
}

// The two that need root say so before they do anything.
func TestNoRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		config := file(t, "zklvs.yaml", "cluster: web\nzookeeper: {servers: [127.0.0.1:1]}\n")
		for _, args := range [][]string{{"run", "-c", config}, {"realserver", "up", "--vip", "192.0.2.100", "--interface", "eth0"}} {
			_, stderr, code := runAsNobody(t, args...)
			if code != exitFailed || !strings.Contains(stderr, "root") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%v: code %d, stderr %q, want one line about root", args, code, stderr)
			}
		}
		return
	}
	_, stderr, code := runCommandLine(t, "realserver", "up", "--vip", "192.0.2.100", "--interface", "eth0")
	if code != exitFailed || !strings.Contains(stderr, "root") {
		t.Errorf("code %d, stderr %q", code, stderr)
	}
}
