package spec

import (
	"strings"
	"time"
)

// Service is the document spec/services/<service>: one virtual service with its
// checks and real servers. It is as many services of the kernel's as it has
// ports and marks to listen on.
type Service struct {
	Group     string   // that holds the VIPs
	Listen    []Listen // at least one
	Scheduler string   // one of Schedulers
	// SchedulerFlags are ipvsadm's words, in the order of schedulerFlags; never
	// nil for what they are by default.
	SchedulerFlags []string
	OnePacket      bool // UDP: each packet is scheduled by itself
	Forward        Forward
	Tunnel         *Tunnel       // of the real servers with Tun; nil: IP in IP
	Persistence    time.Duration // whole seconds; 0: off
	// PersistencePrefix is how many bits of an address are one client; 0: all.
	PersistencePrefix int
	PersistenceEngine string // "sip" or ""
	Stateful          bool   // the user's hint: a client must come back to the same real server
	OnFailure         OnFailure
	Check             *Check // nil: real servers always count as healthy
	RealServers       []RealServer
}

// OnFailure says what happens to a real server whose check fails.
type OnFailure string

// What happens to a real server whose check fails.
const (
	Remove     OnFailure = "remove"      // it leaves the table; its connections are cut
	WeightZero OnFailure = "weight_zero" // it gets no new connections
)

// Schedulers are those of the kernel (net/netfilter/ipvs/ip_vs_*.c).
func Schedulers() []string {
	return []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"}
}

// maxPersistence is ipvsadm's limit, 31 days.
const maxPersistence = 31 * 24 * time.Hour

func (s *Service) schema() schema {
	flagsWritten := false
	return schema{
		what: "a mapping of the service's settings, such as {group: web, listen: 192.168.150.100:80/tcp}",
		fields: []field{
			{name: "group", codec: name(&s.Group), need: required, meaning: "the group that has the VIP"},
			{name: "listen", codec: listens(&s.Listen), need: required, meaning: listenMeaning, more: listenMore},
			{name: "scheduler", codec: choice(&s.Scheduler, "scheduler", Schedulers()...), need: always, meaning: "how connections are spread: " + strings.Join(Schedulers(), ", ")},
			{name: "scheduler_flags", codec: s.flags(&flagsWritten), shown: "the fallback of sh and mh", meaning: flagsMeaning},
			{name: "one_packet", codec: boolean(&s.OnePacket), meaning: "UDP with dr or tun: each packet is scheduled by itself, without a connection"},
			{name: "forward", codec: choice(&s.Forward, "forwarding method", forwards()...), need: always, meaning: "how packets reach the real servers: dr, tun or nat", more: " (whose answers come back through the director: the real servers' default route is a VIP on their side)"},
			{name: "tunnel", codec: maybe(&s.Tunnel, DefaultTunnel, (*Tunnel).schema), meaning: "the encapsulation of tun"},
			{name: "persistence", codec: seconds(&s.Persistence, 0, maxPersistence), meaning: "how long a client stays with its real server; 0s is off. Each port of a list or a range has its own memory; to share one, listen on port 0 or on a mark"},
			{name: "persistence_prefix", codec: integer(&s.PersistencePrefix, 1, 128), shown: "the whole address", meaning: "with persistence: how many bits of an address make one client, 1 to 32, for IPv6 to 128"},
			{name: "persistence_engine", codec: unset(&s.PersistenceEngine, choice(&s.PersistenceEngine, "engine", "sip")), meaning: "with persistence and UDP: sip tells the calls of one client apart by their Call-ID, and keeps each with its real server"},
			{name: "stateful", codec: boolean(&s.Stateful), meaning: "says that a client must come back to the same real server; `apply` then warns if nothing sees to it"},
			{name: "on_failure", codec: choice(&s.OnFailure, "word for on_failure", Remove, WeightZero), meaning: "what happens to a real server whose check fails: remove or weight_zero"},
			{name: "check", codec: maybe(&s.Check, DefaultCheck, (*Check).schema), meaning: "how real servers are checked; without it they always count as healthy"},
			{name: "real_servers", codec: listOf(&s.RealServers, "real servers, each {address: IP:port, weight: 1}", false, DefaultRealServer, realServer), meaning: "the backends, [{address: IP:port, weight: 1}, ...]"},
		},
		rule: func(v value) { s.rule(v, flagsWritten) },
	}
}

// seconds is a duration of whole seconds, all that the kernel stores.
func seconds(dst *time.Duration, lo, hi time.Duration) codec {
	c := duration(dst, lo, hi)
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
