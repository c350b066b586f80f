package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sorted(list []string) []string {
	list = append([]string{}, list...)
	slices.Sort(list)
	return list
}

// mounts returns the mounts that this process sees, without their numbers.
func mounts(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(data), "\n")
}

// namespacesInUse is an error if any thread of any process is in one of the
// network namespaces.
func namespacesInUse(nets []string) error {
	links, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns/net")
	if err != nil {
		return err
	}
	for _, link := range links {
		if net, err := os.Readlink(link); err == nil && slices.Contains(nets, net) {
			return fmt.Errorf("%s is %s", link, net)
		}
	}
	return nil
}

// sentSince is an error until n requests have been sent since a time, and the
// last of them 100 ms ago: its answer has come or will not.
func (p *Prober) sentSince(since time.Duration, n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var count int
	for _, at := range p.sent {
		if at >= since {
			count++
		}
	}
	if count < n+20 {
		return fmt.Errorf("%d are sent", count)
	}
	return nil
}

// leadsOtherThan is an error until a server other than the old one leads.
func (e *Ensemble) leadsOtherThan(ctx context.Context, old int) error {
	for i := range e.servers {
		if mode, err := e.Mode(ctx, i); i != old && err == nil && mode == "leader" {
			return nil
		}
	}
	return errors.New("none does")
}

// explain logs what the servers of a failed test were doing: a JVM answers
// SIGQUIT with the stacks of its threads.
func explain(t *testing.T, e *Ensemble) {
	t.Helper()
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for i := range e.servers {
		err := e.Process(i).Signal(syscall.SIGQUIT)
		if err == nil {
			err = e.Process(i).WaitLog(ctx, "Heap")
		}
		t.Logf("ZooKeeper server %d, stacks: %v; its log ends:\n%s", i, err, tail(e.Process(i).Log(), 300))
	}
}
