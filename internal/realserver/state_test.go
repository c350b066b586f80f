package realserver

import (
	"strings"
	"testing"
)

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"format":1,"boot_id":"x","sysctls":[{"name":"conf/eth0/arp_ignore","found":"0"}],"addresses":[{"address":"10.0.0.1","label":"lo:1","found":false}]}`))
	f.Add([]byte(`{"format":1,"boot_id":"x","sysctls":[{"name":"conf/../../../kernel/sysrq/arp_ignore","found":"0"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseState(data)
		if err != nil {
			return
		}
		for _, v := range s.Sysctls {
			if strings.Count(v.Name, "/") != 2 || strings.Contains(v.Name, "/../") {
				t.Fatalf("accepted %q", v.Name)
			}
		}
		for _, v := range s.Addresses {
			if !v.Address.Is4() || v.Address.IsLoopback() {
				t.Fatalf("accepted %v", v.Address)
			}
		}
	})
}

func TestStateRefused(t *testing.T) {
	b := newBench(t)
	must(t, b.agent(t, nil).Up())
	up := b.snapshot(t)
	for data, want := range map[string]string{
		`{`: "unexpected EOF",
		`{"format":2,"boot_id":"x","sysctls":[],"addresses":[]}`:                                                        "format 2: expected 1",
		`{"format":1,"boot_id":"x","sysctls":[{"name":"conf/../arp_ignore","found":"0"}],"addresses":[]}`:               `sysctl "conf/../arp_ignore"`,
		`{"format":1,"boot_id":"x","sysctls":[{"name":"conf/eth0/forwarding","found":"0"}],"addresses":[]}`:             `sysctl "conf/eth0/forwarding"`,
		`{"format":1,"boot_id":"x","sysctls":[{"name":"conf/eth0/arp_ignore","found":"0; x"}],"addresses":[]}`:          `value "0; x"`,
		`{"format":1,"boot_id":"x","sysctls":[],"addresses":[{"address":"127.0.0.1","found":false}]}`:                   "expected a unicast address",
		`{"format":1,"boot_id":"x","sysctls":[],"addresses":[{"address":"10.0.0.1","found":false,"command":"reboot"}]}`: `unknown field "command"`,
	} {
		b.put(t, b.state, data)
		for _, act := range []func() error{b.agent(t, nil).Up, b.agent(t, nil).Down} {
			if err := act(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), b.state) {
				t.Errorf("%s: error %v, want %q and the file in it", data, err, want)
			}
		}
		wantSame(t, up, b.snapshot(t))
	}
}
