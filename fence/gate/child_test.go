package gate_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/gate"
	"github.com/zklvs/zklvs/internal/boottime"
)

const childVariable = "ZKLVS_GATE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		holdGate()
	}
	os.Exit(m.Run())
}

// holdGate is the other process: it gates the VIPs and opens them for as long
// as each line of its input says, and tells the deadline.
func holdGate() {
	g, err := gate.New(gate.Config{Logger: zap.NewNop(), Now: boottime.Now})
	must(err)
	must(g.Add(vip4, vip6))
	must(g.Ensure())
	fmt.Println(0)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		d, err := time.ParseDuration(lines.Text())
		must(err)
		deadline := boottime.Now() + d
		setAll(g, deadline)
		fmt.Println(int64(deadline))
	}
	os.Exit(0)
}

// child is a process that holds a Gate in the namespace of the thread that
// started it.
type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Scanner
}

func startChild(t testing.TB) *child {
	t.Helper()
	read, write, err := os.Pipe()
	must(err)
	c := &child{t: t, cmd: exec.Command(os.Args[0]), in: write}
	c.cmd.Env = append(os.Environ(), childVariable+"=1")
	c.cmd.Stdin, c.cmd.Stderr = read, os.Stderr
	out, err := c.cmd.StdoutPipe()
	must(err)
	must(c.cmd.Start())
	read.Close()
	c.out = bufio.NewScanner(out)
	t.Cleanup(c.kill)
	c.deadline()
	return c
}

func (c *child) deadline() time.Duration {
	c.t.Helper()
	if !c.out.Scan() {
		c.t.Fatalf("the child ended: %v", c.out.Err())
	}
	var d int64
	_, err := fmt.Sscan(c.out.Text(), &d)
	must(err)
	return time.Duration(d)
}

// open opens the VIPs for a while and returns the deadline.
func (c *child) open(d time.Duration) time.Duration {
	c.t.Helper()
	_, err := fmt.Fprintln(c.in, d)
	must(err)
	return c.deadline()
}

// stop freezes the process; it returns when it is frozen.
func (c *child) stop() {
	c.t.Helper()
	must(unix.Kill(c.cmd.Process.Pid, unix.SIGSTOP))
	eventually(c.t, "the child is stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		must(err)
		_, rest, _ := strings.Cut(string(stat), ") ")
		return strings.HasPrefix(rest, "T")
	})
}

func (c *child) resume() { must(unix.Kill(c.cmd.Process.Pid, unix.SIGCONT)) }

// kill kills the process and waits for its end.
func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		c.in.Close()
	}
}
