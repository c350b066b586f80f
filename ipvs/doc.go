// Package ipvs is the kernel's IPVS table: a model of virtual services and
// their destinations, a pure diff between two such tables, and the way to
// read, change and repair the one in the kernel.
//
// Guaranteed:
//
//   - Diff is pure, its plan is minimal (one step for each thing that differs,
//     none for what is already right) and can be printed in ipvsadm's syntax.
//   - A service that is neither desired nor owned is never touched. Firewall
//     marks and protocols other than TCP and UDP are not even read.
//   - A destination whose weight or forwarding method changes is edited, never
//     removed and added again: its connections live on.
//   - Apply says which steps the kernel acknowledged. Nothing is hidden: a
//     step that failed is in the error, one that another program made
//     needless is in the result.
//   - Owned is on disk before a service is in the kernel, so a daemon killed
//     at any point finds its leftovers in its next life.
//
// Not guaranteed:
//
//   - Steps are separate system calls: the kernel has no transaction. A new
//     service stands without destinations for a moment, so tables are set
//     before the address is bound.
//   - The kernel's dump is not a snapshot. A change made by another program
//     during a read may be seen half; the next Reconcile sees the rest.
//   - A destination is of its service's family, IPv4 or IPv6. One of the other
//     family that somebody put into a service by hand (a tunnel may have one)
//     is read, but cannot be changed or removed by itself: a plan that has to
//     fails in that step and says so.
//   - The type of a tunnel (ipip, gue, gre) and the persistence engine cannot
//     be read through the netlink library used here: a change of those by
//     hand stays unseen until the entry is edited for another reason.
//
// The package knows nothing of roles, leases or health.
package ipvs
