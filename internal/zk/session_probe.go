package zk

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"go.uber.org/zap"
)

const (
	// probeLimit bounds the asking of one server for a throw-away session.
	probeLimit = time.Second
	// opCloseSession is of org.apache.zookeeper.ZooDefs.OpCode.
	opCloseSession = -11
)

// patience is for how long a session that is away is kept. While no server can
// be reached, or none has a quorum, the session does not age: the next leader
// gives it a full timeout. So it is kept until it is proven useless.
type patience struct {
	next   time.Duration // when to probe
	served bool
	since  time.Duration // served since then: every probe had a new session
}

// useless reports whether the go-zk client has to be replaced, which gives its
// session up: the servers are known to be at an earlier zxid than the session
// has seen (they lost state, and refuse it for ever), or they have served new
// sessions for so long that this one would have expired long ago.
func (s *Session) useless(ctx context.Context, p *patience, d *dialer, now, away time.Duration) bool {
	if id := s.State().ID; id == 0 { // there is none to keep
		return away > 2*s.cfg.SessionTimeout
	}
	if away < s.cfg.SessionTimeout || now < p.next {
		return false
	}
	p.next = now + s.cfg.SessionTimeout/2
	zxid, err := s.probe(ctx, d)
	if again, _ := s.away(now); again == 0 || ctx.Err() != nil {
		return false // it is back
	}
	if err != nil {
		p.served = false
		return false
	}
	if !p.served {
		p.served, p.since = true, now
	}
	if seen := s.LastZxid(); zxid != 0 && zxid < seen {
		s.cfg.Logger.Warn("the ZooKeeper servers have lost their state: giving the session up",
			zap.Int64("zxid_before", seen), zap.Int64("zxid_now", zxid))
		return true
	}
	return now-p.since > 2*s.cfg.SessionTimeout
}

// probe asks the servers, in turn, for a new session and ends it at once. The
// zxid is the one at which it ended, 0 where that was not told: both are changes
// that a quorum commits, so no server that serves is behind what was committed
// before. (With localSessionsEnabled they are not, and a server that lags may
// cost the session.)
func (s *Session) probe(ctx context.Context, d *dialer) (zxid int64, err error) {
	for _, server := range s.cfg.Servers {
		if zxid, err = s.probeServer(ctx, d, server); err == nil {
			return zxid, nil
		}
	}
	return 0, err
}

func (s *Session) probeServer(ctx context.Context, d *dialer, server string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	c, err := d.connect(ctx, "tcp", server)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	granted, err := exchange(c, connectRequest())
	if err != nil {
		return 0, fmt.Errorf("probe %s: %w", server, err)
	}
	if len(granted) < 16 || binary.BigEndian.Uint64(granted[8:]) == 0 {
		return 0, fmt.Errorf("probe %s: no session was granted", server)
	}
	closed, err := exchange(c, closeRequest())
	if err != nil || len(closed) < 16 {
		return 0, nil // it serves; the session ends with its short timeout
	}
	return int64(binary.BigEndian.Uint64(closed[4:])), nil // ReplyHeader: xid, zxid, err
}

// connectRequest asks for a new session of the shortest timeout there is:
// protocol version, last zxid seen, timeout in ms, session, password.
func connectRequest() []byte {
	p := make([]byte, 0, 44)
	p = binary.BigEndian.AppendUint32(p, 0)
	p = binary.BigEndian.AppendUint64(p, 0)
	p = binary.BigEndian.AppendUint32(p, 1)
	p = binary.BigEndian.AppendUint64(p, 0)
	p = binary.BigEndian.AppendUint32(p, 16)
	return append(p, make([]byte, 16)...)
}

// closeRequest is a RequestHeader: xid, operation.
func closeRequest() []byte {
	const closeSession = 1<<32 + opCloseSession // two's complement
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 1), closeSession)
}

// exchange sends a packet and returns the next one.
func exchange(c net.Conn, request []byte) ([]byte, error) {
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	const limit = 1024 // both answers have fewer than 50 bytes
	n := binary.BigEndian.Uint32(head[:])
	if n > limit {
		return nil, fmt.Errorf("a packet of %d bytes", n)
	}
	reply := make([]byte, n)
	_, err := io.ReadFull(c, reply)
	return reply, err
}
