package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
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
		Versions: map[string]string{"zklvs": printed(ctx, 1, zklvs, "version"), "keepalived": printed(ctx, 1, "keepalived", "--version")},
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil && !m.UML { // a guest that has just booted has none
		m.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	for _, debian := range []string{"keepalived", "zookeeper", "nginx-light"} {
		m.Versions["Debian's "+debian] = printed(ctx, 0, "dpkg-query", "--show", "--showformat=${Version}", debian)
	}
	return m, nil
}

// printed is one word of the first line that a program prints.
func printed(ctx context.Context, word int, argv ...string) string {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput() // keepalived writes to stderr
	line, _, _ := bytes.Cut(out, []byte("\n"))
	words := bytes.Fields(line)
	if err != nil || len(words) <= word {
		return "unknown"
	}
	return string(words[word])
}
