package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

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
