package bench

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/lab"
)

// testNetwork starts one that ends with the test.
func testNetwork(t *testing.T, env Env, o networkOptions) *network {
	t.Helper()
	env.Progress = t.Logf
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := startNetwork(ctx, env, o)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// once strikes and checks what must hold of any such fault on any machine.
func once(t *testing.T, n *network, c contender, f fault) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := strike{network: n, contender: c, fault: f, settle: 300 * time.Millisecond}.run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, %s: %+v", c.name(), f, out)
	if out.takenOver.V <= 0 || out.noAnswer.V <= 0 {
		t.Errorf("%s, %s: something took no time at all: %+v", c.name(), f, out)
	}
	if _, _, err := c.ready(ctx); err != nil {
		t.Errorf("%s, %s: it was not repaired: %v", c.name(), f, err)
	}
	return out
}

// One strike of zklvs and one of keepalived, on any kernel with namespaces: the
// harness sees two hosts answer where there are two, and only there.
func TestHostStrike(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP: network namespaces need root: run as root")
	}
	program := filepath.Join(t.TempDir(), "zklvs")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/zklvs/zklvs/cmd/zklvs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build zklvs: %v\n%s", err, out)
	}
	n := testNetwork(t, Env{Zklvs: program}, networkOptions{lease: usualLease, contenders: []string{Zklvs, Tuned}})
	if out := once(t, n, n.contenders[0], killed); out.twoAnswer.V != 0 {
		t.Errorf("two directors answered: %+v", out)
	}
	if out := once(t, n, n.contenders[1], killed); out.twoAnswer.V == 0 {
		t.Errorf("keepalived's dead master fell silent: %+v", out)
	}
}

// The faults of keepalived that heal, in the kernel that sections with IPVS run in.
func TestKernelStrike(t *testing.T) {
	lab.Require(t)
	n := testNetwork(t, Env{}, networkOptions{contenders: []string{Tuned}})
	if out := once(t, n, n.contenders[0], cutOff); out.noAnswer.V < out.takenOver.V/2 {
		t.Errorf("a host without its network answered: %+v", out)
	}
	if out := once(t, n, n.contenders[0], frozen); out.twoAnswer.V == 0 {
		t.Errorf("keepalived's frozen master fell silent: %+v", out)
	}
}

// A section that is interrupted ends soon, and says so.
func TestHostInterrupted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP: network namespaces need root: run as root")
	}
	n := testNetwork(t, Env{}, networkOptions{contenders: []string{Tuned}})
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	time.AfterFunc(300*time.Millisecond, func() { cancel(interrupted) })
	begun := time.Now()
	_, err := strike{network: n, contender: n.contenders[0], fault: killed, settle: time.Minute}.run(ctx)
	if !errors.Is(err, interrupted) || time.Since(begun) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}
