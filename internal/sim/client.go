package sim

import (
	"time"

	"github.com/zklvs/zklvs/election"
	"github.com/zklvs/zklvs/internal/sim/lockservice"
)

// client is one process's connection to the lock service.
type client struct {
	h      *host
	p      *process
	owner  requester
	name   string
	stream byte
	asked  int // requests sent

	session     uint64
	touched     time.Duration // true time of the last commit or read
	partitioned time.Duration // until then its server reads old state and commits nothing
	seen        int64
}

// requester is told how a request of its client ended.
type requester interface {
	replied(q *request, r election.Reply)
	gaveUp(q *request)
}

// request is one on its way. Its dice decide about all that follows from it.
type request struct {
	dice
	c       *client
	request election.Request
	kind    lockservice.Kind
	session uint64
	fate    fate
	reply   election.Reply
	over    bool // replied to, or given up
}

// fate is what becomes of a request.
type fate struct {
	delay    time.Duration // until it runs
	back     time.Duration // until the reply is there
	lost     bool          // the reply never comes
	limbo    bool          // runs much later, or never
	never    bool          // does not run
	patience time.Duration // until the client gives up on the connection
}

// The steps of a request.
const (
	requestRuns = iota
	requestReplied
	requestGivenUp
)

func (q *request) do(step int) {
	switch {
	case step == requestRuns:
		q.run()
	case q.over:
	case step == requestReplied:
		q.over = true
		q.c.owner.replied(q, q.reply)
	case step == requestGivenUp:
		q.over = true
		q.c.owner.gaveUp(q)
	}
}

// send plays the network.
func (c *client) send(r election.Request) {
	c.asked++
	s := c.h.s
	q := &request{dice: s.dice(c.stream, c.asked), c: c, request: r, kind: lockservice.KindOf(r.Txn), session: c.session}
	q.decide()
	switch {
	case q.fate.limbo:
		s.limbo = append(s.limbo, q)
	case !q.fate.never:
		s.runLater(q.fate.delay, q)
	}
	q.tempt()
	c.p.schedule(q.fate.patience, q, requestGivenUp)
}

// runLater lets a request reach the service.
func (s *schedule) runLater(d time.Duration, q *request) {
	s.push(event{at: s.now + d, what: requestRuns, task: q})
}

// decide draws the request's fate.
func (q *request) decide() {
	h, now, f := q.c.h, q.s.now, &q.fate
	f.delay, f.back, f.patience = q.upTo(20*time.Millisecond), q.upTo(20*time.Millisecond), time.Second
	if now < h.slow {
		f.patience += q.upTo(3 * time.Second)
		if q.mishap(50) {
			f.delay = q.upTo(2 * time.Second)
		}
		if q.mishap(30) {
			f.back = q.upTo(2 * time.Second)
		}
	}
	if q.mishap(1) {
		f.delay = q.upTo(4 * time.Second)
	}
	f.lost = h.cut || now < h.s.down || q.mishap(2) || now < h.lossy && q.mishap(60)
	if rare(q.kind) {
		q.worse(15)
	}
	if q.kind == lockservice.Replace {
		q.worse(25)
	}
	if q.kind == lockservice.Renew && q.rare(1.5) {
		f.back, f.patience = 300*time.Millisecond+q.upTo(2*time.Second), 3*time.Second
	}
	if q.kind == lockservice.Take && young(q.request.Txn) {
		q.worse(25)
	}
	if now < q.c.partitioned && q.kind != lockservice.Read {
		f.lost = true
	}
	if f.lost && !f.limbo {
		f.limbo, f.never = q.rare(25), q.intN(2) == 0
		f.never = f.never || now < q.c.partitioned || h.cut || now < h.s.down
	}
}

// rare reports whether only few of such requests are sent, on which much depends.
func rare(k lockservice.Kind) bool {
	return k == lockservice.Take || k == lockservice.Replace || k == lockservice.Receipt || k == lockservice.List
}

// young reports whether the record is as it was created: one that is created
// anew has the same version.
func young(txn []election.Op) bool {
	for _, op := range txn {
		if op.Key.Kind == election.NodeRecord && op.Version == 0 {
			return true
		}
	}
	return false
}

// worse lets each mishap come true with some percent.
func (q *request) worse(percent float64) {
	if q.rare(percent) {
		q.fate.delay = q.upTo(4 * time.Second)
	}
	if q.rare(percent) {
		q.fate.back, q.fate.patience = q.upTo(4*time.Second), 4*time.Second
	}
	q.fate.lost = q.rare(percent) || q.fate.lost
	q.fate.limbo = q.rare(percent) || q.fate.limbo
}

// run lets the service do what it is asked for.
func (q *request) run() {
	c, s := q.c, q.s
	if s.now < s.down || !s.lives(q.session) || q.session != c.session && q.kind == lockservice.Read {
		return
	}
	q.reply = q.serve()
	if q.kind == lockservice.Read && q.fate.delay > 800*time.Millisecond && q.rare(20) {
		s.blind(&q.dice, q.request.Observe) // what was read is as new as can be, and was asked for long ago
	}
	if !q.fate.lost && !q.fate.limbo && !c.h.cut && q.session == c.session {
		c.p.schedule(q.fate.back, q, requestReplied)
	}
}

func (q *request) serve() election.Reply {
	c, s := q.c, q.s
	if q.kind == lockservice.Read && s.now < c.partitioned {
		return election.Reply{Observation: s.store.Observe(q.request, func() int64 { return c.seen })}
	}
	if q.session == c.session {
		c.touched = s.now
	}
	if q.kind == lockservice.Read {
		return election.Reply{Observation: s.store.Observe(q.request, q.lags)}
	}
	reply := s.store.Commit(q.session, q.request.Txn)
	if reply.Outcome == election.OutcomeOK {
		c.seen = s.store.Zxid()
		if rare(q.kind) {
			if s.tracing {
				s.logf("%s of %s for %s", q.kind, c.name, q.request.Txn[0].Key.Group)
			}
			s.committed(c.name, q.request.Txn)
		}
		q.ripple()
	}
	return reply
}

// lags draws which state a server shows: not older than what the session saw.
func (q *request) lags() int64 {
	c, latest := q.c, q.s.store.Zxid()
	if latest > c.seen && q.intN(2) == 0 {
		c.seen += int64(q.intN(int(latest-c.seen) + 1))
	} else {
		c.seen = latest
	}
	return c.seen
}

// newSession ends the old session and begins another, with a server that may lag more.
func (c *client) newSession() {
	s := c.h.s
	if c.session != 0 {
		s.expire(c.session)
	}
	s.sessions = append(s.sessions, true)
	c.session, c.touched = uint64(len(s.sessions)), s.now
	d := c.h.dice()
	c.seen = int64(d.intN(int(c.seen) + 1))
}

// abandon: the process is dead. The service finds that out some time later.
func (c *client) abandon() {
	s, old := c.h.s, c.session
	s.after(c.h.dice().upTo(sessionTimeout), func() { s.expire(old) })
	c.session = 0
}

func (s *schedule) lives(session uint64) bool { return session != 0 && s.sessions[session-1] }

// expire ends a session and what hangs on it.
func (s *schedule) expire(session uint64) {
	if s.lives(session) {
		s.sessions[session-1] = false
		s.store.Expire(session)
	}
}

// partition leaves a client with a server that is cut off from the quorum: it
// answers reads with what it had and commits nothing.
func (c *client) partition(d time.Duration) {
	c.partitioned = c.h.s.now + d
	if c.h.s.tracing {
		c.h.s.logf("%s reads old state and commits nothing until %.3f", c.name, c.partitioned.Seconds())
	}
}
