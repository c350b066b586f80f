package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/ipvs"
	"github.com/zklvs/zklvs/ipvs/ipvsadm"
)

// What a director left, beside services of others: export --kernel prints it as
// ipvsadm does, and clear removes it and nothing else.
func TestKernelClearAndExport(t *testing.T) {
	requireIPVS(t)
	h := &leftHost{T: t}
	var err error
	h.Host, err = newLab(t).AddHost("left")
	h.must(err)
	h.must(h.WriteFile("/run/zklvs.yaml", "cluster: web\nnode: left\nzookeeper: {servers: [127.0.0.1:1]}\n"))
	h.run("", "mkdir", "/run/zklvs")
	h.run("", "ip", "link", "set", "lo", "up")
	const foreign = "-A -t 10.0.0.9:80 -s lc\n-a -t 10.0.0.9:80 -r 10.0.1.2:80 -g -w 1\n"
	for _, rule := range strings.Split(strings.TrimSpace(foreign), "\n") {
		h.run("", "ipvsadm", strings.Fields(rule)...)
	}
	const ours = "-A -t 10.0.0.1:80 -s rr -p 300\n-a -t 10.0.0.1:80 -r 10.0.1.2:80 -g -w 1\n-a -t 10.0.0.1:80 -r 10.0.1.3:8080 -m -w 2\n-A -f 5 -6 -s sh -b sh-fallback\n"
	h.leave(ours)
	if d := cmp.Diff(ours, h.zklvs("export", "ipvsadm", "--kernel")); d != "" {
		t.Errorf("export --kernel (-ours +printed):\n%s", d)
	}
	saved := h.run("", "ipvsadm", "-S", "-n")
	if d := cmp.Diff(saved, h.zklvs("export", "ipvsadm", "--kernel", "--all")); d != "" {
		t.Errorf("export --kernel --all (-ipvsadm +printed):\n%s", d)
	}

	would := "would remove TCP 10.0.0.1:80 with 2 real servers\n"
	if got := h.zklvs("clear", "--dry-run"); !strings.Contains(got, would) || !strings.HasSuffix(got, "dry run: 2 services; nothing was removed\n") {
		t.Errorf("clear --dry-run: %s", got)
	}
	if d := cmp.Diff(saved, h.run("", "ipvsadm", "-S", "-n")); d != "" {
		t.Errorf("a dry run changed the table (-before +after):\n%s", d)
	}
	want := "{\n  \"removed\": [\n    {\n      \"service\": \"FWM 5 IPv6\",\n      \"real_servers\": 0\n    },\n    {\n      \"service\": \"TCP 10.0.0.1:80\",\n      \"real_servers\": 2\n    }\n  ],\n  \"dry_run\": false\n}\n"
	if d := cmp.Diff(want, h.zklvs("clear", "-o", "json")); d != "" {
		t.Errorf("clear (-want +got):\n%s", d)
	}
	if d := cmp.Diff(foreign, h.run("", "ipvsadm", "-S", "-n")); d != "" {
		t.Errorf("the others' services after clear (-want +got):\n%s", d)
	}
	if got := h.zklvs("clear") + h.zklvs("export", "ipvsadm", "--kernel"); got != "no IPVS service of zklvs is left on this host\n" {
		t.Errorf("clear and export with nothing left: %s", got)
	}
}

// leftHost is a host on which a director was.
type leftHost struct {
	*testing.T
	*lab.Host
}

func (h *leftHost) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// run runs a program on the host and returns what it printed.
func (h *leftHost) run(stdin, name string, args ...string) string {
	h.Helper()
	cmd := h.Command(h.Context(), append([]string{name}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	stdout, stderr, code := runProgram(h.T, cmd)
	if code != 0 {
		h.Fatalf("%s %v: exit code %d: %s", name, args, code, stderr)
	}
	return stdout
}

func (h *leftHost) zklvs(args ...string) string {
	h.Helper()
	return h.run("", program(h.T), append(args, "-c", "/run/zklvs.yaml")...)
}

// leave makes rules ours, as a director does that is then killed.
func (h *leftHost) leave(rules string) {
	h.Helper()
	table, err := ipvsadm.Parse("rules", strings.NewReader(rules))
	h.must(err)
	h.must(h.Do(func() error {
		scope, err := ipvs.HostScope()
		if err != nil {
			return err
		}
		owned, err := ipvs.OpenOwned(h.Path("/run/zklvs/web.services"), scope)
		if err != nil {
			return err
		}
		kernel, err := ipvs.Open()
		if err != nil {
			return err
		}
		defer kernel.Close()
		r, err := ipvs.NewReconciler(kernel, owned)
		if err != nil {
			return err
		}
		_, err = r.Reconcile(h.Context(), table)
		return err
	}))
}

// exported: the documents, the kernel through us and the kernel through ipvsadm
// say the same, once the checks have let every real server in.
func (k *cluster) exported() {
	h := k.holder()
	documents, err := k.Zklvs(k.ctx, h, "export", "ipvsadm")
	k.must(err)
	k.until("all real servers are in", func() error {
		kernel, err := k.Zklvs(k.ctx, h, "export", "ipvsadm", "--kernel")
		if err != nil {
			return err
		}
		saved, err := k.Lab.Host(h).Run(k.ctx, "ipvsadm", "-S", "-n")
		if err == nil && (documents != kernel || kernel != saved) {
			err = fmt.Errorf("documents:\n%s\nkernel:\n%s\nipvsadm:\n%s", documents, kernel, saved)
		}
		return err
	})
	out, err := k.Zklvs(k.ctx, h, "clear")
	if err == nil || !strings.Contains(err.Error(), "another zklvs director of this cluster runs in this network namespace: stop it first") {
		k.Errorf("clear beside a director: %v, %s", err, out)
	}
	k.must(k.wantRules(h, "192.168.150.100:80"))
}
