package zk

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	roundPause    = 50 * time.Millisecond  // after each server failed once
	maxRoundPause = 200 * time.Millisecond // after several fruitless rounds
	longAway      = 50                     // rounds, 10 s where servers refuse at once
	longPause     = 500 * time.Millisecond // after that many: ZooKeeper may be away for hours
	settled       = time.Second            // a connection that lived this long was a good one
)

// hosts is go-zk's HostProvider, without its one second of sleep after each
// round and without name resolution at start: the dialer resolves.
//
// go-zk looks at its own quit channel only where Next says retryStart, so that
// Next says it exactly once the session is closing.
type hosts struct {
	closing <-chan struct{}

	mu        sync.Mutex
	servers   []string
	next      int
	failed    int // servers tried since the last good connection
	connected time.Time
}

func newHosts(closing <-chan struct{}) *hosts { return &hosts{closing: closing} }

// Init takes the servers and shuffles them, so that directors spread out.
func (h *hosts) Init(servers []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.servers = append([]string(nil), servers...)
	rand.Shuffle(len(h.servers), func(i, j int) { h.servers[i], h.servers[j] = h.servers[j], h.servers[i] })
	return nil
}

// Len is the number of servers.
func (h *hosts) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.servers)
}

// Next is the server to try. It pauses after each full round, longer after
// several, and not at all once the session closes.
func (h *hosts) Next() (server string, retryStart bool) {
	server, pause := h.step()
	select {
	case <-h.closing:
		return server, true
	default:
	}
	if pause > 0 {
		select {
		case <-h.closing:
			return server, true
		case <-time.After(pause):
		}
	}
	return server, false
}

func (h *hosts) step() (server string, pause time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.connected.IsZero() && time.Since(h.connected) > settled {
		h.failed = 0
	}
	h.connected = time.Time{}
	if n := len(h.servers); h.failed > 0 && h.failed%n == 0 {
		if pause = min(roundPause*time.Duration(h.failed/n), maxRoundPause); h.failed/n > longAway {
			pause = longPause
		}
	}
	server = h.servers[h.next%len(h.servers)]
	h.next++
	h.failed++
	return server, pause
}

// Connected is called by go-zk after a handshake. The count of failures is
// forgotten only when the connection has lived for a while (see step): a
// server that accepts and hangs up must not be tried in a tight loop.
func (h *hosts) Connected() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.connected = time.Now()
}

// rounds is how often every server has been tried in vain.
func (h *hosts) rounds() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.servers) == 0 || h.failed == 0 {
		return 0
	}
	return (h.failed - 1) / len(h.servers)
}
