package ipvs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"runtime"
	"slices"
)

// errNoProc: /proc/net/ip_vs cannot be had.
var errNoProc = errors.New("no /proc/net/ip_vs")

// procFile is /proc/net/ip_vs of one network namespace. The kernel takes the
// namespace when the file is opened, so it is kept open: the thread that reads
// it later may be in another one (fs/proc/proc_net.c, seq_open_net).
type procFile struct {
	f *os.File
}

// openProc opens the file for the calling thread's network namespace. Without
// it drift is found by reading the whole table.
func openProc() *procFile {
	f, err := os.Open("/proc/thread-self/net/ip_vs")
	if err != nil {
		return nil
	}
	return &procFile{f: f}
}

func (p *procFile) close() {
	if p != nil {
		_ = p.f.Close() // nothing is buffered
	}
}

// reader reads the file from its start. After ip_vs was unloaded every read
// fails, even if it was loaded again.
func (p *procFile) reader() (io.Reader, error) {
	if p == nil {
		return nil, errNoProc
	}
	return io.NewSectionReader(p.f, 0, math.MaxInt64), nil
}

// reopen reads the table's file from its start. One that cannot be read any
// more, as after ip_vs was loaded again, is opened anew, if the calling thread
// is in the table's network namespace.
func (t *Table) reopen() (io.Reader, error) {
	var one [1]byte
	if t.file != nil {
		if _, err := t.file.f.ReadAt(one[:], 0); err == nil {
			return t.file.reader()
		}
		t.file.close()
		t.file = nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if now, err := netnsCookie(); err == nil && now == t.cookie {
		t.file = openProc()
	}
	return t.file.reader()
}

// procService is what /proc/net/ip_vs shows of a service (ip_vs_ctl.c,
// ip_vs_info_seq_show). It shows neither thresholds nor tunnels nor the flags
// of schedulers nor engines, nor whether a mark is of IPv4 or IPv6.
type procService struct {
	key       Key
	scheduler []byte
	onePacket bool
	// ticks is the persistence in ticks of the kernel's clock, 0 without; mask
	// is its netmask.
	ticks uint64
	mask  uint32
	dests []procDest
}

type procDest struct {
	address netip.Addr
	port    uint16
	method  [1]byte // the first letter of Masq, Local, Tunnel, Route, Bypass
	weight  int64
}

// visible calls f for every service in /proc/net/ip_vs. The service is valid
// in that call only.
func (t *Table) visible(f func(*procService)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		return ErrClosed
	}
	r, err := t.proc()
	if err != nil {
		return err
	}
	return scanProc(r, f)
}

func scanProc(r io.Reader, f func(*procService)) error {
	in := bufio.NewReaderSize(r, 16<<10)
	var s procService
	begun := false
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 && n > 3 { // three lines of headings
			var perr error
			if bytes.HasPrefix(line, []byte("  ->")) {
				perr = s.parseDest(line)
			} else {
				if begun {
					f(&s)
				}
				perr = s.parseHead(line)
				begun = true
			}
			if perr != nil {
				return fmt.Errorf("read /proc/net/ip_vs: line %d: %.80q: %w", n, line, perr)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read /proc/net/ip_vs: line %d: %w", n, err)
		}
	}
	if begun {
		f(&s)
	}
	return nil
}

// next cuts the first word off a line.
func next(line []byte) (word, rest []byte) {
	line = bytes.TrimLeft(line, " \n")
	if i := bytes.IndexAny(line, " \n"); i >= 0 {
		return line[:i], line[i:]
	}
	return line, nil
}

// parseHead reads "TCP  0A000001:0050 rr persistent 30000 FFFFFFFF".
func (s *procService) parseHead(line []byte) error {
	*s = procService{scheduler: s.scheduler[:0], dests: s.dests[:0]}
	proto, rest := next(line)
	name, rest := next(rest)
	sched, rest := next(rest)
	s.scheduler = append(s.scheduler, sched...)
	if err := s.parseName(proto, name); err != nil {
		return err
	}
	word, rest := next(rest)
	if string(word) == "ops" {
		s.onePacket = true
		word, rest = next(rest)
	}
	if string(word) == "persistent" {
		ticks, rest := next(rest)
		mask, _ := next(rest)
		var ok1, ok2 bool
		s.ticks, ok1 = signed(ticks)
		s.mask, ok2 = hexWord(mask)
		if !ok1 || !ok2 {
			return errors.New("expected a persistence and a mask")
		}
	}
	return nil
}

func (s *procService) parseName(proto, name []byte) error {
	if string(proto) == "FWM" {
		mark, ok := hexWord(name)
		if !ok {
			return errors.New("expected a firewall mark")
		}
		s.key = Key{Mark: mark}
		return nil
	}
	switch string(proto) {
	case "TCP":
		s.key.Protocol = TCP
	case "UDP":
		s.key.Protocol = UDP
	case "SCTP":
		s.key.Protocol = SCTP
	default:
		return fmt.Errorf("protocol %q: expected FWM, TCP, UDP or SCTP", proto)
	}
	var err error
	s.key.Address, s.key.Port, err = procAddrPort(name)
	return err
}

// parseDest reads "  -> 0A000002:0050      Route   1      0          0".
func (s *procService) parseDest(line []byte) error {
	_, rest := next(line)
	name, rest := next(rest)
	method, rest := next(rest)
	weight, _ := next(rest)
	var d procDest
	var err error
	if d.address, d.port, err = procAddrPort(name); err != nil {
		return err
	}
	if len(method) == 0 {
		return errors.New("expected a forwarding method")
	}
	d.method[0] = method[0]
	n, ok := decimal(weight)
	if !ok {
		return errors.New("expected a weight")
	}
	d.weight = int64(n)
	s.dests = append(s.dests, d)
	return nil
}

// procAddrPort reads 0A000001:0050 or [2001:0db8:...:0001]:0050.
func procAddrPort(b []byte) (netip.Addr, uint16, error) {
	i := bytes.LastIndexByte(b, ':')
	if i < 0 {
		return netip.Addr{}, 0, fmt.Errorf("%q: expected an address and a port", b)
	}
	port, ok := hexPort(b[i+1:])
	if !ok {
		return netip.Addr{}, 0, fmt.Errorf("port %q: expected four hexadecimal digits", b[i+1:])
	}
	a, err := procAddr(bytes.TrimSuffix(bytes.TrimPrefix(b[:i], []byte("[")), []byte("]")))
	return a, port, err
}

// procAddr reads an address as the kernel's %08X or %pI6 writes it: 8
// hexadecimal digits, or 8 groups of four.
func procAddr(b []byte) (netip.Addr, error) {
	switch len(b) {
	case 8:
		if w, ok := hexWord(b); ok {
			var four [4]byte
			binary.BigEndian.PutUint32(four[:], w)
			return netip.AddrFrom4(four), nil
		}
	case 39:
		var six [16]byte
		good := true
		for i := range 8 {
			w, ok := hexPort(b[5*i : 5*i+4])
			good = good && ok && (i == 7 || b[5*i+4] == ':')
			binary.BigEndian.PutUint16(six[2*i:], w)
		}
		if good {
			return netip.AddrFrom16(six), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("address %q: expected 8 hexadecimal digits or an IPv6 address in full", b)
}

func hexPort(b []byte) (uint16, bool) {
	v, ok := hexDigits(b, 4)
	return uint16(v), ok
}

func hexWord(b []byte) (uint32, bool) { return hexDigits(b, 8) }

func hexDigits(b []byte, n int) (v uint32, ok bool) {
	if len(b) != n {
		return 0, false
	}
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint32(c)
	}
	return v, true
}

// signed reads an unsigned word of 32 bits that was printed as a signed one:
// 31 days are more than 2^31 ticks if the clock has 1000 a second.
func signed(b []byte) (v uint64, ok bool) {
	if len(b) > 0 && b[0] == '-' {
		v, ok = decimal(b[1:])
		return 1<<32 - v, ok && v <= 1<<31
	}
	return decimal(b)
}

func decimal(b []byte) (v uint64, ok bool) {
	if len(b) == 0 || len(b) > 10 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = 10*v + uint64(c-'0')
	}
	return v, true
}

// shows tells whether a service that was left looks like this. hz is the
// kernel's ticks a second, 0 if unknown: then persistence is not compared.
func (s *procService) shows(left *Service, hz uint64) bool {
	if string(s.scheduler) != left.Scheduler || (s.ticks > 0) != (left.Persistence > 0) || len(s.dests) != len(left.Destinations) {
		return false
	}
	// Of IPv6 services with an address this flag is not shown.
	if s.onePacket != left.OnePacket && (left.Mark != 0 || !left.Is6()) {
		return false
	}
	if s.ticks > 0 && (s.mask != shownMask(left) || hz > 0 && s.ticks != hz*uint64(left.Persistence.Seconds())) {
		return false
	}
	slices.SortFunc(s.dests, func(a, b procDest) int { return compareAddrPort(a.address, a.port, b.address, b.port) })
	for i := range left.Destinations {
		d := &left.Destinations[i]
		at, ok := slices.BinarySearchFunc(s.dests, d, func(p procDest, d *Destination) int {
			return compareAddrPort(p.address, p.port, d.Address, d.Port)
		})
		if !ok || s.dests[at].weight != int64(d.Weight) || !d.Forward.shownAs(s.dests[at].method[0]) {
			return false
		}
	}
	return true
}

// shownAs compares with the kernel's words (ip_vs_ctl.c, ip_vs_fwd_name).
func (f Forward) shownAs(letter byte) bool {
	switch letter {
	case 'L':
		return true
	case 'M':
		return f == NAT
	case 'T':
		return f == TUN
	case 'R':
		return f == DR
	}
	return false
}

// shownMask is the netmask that a persistent service shows: the kernel prints
// the prefix of IPv6 as if it were one, too.
func shownMask(s *Service) uint32 {
	if s.Is6() {
		return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, uint32(s.prefix())))
	}
	return 0xFFFFFFFF << (32 - s.prefix())
}
