// Package nemesis breaks a running cluster in many ways, alone and in pairs, and
// lets observers outside its processes judge it: three directors, three ZooKeeper
// servers, two groups, a client that asks through both VIPs at a steady rate.
//
// The observers: for each VIP a prober that asks by ARP every 5 ms and notes which
// hardware address answers, and three that send a packet for it straight to each
// director every 25 ms and note whether it is accepted; the notices of the directors'
// kernels of addresses bound and removed; what the client's kernel believes of its
// neighbors; the client's requests; and a capture of the LAN. See internal/lab.
//
// Two things are judged. Safety: never two hosts answer for a VIP at one instant
// (Judge). Availability: after a fault is healed the client is served again within
// W + 2 s; counted from the quorum where ZooKeeper was struck, and with W of the
// longest lease where a record was deleted (Bound).
//
// The faults are drawn from one seed (Draw), and the draw of each depends on seed
// and number alone, so that one can be played again without the others. What is
// drawn is replayed, not the instants: real processes on a real kernel are not
// scheduled twice in the same way.
//
// Not seen: an overlap shorter than the interval of the probes; what would take a
// second kernel (all hosts share one, and its clocks).
package nemesis
