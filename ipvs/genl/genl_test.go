package genl_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/ipvs/genl"
	"github.com/zklvs/zklvs/ipvs/genl/genltest"
)

var family = genl.Family{ID: 0x1234, Version: 7}

// hexDump is bytes in groups of four, for hosts with little-endian words.
func hexDump(b []byte) string {
	var out []string
	for len(b) > 0 {
		n := min(4, len(b))
		out = append(out, fmt.Sprintf("%x", b[:n]))
		b = b[n:]
	}
	return strings.Join(out, " ")
}

func littleEndianOnly(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("SKIP: the bytes expected here are those of a little-endian host")
	}
}

// A batch, byte by byte: the last message alone asks for an answer.
func TestBatchBytes(t *testing.T) {
	littleEndianOnly(t)
	sock := genltest.New(func(genltest.Request) ([]genltest.Reply, error) { return nil, nil })
	var b genl.Batch
	e := b.Add(family, 1)
	nest := e.Nest(2)
	e.Uint8(3, 0xAB)
	e.Uint16(4, 0x0102)
	e.Uint16BE(5, 0x0102)
	e.Uint32(6, 0x01020304)
	e.Uint32BE(7, 0x01020304)
	e.Uint32Pair(8, 1, 2)
	e.Uint64(9, 0x0102030405060708)
	e.Raw(10, []byte{1, 2, 3, 4, 5})
	e.String(11, "rr")
	e.End(nest)
	b.Add(family, 2).Uint8(1, 1)
	if err := genl.NewConn(sock).Send(&b, func(i int, err error) { t.Errorf("message %d: %v", i, err) }); err != nil {
		t.Fatal(err)
	}
	want := "6c000000 34120100 01000000 00000000 01070000 58000280 " +
		"05000300 ab000000 06000400 02010000 06000500 01020000 08000600 04030201 08000700 01020304 " +
		"0c000800 01000000 02000000 0c000900 08070605 04030201 09000a00 01020304 05000000 07000b00 72720000 " +
		"1c000000 34120500 02000000 00000000 02070000 05000100 01000000"
	if len(sock.Datagrams) != 1 || hexDump(sock.Datagrams[0]) != want {
		t.Errorf("sent\n%s\nwant\n%s", hexDump(sock.Datagrams[0]), want)
	}
}

func TestDumpBytes(t *testing.T) {
	littleEndianOnly(t)
	sock := genltest.New(func(genltest.Request) ([]genltest.Reply, error) { return nil, nil })
	err := genl.NewConn(sock).Dump(family, 4, func(e *genl.Encoder) { e.Uint8(1, 1) }, func() {}, func(*genl.Decoder) {})
	want := "1c000000 34120103 01000000 00000000 04070000 05000100 01000000"
	if err != nil || hexDump(sock.Datagrams[0]) != want {
		t.Errorf("%v, sent\n%s\nwant\n%s", err, hexDump(sock.Datagrams[0]), want)
	}
}

// send sends a batch with so many messages and returns the errors by message.
func send(c *genl.Conn, n int) (map[int]error, error) {
	var b genl.Batch
	for i := range n {
		b.Add(family, 1).Uint32(1, uint32(i))
	}
	out := map[int]error{}
	return out, c.Send(&b, func(i int, err error) { out[i] = err })
}

// number is the only attribute of a message that send made.
func number(r genltest.Request) int {
	d := genl.NewDecoder(r.Attributes)
	d.Next()
	return int(d.Uint32())
}

func TestErrorsBelongToTheirMessages(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail map[int]error
	}{
		{"none", map[int]error{}},
		{"first", map[int]error{0: syscall.EEXIST}},
		{"middle", map[int]error{3: syscall.ESRCH, 5: syscall.ENOENT}},
		{"last", map[int]error{9: syscall.EINVAL}},
		{"all", map[int]error{0: syscall.EPERM, 1: syscall.EPERM, 2: syscall.EPERM, 3: syscall.EPERM, 4: syscall.EPERM,
			5: syscall.EPERM, 6: syscall.EPERM, 7: syscall.EPERM, 8: syscall.EPERM, 9: syscall.EPERM}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen := 0
			c := genltest.Dial(func(r genltest.Request) ([]genltest.Reply, error) { seen++; return nil, tt.fail[number(r)] })
			for range 3 { // numbers go on
				got, err := send(c, 10)
				if d := cmp.Diff(tt.fail, got, cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); d != "" || err != nil {
					t.Errorf("%v, errors (-want +got):\n%s", err, d)
				}
			}
			if seen != 30 {
				t.Errorf("the kernel saw %d messages", seen)
			}
		})
	}
}

func TestLostReplies(t *testing.T) {
	sock := genltest.New(func(genltest.Request) ([]genltest.Reply, error) { return nil, syscall.EPERM })
	c := genl.NewConn(sock)
	sock.Errors = []error{unix.ENOBUFS}
	got, err := send(c, 3)
	if !errors.Is(err, genl.ErrLost) || !errors.Is(err, unix.ENOBUFS) || len(got) != 3 {
		t.Errorf("%v with errors %v", err, got)
	}
	// The acknowledgement is lost, too: it must not be waited for.
	silent := genltest.New(func(genltest.Request) ([]genltest.Reply, error) { return nil, nil })
	silent.Errors = []error{unix.ENOBUFS, os.ErrDeadlineExceeded}
	if _, err := send(genl.NewConn(silent), 3); !errors.Is(err, genl.ErrLost) {
		t.Error(err)
	}
	// What was left behind does not count for the next batch.
	if got, err := send(c, 3); err != nil || len(got) != 3 {
		t.Errorf("the next batch: %v, %v", err, got)
	}
}

func TestSilentKernel(t *testing.T) {
	sock := genltest.New(func(genltest.Request) ([]genltest.Reply, error) { return nil, nil })
	sock.Errors = []error{os.ErrDeadlineExceeded}
	c := genl.NewConn(sock)
	if _, err := send(c, 3); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("batch: %v", err)
	}
	if got, err := send(c, 3); err != nil || len(got) != 0 { // its late reply is passed over
		t.Errorf("the next batch: %v, %v", err, got)
	}
}

func TestSendFails(t *testing.T) {
	broken := errors.New("broken")
	c := genltest.Dial(func(genltest.Request) ([]genltest.Reply, error) { return nil, broken })
	if _, err := send(c, 1); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func attribute(v uint32) genltest.Reply {
	var e genl.Encoder
	e.Uint32(1, v)
	return e.Bytes()
}

// dump reads numbers.
func dump(c *genl.Conn) (got []uint32, err error) {
	err = c.Dump(family, 1, func(*genl.Encoder) {}, func() { got = nil }, func(d *genl.Decoder) {
		for d.Next() {
			got = append(got, d.Uint32())
		}
	})
	return got, err
}

func TestDumpIsReadAgain(t *testing.T) {
	three := []genltest.Reply{attribute(1), attribute(2), attribute(3)}
	for _, tt := range []struct {
		name     string
		errors   []error // of the first receives
		refuse   error   // of the first dump
		interval uint16  // flags of the first dump
	}{
		{name: "whole"},
		{name: "interrupted", interval: unix.NLM_F_DUMP_INTR},
		{name: "busy", refuse: unix.EBUSY},
		{name: "replies lost", errors: []error{unix.ENOBUFS}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tries := 0
			var sock *genltest.Socket
			sock = genltest.New(func(genltest.Request) ([]genltest.Reply, error) {
				tries++
				if sock.Flags = 0; tries == 1 {
					sock.Flags = tt.interval
					return three, tt.refuse
				}
				return three, nil
			})
			sock.Errors = tt.errors
			got, err := dump(genl.NewConn(sock))
			if d := cmp.Diff([]uint32{1, 2, 3}, got); d != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, d)
			}
			if again := tt.name != "whole"; again != (tries == 2) {
				t.Errorf("%d dumps", tries)
			}
		})
	}
}

func TestDumpEnds(t *testing.T) {
	tries := 0
	var sock *genltest.Socket
	sock = genltest.New(func(genltest.Request) ([]genltest.Reply, error) {
		tries++
		sock.Flags = unix.NLM_F_DUMP_INTR
		return []genltest.Reply{attribute(1)}, nil
	})
	if _, err := dump(genl.NewConn(sock)); !errors.Is(err, genl.ErrInterrupted) || tries != 5 {
		t.Errorf("%v after %d dumps", err, tries)
	}
	refusing := genltest.Dial(func(genltest.Request) ([]genltest.Reply, error) { return nil, syscall.EPERM })
	if _, err := dump(refusing); !errors.Is(err, syscall.EPERM) {
		t.Error(err)
	}
}

// A dump that ends with an error leaves nothing to the next exchange.
func TestDumpOfMalformedReplies(t *testing.T) {
	bad := true
	c := genltest.Dial(func(genltest.Request) ([]genltest.Reply, error) {
		if bad {
			return []genltest.Reply{{9, 0, 1, 0}, attribute(7)}, nil
		}
		return []genltest.Reply{attribute(1)}, nil
	})
	if _, err := dump(c); !errors.Is(err, genl.ErrMalformed) {
		t.Error(err)
	}
	bad = false
	if got, err := dump(c); err != nil || len(got) != 1 || got[0] != 1 {
		t.Errorf("afterwards: %v, %v", got, err)
	}
}

func TestFamily(t *testing.T) {
	c := genltest.Dial(func(r genltest.Request) ([]genltest.Reply, error) {
		d := genl.NewDecoder(r.Attributes)
		if r.Family != unix.GENL_ID_CTRL || r.Cmd != unix.CTRL_CMD_GETFAMILY || !d.Next() || d.Type() != unix.CTRL_ATTR_FAMILY_NAME {
			return nil, syscall.EINVAL
		}
		var e genl.Encoder
		switch string(d.Text()) {
		case "IPVS":
			e.String(unix.CTRL_ATTR_FAMILY_NAME, "IPVS")
			e.Uint16(unix.CTRL_ATTR_FAMILY_ID, 0x25)
			e.Uint32(unix.CTRL_ATTR_VERSION, 1)
		case "odd":
			e.Uint32(unix.CTRL_ATTR_FAMILY_ID, 0x25)
		default:
			return nil, syscall.ENOENT
		}
		return []genltest.Reply{e.Bytes()}, nil
	})
	if f, err := c.Family("IPVS"); err != nil || f != (genl.Family{ID: 0x25, Version: 1}) {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := c.Family("none"); !errors.Is(err, syscall.ENOENT) || err.Error() != "generic netlink family none: no such file or directory" {
		t.Error(err)
	}
	if _, err := c.Family("odd"); !errors.Is(err, genl.ErrMalformed) {
		t.Error(err)
	}
}

// The real kernel knows its own controller, in every network namespace.
func TestDialKernel(t *testing.T) {
	c, err := genl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		if f, err := c.Family("nlctrl"); err != nil || f.ID != unix.GENL_ID_CTRL {
			t.Errorf("%+v, %v", f, err)
		}
	}
	if _, err := c.Family("no such family"); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
	// A batch of questions whose answers nobody reads, with errors between.
	var b genl.Batch
	for i := range 100 {
		b.Add(genl.Family{ID: unix.GENL_ID_CTRL, Version: 1}, unix.CTRL_CMD_GETFAMILY).
			String(unix.CTRL_ATTR_FAMILY_NAME, map[bool]string{true: "none", false: "nlctrl"}[i%3 == 0])
	}
	failed := 0
	if err := c.Send(&b, func(i int, err error) {
		failed++
		if i%3 != 0 || !errors.Is(err, syscall.ENOENT) {
			t.Errorf("message %d: %v", i, err)
		}
	}); err != nil || failed != 34 {
		t.Errorf("%v, %d failed", err, failed)
	}
}

func TestEncoderDoesNotAllocate(t *testing.T) {
	var b genl.Batch
	fill := func() {
		b.Reset()
		for !b.Full() {
			e := b.Add(family, 1)
			end := e.Nest(1)
			e.Uint32(2, 1)
			e.String(3, "wlc")
			e.End(end)
		}
	}
	fill()
	if n := testing.AllocsPerRun(10, fill); n != 0 {
		t.Errorf("%v allocations for a batch of %d messages", n, b.Len())
	}
}
