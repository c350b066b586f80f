package zk

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy is a link to one server that a test can cut: frozen, in both
// directions or in that of the replies, it passes nothing and still accepts.
type proxy struct {
	listener net.Listener
	to       string
	all      sync.WaitGroup

	mu       sync.Mutex
	requests chan struct{} // closed while they pass
	replies  chan struct{} // closed while they pass
	conns    map[net.Conn]struct{}
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	p := &proxy{
		listener: must(net.Listen("tcp", "127.0.0.1:0"))(t),
		to:       to, requests: closedChan(), replies: closedChan(), conns: make(map[net.Conn]struct{}),
	}
	p.all.Add(1)
	go p.serve()
	t.Cleanup(func() {
		p.listener.Close()
		p.thaw()
		p.cut()
		p.all.Wait()
	})
	return p
}

func proxies(t testing.TB, servers []string) (list []*proxy, addresses []string) {
	t.Helper()
	for _, s := range servers {
		p := newProxy(t, s)
		list = append(list, p)
		addresses = append(addresses, p.listener.Addr().String())
	}
	return list, addresses
}

func (p *proxy) serve() {
	defer p.all.Done()
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Add(1)
		go p.link(c)
	}
}

func (p *proxy) link(c net.Conn) {
	defer p.all.Done()
	defer c.Close()
	p.keep(c, true)
	defer p.keep(c, false)
	p.pass(&p.requests)
	up, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer up.Close()
	p.keep(up, true)
	defer p.keep(up, false)
	done := make(chan struct{})
	go func() { defer close(done); p.copy(up, c, &p.requests) }()
	p.copy(c, up, &p.replies)
	<-done
}

func (p *proxy) copy(to, from net.Conn, gate *chan struct{}) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.pass(gate)
		if _, werr := to.Write(buf[:n]); werr != nil || err == io.EOF {
			return
		}
		if err != nil {
			return
		}
	}
}

// pass blocks while that direction is frozen.
func (p *proxy) pass(gate *chan struct{}) {
	p.mu.Lock()
	c := *gate
	p.mu.Unlock()
	<-c
}

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (p *proxy) keep(c net.Conn, yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if yes {
		p.conns[c] = struct{}{}
	} else {
		delete(p.conns, c)
	}
}

func (p *proxy) freeze() {
	p.freezeReplies()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = make(chan struct{})
}

func (p *proxy) freezeReplies() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replies = make(chan struct{})
}

func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, gate := range []*chan struct{}{&p.requests, &p.replies} {
		select {
		case <-*gate:
		default:
			close(*gate)
		}
	}
}

// cut closes every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func each(list []*proxy, do func(*proxy)) {
	for _, p := range list {
		do(p)
	}
}
