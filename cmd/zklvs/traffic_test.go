package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/zklvs/zklvs/ipvs"
)

// connectionLines is a list of connections as the kernel writes it (ip_vs_conn.c).
func connectionLines(n int) string {
	var b strings.Builder
	b.WriteString("Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n")
	for i := range n {
		fmt.Fprintf(&b, "TCP C0A8%04X %04X C0A89664 0050 C0A8960C 0050 SYN_RECV         58\n", i, 1024+i%60000)
	}
	return b.String()
}

func listed(t *testing.T, text string, size, limit int) (conns []ipvs.Conn, whole bool) {
	t.Helper()
	one := &traffic{connections: filepath.Join(t.TempDir(), "ip_vs_conn")}
	if err := os.WriteFile(one.connections, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	whole, err := one.list(size, limit, func(c ipvs.Conn) error {
		conns = append(conns, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return conns, whole
}

func TestListOfConnections(t *testing.T) {
	for name, c := range map[string]struct {
		entries, size, limit, want int // want 0: a part of them
		whole                      bool
	}{
		"none":               {0, sampleSize, 0, 0, true},
		"few":                {10, sampleSize, 0, 10, true},
		"all of many":        {5000, 0, 0, 5000, true},
		"a part of many":     {5000, sampleSize, 0, -1, false},
		"as many as allowed": {5000, 0, 700, 700, false},
		"exactly as many":    {700, 0, 700, 700, true},
		"fewer":              {699, 0, 700, 699, true},
	} {
		t.Run(name, func(t *testing.T) {
			conns, whole := listed(t, connectionLines(c.entries), c.size, c.limit)
			if c.want < 0 && (len(conns) < 900 || len(conns) > 1300) || c.want >= 0 && len(conns) != c.want || whole != c.whole {
				t.Errorf("%d entries, whole %v", len(conns), whole)
			}
			for i, one := range conns {
				if one.Client.Addr().String() != fmt.Sprintf("192.168.%d.%d", i>>8, i&255) || one.State != "SYN_RECV" {
					t.Fatalf("entry %d: %+v", i, one)
				}
			}
		})
	}
	missing := &traffic{connections: "/nowhere/ip_vs_conn"}
	if _, err := missing.Sample(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "is the module ip_vs loaded?") {
		t.Errorf("error %v", err)
	}
}

// However the list is cut into reads, the pieces hold each line once and whole.
func TestPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.StringMatching(`[a-z]{0,200}`), 0, 400).Draw(t, "lines")
		text := strings.Join(lines, "\n") // perhaps without an end of line at the end
		p := &pieces{file: iotest.OneByteReader(strings.NewReader(text))}
		if rapid.Bool().Draw(t, "large") {
			p.file = iotest.HalfReader(strings.NewReader(text))
		}
		var got []byte
		for n := 0; ; n++ {
			piece, err := p.next()
			if err != nil {
				break
			}
			if n > 0 {
				if piece[0] != '\n' {
					t.Fatalf("piece %d begins with an entry: %q", n, piece)
				}
				piece = piece[1:]
			}
			got = append(got, piece...)
		}
		if !bytes.Equal(got, []byte(text)) {
			t.Fatalf("got %q\nwant %q", got, text)
		}
	})
	long := &pieces{file: strings.NewReader(strings.Repeat("x", 2*pieceSize))}
	if _, err := long.next(); err == nil || !strings.Contains(err.Error(), "a line has more than") {
		t.Errorf("error %v", err)
	}
}
