package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/director"
	"github.com/zklvs/zklvs/internal/logfield"
	"github.com/zklvs/zklvs/internal/promise"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

// listenAgain is the pause after a socket could not be opened, or broke.
const listenAgain = 5 * time.Second

// promises carries questions and promises between this director's election and
// the others'. Where it cannot work it says why, and the director gives its
// groups up when ZooKeeper is away: no reason to do without the director.
type promises struct {
	address string           // where this director is asked, "" if nowhere
	service *promise.Service // nil if nowhere
	problem string           // why nowhere
	log     *zap.Logger
	failed  atomic.Pointer[string] // why the socket could not be opened last
}

// newPromises finds out where to listen. What is asked of this director goes to
// its elector, which is made after this.
func newPromises(local spec.Local, machineID string, elector func() *zk.Elector, log *zap.Logger) *promises {
	p := &promises{log: log}
	at, err := listenAt(local)
	if err == nil {
		p.service, err = promise.New(promise.Config{
			Cluster: local.Cluster, Self: election.Voter{Node: local.Node, MachineID: machineID, Address: at.String()}, Listen: at.String(),
			Asked: func(q election.Question) election.Answer { return elector().Asked(q) },
			Answered: func(from election.Voter, q election.Question, a election.Answer) {
				elector().Answered(from, q, a)
			},
			Now: boottime.Now, Logger: log.Named("promise"),
		})
	}
	if err != nil {
		p.problem = err.Error()
		return p
	}
	p.address = at.String()
	return p
}

// listenAt returns where this director is asked: what its file says, else its
// own address on its interface, else the one from which it reaches ZooKeeper.
func listenAt(l spec.Local) (netip.AddrPort, error) {
	at := l.Promise.Listen
	if at.Addr().IsValid() {
		return at, nil
	}
	own := func() (netip.Addr, error) { return sourceTo(l.ZooKeeper.Servers) }
	if l.Interface != "" {
		own = func() (netip.Addr, error) { return addressOn(l.Interface) }
	}
	a, err := own()
	if err != nil {
		return at, fmt.Errorf("no address at which others could ask this director: %w: set promise.listen", err)
	}
	return netip.AddrPortFrom(a, at.Port()), nil
}

// addressOn returns the host's own address on an interface, IPv4 if it has one.
func addressOn(name string) (netip.Addr, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("interface %s: %w", name, err)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("addresses of %s: %w", name, err)
	}
	a := ownAddress(addrs)
	if !a.IsValid() {
		return a, fmt.Errorf("interface %s has no address of its own (a /32 or /128 may be a VIP)", name)
	}
	return a, nil
}

// ownAddress picks the first IPv4 address that can be no VIP, else the first such
// IPv6 address.
func ownAddress(addrs []net.Addr) (own netip.Addr) {
	for _, a := range addrs {
		ip, ok := a.(*net.IPNet)
		if !ok || !ip.IP.IsGlobalUnicast() {
			continue
		}
		if ones, bits := ip.Mask.Size(); ones == bits {
			continue
		}
		one, _ := netip.AddrFromSlice(ip.IP)
		if one = one.Unmap(); one.Is4() {
			return one
		}
		if !own.IsValid() {
			own = one
		}
	}
	return own
}

// sourceTo asks the kernel from which address it would send to one of servers.
// Nothing is sent.
func sourceTo(servers []string) (netip.Addr, error) {
	var errs []error
	for _, s := range servers {
		c, err := net.Dial("udp", s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		a := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		c.Close()
		if a.IsGlobalUnicast() {
			return a, nil
		}
		errs = append(errs, fmt.Errorf("%s is reached from %s, where no other host could ask", s, a))
	}
	return netip.Addr{}, errors.Join(errs...)
}

// localStatus is what a director answers on its admin socket.
type localStatus struct {
	director.Status
	// Promises counts what was asked and answered, nil if nothing can be.
	Promises *promise.Status `json:"promises,omitempty"`
}

func (p *parts) status() localStatus {
	s := localStatus{Status: p.director.Status()}
	if service := p.promises.service; service != nil {
		counts := service.Status()
		s.Promises = &counts
	}
	return s
}

// ask implements zk.ElectorConfig.Ask.
func (p *promises) ask(a election.AskVoter) {
	if p.service != nil {
		p.service.Ask(a)
	}
}

func (p *promises) setKey(key []byte) {
	if p.service != nil {
		p.service.SetKey(key)
	}
}

// cannot tells why nobody can be asked, nor ask here; "" if that is not known.
func (p *promises) cannot() string {
	if p.service == nil {
		return p.problem
	}
	if failed := p.failed.Load(); failed != nil && p.service.Status().Listening == "" {
		return *failed
	}
	return ""
}

// run serves until ctx ends.
func (p *promises) run(ctx context.Context) {
	for p.service != nil && ctx.Err() == nil {
		err := p.service.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		text := err.Error()
		p.failed.Store(&text)
		p.log.Error("other directors cannot ask this one: trying again", zap.Duration("after", listenAgain), zap.String(logfield.Reason, text))
		select {
		case <-ctx.Done():
		case <-time.After(listenAgain):
		}
	}
}

// asked is the director's elector, which others can ask while it runs.
type asked struct {
	*zk.Elector
	promises *promises
}

// Run ends the service after the election: what it promised it then keeps, since
// nothing is acquired any more.
func (a asked) Run(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { a.promises.run(serving) })
	return a.Elector.Run(ctx)
}
