package health

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// Kind names a way of probing; a [Prober] is registered for each.
type Kind string

// The kinds that have a prober in this package.
const (
	TCP  Kind = "tcp"  // a connection can be made
	HTTP Kind = "http" // GET is answered with an expected status
	Exec Kind = "exec" // a local script exits with 0
	ICMP Kind = "icmp" // an echo request is answered
	ARP  Kind = "arp"  // an ARP request on Interface is answered
)

// Target is one thing to probe and the terms on which it is probed. It is
// comparable: equal targets are one target.
type Target struct {
	Kind Kind

	// Address is what tcp and http connect to; icmp and arp use only its
	// address and want port 0.
	Address netip.AddrPort

	Path   string    // http: request target, such as "/" or "/health?full=1"
	Host   string    // http: Host header; "" for the address
	Status StatusSet // http: what is accepted

	Script string // exec: name of an entry of the prober's directory

	// Interface is where arp asks (required) and icmp is bound to ("" for
	// what the routes say).
	Interface string

	Timeout  time.Duration // for one whole probe
	Interval time.Duration // from the start of one check to that of the next

	// Retries is how often a failed probe of a target that is up is tried
	// again, RetryDelay after it ended, before it counts as one failure
	// (keepalived's retry, or nb_get_retry, and delay_before_retry).
	Retries    int
	RetryDelay time.Duration

	Rise int // successes in a row that turn down into up
	Fall int // failures in a row that turn up into down
}

// Shortest interval and timeout that are accepted: below that a probe measures
// this host's scheduler and not the target.
const minPeriod = 10 * time.Millisecond

// Validate reports everything that is wrong with the target, joined.
func (t Target) Validate() error {
	errs := []error{t.validateKind()}
	for _, d := range []struct {
		name string
		is   time.Duration
		min  time.Duration
	}{{"timeout", t.Timeout, minPeriod}, {"interval", t.Interval, minPeriod}, {"retry delay", t.RetryDelay, 0}} {
		if d.is < d.min {
			errs = append(errs, fmt.Errorf("%s %s: expected at least %s", d.name, d.is, d.min))
		}
	}
	for _, n := range []struct {
		name    string
		is, min int
	}{{"retries", t.Retries, 0}, {"rise", t.Rise, 1}, {"fall", t.Fall, 1}} {
		if n.is < n.min {
			errs = append(errs, fmt.Errorf("%s %d: expected at least %d", n.name, n.is, n.min))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}
	return nil
}

// validateKind checks the fields that only some kinds use. A kind that this
// package does not know is left to its prober.
func (t Target) validateKind() error {
	switch t.Kind {
	case TCP:
		return t.validateAddress()
	case HTTP:
		return errors.Join(t.validateAddress(), validatePath(t.Path), validateHost(t.Host), t.Status.validate())
	case Exec:
		return validateScript(t.Script)
	case ICMP, ARP:
		return t.validateGateway()
	case "":
		return errors.New("no kind")
	}
	return nil
}

func (t Target) validateAddress() error {
	if !t.Address.IsValid() || t.Address.Addr().IsUnspecified() || t.Address.Port() == 0 {
		return fmt.Errorf("address %s: expected an address and a port", t.Address)
	}
	return nil
}

func (t Target) validateGateway() error {
	addr := t.Address.Addr()
	if !addr.Is4() || addr.IsUnspecified() || addr.IsMulticast() || t.Address.Port() != 0 {
		return fmt.Errorf("gateway %s: expected one IPv4 address, port 0", t.Address)
	}
	if t.Kind == ARP && t.Interface == "" {
		return errors.New("arp needs the interface to ask on")
	}
	return nil
}

// validatePath allows what may stand in an origin-form request target (RFC
// 9112 section 3.2.1), loosely: visible ASCII, which excludes the space and
// line ends that would let a path smuggle in a second header.
func validatePath(path string) error {
	if path == "" || path[0] != '/' {
		return fmt.Errorf("path %q: expected a leading /", path)
	}
	for i := range len(path) {
		if path[i] <= ' ' || path[i] >= 0x7f || path[i] == '#' {
			return fmt.Errorf("path %q: expected visible ASCII without spaces and #; write other bytes as %%XX", path)
		}
	}
	return nil
}

// validateHost allows names, addresses and a port: nothing that would end the
// header line.
func validateHost(host string) error {
	for i := range len(host) {
		if !isHostByte(host[i]) {
			return fmt.Errorf("host %q: expected a name or an address, with or without a port", host)
		}
	}
	return nil
}

func isHostByte(c byte) bool {
	return isNameByte(c) || c == ':' || c == '[' || c == ']'
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}

// validateScript allows only a plain file name, so that a name out of
// ZooKeeper cannot leave the directory.
func validateScript(name string) error {
	ok := name != "" && len(name) <= 128 && name[0] != '.' && name[0] != '-'
	for i := range len(name) {
		ok = ok && isNameByte(name[i])
	}
	if !ok {
		return fmt.Errorf("script %q: expected a file name of letters, digits, '.', '-' and '_', no path", name)
	}
	return nil
}

// String names what is asked, without the terms: "GET http://10.0.0.1:80/",
// "tcp 10.0.0.1:80", "arp 10.0.0.254 on eth0".
func (t Target) String() string {
	switch t.Kind {
	case HTTP:
		text := "GET http://" + t.Address.String() + t.Path
		if t.Host != "" {
			text += " (Host: " + t.Host + ")"
		}
		return text
	case Exec:
		return "exec " + strconv.QuoteToASCII(t.Script)
	case ICMP, ARP:
		text := string(t.Kind) + " " + t.Address.Addr().String()
		if t.Interface != "" {
			text += " on " + t.Interface
		}
		return text
	}
	return string(t.Kind) + " " + t.Address.String()
}

// question is the target without its terms: two targets with one question can
// share what is known of the answer.
func (t Target) question() Target {
	t.Timeout, t.Interval, t.RetryDelay = 0, 0, 0
	t.Retries, t.Rise, t.Fall = 0, 0, 0
	return t
}

// DetectionTime is the longest time from the moment a target that is up stops
// answering until its verdict is down, when probes are not held up by
// [MaxConcurrent].
func (t Target) DetectionTime() time.Duration {
	retried := time.Duration(t.Retries) * (t.RetryDelay + t.Timeout)
	return time.Duration(t.Fall) * (t.Interval + t.Timeout + retried)
}
