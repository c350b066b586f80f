package zk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// owner plays the Session.
type owner struct {
	refuse bool
	watch  string
	log    []string
}

func (o *owner) admit(wire uint64, op int32) bool {
	o.log = append(o.log, fmt.Sprintf("admit %d on %d", op, wire))
	return !o.refuse
}
func (o *owner) wantsWatch(_ int32, path string) bool { return path == o.watch }
func (o *owner) replied(_ uint64, zxid int64)         { o.log = append(o.log, fmt.Sprintf("zxid %d", zxid)) }
func (o *owner) wireDown(wire uint64, _ error)        { o.log = append(o.log, fmt.Sprintf("down %d", wire)) }
func (o *owner) replyTimeout(t time.Duration) time.Duration {
	return Config{}.replyTimeout(t)
}

// stream plays the network: reads come in the given pieces, deadlines and
// writes are kept.
type stream struct {
	net.Conn
	in        [][]byte
	out       bytes.Buffer
	deadlines []time.Duration // from now
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in[0])
	if s.in[0] = s.in[0][n:]; len(s.in[0]) == 0 {
		s.in = s.in[1:]
	}
	return n, nil
}
func (s *stream) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *stream) Close() error                { return nil }
func (s *stream) SetReadDeadline(t time.Time) error {
	s.deadlines = append(s.deadlines, time.Until(t).Round(100*time.Millisecond))
	return nil
}
func (s *stream) SetWriteDeadline(t time.Time) error { return s.SetReadDeadline(t) }

func packet(body ...any) []byte {
	var b bytes.Buffer
	for _, v := range body {
		_ = binary.Write(&b, binary.BigEndian, v)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(b.Len())), b.Bytes()...)
}

// connectResponse is version, timeout, session, password (and, since 3.4, a
// read-only flag).
func connectResponse(timeoutMS int32, session int64) []byte {
	return packet(int32(0), timeoutMS, session, int32(16), make([]byte, 16), byte(0))
}

func readRequest(xid, op int32, path string, watch byte) []byte {
	return packet(xid, op, int32(len(path)), []byte(path), watch)
}

func TestWireHandshake(t *testing.T) {
	o := &owner{}
	answer := connectResponse(4000, 0x1234)
	s := &stream{in: [][]byte{answer[:3], answer[3:9], answer[9:]}}
	w := newWire(s, 7, o, time.Now().Add(500*time.Millisecond))
	_, _ = w.Write(packet(int32(0), int64(0), int32(9999), int64(0), int32(16), make([]byte, 16)))
	_ = w.SetReadDeadline(time.Now().Add(time.Hour)) // go-zk's wish
	buf := make([]byte, 256)
	if _, err := io.ReadFull(w, buf[:len(answer)]); err != nil {
		t.Fatal(err)
	}
	h, ok := w.handshake()
	if want := (handshake{4 * time.Second, 0x1234}); !ok || h != want {
		t.Errorf("handshake %+v %v", h, ok)
	}
	if _, err := w.Read(buf); err != io.EOF {
		t.Error(err)
	}
	ms := time.Millisecond
	// One write and three reads of the handshake; then a third of 4 s and the
	// reply timeout.
	want := []time.Duration{500 * ms, 500 * ms, 500 * ms, 500 * ms, 2000 * ms}
	if diff := cmp.Diff(want, s.deadlines); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"down 7"}, o.log); diff != "" {
		t.Error(diff)
	}
}

func TestWireRequests(t *testing.T) {
	connect := packet(int32(0), int64(0), int32(9999), int64(0), int32(16), make([]byte, 16))
	for _, c := range []struct {
		name   string
		refuse bool
		in     []byte
		out    []byte // nil: refused
		log    []string
	}{
		{"ping", true, packet(int32(-2), int32(11)), packet(int32(-2), int32(11)), nil},
		{"auth", true, packet(int32(1), int32(100), int32(0)), packet(int32(1), int32(100), int32(0)), nil},
		{"close", true, packet(int32(1), int32(-11)), packet(int32(1), int32(-11)), nil},
		{"create", false, packet(int32(1), int32(opCreate), int32(0)), packet(int32(1), int32(opCreate), int32(0)), []string{"admit 1 on 7"}},
		{"late multi", true, packet(int32(1), int32(opMulti), int32(0)), nil, []string{"admit 14 on 7"}},
		{"late set", true, packet(int32(1), int32(opSetData), int32(0)), nil, []string{"admit 5 on 7"}},
		{"late delete", true, packet(int32(1), int32(opDelete), int32(0)), nil, []string{"admit 2 on 7"}},
		{"get", true, readRequest(1, opGetData, "/b", 0), readRequest(1, opGetData, "/b", 0), nil},
		{"get with watch", true, readRequest(1, opGetData, "/a", 0), readRequest(1, opGetData, "/a", 1), nil},
		{"exists with watch", true, readRequest(1, opExists, "/a", 0), readRequest(1, opExists, "/a", 1), nil},
		{"children with watch", true, readRequest(1, opGetChildren2, "/a", 0), readRequest(1, opGetChildren2, "/a", 1), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &owner{refuse: c.refuse, watch: "/a"}
			s := &stream{}
			w := newWire(s, 7, o, time.Now().Add(time.Second))
			if _, err := w.Write(connect); err != nil || !bytes.Equal(s.out.Bytes(), connect) {
				t.Fatalf("connect request: %v", err)
			}
			s.out.Reset()
			before := bytes.Clone(c.in)
			n, err := w.Write(c.in)
			if c.out == nil {
				if !errors.Is(err, errNotAdmitted) || s.out.Len() != 0 {
					t.Errorf("%v, %d bytes sent", err, s.out.Len())
				}
			} else if err != nil || n != len(c.in) || !bytes.Equal(s.out.Bytes(), c.out) {
				t.Errorf("sent %x (%d, %v), expected %x", s.out.Bytes(), n, err, c.out)
			}
			if !bytes.Equal(before, c.in) {
				t.Error("the caller's buffer was changed")
			}
			if diff := cmp.Diff(c.log, o.log); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWireReadsZxids(t *testing.T) {
	o := &owner{}
	s := &stream{in: [][]byte{bytes.Join([][]byte{
		connectResponse(4000, 1),
		packet(int32(-2), int64(50), int32(0)),                     // a ping's
		packet(int32(-1), int64(-1), int32(0), int32(1), int32(3)), // a watch event
		packet(int32(1), int64(41), int32(0), bytes.Repeat([]byte("x"), 1000)),
		packet(int32(2), int64(42), int32(-101)),
	}, nil)}}
	w := newWire(s, 7, o, time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, w)
	if diff := cmp.Diff([]string{"zxid 41", "zxid 42", "down 7"}, o.log); diff != "" {
		t.Error(diff)
	}
}

// However the stream is cut, the same heads are seen.
func FuzzFrames(f *testing.F) {
	f.Add(append(connectResponse(4000, 1), packet(int32(1), int64(41), int32(0))...), uint8(3))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1, 9, 255, 255, 255, 255, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		heads := func(n int) (all []string) {
			var fr frames
			for rest := in; len(rest) > 0; {
				k := min(n, len(rest))
				fr.feed(rest[:k], func(h []byte) { all = append(all, string(h)) })
				rest = rest[k:]
			}
			return all
		}
		if diff := cmp.Diff(heads(len(in)+1), heads(int(size)+1)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(expectedHeads(in), heads(len(in)+1)); diff != "" {
			t.Error(diff)
		}
	})
}

// expectedHeads cuts a whole stream the plain way.
func expectedHeads(in []byte) (all []string) {
	for len(in) >= 4 {
		n := int(int32(binary.BigEndian.Uint32(in)))
		in = in[4:]
		if n <= 0 {
			continue
		}
		if len(in) >= n {
			all = append(all, string(in[:min(n, headLen)]))
		}
		in = in[min(n, len(in)):]
	}
	return all
}
