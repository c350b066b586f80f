package zk

import (
	"encoding/binary"
	"net"
	"sync"
	"time"
)

// Operation codes of the protocol (org.apache.zookeeper.ZooDefs.OpCode) that
// the wire tells apart.
const (
	opCreate          = 1
	opDelete          = 2
	opExists          = 3
	opGetData         = 4
	opSetData         = 5
	opSetACL          = 7
	opGetChildren2    = 12
	opMulti           = 14
	opReconfig        = 16
	opCreateContainer = 19
	opCreateTTL       = 21
)

// changes reports whether the operation can change the tree. Such a request
// is sent on the connection on which its call was made, or never.
func changes(op int32) bool {
	switch op {
	case opCreate, opDelete, opSetData, opSetACL, opMulti, opReconfig, opCreateContainer, opCreateTTL:
		return true
	}
	return false
}

// handshake is what a server grants in its ConnectResponse.
type handshake struct {
	timeout time.Duration
	session int64 // zero: the session has expired
}

// wireOwner is what a wire tells and asks. Its methods do not block.
type wireOwner interface {
	admit(wire uint64, op int32) bool           // may this change be sent on this connection?
	wantsWatch(op int32, path string) bool      // is this read to leave a watch?
	replied(wire uint64, zxid int64)            // a reply of the server at this zxid
	wireDown(wire uint64, err error)            // nothing more comes from this connection
	replyTimeout(t time.Duration) time.Duration // for a granted session timeout
}

// wire is the connection that go-zk gets from the dialer. go-zk's own
// deadlines are ten times too long in the handshake and absent in between, so
// they are ignored: every Read and Write sets the one that holds here.
//
// It relies on two habits of go-zk 1.0.4: one Write is one whole packet, and
// the first packet is the ConnectRequest.
type wire struct {
	net.Conn
	no    uint64
	owner wireOwner
	until time.Time // the handshake's end

	frames frames // used by Read only

	mu      sync.Mutex
	shaken  bool
	granted handshake
	sent    bool // the ConnectRequest
}

func newWire(c net.Conn, no uint64, owner wireOwner, until time.Time) *wire {
	return &wire{Conn: c, no: no, owner: owner, until: until}
}

// SetDeadline does nothing: the deadlines that go-zk asks for are not the ones
// that apply.
func (w *wire) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing, as SetDeadline.
func (w *wire) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing, as SetDeadline.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// handshake is what was granted, or false while the handshake lasts.
func (w *wire) handshake() (handshake, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.granted, w.shaken
}

// readDeadline: go-zk pings every third of the granted timeout and each reply
// starts a new Read, so that an idle healthy connection is silent for a third
// and the reply's delay at most.
func (w *wire) readDeadline() time.Time {
	h, ok := w.handshake()
	if !ok {
		return w.until
	}
	return time.Now().Add(h.timeout/3 + w.owner.replyTimeout(h.timeout))
}

func (w *wire) writeDeadline() time.Time {
	h, ok := w.handshake()
	if !ok {
		return w.until
	}
	return time.Now().Add(w.owner.replyTimeout(h.timeout))
}

func (w *wire) Read(p []byte) (int, error) {
	if err := w.Conn.SetReadDeadline(w.readDeadline()); err != nil {
		return 0, w.down(err)
	}
	n, err := w.Conn.Read(p)
	w.frames.feed(p[:n], w.frame)
	if err != nil {
		return n, w.down(err)
	}
	return n, nil
}

// frame sees the first bytes of each packet from the server, after its length.
func (w *wire) frame(head []byte) {
	w.mu.Lock()
	first := !w.shaken
	if first && len(head) >= 16 {
		w.shaken = true
		w.granted = handshake{
			timeout: time.Duration(int32(binary.BigEndian.Uint32(head[4:]))) * time.Millisecond,
			session: int64(binary.BigEndian.Uint64(head[8:])),
		}
	}
	w.mu.Unlock()
	if first || len(head) < 16 {
		return
	}
	// ReplyHeader: xid, zxid, err. A watch event (xid -1) carries no zxid, and
	// that of a ping (-2) is not among those that go-zk presents to the next
	// server, which may rightly lag behind it.
	xid, zxid := int32(binary.BigEndian.Uint32(head)), int64(binary.BigEndian.Uint64(head[4:]))
	if xid >= 0 && zxid > 0 {
		w.owner.replied(w.no, zxid)
	}
}

func (w *wire) Write(p []byte) (int, error) {
	out, err := w.outgoing(p)
	if err != nil {
		return 0, err
	}
	if err := w.Conn.SetWriteDeadline(w.writeDeadline()); err != nil {
		return 0, w.down(err)
	}
	n, err := w.Conn.Write(out)
	if err != nil {
		return n, w.down(err)
	}
	return n, nil
}

// outgoing checks a packet of go-zk and sets the watch flag where the caller
// wants one. Watches are not asked for through go-zk's own calls: those pile
// up a channel a call, and their renewal after a reconnect reads a zxid that
// another goroutine writes.
func (w *wire) outgoing(p []byte) ([]byte, error) {
	w.mu.Lock()
	connect := !w.sent
	w.sent = true
	w.mu.Unlock()
	if connect || len(p) < 12 {
		return p, nil
	}
	op := int32(binary.BigEndian.Uint32(p[8:]))
	if changes(op) && !w.owner.admit(w.no, op) {
		return nil, errNotAdmitted
	}
	if path, ok := readPath(op, p); ok && w.owner.wantsWatch(op, path) {
		out := append([]byte(nil), p...)
		out[len(out)-1] = 1
		return out, nil
	}
	return p, nil
}

// readPath takes the path out of a get, exists or children request, whose
// last byte is the watch flag.
func readPath(op int32, p []byte) (string, bool) {
	if op != opGetData && op != opExists && op != opGetChildren2 || len(p) < 17 {
		return "", false
	}
	n := int(binary.BigEndian.Uint32(p[12:]))
	if n < 0 || len(p) != 16+n+1 {
		return "", false
	}
	return string(p[16 : 16+n]), true
}

// Close ends the connection; go-zk then fails what is in flight.
func (w *wire) Close() error {
	_ = w.down(net.ErrClosed)
	return w.Conn.Close()
}

// down reports the end once, before go-zk has noticed it.
func (w *wire) down(err error) error {
	w.owner.wireDown(w.no, err)
	return err
}

// frames cuts the stream into packets and shows the head of each. It keeps at
// most headLen bytes, whatever the server sends.
type frames struct {
	buf  [4 + headLen]byte
	have int // bytes of buf filled
	skip int // bytes of this packet still to come and not kept
}

// headLen covers the ReplyHeader (16 bytes) and the ConnectResponse up to the
// session id (16 bytes).
const headLen = 16

// feed takes the next bytes of the stream. It calls head with the first bytes
// of each packet once the whole of it has come: a packet that breaks off has
// not been seen by go-zk either.
func (f *frames) feed(p []byte, head func([]byte)) {
	for len(p) > 0 {
		want := 4
		if f.have >= 4 {
			want += min(f.length(), headLen)
		}
		n := copy(f.buf[f.have:want], p)
		f.have += n
		p = p[n:]
		if f.have == 4 {
			f.skip = max(f.length()-headLen, 0)
			want += min(f.length(), headLen)
		}
		if f.have == want {
			n = min(f.skip, len(p))
			f.skip -= n
			p = p[n:]
			if f.skip == 0 {
				f.end(head)
			}
		}
	}
}

func (f *frames) end(head func([]byte)) {
	if f.have > 4 {
		head(f.buf[4:f.have])
	}
	f.have = 0
}

// length is that of the packet, as the server claims it; negative counts as 0.
func (f *frames) length() int {
	return max(int(int32(binary.BigEndian.Uint32(f.buf[:4]))), 0)
}
