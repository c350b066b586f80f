package genl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes of linux/netlink.h and linux/genetlink.h.
const (
	headerLen     = 16     // struct nlmsghdr
	genlHeaderLen = 4      // struct genlmsghdr
	attrHeaderLen = 4      // struct nlattr
	typeMask      = 0x3fff // NLA_TYPE_MASK: without NLA_F_NESTED and NLA_F_NET_BYTEORDER
	nested        = 0x8000 // NLA_F_NESTED
)

// ErrMalformed says that bytes from the socket are no netlink message, or that
// an attribute has not the length of its type.
var ErrMalformed = errors.New("malformed netlink message")

var native = binary.NativeEndian

func align4(n int) int { return (n + 3) &^ 3 }

// Encoder appends attributes to a message. It allocates only when the message
// outgrows its buffer.
type Encoder struct {
	b []byte
}

// Bytes is what was encoded so far.
func (e *Encoder) Bytes() []byte { return e.b }

func (e *Encoder) head(typ uint16, n int) {
	e.b = native.AppendUint16(e.b, uint16(attrHeaderLen+n))
	e.b = native.AppendUint16(e.b, typ)
}

func (e *Encoder) pad() {
	for len(e.b)%4 != 0 {
		e.b = append(e.b, 0)
	}
}

// Uint8 appends an attribute of one byte.
func (e *Encoder) Uint8(typ uint16, v uint8) {
	e.head(typ, 1)
	e.b = append(e.b, v, 0, 0, 0)
}

// Uint16 appends an attribute of 16 bits in the host's order.
func (e *Encoder) Uint16(typ uint16, v uint16) {
	e.head(typ, 2)
	e.b = append(native.AppendUint16(e.b, v), 0, 0)
}

// Uint16BE appends an attribute of 16 bits in network order.
func (e *Encoder) Uint16BE(typ uint16, v uint16) {
	e.head(typ, 2)
	e.b = append(binary.BigEndian.AppendUint16(e.b, v), 0, 0)
}

// Uint32 appends an attribute of 32 bits in the host's order.
func (e *Encoder) Uint32(typ uint16, v uint32) {
	e.head(typ, 4)
	e.b = native.AppendUint32(e.b, v)
}

// Uint32BE appends an attribute of 32 bits in network order.
func (e *Encoder) Uint32BE(typ uint16, v uint32) {
	e.head(typ, 4)
	e.b = binary.BigEndian.AppendUint32(e.b, v)
}

// Uint32Pair appends an attribute that holds two words in the host's order, as a
// C struct of them does.
func (e *Encoder) Uint32Pair(typ uint16, a, b uint32) {
	e.head(typ, 8)
	e.b = native.AppendUint32(native.AppendUint32(e.b, a), b)
}

// Uint64 appends an attribute of 64 bits in the host's order.
func (e *Encoder) Uint64(typ uint16, v uint64) {
	e.head(typ, 8)
	e.b = native.AppendUint64(e.b, v)
}

// Raw appends an attribute with these bytes. They are few: an attribute holds
// less than 64 KiB.
func (e *Encoder) Raw(typ uint16, v []byte) {
	e.head(typ, len(v))
	e.b = append(e.b, v...)
	e.pad()
}

// String appends a text with the zero byte at its end.
func (e *Encoder) String(typ uint16, v string) {
	e.head(typ, len(v)+1)
	e.b = append(append(e.b, v...), 0)
	e.pad()
}

// Nest begins an attribute that holds attributes. What it returns goes to End.
func (e *Encoder) Nest(typ uint16) int {
	at := len(e.b)
	e.head(typ|nested, 0)
	return at
}

// End ends the attribute that Nest began.
func (e *Encoder) End(at int) { native.PutUint16(e.b[at:], uint16(len(e.b)-at)) }

// Decoder walks through attributes:
//
//	for d.Next() {
//		switch d.Type() {
//		case 1:
//			port = d.Uint16BE()
//		}
//	}
//	return d.Err()
//
// After an error Next is false and values are zero.
type Decoder struct {
	rest []byte
	typ  uint16
	val  []byte
	err  error
}

// NewDecoder reads the attributes in b, which it does not copy.
func NewDecoder(b []byte) Decoder { return Decoder{rest: b} }

// Next goes to the next attribute and tells whether there is one.
func (d *Decoder) Next() bool {
	if d.err != nil || len(d.rest) < attrHeaderLen {
		return false
	}
	n := int(native.Uint16(d.rest))
	if n < attrHeaderLen || n > len(d.rest) {
		d.err = fmt.Errorf("%w: an attribute of %d bytes where %d are left", ErrMalformed, n, len(d.rest))
		return false
	}
	d.typ = native.Uint16(d.rest[2:]) & typeMask
	d.val = d.rest[attrHeaderLen:n]
	d.rest = d.rest[min(align4(n), len(d.rest)):]
	return true
}

// Err is what was wrong with an attribute, nil if nothing was.
func (d *Decoder) Err() error { return d.err }

// Type is the attribute's number.
func (d *Decoder) Type() uint16 { return d.typ }

// Raw is the attribute's content, valid as long as the bytes behind the
// Decoder are.
func (d *Decoder) Raw() []byte { return d.val }

func (d *Decoder) fixed(n int) []byte {
	if len(d.val) != n {
		if d.err == nil {
			d.err = fmt.Errorf("%w: attribute %d has %d bytes, expected %d", ErrMalformed, d.typ, len(d.val), n)
		}
		return make([]byte, n)
	}
	return d.val
}

// Uint8 is the attribute as one byte.
func (d *Decoder) Uint8() uint8 { return d.fixed(1)[0] }

// Uint16 is the attribute as 16 bits in the host's order.
func (d *Decoder) Uint16() uint16 { return native.Uint16(d.fixed(2)) }

// Uint16BE is the attribute as 16 bits in network order.
func (d *Decoder) Uint16BE() uint16 { return binary.BigEndian.Uint16(d.fixed(2)) }

// Uint32 is the attribute as 32 bits in the host's order.
func (d *Decoder) Uint32() uint32 { return native.Uint32(d.fixed(4)) }

// Uint32Pair is the attribute as two words in the host's order.
func (d *Decoder) Uint32Pair() (a, b uint32) {
	v := d.fixed(8)
	return native.Uint32(v), native.Uint32(v[4:])
}

// Uint32BE is the attribute as 32 bits in network order.
func (d *Decoder) Uint32BE() uint32 { return binary.BigEndian.Uint32(d.fixed(4)) }

// Uint64 is the attribute as 64 bits in the host's order.
func (d *Decoder) Uint64() uint64 { return native.Uint64(d.fixed(8)) }

// Text is the attribute up to its first zero byte, as bytes that are valid as
// long as those behind the Decoder are.
func (d *Decoder) Text() []byte {
	text, _, _ := bytes.Cut(d.val, []byte{0})
	return text
}

// Nested walks through the attributes in this one.
func (d *Decoder) Nested(f func(*Decoder)) {
	inner := Decoder{rest: d.val}
	f(&inner)
	if inner.err != nil && d.err == nil {
		d.err = fmt.Errorf("attribute %d: %w", d.typ, inner.err)
	}
}
