// Package fence owns the virtual IPs (VIPs), IPv4 and IPv6, that are bound on
// this host: it binds them with a lifetime that the kernel itself enforces,
// behind a kernel gate where there is one, announces them, removes them and
// verifies that they are gone. It knows nothing of elections, ZooKeeper or
// services: whoever uses it says which group may answer until which deadline D
// on CLOCK_BOOTTIME.
//
// # Guaranteed
//
//   - An address is bound only while the lease lasts: the clock is read
//     immediately before each kernel act and again after it. An act that ended
//     too late is undone before Bind or Extend returns.
//   - Every bound address is a /32 or /128 that carries a lifetime: when all
//     processes are dead the kernel removes it at most LatenessUngated after D.
//   - Fence returns nil only after a dump of the kernel's own table showed none
//     of the holding's addresses on any interface but lo, and it is final for
//     its lock name: later calls for that lock are refused with ErrFenced.
//   - Nothing is announced after a fence has begun, nor once the lease is over.
//   - What was bound is written to a state file before it is bound, so that the
//     next life of the process finds and removes what this one left.
//
// With a gate (Config.Gate) moreover:
//
//   - A VIP is gated on every interface but lo, shut, before it is bound. It is
//     opened when it is bound and verified, and the lease was looked at once
//     more; only then is it announced. It is shut before it is removed.
//   - Deadlines in the gate are absolute. A process that is frozen or killed at
//     whatever point answers at most LatenessGated after D; one that wakes up
//     later binds behind a shut gate.
//   - A fence shuts the gate at once, and does not wait for an act that hangs in
//     the kernel. From then on nothing is opened under its lock. Fence returns
//     nil only when the gate is shut, too.
//   - What Watch was told is shut on this host unless a group here holds it,
//     whoever binds it.
//
// # Not guaranteed
//
//   - Without a gate: a process that is frozen between its reading of the clock
//     and the system call binds late; it undoes that when it wakes, and not
//     before. If it is killed instead, the address lives for the lifetime that
//     it was given.
//   - The kernel counts lifetimes in jiffies, which stand still while the
//     machine is suspended, and removes expired addresses from a deferrable
//     timer: LatenessUngated is what was measured plus a margin, not a kernel
//     promise.
//   - What the gate in use does not guarantee, see there. Interfaces that appear
//     while a VIP is held are the gate's matter; an interface that cannot be
//     gated makes the next Bind fail, not the holding that is there.
//   - Addresses on lo are never touched: a VIP is hidden there on a real server.
//     Whether lo's copy is kept from answering ARP is not checked here.
//   - The host answers ARP for a bound VIP on all of its interfaces, as Linux
//     does (weak host model). Neighbor solicitations are answered on the interface
//     of an IPv6 VIP only; packets for it are accepted on all.
//   - IPv6 addresses vanish when their interface is set down; Extend puts them
//     back.
//   - Duplicate address detection is off for VIPs: it would find the last holder.
package fence
