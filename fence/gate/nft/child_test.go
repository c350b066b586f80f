package nft_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/gate/nft"
	"github.com/zklvs/zklvs/internal/boottime"
)

const childVariable = "ZKLVS_NFT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		holdGate()
	}
	os.Exit(m.Run())
}

// holdGate is the other process: it gates the VIPs and opens them for as long
// as each line of its input says, and tells the deadline.
func holdGate() {
	g, err := nft.New(nft.Config{Logger: zap.NewNop(), Now: boottime.Now})
	must(err)
	must(g.Add(vip4, vip6))
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
	var d int64
	if !c.out.Scan() {
		c.t.Fatalf("the child ended: %v", c.out.Err())
	}
	_, err := fmt.Sscan(c.out.Text(), &d)
	must(err)
	return time.Duration(d)
}

func (c *child) open(d time.Duration) time.Duration {
	c.t.Helper()
	_, err := fmt.Fprintln(c.in, d)
	must(err)
	return c.deadline()
}

func (c *child) signal(s os.Signal) { must(c.cmd.Process.Signal(s)) }
func (c *child) stop()              { c.signal(unix.SIGSTOP) }
func (c *child) resume()            { c.signal(unix.SIGCONT) }

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
	c.in.Close()
}
