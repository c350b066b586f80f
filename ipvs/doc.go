// Package ipvs is the kernel's IPVS table: a model of virtual services and
// their destinations, a pure diff between two such tables, and the way to
// read, change and repair the one in the kernel.
//
// The model is all that the kernel can do: TCP, UDP, SCTP and firewall marks;
// IPv4, IPv6 and tunnels from one to the other; every scheduler with its flags;
// persistence with prefix and engine; one-packet scheduling; thresholds; the
// encapsulations of tunnels. Beside it there are counters, timeouts, sync
// daemons and the connection table.
//
// Guaranteed:
//
//   - Diff is pure, its plan is minimal (one step for each thing that differs,
//     none for what is already right) and can be printed in ipvsadm's syntax.
//   - A service that is neither desired nor owned is never touched.
//   - A destination whose weight or forwarding method changes is edited, never
//     removed and added again: its connections live on.
//   - Apply says which steps the kernel carried out. Nothing is hidden: a
//     step that failed is in the error, one that another program made
//     needless is in the result.
//   - Validate refuses what the kernel would take and do something else.
//   - Owned is on disk before a service is in the kernel, so a daemon killed
//     at any point finds its leftovers in its next life.
//   - A change of one destination costs one write and one read of its service,
//     however many there are.
//
// Not guaranteed:
//
//   - Steps are separate acts: the kernel has no transaction, and a batch is
//     none. A new service stands without destinations for a moment, so tables
//     are set before the address is bound.
//   - The kernel's dump is not a snapshot. A change made by another program
//     during a read may be seen half; the next Reconcile sees the rest.
//   - Drift that /proc/net/ip_vs does not show (thresholds, tunnels, flags of
//     schedulers, engines) is found a minute later, or more with many services.
//   - What was removed and is added again within two minutes costs the kernel
//     a look at everything that was removed: with 10,000 services, seconds.
//
// The package knows nothing of roles, leases or health.
package ipvs
