package guard

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestKeptRights(t *testing.T) {
	for release, bpf := range map[string]bool{"5.10.0-28-amd64": true, "5.15.0": true, "6.0.0": false, "6.1.176": false, "10.2": false, "": false} {
		if got := kept(release)&(1<<unix.CAP_BPF) != 0; got != bpf {
			t.Errorf("Linux %q: CAP_BPF kept: %v, want %v", release, got, bpf)
		}
	}
}
