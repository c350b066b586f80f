package ipvs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// procText is /proc/net/ip_vs of Linux 6.1, HZ=100.
const procText = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
FWM  00000007 rr ops persistent 6000 FFFFFF00
  -> 0A090901:0000      Route   1      0          0         
TCP  0A000001:0050 wlc  persistent 30000 FFFFFFFF
  -> 0A000101:0050      Tunnel  0      3          4         
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0050      Masq    65535  0          0         
TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 rr persistent 6000 40000000
UDP  0A000001:0035 sh ops 
UDP  0A000001:0036 sh  persistent -1616567296 FFFFFFFF
SCTP  0A000001:0001 rr  
  -> 7F000001:0001      Local   1      0          0         
`

func (s *procService) String() string {
	var ds []string
	for _, d := range s.dests {
		ds = append(ds, fmt.Sprintf("%v %s %d", netip.AddrPortFrom(d.address, d.port), d.method, d.weight))
	}
	return fmt.Sprintf("%v %s ops=%v %d %08X %v", s.key, s.scheduler, s.onePacket, s.ticks, s.mask, ds)
}

func TestScanProc(t *testing.T) {
	var got []string
	err := scanProc(iotest.OneByteReader(strings.NewReader(procText)), func(p *procService) { got = append(got, p.String()) })
	if err != nil {
		t.Fatal(err)
	}
	noDiff(t, "services", []string{
		"FWM 7 rr ops=true 6000 FFFFFF00 [10.9.9.1:0 R 1]",
		"TCP 10.0.0.1:80 wlc ops=false 30000 FFFFFFFF [10.0.1.1:80 T 0 [2001:db8::2]:80 M 65535]",
		"TCP [2001:db8::1]:80 rr ops=false 6000 40000000 []",
		"UDP 10.0.0.1:53 sh ops=true 0 00000000 []",
		"UDP 10.0.0.1:54 sh ops=false 2678400000 FFFFFFFF []",
		"SCTP 10.0.0.1:1 rr ops=false 0 00000000 [127.0.0.1:1 L 1]",
	}, got)
	head := strings.Join(strings.SplitAfter(procText, "\n")[:3], "")
	for line, want := range map[string]string{
		"ICMP 0A000001:0050 rr\n":                `read /proc/net/ip_vs: line 4: "ICMP 0A000001:0050 rr\n": protocol "ICMP": expected FWM, TCP, UDP or SCTP`,
		"TCP  0A000001:50 rr\n":                  `read /proc/net/ip_vs: line 4: "TCP  0A000001:50 rr\n": port "50": expected four hexadecimal digits`,
		"TCP  0A00001:0050 rr\n":                 `read /proc/net/ip_vs: line 4: "TCP  0A00001:0050 rr\n": address "0A00001": expected 8 hexadecimal digits or an IPv6 address in full`,
		"TCP  0A000001:0050 rr persistent x 0\n": `read /proc/net/ip_vs: line 4: "TCP  0A000001:0050 rr persistent x 0\n": expected a persistence and a mask`,
		"  -> 0A000001:0050 Route\n":             `read /proc/net/ip_vs: line 4: "  -> 0A000001:0050 Route\n": expected a weight`,
	} {
		noDiff(t, line, want, fmt.Sprint(scanProc(strings.NewReader(head+line), func(*procService) {})))
	}
	broken := errors.New("broken")
	if err := scanProc(io.MultiReader(strings.NewReader(head), iotest.ErrReader(broken)), func(*procService) {}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// What was left shows, and nothing that differs visibly does.
func TestProcShows(t *testing.T) {
	left := service(t, "TCP 10.0.0.1:80", "wlc", dest("10.0.1.1:80", TUN, 0), dest("10.0.1.2:80", NAT, 3))
	left.Persistence, left.PersistencePrefix = time.Minute, 24
	line := "TCP  0A000001:0050 wlc  persistent 6000 FFFFFF00\n"
	ds := "  -> 0A000102:0050      Masq    3      0          0\n  -> 0A000101:0050      Tunnel  0      3          4\n"
	shows := func(text string) (got bool) {
		err := scanProc(strings.NewReader("1\n2\n3\n"+text), func(p *procService) { got = p.shows(&left, 100) })
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if !shows(line + ds) {
		t.Error("what was left is not recognized")
	}
	if !shows(line + strings.Replace(ds, "Tunnel", "Local ", 1)) {
		t.Error("a local destination is not recognized")
	}
	for _, change := range []struct{ old, new string }{
		{"wlc ", "rr "}, {"6000", "3000"}, {"FFFFFF00", "FFFFFFFF"}, {"wlc ", "wlc ops"}, {" persistent 6000 FFFFFF00", ""},
		{"Masq", "Route"}, {"Tunnel", "Bypass"}, {"Masq    3", "Masq    4"}, {"0A000102", "0A000103"}, {"0102:0050", "0102:0051"},
		{"  -> 0A000102:0050      Masq    3      0          0\n", ""}, {"  -> 0A000102", "  -> 0A000109:0050 Masq 3 0 0\n  -> 0A000102"},
	} {
		if shows(strings.Replace(line+ds, change.old, change.new, 1)) {
			t.Errorf("%q for %q is not seen", change.new, change.old)
		}
	}
}

func FuzzScanProc(f *testing.F) {
	f.Add([]byte(procText))
	f.Fuzz(func(_ *testing.T, data []byte) {
		left := Service{Key: Key{Mark: 7}, Scheduler: "rr"}
		_ = scanProc(bytes.NewReader(data), func(p *procService) { p.shows(&left, 100) })
	})
}

// connText is /proc/net/ip_vs_conn of Linux 6.1.
const connText = `Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP C0A80001 8CA0 C0A80064 0050 C0A8000C 1F90 ESTABLISHED     899
TCP 2001:0db8:0000:0000:0000:0000:0000:0009 8CA0 2001:0db8:0000:0000:0000:0000:0000:0001 0050 0A000001 0050 SYN_RECV         59
IP  C0A80000 0000 00000005 0000 C0A8000C 0000 NONE             49
UDP C0A80001 8CA0 C0A80064 13C4 C0A8000C 13C4 UDP             299 sip callid@host
IP_47 C0A80001 0000 C0A80064 0000 C0A8000C 0000 NONE            1
`

func TestConnections(t *testing.T) {
	ap := netip.MustParseAddrPort
	want := []Conn{
		{TCP, ap("192.168.0.1:36000"), ap("192.168.0.100:80"), ap("192.168.0.12:8080"), "ESTABLISHED", 899 * time.Second},
		{TCP, ap("[2001:db8::9]:36000"), ap("[2001:db8::1]:80"), ap("10.0.0.1:80"), "SYN_RECV", 59 * time.Second},
		{0, ap("192.168.0.0:0"), ap("0.0.0.5:0"), ap("192.168.0.12:0"), "NONE", 49 * time.Second},
		{UDP, ap("192.168.0.1:36000"), ap("192.168.0.100:5060"), ap("192.168.0.12:5060"), "UDP", 299 * time.Second},
		{47, ap("192.168.0.1:0"), ap("192.168.0.100:0"), ap("192.168.0.12:0"), "NONE", time.Second},
	}
	for limit := range 7 {
		got, err := Connections(strings.NewReader(connText), limit)
		n := min(limit, 5)
		if limit == 0 {
			n = 5
		}
		if err != nil || !slices.Equal(want[:n], got) {
			t.Errorf("limit %d: %v, %v", limit, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                  "<nil>",
		"head\nTCP 1 2 3\n": `read the connection table: line 2: "TCP 1 2 3\n": expected 9 columns`,
		"head\nXXX C0A80001 8CA0 C0A80064 0050 C0A8000C 1F90 NONE 8\n": `read the connection table: line 2: "XXX C0A80001 8CA0 C0A80064 0050 C0A8000C 1F90 NONE 8\n": protocol "XXX": expected TCP, UDP, SCTP or IP`,
		"head\nTCP C0A80001 8CA C0A80064 0050 C0A8000C 1F90 NONE 8\n":  `read the connection table: line 2: "TCP C0A80001 8CA C0A80064 0050 C0A8000C 1F90 NONE 8\n": port "8CA": expected four hexadecimal digits`,
		"head\nTCP C0A80001 8CA0 C0A80064 0050 C0A8000C 1F90 NONE x\n": `read the connection table: line 2: "TCP C0A80001 8CA0 C0A80064 0050 C0A8000C 1F90 NONE x\n": expires "x": expected seconds`,
	} {
		_, err := Connections(strings.NewReader(text), 0)
		noDiff(t, text, want, fmt.Sprint(err))
	}
}

func FuzzConnections(f *testing.F) {
	f.Add([]byte(connText))
	f.Fuzz(func(t *testing.T, data []byte) {
		conns, err := Connections(bytes.NewReader(data), 3)
		if len(conns) > 3 || err == nil && len(conns) > bytes.Count(data, []byte("\n")) {
			t.Errorf("%d connections, %v", len(conns), err)
		}
	})
}
