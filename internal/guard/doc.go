// Package guard is the small process beside a director that alone binds its
// VIPs and opens their gate. It does so at the director's word and only until
// the deadline that comes with it. When the director dies or falls silent, the
// guard makes this host stop answering, verified, and then settles the
// director's locks in ZooKeeper with a session that is already open: others
// take over in milliseconds, without waiting for a timeout.
//
// Guaranteed: a fence is final for its lock. A receipt is written only after
// the addresses were verified gone. A grant that was meant for an earlier guard
// is refused. When both processes are dead or frozen, the kernel's gate and the
// address lifetimes end at the deadline (see fence), and SIGKILL timers end both
// processes before they could wake up and act.
//
// Not guaranteed: a receipt. If ZooKeeper cannot be reached, or the guard dies
// as well, others wait out the lease.
//
// Core is the decision; Process the guard itself; Supervisor the director's
// side, which starts guards, talks to them, and fences when one dies.
package guard
