package demo

import (
	"fmt"
	"strings"
	"time"
)

// GroupSettings are the parts of a group's document that the exercise varies.
type GroupSettings struct {
	Name, VIP, Label string
	Preferred        string // director with priority 150; the other has 100
	Preempt          bool
	Gateway          string // address that must answer ARP, "" for no such check
}

// Web is the notes' group: VIP 192.168.150.100 with label eth0:2.
func Web() GroupSettings {
	return GroupSettings{Name: "web", VIP: "192.168.150.100", Label: "eth0:2", Preferred: First}
}

// Documents writes groups, each with one HTTP service: DR, rr, the notes' check.
func Documents(clusterSection string, groups ...GroupSettings) string {
	var b strings.Builder
	if clusterSection != "" {
		fmt.Fprintf(&b, "cluster: {%s}\n", clusterSection)
	}
	b.WriteString("groups:\n")
	for _, g := range groups {
		other := First
		if g.Preferred == First {
			other = Second
		}
		fmt.Fprintf(&b, "  %s:\n    vips: [%s]\n    label: %q\n    priority: {%s: 150, %s: 100}\n", g.Name, g.VIP, g.Label, g.Preferred, other)
		if g.Preempt {
			b.WriteString("    preempt: true\n")
		}
		if g.Gateway != "" {
			fmt.Fprintf(&b, "    fitness: {gateway: {address: %s}, backoff: 1s}\n", g.Gateway)
		}
	}
	b.WriteString("services:\n")
	for _, g := range groups {
		b.WriteString(HTTPService(g.Name, g.VIP, time.Second))
	}
	return b.String()
}

// HTTPService writes the document of a group's HTTP service on both real servers,
// which are checked once in an interval: one entry below `services:`.
func HTTPService(group, vip string, interval time.Duration) string {
	return fmt.Sprintf(`  %s-http:
    group: %s
    listen: %s:80/tcp
    scheduler: rr
    forward: dr
    persistence: 0s
    check: {http: {path: /, status: [200]}, interval: %v, timeout: 1s, retries: 1, retry_delay: 500ms}
    real_servers:
      - {address: 192.168.150.12:80, weight: 1}
      - {address: 192.168.150.13:80, weight: 1}
`, group, group, vip, interval)
}
