package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/fence"
	"github.com/zklvs/zklvs/internal/zk"
)

// The protocol between director and guard is net/rpc with gob over a socket
// pair: both ends are one program, started by one another, and no other process
// can reach it. The methods are those of service.

// Settings are what a director tells its guard first. All that comes from
// files was read and checked by the director.
type Settings struct {
	// Version is the director's. A guard of another version refuses.
	Version       string
	Cluster, Node string
	// VIPsPath and ServicesPath are the lists of what may be bound and of the
	// IPVS services that are ours.
	VIPsPath, ServicesPath string
	Gate                   string // see fence/gate: auto, nftables or none
	Watchdog               string // see fence/watchdog: off, automatic or required
	WatchdogDevice         string
	ZooKeeper              ZooKeeper
}

// ZooKeeper is how a guard reaches the ensemble.
type ZooKeeper struct {
	Servers        []string
	SessionTimeout time.Duration
	User, Password string
	WorldRead      bool
	TLS            *zk.TLSFiles // nil: no TLS
}

// Life is what a guard answers to its Settings.
type Life struct {
	ID       uint64 // random; grants must name it
	Version  string
	Layers   []string // fence layers that are active, for people
	Lateness time.Duration
}

// Problem is an error on its way through a socket.
type Problem struct {
	Text string
	Kind int // index into sentinels plus 1; 0: none of them
}

// sentinels are the errors that the other side may ask for with errors.Is. The
// order is the protocol's.
var sentinels = []error{
	fence.ErrFenced, fence.ErrLeaseOver, fence.ErrHeld, fence.ErrNotHeld, fence.ErrTaken, fence.ErrOwnAddress,
	ErrOtherGuard, ErrGone, ErrFar,
}

func describe(err error) Problem {
	if err == nil {
		return Problem{}
	}
	p := Problem{Text: err.Error()}
	for i, s := range sentinels {
		if errors.Is(err, s) {
			p.Kind = i + 1
			break
		}
	}
	return p
}

func (p Problem) err() error {
	switch {
	case p.Text == "":
		return nil
	case p.Kind < 1 || p.Kind > len(sentinels):
		return errors.New(p.Text)
	}
	return &remote{p.Text, sentinels[p.Kind-1]}
}

// remote is an error of the guard: its text, and what it is.
type remote struct {
	text string
	is   error
}

func (r *remote) Error() string { return r.text }
func (r *remote) Unwrap() error { return r.is }

// The arguments and answers of the methods, which net/rpc wants exported.
type (
	// BindArgs ask to bind VIPs under a grant, or to renew them.
	BindArgs struct {
		Guard uint64 // the guard that is meant
		Grant election.Grant
		VIPs  []fence.VIP
	}
	// FenceArgs ask for a fence.
	FenceArgs struct {
		Holding election.Holding
		Reason  string
	}
	// ExemptArgs ask to let in what comes from some hardware addresses.
	ExemptArgs struct {
		VIP  netip.Addr
		MACs []net.HardwareAddr
	}
	// Done says how it went.
	Done struct{ Problem Problem }
	// Found is what a look at the kernel's addresses brought.
	Found struct {
		Problem         Problem
		Swept           []fence.VIP
		Removed, Hidden []fence.Address
	}
	// LifeAnswer answers to Settings.
	LifeAnswer struct {
		Problem Problem
		Life    Life
	}
)

// errVersion says what to do about two versions.
func errVersion(director, guard string) error {
	return fmt.Errorf("the guard is of version %s, the director of %s: install one version of zklvs and start the director again", guard, director)
}
