package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/lab"
)

// zklvs fence is for a host where no daemon runs any more.
func TestHostFenceCommand(t *testing.T) {
	requireHost(t)
	k := startPlain(t)
	k.must1(k.Apply(k.ctx, "groups:\n  web: {vips: [192.168.150.100]}\n"))
	h := k.waitAnyHolder()
	filters := func() string {
		out, err := k.Lab.Host(h).Run(k.ctx, "tc", "filter", "show", "dev", "eth0", "egress")
		k.must(err)
		return out
	}
	if _, err := k.Zklvs(k.ctx, h, "fence"); err == nil || !strings.Contains(err.Error(), "another zklvs director of this cluster") {
		t.Errorf("beside a daemon that runs: %v", err)
	}
	if k.holder() != h {
		t.Fatal("the daemon lost the group")
	}
	k.must(k.KillBoth(h))
	out, err := k.Zklvs(k.ctx, h, "fence")
	k.must(err)
	if !strings.Contains(out, "removed 192.168.150.100 on eth0\nno VIP and no IPVS service of zklvs is left on this host\n") {
		t.Errorf("it said:\n%s", out)
	}
	if bound, err := k.Lab.Host(h).Bound("eth0", lab.VIP); err != nil || bound {
		t.Errorf("the VIP is bound: %v, %v", bound, err)
	}
	if !strings.Contains(filters(), "zklvs-gate") {
		t.Errorf("the gate is gone without having been asked for:\n%s", filters())
	}
	out, err = k.Zklvs(k.ctx, h, "fence", "--remove")
	k.must(err)
	if left := filters(); !strings.Contains(out, "the kernel gate is removed") || left != "" {
		t.Errorf("it said:\n%s\nfilters:\n%s", out, left)
	}
	other := map[string]string{demo.First: demo.Second, demo.Second: demo.First}[h]
	k.until("the other director takes over", func() error {
		name, err := k.Answerer(lab.VIP)
		if err == nil && name != other {
			err = errors.New("it does not yet")
		}
		return err
	})
}
