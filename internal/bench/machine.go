package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// inUML tells whether deploy/kernel/with-ipvs booted a user-mode Linux for us.
func inUML() bool { return os.Getenv("ZKLVS_INSIDE") == "uml" }

// ThisMachine describes the kernel that runs this, and the programs compared.
func ThisMachine(ctx context.Context, zklvs string) (Machine, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Machine{}, fmt.Errorf("ask for the kernel's version: %w", err)
	}
	m := Machine{
		Kernel: "Linux " + unix.ByteSliceToString(name.Release[:]), UML: inUML(), CPUs: runtime.NumCPU(),
		Versions: map[string]string{"zklvs": firstLine(ctx, zklvs, "version"), "keepalived": firstLine(ctx, "keepalived", "--version")},
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil && !m.UML { // a guest that has just booted has none
		m.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	for _, debian := range []string{"keepalived", "zookeeper", "nginx-light"} {
		m.Versions["Debian's "+debian] = firstLine(ctx, "dpkg-query", "--show", "--showformat=${Version}", debian)
	}
	return m, nil
}

var number = regexp.MustCompile(`\S*[0-9]\S*`)

// firstLine is the first word with a number in the first line that a program prints.
func firstLine(ctx context.Context, argv ...string) string {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput() // keepalived writes to stderr
	line, _, _ := bytes.Cut(out, []byte("\n"))
	word := number.Find(line)
	if err != nil || word == nil {
		return "unknown"
	}
	return strings.TrimSpace(string(word))
}
