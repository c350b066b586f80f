package director

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/ipvshost"
	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/ipvs"
)

// Host sets what IPVS wants of this host, not of one service; see ipvshost.Host.
type Host interface {
	Apply(ctx context.Context, d ipvshost.Desired) error
	Restore(ctx context.Context) error
}

// settings keeps this host's IPVS settings as the documents want them, on
// standbys too: a standby must have heard of connections before it takes over.
// It works beside the rules, so that no take-over waits for it.
type settings struct {
	host    Host
	desired func() (d ipvshost.Desired, known bool, err error)
	log     *zap.Logger
	beat

	mu       sync.Mutex // guards problems
	problems []string   // of the last pass
}

func newSettings(host Host, desired func() (ipvshost.Desired, bool, error), log *zap.Logger) *settings {
	return &settings{host: host, desired: desired, log: log, beat: newBeat()}
}

// run looks at an interval, and when documents came into force.
func (s *settings) run(ctx context.Context) error {
	return s.loop(ctx, func() { s.pass(ctx) })
}

func (s *settings) pass(ctx context.Context) {
	d, known, err := s.desired()
	if !known {
		return
	}
	err = errors.Join(err, s.host.Apply(ctx, d))
	if ctx.Err() != nil {
		return
	}
	s.tell(err)
}

// tell keeps what is wrong for the status, and logs it once.
func (s *settings) tell(err error) {
	var problems []string
	if err != nil {
		problems = strings.Split(err.Error(), "\n") // errors.Join
	}
	s.mu.Lock()
	before := s.problems
	s.problems = problems
	s.mu.Unlock()
	for _, p := range problems {
		if !slices.Contains(before, p) {
			s.log.Error("a setting of this host is not as desired", zap.String(logfield.Reason, p))
		}
	}
	if len(problems) == 0 && len(before) > 0 {
		s.log.Info("the settings of this host are as desired")
	}
}

func (s *settings) wrong() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problems
}

// desiredHost is what the documents want of this host; known is false where
// nothing can be said, nor set, yet. Without services it is what was there before.
func (d *Director) desiredHost() (want ipvshost.Desired, known bool, err error) {
	d.mu.Lock()
	sp := d.docs.spec
	d.mu.Unlock()
	switch {
	case sp == nil:
		return want, false, nil
	case len(sp.Services) == 0:
		return want, true, nil
	case !d.hasIPVS(): // the groups' fitness tells
		return want, false, nil
	}
	want, err = hostSettings(sp, d.cfg.Interface)
	return want, true, err
}

func (d *Director) hasIPVS() bool { return d.rules.available() == nil }

// hostSettings is what documents with services want of a host whose own interface
// is given. The error is about the daemons; all else is complete.
func hostSettings(sp *spec.Spec, own string) (ipvshost.Desired, error) {
	c := sp.Cluster.IPVS
	want := ipvshost.Desired{Timeouts: ipvs.Timeouts(c.Timeouts), Sysctls: c.AllSysctls()}
	for _, s := range sp.Services {
		for _, rs := range s.RealServers {
			if s.ForwardOf(rs) == spec.NAT {
				want.Forward4 = want.Forward4 || rs.Address.Addr().Is4()
				want.Forward6 = want.Forward6 || rs.Address.Addr().Is6()
			}
		}
	}
	if !c.Sync.Enabled {
		return want, nil
	}
	daemon := ipvs.Daemon{Interface: c.Sync.Interface, ID: uint8(c.Sync.ID), MaxLen: uint16(c.Sync.MaxLen),
		Group: c.Sync.Group, Port: uint16(c.Sync.Port), TTL: uint8(c.Sync.TTL)}
	if daemon.Interface == "" {
		daemon.Interface = own
	}
	if daemon.Interface == "" {
		return want, errors.New("connections are not synchronized: set `interface` in this director's file, or ipvs.sync.interface in the cluster's document")
	}
	for _, state := range []ipvs.DaemonState{ipvs.Master, ipvs.Backup} {
		daemon.State = state
		want.Daemons = append(want.Daemons, daemon)
	}
	return want, nil
}

// preemptDelay is how long a standby of higher priority must have been there
// before the group is handed over: long enough for it to have heard of the
// connections.
func preemptDelay(sp *spec.Spec, name string, g spec.Group) time.Duration {
	if sync := sp.Cluster.IPVS.Sync; sync.Enabled && hasServices(sp, name) {
		return max(g.PreemptDelay, sync.Settle)
	}
	return g.PreemptDelay
}
