package genl_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/zklvs/zklvs/ipvs/genl"
	"github.com/zklvs/zklvs/ipvs/genl/genltest"
)

// noise is a socket that answers with the same bytes, once.
type noise struct {
	data []byte
}

func (n *noise) Send([]byte) error { return nil }

func (n *noise) Receive(b []byte, _ time.Duration) (int, error) {
	if n.data == nil {
		return 0, os.ErrDeadlineExceeded
	}
	c := copy(b, n.data)
	n.data = nil
	return c, nil
}

func (n *noise) Close() error { return nil }

// Whatever comes from the socket: no panic, and an error unless it was an end.
func FuzzReplies(f *testing.F) {
	f.Add(genltest.Message(0x1234, 2, 1, []byte{1, 1, 0, 0, 8, 0, 1, 0, 1, 2, 3, 4}))
	f.Add(genltest.Message(3, 2, 1, []byte{0, 0, 0, 0}))
	f.Add(genltest.Message(3, 2, 1, nil))
	f.Add(genltest.Message(2, 0, 1, []byte{255, 255, 255, 255}))
	f.Add(genltest.Message(2, 0, 1, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		_, derr := dump(genl.NewConn(&noise{data: data}))
		_, serr := send(genl.NewConn(&noise{data: data}), 2)
		if derr == nil && serr == nil {
			t.Errorf("%x is the end of a dump and of a batch", data)
		}
	})
}

// Attributes that were written are read; what is not one is an error or the
// end, never a panic.
func FuzzDecoder(f *testing.F) {
	var e genl.Encoder
	end := e.Nest(1)
	e.Uint8(1, 1)
	e.String(2, "x")
	e.End(end)
	f.Add(e.Bytes())
	f.Add([]byte{3, 0, 1, 0})
	f.Add([]byte{5, 0, 1, 0, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		d := genl.NewDecoder(data)
		for n := 0; d.Next(); n++ {
			if n > len(data) {
				t.Fatal("it does not end")
			}
			d.Text()
			d.Raw()
			d.Nested(func(d *genl.Decoder) {
				for d.Next() {
					d.Uint8()
				}
			})
			d.Uint8()
			d.Uint16()
			d.Uint16BE()
			d.Uint32()
			d.Uint32BE()
			d.Uint32Pair()
			d.Uint64()
		}
		if err := d.Err(); err != nil && !errors.Is(err, genl.ErrMalformed) {
			t.Error(err)
		}
	})
}
