package nemesis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	gozk "github.com/go-zookeeper/zk"

	"github.com/zklvs/zklvs/internal/control"
	"github.com/zklvs/zklvs/internal/demo"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

// group is one of the two groups.
type group struct {
	name string
	vip  netip.Addr
}

// site is the cluster that is broken, and what is known of it.
type site struct {
	*demo.Cluster
	groups [2]group
	text   string // the documents
	tree   zk.Tree
	ipvs   bool // the groups have services
	netem  bool // this kernel has it
	// holder tells who was last seen to answer for a group's VIP, "" for nobody.
	holder func(group int) string
}

// diskSize is that of a ZooKeeper server's disk: room for the snapshots and logs
// of a hundred restarts.
const diskSize = 192 << 20

// newSite starts the cluster. Close it also after an error.
func newSite(ctx context.Context, o Options) (*site, error) {
	tree, err := zk.NewTree("web")
	if err != nil {
		return nil, err
	}
	_, noIPVS := os.Stat("/proc/net/ip_vs")
	s := &site{
		tree: tree, ipvs: noIPVS == nil,
		groups: [2]group{{"web", lab.VIP}, {"files", demo.SecondVIP}},
	}
	s.Cluster, err = demo.Start(ctx, demo.Options{
		Zklvs: o.Zklvs, Servers: 3, Directors: 3, NoRealServers: !s.ipvs, OwnDisks: diskSize, Progress: o.Progress,
	})
	if err != nil {
		return s, err
	}
	if !s.ipvs {
		for _, name := range s.Directors() { // the directors are the web servers
			if _, err := lab.StartNginx(ctx, s.Lab.Host(name), name); err != nil {
				return s, err
			}
		}
	}
	err = s.client().Impair("lo", lab.Impairment{Delay: time.Microsecond})
	s.netem = err == nil
	_ = s.client().Unimpair("lo")
	o.Progress("storing the documents")
	s.text = s.documents(o)
	_, err = s.Apply(ctx, s.text)
	return s, err
}

func (s *site) client() *lab.Host { return s.Lab.Host(demo.Client) }

// documents: the client is the gateway that a director must reach to hold, so
// that one without its LAN gives up.
func (s *site) documents(o Options) string {
	cluster := "lease: " + o.Lease.String()
	if o.OnZooKeeperLoss != "" {
		cluster += ", on_zookeeper_loss: " + o.OnZooKeeperLoss
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cluster: {%s}\ngroups:\n", cluster)
	for i, g := range s.groups {
		first, second := s.Directors()[i], s.Directors()[(i+1)%3]
		fmt.Fprintf(&b, "  %s:\n    vips: [%s]\n    priority: {%s: 150, %s: 120}\n    preempt: %t\n", g.name, g.vip, first, second, i == 1)
		fmt.Fprintf(&b, "    fitness: {gateway: {address: %s, interval: 500ms, timeout: 500ms}, backoff: 1s}\n", s.client().Addr("eth0"))
	}
	if !s.ipvs {
		return b.String()
	}
	b.WriteString("services:\n")
	for _, g := range s.groups {
		b.WriteString(demo.HTTPService(g.name, g.vip.String(), 2*time.Second))
	}
	return b.String()
}

// struck is a part of a fault with the director that it strikes.
type struck struct {
	Part
	director string
	group    group
}

// aim finds the director that a part strikes: whoever answers now for the group's
// VIP, or one of the others.
func (s *site) aim(p Part) struck {
	names := s.Directors()
	name := s.holder(p.Group)
	if name == "" {
		name = names[p.Dice%len(names)]
	}
	if p.Standby {
		others := slices.DeleteFunc(names, func(n string) bool { return n == name })
		name = others[p.Dice%len(others)]
	}
	return struck{Part: p, director: name, group: s.groups[p.Group]}
}

func (s *site) host(p struck) *lab.Host { return s.Lab.Host(p.director) }

// status asks a director itself.
func (s *site) status(ctx context.Context, name string) (said director.Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	socket := spec.Local{Cluster: "web", RunDir: "/run/zklvs"}.Socket()
	err = control.Status(ctx, s.Lab.Host(name).Path(socket), &said)
	return said, err
}

// settled is an error until every director runs and is standby or holder in each
// group, each group has one holder, and no VIP is bound anywhere else.
func (s *site) settled(ctx context.Context) error {
	holders := map[string][]string{}
	for _, name := range s.Directors() {
		if !s.Director(name).Running() {
			return fmt.Errorf("%s does not run", name)
		}
		said, err := s.status(ctx, name)
		if err != nil {
			return err
		}
		if len(said.Problems) > 0 {
			return fmt.Errorf("%s has problems: %v", name, said.Problems)
		}
		if len(said.Groups) != len(s.groups) {
			return fmt.Errorf("%s knows %d groups", name, len(said.Groups))
		}
		for _, g := range said.Groups {
			switch g.Phase {
			case "holder":
				holders[g.Group] = append(holders[g.Group], name)
			case "standby":
			default:
				return fmt.Errorf("%s is %s in group %s: %s %s", name, g.Phase, g.Group, g.Ineligible, g.Why)
			}
		}
	}
	for _, g := range s.groups {
		if len(holders[g.name]) != 1 {
			return fmt.Errorf("holders of group %s: %v", g.name, holders[g.name])
		}
		if bound, err := s.Answerer(g.vip); err != nil || bound != holders[g.name][0] {
			return errors.Join(err, fmt.Errorf("group %s: %s holds, bound on %q", g.name, holders[g.name][0], bound))
		}
	}
	return nil
}

// mend starts what does not run, as the machine's service manager would: directors
// and ZooKeeper servers that a fault, or its consequences, have ended. It says how
// directors ended.
func (s *site) mend(ctx context.Context) (ended []string, err error) {
	var errs []error
	for i := range s.ZooKeeper.Servers() {
		if !s.ZooKeeper.Process(i).Running() {
			errs = append(errs, s.ZooKeeper.Start(i))
		}
	}
	for _, name := range s.Directors() {
		p := s.Director(name)
		if p.Running() {
			continue
		}
		if code, err := p.Wait(ctx); err == nil {
			ended = append(ended, fmt.Sprintf("%s had ended with status %d: %s", name, code, lastLine(p.Log())))
		}
		errs = append(errs, s.StartDirector(name))
	}
	return ended, errors.Join(errs...)
}

func lastLine(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return lines[len(lines)-1]
}

// quorum waits until the servers have a leader and a follower.
func (s *site) quorum(ctx context.Context) error {
	if _, err := s.ZooKeeper.Leader(ctx); err != nil {
		return err
	}
	_, err := s.ZooKeeper.Follower(ctx)
	return err
}

// byHand lets f work in ZooKeeper, from the client's host, as somebody with a
// client of ZooKeeper would.
func (s *site) byHand(ctx context.Context, f func(*gozk.Conn) error) error {
	ctx, cancel := demo.Within(ctx, 5*time.Second)
	defer cancel()
	dial := func(_, address string, timeout time.Duration) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return s.client().Dial(ctx, address)
	}
	conn, _, err := gozk.Connect(s.ZooKeeper.Servers(), 4*time.Second, gozk.WithDialer(dial), gozk.WithLogInfo(false), gozk.WithLogger(silent{}))
	if err != nil {
		return fmt.Errorf("connect to ZooKeeper by hand: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- f(conn) }()
	select {
	case err = <-done:
		conn.Close()
		return err
	case <-ctx.Done():
		conn.Close() // ends the call under way
		return errors.Join(context.Cause(ctx), <-done)
	}
}

// silent is a logger of go-zk.
type silent struct{}

// Printf says nothing.
func (silent) Printf(string, ...any) {}
