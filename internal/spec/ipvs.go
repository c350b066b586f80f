package spec

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// IPVS is what holds for the kernel's IPVS on every director, beside services.
type IPVS struct {
	Timeouts Timeouts
	// Sysctls are names below net.ipv4.vs. with their values; Keep leaves a
	// host's own. See AllSysctls.
	Sysctls map[string]string
	Sync    Sync
}

// Timeouts are of connections without traffic, whole seconds; 0 leaves the
// kernel's.
type Timeouts struct{ TCP, TCPFin, UDP time.Duration }

// Sync is how the directors tell each other of connections, so that these live
// through a fail-over.
type Sync struct {
	Enabled   bool
	ID        int        // 0 to 255; a director hears its own ID only, with 0 all
	Interface string     // "" for the director's own
	MaxLen    int        // bytes of a message; 0: the kernel's default, by the MTU
	Group     netip.Addr // multicast
	Port      int        // UDP
	TTL       int
	Settle    time.Duration // how long a returning director listens before it may preempt
}

func (i *IPVS) schema() schema {
	return schema{
		what: "a mapping such as {timeouts: {tcp: 900s}}",
		fields: []field{
			{name: "timeouts", codec: sub(i.Timeouts.schema, func() schema { return new(Timeouts).schema() }), meaning: "of connections without traffic; absent: the kernel's"},
			{name: "sysctls", codec: sysctls(&i.Sysctls), shown: recommended(), meaning: "net.ipv4.vs.* by their names without that prefix (kernel: Documentation/networking/ipvs-sysctl.rst), beside the defaults; the word keep leaves a host's own value"},
			{name: "sync", codec: sub(i.Sync.schema, func() schema { s := DefaultSync(); return s.schema() }), meaning: "connection synchronization: both daemons on every director"},
		},
		rule: i.rule,
	}
}

func (t *Timeouts) schema() schema {
	const lo, hi = time.Second, 24 * 24 * time.Hour // ip_vs_ctl.c, ip_vs_set_timeout: INT_MAX / HZ
	one := func(name string, dst *time.Duration, what string) field {
		return field{name: name, codec: unset(dst, seconds(dst, lo, hi)), shown: "the kernel's", meaning: what}
	}
	return schema{
		what: "a mapping such as {tcp: 900s, tcp_fin: 120s, udp: 300s}",
		fields: []field{
			one("tcp", &t.TCP, "of an established TCP connection, whole seconds (ipvsadm --set; 900s unless changed)"),
			one("tcp_fin", &t.TCPFin, "after a FIN (120s unless changed)"),
			one("udp", &t.UDP, "of UDP (300s unless changed)"),
		},
	}
}

func (s *Sync) schema() schema {
	return schema{
		what: "a mapping such as {enabled: true, id: 1}",
		fields: []field{
			{name: "enabled", codec: boolean(&s.Enabled), meaning: "connections are told to the other directors, so that they live through a fail-over"},
			{name: "id", codec: integer(&s.ID, 0, 255), meaning: "of this cluster's messages: another one for each cluster on a link; with 0 everybody's are taken"},
			{name: "interface", codec: text(&s.Interface, "an interface", CheckInterface), shown: "the director's", meaning: "interface of the messages"},
			{name: "maxlen", codec: integer(&s.MaxLen, 0, 65507), meaning: "bytes of a message: a small one is sent sooner; 0 is what the interface takes"},
			{name: "group", codec: multicast(&s.Group), meaning: "multicast address of the messages"},
			{name: "port", codec: integer(&s.Port, 1, 65535), meaning: "their UDP port"},
			{name: "ttl", codec: integer(&s.TTL, 1, 255), meaning: "their time to live, in hops"},
			{name: "settle", codec: duration(&s.Settle, 0, time.Hour), meaning: "how long, at least, a director that came back has listened before it may preempt; above sync_refresh_period, within which it hears of each connection"},
		},
	}
}

// multicast accepts an IPv4 or IPv6 multicast address.
func multicast(dst *netip.Addr) codec {
	const expected = "a multicast address, such as 224.0.0.81 or ff02::81"
	return scalarOf(dst, expected, func(s scalar) (netip.Addr, error) {
		a, err := netip.ParseAddr(s.text)
		switch {
		case err != nil:
			return a, fmt.Errorf("%q is no address; expected %s", printable(s.text), expected)
		case a.Zone() != "":
			return a, fmt.Errorf("%s has a zone; expected the interface under interface", printable(a.String()))
		case !a.IsMulticast() || a.Is4In6():
			return a, fmt.Errorf("%s is no multicast address; expected %s", a, expected)
		}
		return a, nil
	}, func(a netip.Addr) string { return addressText(a, a) })
}

// rule knows the traps between settings.
func (i *IPVS) rule(v value) {
	all := i.AllSysctls()
	if i.Sync.Enabled && all["backup_only"] == "1" {
		v.inside("sysctls", "backup_only").failf("with synchronization both daemons run on every director, and with backup_only the kernel then takes no connection at all; expected 0, or sync: {enabled: false}")
	}
	threshold, set := all["sync_threshold"]
	if !i.Sync.Enabled || !set {
		return
	}
	at := v.inside("sysctls", "sync_threshold")
	count, period, _ := strings.Cut(threshold, " ")
	n, _ := strconv.Atoi(count)
	switch {
	case period != "0" && n < 2:
		at.failf("sync_threshold %q tells of a connection with its packet %s at the earliest: the first packet opens no connection yet, so young ones are lost in a fail-over; expected \"0 0\" with sync_refresh_period, or 2 or more before the space", threshold, later(n, period))
	case period == "0" && n < 2 && (all["sync_refresh_period"] == "" || all["sync_refresh_period"] == "0"):
		at.failf("sync_threshold %q tells of no connection at all unless sync_refresh_period is above 0; expected sync_refresh_period: 10, as by default", threshold)
	}
}

// later is the first packet after the first that is told with a threshold of n
// and a period.
func later(n int, period string) string {
	p, _ := strconv.Atoi(period)
	return strconv.Itoa(p + n)
}

// AllSysctls are the names below net.ipv4.vs. that are to be set, with their
// values: the recommended ones and Sysctls over them. What Sysctls keeps is not
// among them.
func (i IPVS) AllSysctls() map[string]string {
	all := recommendedSysctls()
	maps.Copy(all, i.Sysctls)
	maps.DeleteFunc(all, func(_, value string) bool { return value == Keep })
	return all
}

// recommended shows the defaults of sysctls.
func recommended() string {
	all := recommendedSysctls()
	var words []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		words = append(words, name+": "+sysctlText(all[name]))
	}
	return "{" + strings.Join(words, ", ") + "}"
}
