package health

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Targets that are valid, for tests to alter.
func tcpTarget(address string) Target {
	return Target{
		Kind: TCP, Address: netip.MustParseAddrPort(address),
		Timeout: time.Second, Interval: 5 * time.Second, RetryDelay: 3 * time.Second,
		Retries: 2, Rise: 1, Fall: 1,
	}
}

func httpTarget(address string) Target {
	t := tcpTarget(address)
	t.Kind, t.Path, t.Status = HTTP, "/", statuses(StatusRange{200, 200})
	return t
}

func execTarget(script string) Target {
	t := tcpTarget("0.0.0.0:0")
	t.Kind, t.Address, t.Script = Exec, netip.AddrPort{}, script
	return t
}

func gatewayTarget(kind Kind, address, link string) Target {
	t := tcpTarget("0.0.0.0:0")
	t.Kind, t.Interface = kind, link
	t.Address = netip.AddrPortFrom(netip.MustParseAddr(address), 0)
	return t
}

func TestTargetValidate(t *testing.T) {
	alter := func(t Target, change func(*Target)) Target {
		change(&t)
		return t
	}
	good := httpTarget("10.0.0.1:80")
	for _, tt := range []struct {
		name   string
		target Target
		want   string // "" for valid
	}{
		{"tcp", tcpTarget("10.0.0.1:80"), ""},
		{"http", good, ""},
		{"http over IPv6 with Host", alter(httpTarget("[2001:db8::1]:8080"), func(t *Target) { t.Host = "www.example.org:81" }), ""},
		{"exec", execTarget("check-disk.sh"), ""},
		{"icmp", gatewayTarget(ICMP, "10.0.0.254", ""), ""},
		{"arp", gatewayTarget(ARP, "10.0.0.254", "eth0"), ""},
		{"a kind of someone else", alter(good, func(t *Target) { t.Kind, t.Path = "grpc", "" }), ""},
		{"no kind", alter(good, func(t *Target) { t.Kind = "" }), "no kind"},
		{"no port", alter(good, func(t *Target) { t.Address = netip.MustParseAddrPort("10.0.0.1:0") }),
			"address 10.0.0.1:0: expected an address and a port"},
		{"no address", alter(good, func(t *Target) { t.Address = netip.AddrPort{} }), "expected an address and a port"},
		{"unspecified address", tcpTarget("0.0.0.0:80"), "expected an address and a port"},
		{"relative path", alter(good, func(t *Target) { t.Path = "index" }), `path "index": expected a leading /`},
		{"path that adds a header", alter(good, func(t *Target) { t.Path = "/ HTTP/1.1\r\nX: y" }), "expected visible ASCII"},
		{"path with umlaut", alter(good, func(t *Target) { t.Path = "/ä" }), "expected visible ASCII"},
		{"host that adds a header", alter(good, func(t *Target) { t.Host = "a\r\nX: y" }), "expected a name or an address"},
		{"no status", alter(good, func(t *Target) { t.Status = StatusSet{} }), "no status is expected"},
		{"script that climbs", execTarget("../sh"), "no path"},
		{"hidden script", execTarget(".x"), "no path"},
		{"no script", execTarget(""), "no path"},
		{"gateway over IPv6", gatewayTarget(ICMP, "fe80::1", "eth0"), "expected one IPv4 address"},
		{"gateway with port", alter(gatewayTarget(ICMP, "10.0.0.1", ""), func(t *Target) {
			t.Address = netip.MustParseAddrPort("10.0.0.1:7")
		}), "port 0"},
		{"arp nowhere", gatewayTarget(ARP, "10.0.0.1", ""), "arp needs the interface"},
		{"all terms wrong at once", alter(good, func(t *Target) {
			t.Timeout, t.Interval, t.RetryDelay, t.Retries, t.Rise, t.Fall = 0, time.Millisecond, -1, -1, 0, 0
		}), "GET http://10.0.0.1:80/: timeout 0s: expected at least 10ms\n" +
			"interval 1ms: expected at least 10ms\nretry delay -1ns: expected at least 0s\n" +
			"retries -1: expected at least 0\nrise 0: expected at least 1\nfall 0: expected at least 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.target.Validate()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestTargetString(t *testing.T) {
	named := httpTarget("10.0.0.1:80")
	named.Host = "www"
	for want, target := range map[string]Target{
		"tcp 10.0.0.1:80":                     tcpTarget("10.0.0.1:80"),
		"GET http://10.0.0.1:80/":             httpTarget("10.0.0.1:80"),
		"GET http://10.0.0.1:80/ (Host: www)": named,
		"GET http://[::1]:8080/":              httpTarget("[::1]:8080"),
		`exec "disk"`:                         execTarget("disk"),
		"arp 10.0.0.254 on eth0":              gatewayTarget(ARP, "10.0.0.254", "eth0"),
		"icmp 10.0.0.254":                     gatewayTarget(ICMP, "10.0.0.254", ""),
	} {
		if got := target.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What Validate lets through must come out of a server's parser as one request
// for that path and host, with nothing behind it.
func FuzzRequest(f *testing.F) {
	f.Add("/", "")
	f.Add("/a?b=%20c&d", "www.example.org:8080")
	f.Add("/ HTTP/1.1\r\nX: y", "a\r\nX: y")
	f.Add("//x", "[::1]:80")
	f.Fuzz(func(t *testing.T, path, host string) {
		target := httpTarget("10.0.0.1:8080")
		target.Path, target.Host = path, host
		if target.Validate() != nil {
			t.Skip()
		}
		reader := bufio.NewReader(bytes.NewReader(request(target)))
		got, err := http.ReadRequest(reader)
		if err != nil {
			t.Skip() // a malformed %-escape is the server's to refuse
		}
		if host == "" {
			host = "10.0.0.1:8080"
		}
		if got.RequestURI != path || got.Host != host || got.UserAgent() != userAgent || !got.Close {
			t.Errorf("path %q host %q read back as %q %q %v", path, host, got.RequestURI, got.Host, got.Header)
		}
		if rest, _ := io.ReadAll(reader); len(rest) > 0 {
			t.Errorf("%q left behind the request", rest)
		}
	})
}

func TestDefaultHost(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.1:80":       "10.0.0.1",
		"10.0.0.1:8080":     "10.0.0.1:8080",
		"[::1]:80":          "[::1]",
		"[fe80::1%eth0]:81": "[fe80::1]:81",
		"[fe80::1%eth0]:80": "[fe80::1]",
	} {
		if got := defaultHost(netip.MustParseAddrPort(address)); got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
}
