package ipvs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Conn is an entry of the kernel's connection table.
type Conn struct {
	Protocol                     Protocol // 0 for a persistence template of a firewall mark
	Client, Virtual, Destination netip.AddrPort
	// State is the kernel's word: ESTABLISHED, SYN_RECV, NONE, ...
	State string
	// Expires is when the entry goes if nothing passes, in whole seconds.
	Expires time.Duration
}

// connReadSize is what one system call reads. The kernel walks its table from
// the start for each, so a full read is quadratic in the number of entries
// (100,000 take 13 s), and the first 64 KiB, about 1,050 entries, a fair sample.
const connReadSize = 64 << 10

// Connections parses what /proc/net/ip_vs_conn holds (ip_vs_conn.c,
// ip_vs_conn_seq_show), at most limit entries, all if limit is 0. An entry that
// it cannot read is an error with its line number.
//
// /proc/net is the network namespace of the process's main thread; that of the
// calling thread is /proc/thread-self/net.
func Connections(r io.Reader, limit int) (out []Conn, err error) {
	err = EachConnection(r, func(c Conn) bool {
		out = append(out, c)
		return len(out) != limit
	})
	return out, err
}

// EachConnection is Connections without keeping them: it calls f for each entry
// until f says that it wants no more.
func EachConnection(r io.Reader, f func(Conn) (more bool)) error {
	in := bufio.NewReaderSize(r, connReadSize)
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return fmt.Errorf("read the connection table: line %d: %w", n, err)
		}
		fields := bytes.Fields(line)
		if n > 1 && len(fields) > 0 { // the first line is a heading
			c, cerr := parseConn(fields)
			if cerr != nil {
				return fmt.Errorf("read the connection table: line %d: %.80q: %w", n, line, cerr)
			}
			if !f(c) {
				return nil
			}
		}
		if last {
			return nil
		}
	}
}

func parseConn(fields [][]byte) (c Conn, err error) {
	if len(fields) < 9 {
		return c, errors.New("expected 9 columns")
	}
	if c.Protocol, err = connProtocol(string(fields[0])); err != nil {
		return c, err
	}
	for i, to := range []*netip.AddrPort{&c.Client, &c.Virtual, &c.Destination} {
		if *to, err = hexAddrPort(fields[1+2*i], fields[2+2*i]); err != nil {
			return c, err
		}
	}
	c.State = string(fields[7])
	seconds, ok := decimal(fields[8])
	if !ok {
		return c, fmt.Errorf("expires %q: expected seconds", fields[8])
	}
	c.Expires = time.Duration(seconds) * time.Second
	return c, nil
}

// connProtocol reads the kernel's words (ip_vs_core.c, ip_vs_proto_name).
func connProtocol(s string) (Protocol, error) {
	if s == "IP" {
		return 0, nil
	}
	if p, err := ParseProtocol(s); err == nil {
		return p, nil
	}
	var n uint8
	if _, err := fmt.Sscanf(s, "IP_%d", &n); err == nil {
		return Protocol(n), nil
	}
	return 0, fmt.Errorf("protocol %q: expected TCP, UDP, SCTP or IP", s)
}

// hexAddrPort reads an address and a port as /proc writes them.
func hexAddrPort(addr, port []byte) (netip.AddrPort, error) {
	p, ok := hexPort(port)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("port %q: expected four hexadecimal digits", port)
	}
	a, err := procAddr(addr)
	return netip.AddrPortFrom(a, p), err
}
