// Package fence owns the virtual IPs (VIPs) that are bound on this host: it
// binds them with a lifetime that the kernel itself enforces, announces them,
// removes them and verifies that they are gone. It knows nothing of elections,
// ZooKeeper or services: whoever uses it says which group may answer until
// which deadline D on CLOCK_BOOTTIME.
//
// # Guaranteed
//
//   - An address is bound only while the lease lasts: the clock is read
//     immediately before each kernel act and again after it. An act that ended
//     too late is undone before Bind or Extend returns.
//   - Every bound address is a /32 that carries a lifetime: when all processes
//     are dead the kernel removes it at most Lateness after D.
//   - Fence returns nil only after a dump of the kernel's own table showed none
//     of the holding's addresses on any interface but lo, and it is final for
//     its lock name: later calls for that lock are refused with ErrFenced.
//   - Nothing is announced after a fence has begun, nor once the lease is over.
//   - What was bound is written to a state file before it is bound, so that the
//     next life of the process finds and removes what this one left.
//
// # Not guaranteed
//
//   - A process that is frozen between its reading of the clock and the system
//     call binds late; it undoes that when it wakes, and not before. If it is
//     killed instead, the address lives for the lifetime that it was given.
//   - The kernel counts lifetimes in jiffies, which stand still while the
//     machine is suspended, and removes expired addresses from a deferrable
//     timer: Lateness is what was measured plus a margin, not a kernel promise.
//   - Addresses on lo are never touched: a VIP is hidden there on a real server.
//     Whether lo's copy is kept from answering ARP is not checked here.
//   - The host answers ARP for a bound VIP on all of its interfaces, as Linux
//     does (weak host model).
//
// IPv4 only.
package fence
