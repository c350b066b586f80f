package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Service is the document spec/services/<service>: one virtual service with its
// checks and real servers.
type Service struct {
	Group       string // that holds the VIP
	Listen      Listen
	Scheduler   string // one of Schedulers
	Forward     Forward
	Persistence time.Duration // whole seconds; 0: off
	Stateful    bool          // the user's hint: a client must come back to the same real server
	OnFailure   OnFailure
	Check       *Check // nil: real servers always count as healthy
	RealServers []RealServer
}

// Listen is the key of a virtual service.
type Listen struct {
	Address  netip.Addr
	Port     uint16
	Protocol Protocol
}

// String gives "192.168.150.100:80/tcp" or "[2001:db8::100]:80/tcp".
func (l Listen) String() string {
	return netip.AddrPortFrom(l.Address, l.Port).String() + "/" + string(l.Protocol)
}

// Protocol is tcp or udp.
type Protocol string

// The protocols of a virtual service.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Forward is the forwarding method, the same for all real servers of a service.
type Forward string

// The forwarding methods.
const (
	DR  Forward = "dr"  // direct routing, ipvsadm -g
	Tun Forward = "tun" // IP in IP, ipvsadm -i
	NAT Forward = "nat" // masquerading, ipvsadm -m
)

// OnFailure says what happens to a real server whose check fails.
type OnFailure string

// What happens to a real server whose check fails.
const (
	Remove     OnFailure = "remove"      // it leaves the table; its connections are cut
	WeightZero OnFailure = "weight_zero" // it gets no new connections
)

// RealServer is a backend.
type RealServer struct {
	Address netip.AddrPort
	Weight  int // 0 to 65535; 0: no new connections
}

// Schedulers are those of the kernel (net/netfilter/ipvs/ip_vs_*.c).
func Schedulers() []string {
	return []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"}
}

// maxPersistence is ipvsadm's limit, 31 days.
const maxPersistence = 31 * 24 * time.Hour

func (s *Service) schema() schema {
	return schema{
		what: "a mapping of the service's settings, such as {group: web, listen: 192.168.150.100:80/tcp}",
		fields: []field{
			{name: "group", codec: name(&s.Group), need: required, meaning: "the group that has the VIP"},
			{name: "listen", codec: listen(&s.Listen), need: required, meaning: "VIP:port/protocol, such as 192.168.150.100:80/tcp or \"[2001:db8::100]:80/tcp\""},
			{name: "scheduler", codec: choice(&s.Scheduler, "scheduler", Schedulers()...), need: always, meaning: "how connections are spread: " + strings.Join(Schedulers(), ", ")},
			{name: "forward", codec: choice(&s.Forward, "forwarding method", DR, Tun, NAT), need: always, meaning: "how packets reach the real servers: dr, tun or nat"},
			{name: "persistence", codec: seconds(&s.Persistence, maxPersistence), meaning: "how long a client stays with its real server; 0s is off"},
			{name: "stateful", codec: boolean(&s.Stateful), meaning: "says that a client must come back to the same real server; `apply` then warns if nothing sees to it"},
			{name: "on_failure", codec: choice(&s.OnFailure, "word for on_failure", Remove, WeightZero), meaning: "what happens to a real server whose check fails: remove or weight_zero"},
			{name: "check", codec: maybe(&s.Check, DefaultCheck, (*Check).schema), meaning: "how real servers are checked; without it they always count as healthy"},
			{name: "real_servers", codec: listOf(&s.RealServers, "real servers, each {address: IP:port, weight: 1}", false, DefaultRealServer, realServer), meaning: "the backends, [{address: IP:port, weight: 1}, ...]"},
		},
		rule: s.rule,
	}
}

// rule checks what needs more than one field; the zero value of a field means
// that it is missing or was at fault already.
func (s *Service) rule(v value) {
	seen := map[netip.AddrPort]int{}
	for i, rs := range s.RealServers {
		if !rs.Address.IsValid() {
			continue
		}
		line := v.lineOf("real_servers", i)
		if first, twice := seen[rs.Address]; twice {
			v.failAt(line, "real server %s is listed twice, first in line %d; expected it once", rs.Address, first)
			continue
		}
		seen[rs.Address] = line
		s.checkServer(v, line, rs)
	}
	s.advise(v)
}

// checkServer checks a real server against the address that the service
// listens on.
func (s *Service) checkServer(v value, line int, rs RealServer) {
	address, port := rs.Address.Addr(), rs.Address.Port()
	switch {
	case s.Listen.Address.IsValid() && address.Is4() != s.Listen.Address.Is4():
		listens := family(s.Listen.Address)
		v.failAt(line, "real server %s is %s but listen %s is %s; expected an %s real server", rs.Address, family(address), s.Listen, listens, listens)
	case s.Listen.Port != 0 && port != s.Listen.Port && s.Forward != NAT:
		v.failAt(line, "real server %s has port %d but listen has %d, and %s cannot change the port; expected port %d, or forward: nat",
			rs.Address, port, s.Listen.Port, s.Forward, s.Listen.Port)
	}
}

// advise warns of settings that are accepted but rarely meant.
func (s *Service) advise(v value) {
	hashes := s.Scheduler == "sh" || s.Scheduler == "mh"
	if s.Stateful && s.Persistence == 0 && !hashes {
		v.warnAt(v.lineOf("stateful", -1), "the service is stateful but persistence is off: the next connection of a client may reach another real server; set persistence (such as 300s), or scheduler sh or mh")
	}
	if !hashes {
		return
	}
	if s.OnFailure == WeightZero {
		v.warnAt(v.lineOf("on_failure", -1), "scheduler %s refuses the clients that it hashes to a real server of weight 0; set on_failure: remove", s.Scheduler)
	}
	for i, rs := range s.RealServers {
		if rs.Weight == 0 && rs.Address.IsValid() {
			v.warnAt(v.lineOf("real_servers", i), "scheduler %s refuses the clients that it hashes to real server %s of weight 0; remove it", s.Scheduler, rs.Address)
		}
	}
}

// listen is the codec of VIP:port/protocol.
func listen(dst *Listen) codec {
	return scalarOf(dst, "VIP:port/tcp or VIP:port/udp", func(s scalar) (Listen, error) { return parseListen(s.text) },
		func(l Listen) string { return addressText(l.Address, l) })
}

func parseListen(s string) (Listen, error) {
	address, protocol, found := strings.Cut(s, "/")
	ap, err := netip.ParseAddrPort(address)
	p := Protocol(protocol)
	switch {
	case err != nil || ap.Port() == 0:
		return Listen{}, fmt.Errorf("%q is no address to listen on; expected VIP:port/tcp or VIP:port/udp, such as 192.168.150.100:80/tcp or \"[2001:db8::100]:80/tcp\"", printable(s))
	case !found:
		return Listen{}, fmt.Errorf("%q has no protocol; expected %s/tcp or %s/udp", printable(s), printable(ap.String()), printable(ap.String()))
	case p != TCP && p != UDP:
		return Listen{}, fmt.Errorf("%q is no protocol; expected tcp or udp", printable(protocol))
	}
	return Listen{ap.Addr(), ap.Port(), p}, checkAddr(ap.Addr())
}

// seconds is a duration of whole seconds, all that the kernel stores.
func seconds(dst *time.Duration, hi time.Duration) codec {
	c := duration(dst, 0, hi)
	decode := c.decode
	c.decode = func(v value) {
		before := *dst
		decode(v)
		if *dst%time.Second != 0 {
			v.failf("%s is no whole number of seconds; expected one, such as %s", FormatDuration(*dst), FormatDuration(dst.Truncate(time.Second)+time.Second))
			*dst = before
		}
	}
	return c
}

func realServer(dst *RealServer) codec {
	return row(dst, DefaultRealServer, func(rs *RealServer) schema {
		return schema{
			what: "a mapping {address: IP:port, weight: 1}",
			fields: []field{
				{name: "address", codec: addrPort(&rs.Address), need: required, meaning: "IP:port"},
				{name: "weight", codec: integer(&rs.Weight, 0, 65535), need: always, meaning: "share of connections, 0 to 65535; 0 gets no new ones"},
			},
		}
	})
}

// Check says how real servers are checked: exactly one of TCP and HTTP, and
// when. A round is one probe and, if it fails, up to Retries more, RetryDelay
// apart; it fails if all of them do.
type Check struct {
	TCP               *TCPCheck
	HTTP              *HTTPCheck
	Port              int // 0: the real server's own
	Interval, Timeout time.Duration
	Retries           int
	RetryDelay        time.Duration
	Rise, Fall        int // rounds in a row
}

// TCPCheck connects.
type TCPCheck struct{}

// HTTPCheck sends a GET over HTTP/1.1.
type HTTPCheck struct {
	Path   string        // visible ASCII, begins with /
	Host   string        // the Host header; "" for the real server's address
	Status []StatusRange // that count as healthy
}

// StatusRange is one or more status codes, both ends included.
type StatusRange struct{ Low, High int }

// String gives "200" or "200-299".
func (r StatusRange) String() string {
	if r.Low == r.High {
		return strconv.Itoa(r.Low)
	}
	return fmt.Sprintf("%d-%d", r.Low, r.High)
}

// Accepts says whether status counts as healthy.
func (h HTTPCheck) Accepts(status int) bool {
	return slices.ContainsFunc(h.Status, func(r StatusRange) bool { return r.Low <= status && status <= r.High })
}

func (c *Check) schema() schema {
	tcp := maybe(&c.TCP, fresh, func(*TCPCheck) schema { return schema{what: "nothing in it, {}"} })
	tcp.emptyOK = true
	http := maybe(&c.HTTP, DefaultHTTPCheck, (*HTTPCheck).schema)
	http.emptyOK = true
	return schema{
		what: "a mapping such as {tcp: {}, interval: 5s}",
		fields: []field{
			{name: "tcp", codec: tcp, meaning: "connect; {} (one of tcp and http must be given)"},
			{name: "http", codec: http, meaning: "send a GET; {path: /, status: [200]}"},
			{name: "port", codec: integer(&c.Port, 1, 65535), shown: "the real server's", meaning: "port to check"},
			{name: "interval", codec: duration(&c.Interval, 100*time.Millisecond, time.Hour), meaning: "between the beginnings of two rounds"},
			{name: "timeout", codec: duration(&c.Timeout, 10*time.Millisecond, time.Minute), meaning: "of one probe"},
			{name: "retries", codec: integer(&c.Retries, 0, 100), meaning: "further probes before a round counts as failed"},
			{name: "retry_delay", codec: duration(&c.RetryDelay, 0, time.Hour), meaning: "between them"},
			{name: "rise", codec: integer(&c.Rise, 1, 100), meaning: "good rounds in a row that bring a real server back"},
			{name: "fall", codec: integer(&c.Fall, 1, 100), meaning: "failed rounds in a row that take it out"},
		},
		rule: func(v value) {
			if (c.TCP == nil) == (c.HTTP == nil) {
				v.failf("must say either tcp or http; expected one of them, such as tcp: {}")
			}
		},
	}
}

func (h *HTTPCheck) schema() schema {
	return schema{
		what: "a mapping such as {path: /, status: [200]}",
		fields: []field{
			{name: "path", codec: text(&h.Path, "a path", checkURLPath), meaning: "what to get, with its query if any"},
			{name: "host", codec: text(&h.Host, "a host", checkHost), shown: "the real server's address", meaning: "Host header"},
			{name: "status", codec: nonEmpty(listOf(&h.Status, "status codes, such as 200 or 200-299", true, fresh[StatusRange], status), "status code"), meaning: "status codes that count as healthy, [200, 301-302, ...]"},
		},
	}
}

// checkURLPath keeps blanks and line breaks out of the request line
// (RFC 9112 section 3).
func checkURLPath(p string) error {
	if !strings.HasPrefix(p, "/") || len(p) > 1024 || !visible(p) {
		return fmt.Errorf("%q is no path; expected one that begins with / and has no blanks, such as /health", printable(p))
	}
	return nil
}

func status(dst *StatusRange) codec {
	const expected = "a status code or a range of them, from 100 to 599, such as 200 or 200-299"
	return scalarOf(dst, expected, func(s scalar) (StatusRange, error) {
		low, high, found := strings.Cut(s.text, "-")
		if !found {
			high = low
		}
		l, err1 := parseInteger(scalar{text: low}, 100, 599, expected)
		h, err2 := parseInteger(scalar{text: high}, 100, 599, expected)
		if err1 != nil || err2 != nil || l > h {
			return StatusRange{}, fmt.Errorf("%q is no status; expected %s", printable(s.text), expected)
		}
		return StatusRange{l, h}, nil
	}, func(r StatusRange) string { return r.String() })
}
