package guard

import (
	"fmt"
	"net"
	"net/rpc"
	"time"
)

// Child is a guard's process as its director sees it.
type Child struct {
	PID  int
	Conn net.Conn
	// Kill sends SIGKILL, which ends a stopped process too. Wait returns when the
	// process has ended; it is called once.
	Kill func() error
	Wait func() error
}

// instance is one life of a guard.
type instance struct {
	child  *Child
	client *rpc.Client
	life   Life
	left   bool          // it was let go; guarded by Supervisor.mu
	dead   chan struct{} // closed when its process has ended
	swept  chan struct{} // closed when, after that, nothing of it is bound, verified
}

func newInstance(c *Child) *instance {
	return &instance{child: c, client: rpc.NewClient(c.Conn), dead: make(chan struct{}), swept: make(chan struct{})}
}

func (g *instance) isDead() bool {
	select {
	case <-g.dead:
		return true
	default:
		return false
	}
}

// kill ends the process; that it has ended is told by dead. A process that has
// ended already is no error.
func (g *instance) kill() { _ = g.child.Kill() }

// call asks the guard and waits for the answer, which the caller may use only
// if there was no error.
func (g *instance) call(method string, args, answer any, wait time.Duration) error {
	asked := g.client.Go("Guard."+method, args, answer, make(chan *rpc.Call, 1))
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case <-asked.Done:
		return asked.Error
	case <-g.dead:
		return fmt.Errorf("the guard has ended")
	case <-timeout.C:
		return fmt.Errorf("no answer within %v", wait)
	}
}
