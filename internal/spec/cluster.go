package spec

import "time"

// Cluster is the document spec/cluster: what holds for every director.
type Cluster struct {
	Lease             time.Duration // L: how long a holder may answer after a renewal was sent
	Renew             time.Duration // between renewals; 0: see Renewal
	Drift             float64       // by how much the rates of two hosts' clocks may differ, 0.1 = 10%
	GARPRefresh       time.Duration // between gratuitous ARP announcements of a held VIP
	OnZooKeeperLoss   LossPolicy
	IPVSCheckInterval time.Duration // between looks at the kernel's IPVS table for drift
	IPVS              IPVS
}

// LossPolicy says what a holder does when ZooKeeper is away for longer than
// the lease.
type LossPolicy string

// The policies.
const (
	Automatic LossPolicy = ""      // hold where that is possible: Hold says what it needs
	Hold      LossPolicy = "hold"  // go on while every director that might acquire promises not to; needs the cluster's key, and two directors
	Fence     LossPolicy = "fence" // give the VIPs up
)

func (c *Cluster) schema() schema {
	return schema{
		what: "a mapping of the cluster's settings, such as {lease: 3s}",
		fields: []field{
			{name: "lease", codec: duration(&c.Lease, MinLease, MaxLease), meaning: "how long a holder answers without a renewal; fail-over of a lost host takes a little longer"},
			{name: "renew", codec: duration(&c.Renew, 10*time.Millisecond, MaxLease/3), shown: "lease/6, at most 500ms", meaning: "interval of renewals, below a third of the lease"},
			{name: "drift", codec: number(&c.Drift, 0, 0.5), meaning: "by how much the rates of two directors' clocks may differ (0.1 is 10%)"},
			{name: "garp_refresh", codec: duration(&c.GARPRefresh, time.Second, time.Hour), meaning: "interval of gratuitous ARP for held VIPs"},
			{name: "on_zookeeper_loss", codec: unset(&c.OnZooKeeperLoss, choice(&c.OnZooKeeperLoss, "policy", Hold, Fence)), shown: "hold if there are a key and two directors", meaning: "what a holder does when ZooKeeper is away for longer than the lease: hold goes on for as long as every other director promises not to take, fence gives the VIPs up"},
			{name: "ipvs_check_interval", codec: duration(&c.IPVSCheckInterval, 100*time.Millisecond, time.Hour), meaning: "pause between comparisons of the kernel's IPVS table with what it should be"},
			{name: "ipvs", codec: sub(c.IPVS.schema, func() schema { i := DefaultCluster().IPVS; return i.schema() }), meaning: "the kernel's IPVS on every director; what was there before is put back at the end"},
		},
		rule: c.rule,
	}
}

func (c *Cluster) rule(v value) {
	if c.Renew > 0 && 3*c.Renew >= c.Lease {
		v.failAt(v.lineOf("renew", -1), "renew %s is not below a third of the lease of %s; expected less than %s, or no renew at all",
			FormatDuration(c.Renew), FormatDuration(c.Lease), FormatDuration((c.Lease / 3).Truncate(time.Millisecond)))
	}
}
