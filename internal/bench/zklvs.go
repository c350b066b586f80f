package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/zklvs/zklvs/internal/control"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/internal/spec"
)

const zklvsConfig = "/run/zklvs/zklvs.yaml" // on each director

// zklvsPair is two directors of equal priority. Whichever holds is struck.
type zklvsPair struct {
	program string
	servers string // ZooKeeper's
	// documents with %s for the lease.
	documents string

	hosts   [2]*lab.Host
	daemons [2]*lab.Process
}

func startZklvs(ctx context.Context, n *network, env Env, o networkOptions, servers []netip.Addr) (*zklvsPair, error) {
	z := &zklvsPair{program: env.Zklvs, servers: strings.Join(n.zookeeper.Servers(), ", "), documents: zklvsDocuments(o.scheduler, servers)}
	var err error
	for i, last := range []byte{11, 14} {
		if z.hosts[i], err = n.addDirector(fmt.Sprintf("node%02d", last-10), last, nil); err != nil {
			return nil, err
		}
		if err := z.run(i); err != nil {
			return nil, err
		}
	}
	ready, cancel := within(ctx, patience)
	defer cancel()
	for _, d := range z.daemons {
		if err := d.WaitLog(ready, "starting"); err != nil {
			return nil, err
		}
	}
	err = z.apply(ctx, o.lease)
	return z, err
}

// zklvsDocuments has one group, with or without an HTTP service: what the notes
// configure keepalived with, word for word.
func zklvsDocuments(scheduler string, servers []netip.Addr) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster: {lease: %%s}\ngroups:\n  web: {vips: [%s], label: \"eth0:2\"}\n", vips[Zklvs])
	if len(servers) == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, `services:
  web-http:
    group: web
    listen: %s:80/tcp
    scheduler: %s
    forward: dr
    persistence: 0s
    check: {http: {path: /, status: [200]}, interval: 5s, timeout: 5s, retries: 2, retry_delay: 3s}
    real_servers:
`, vips[Zklvs], scheduler)
	for _, address := range servers {
		fmt.Fprintf(&b, "      - {address: %s:80, weight: 1}\n", address)
	}
	return b.String()
}

// run starts the daemon of a director.
func (z *zklvsPair) run(i int) (err error) {
	text := fmt.Sprintf("cluster: web\nzookeeper: {servers: [%s]}\ninterface: eth0\n", z.servers)
	if err := z.hosts[i].WriteFile(zklvsConfig, text); err != nil {
		return err
	}
	z.daemons[i], err = z.hosts[i].Start(z.program, "run", "--config", zklvsConfig)
	return err
}

// apply stores the documents, with a lease, which holds from the next epoch on.
func (z *zklvsPair) apply(ctx context.Context, lease time.Duration) error {
	const file = "/run/zklvs/documents.yaml"
	if err := z.hosts[0].WriteFile(file, fmt.Sprintf(z.documents, lease)); err != nil {
		return err
	}
	ctx, cancel := within(ctx, patience)
	defer cancel()
	cmd := z.hosts[0].Command(ctx, z.program, "apply", "-f", file)
	cmd.Env = append(os.Environ(), "ZKLVS_CONFIG="+zklvsConfig)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("zklvs apply: %w\n%s", err, out)
	}
	return nil
}

func (z *zklvsPair) name() string       { return Zklvs }
func (z *zklvsPair) vip() netip.Addr    { return vips[Zklvs] }
func (z *zklvsPair) suffers(fault) bool { return true }

// status is the part of a director's word about itself that is of use here.
type status struct {
	Guard struct {
		PID int `json:"pid"`
	} `json:"guard"`
	Groups []struct {
		Phase     string `json:"phase"`
		Answering bool   `json:"answering"`
	} `json:"groups"`
	Health []struct {
		RealServers []struct {
			State string `json:"state"`
		} `json:"real_servers"`
	} `json:"health"`
}

func (z *zklvsPair) status(ctx context.Context, i int) (s status, err error) {
	socket := spec.Local{Cluster: "web", RunDir: "/run/zklvs"}.Socket()
	err = control.Status(ctx, z.hosts[i].Path(socket), &s)
	return s, err
}

// role is what a director is in the one group: holder, standby, or neither. One
// that does not know how the real servers are is not ready to hold.
func (s status) role() string {
	if len(s.Groups) != 1 {
		return "without its group"
	}
	for _, service := range s.Health {
		for _, server := range service.RealServers {
			if server.State != "up" && server.State != "unchecked" {
				return "waiting for a real server that is " + server.State
			}
		}
	}
	switch g := s.Groups[0]; {
	case g.Phase == "holder" && !g.Answering:
		return "holder, not answering"
	default:
		return g.Phase
	}
}

func (z *zklvsPair) ready(ctx context.Context) (holder, heir *lab.Host, err error) {
	ctx, cancel := within(ctx, patience)
	defer cancel()
	err = lab.WaitUntil(ctx, "zklvs is ready", func() error {
		var roles [2]string
		for i := range z.hosts {
			s, err := z.status(ctx, i)
			if err != nil {
				return err
			}
			roles[i] = s.role()
		}
		switch roles {
		case [2]string{"holder", "standby"}:
			holder, heir = z.hosts[0], z.hosts[1]
		case [2]string{"standby", "holder"}:
			holder, heir = z.hosts[1], z.hosts[0]
		default:
			return fmt.Errorf("the directors are %s and %s", roles[0], roles[1])
		}
		return nil
	})
	return holder, heir, err
}

func (z *zklvsPair) index(h *lab.Host) int {
	if h == z.hosts[0] {
		return 0
	}
	return 1
}

func (z *zklvsPair) strike(f fault, holder *lab.Host) error {
	i := z.index(holder)
	switch f {
	case killed:
		return z.daemons[i].Signal(syscall.SIGKILL)
	case frozen:
		return z.daemons[i].Freeze()
	case stopped:
		return z.daemons[i].Signal(syscall.SIGTERM)
	case killedBoth:
		return holder.Crash()
	case frozenBoth:
		return holder.Freeze()
	case cutOff:
		return errors.Join(holder.Cut("eth0"), holder.Cut("eth1"))
	}
	return fmt.Errorf("zklvs does not know %s", f)
}

// repair starts a director that has ended; one that was frozen has been ended by its
// timer, unless it is healed before.
func (z *zklvsPair) repair(ctx context.Context, f fault, holder *lab.Host) error {
	i := z.index(holder)
	switch f {
	case cutOff:
		err := errors.Join(holder.Heal("eth0"), holder.Heal("eth1"))
		if err == nil && !z.daemons[i].Running() { // ended by its timer, where the machine is too busy
			err = z.run(i)
		}
		return err
	case frozen, frozenBoth:
		if err := holder.Thaw(); err != nil {
			return err
		}
	}
	ending, cancel := within(ctx, patience)
	defer cancel()
	if _, err := z.daemons[i].Wait(ending); err != nil {
		return err
	}
	return z.run(i)
}
