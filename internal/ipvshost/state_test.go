package ipvshost

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"format":1,"scope":"x","sysctls":[{"name":"ipv4/ip_forward","found":"0","also":[{"name":"ipv4/conf/eth0/forwarding","found":"1"}]}],"timeouts":{"tcp":900,"tcp_fin":120,"udp":300},"daemons":[{"state":1,"interface":"eth0","interface_index":2,"id":1,"group":"224.0.0.81"}]}`))
	f.Add([]byte(`{"format":1,"scope":"x","sysctls":[{"name":"ipv4/vs/../../kernel/sysrq","found":"0"}],"daemons":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseState(data)
		if err != nil {
			return
		}
		for _, v := range s.Sysctls {
			for _, v := range append(v.Also, v) {
				if filepath.Clean(v.Name) != v.Name || !strings.HasPrefix(v.Name, "ipv4/") && !strings.HasPrefix(v.Name, "ipv6/") || strings.Contains(v.Found, "\n") {
					t.Fatalf("accepted %q with %q", v.Name, v.Found)
				}
			}
		}
	})
}

func TestStateRefused(t *testing.T) {
	b := newBench(t)
	h := b.life()
	b.apply(h, full())
	now := b.snapshot()
	sysctls := func(list string) string { return `{"format":1,"scope":"x","daemons":[],"sysctls":[` + list + `]}` }
	for data, want := range map[string]string{
		`{`: "unexpected EOF",
		`{"format":2,"scope":"x","sysctls":[],"daemons":[]}`:                                                                                                           "format 2: expected 1",
		`{"format":1,"scope":"x","sysctls":[],"daemons":[],"run":""}`:                                                                                                  `unknown field "run"`,
		sysctls(`{"name":"ipv4/vs/../ip_forward","found":"0"}`):                                                                                                        `sysctl "ipv4/vs/../ip_forward"`,
		sysctls(`{"name":"ipv4/tcp_syncookies","found":"0"}`):                                                                                                          `sysctl "ipv4/tcp_syncookies"`,
		sysctls(`{"name":"ipv4/vs/am_droprate","found":"0; x"}`):                                                                                                       `value "0; x"`,
		sysctls(`{"name":"ipv4/ip_forward","found":"0","also":[{"name":"ipv4/conf/../forwarding","found":"0"}]}`):                                                      `sysctl "ipv4/conf/../forwarding"`,
		sysctls(`{"name":"ipv4/ip_forward","found":"0","also":[{"name":"ipv4/vs/sloppy_tcp","found":"0"}]}`):                                                           `sysctl "ipv4/vs/sloppy_tcp"`,
		sysctls(`{"name":"ipv4/ip_forward","found":"0","also":[{"name":"ipv4/conf/eth0/forwarding","found":"0","also":[{"name":"ipv4/vs/sloppy_tcp","found":"0"}]}]}`): "has others besides it",
		`{"format":1,"scope":"x","sysctls":[],"daemons":[],"timeouts":{"tcp":-1,"tcp_fin":1,"udp":1}}`:                                                                 "timeout of -1 s",
		`{"format":1,"scope":"x","sysctls":[],"daemons":[{"state":3,"interface":"eth0","interface_index":1,"id":0}]}`:                                                  "sync daemon of state 3",
	} {
		b.must(os.WriteFile(b.state, []byte(data), 0o600))
		fresh := b.life()
		for _, act := range []func() error{func() error { return fresh.Apply(t.Context(), Desired{Forward4: true}) }, func() error { return fresh.Restore(t.Context()) }} {
			if err := act(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), b.state) || !strings.Contains(err.Error(), "then remove the file") {
				t.Errorf("%s: error %v, want %q and the file in it", data, err, want)
			}
		}
		b.wantSame(now, b.snapshot())
	}
	// Once it is removed, as told, the same life goes on.
	fresh := b.life()
	if err := fresh.Restore(t.Context()); err == nil {
		t.Error("no error")
	}
	b.must(os.Remove(b.state))
	b.apply(fresh, full())
	b.wantSame(now, b.snapshot())
}
