// Package nft is the gate for kernels that refuse eBPF: an nftables table
// "zklvs" of family netdev, with a base chain at the ingress of every interface
// but lo, and at its egress where the kernel has that hook (Linux 5.16). It is
// the second implementation of fence.Gate; package gate says what is gated, in
// which direction, and why. Prefer package gate.
//
// A VIP is shut while it is an element of the set of gated addresses and not of
// the set of open ones. Elements of the latter carry a timeout: when no process
// lives any more, they go, and the address is shut.
//
// # Guaranteed
//
//   - An address is shut from Add on, on every interface that Ensure covered,
//     until Set, and again not later than its deadline D, whatever happens to the
//     process, within the limits of "The deadline" below.
//   - Set replaces the element in one transaction: an address that is held does not
//     shut meanwhile. (Up to Linux 6.16 a packet that meets the commit on another
//     processor may find neither element, and is lost.)
//   - New replaces the table of an earlier life in one transaction; what that one
//     gated is gated, shut.
//   - Tables of others are not touched.
//
// # The deadline
//
// The kernel takes a timeout relative to the moment when it carries out the
// transaction, and counts it in ticks (jiffies). Three things follow.
//
//   - A process that is frozen between reading the clock and the kernel's act would
//     open an address for too long. So the timeout is Early shorter than D asks
//     for; a Set that took longer than half of Early is repeated with a fresh
//     clock; and where Config.Window is set (a deadman.Timer of its own), a process
//     that is frozen for longer than that in between is killed before it can go
//     on. Without Window, D is overrun by the length of such a freeze, less Early.
//   - An address is shut about Early before D, which is when a guard gives up
//     anyway. The other half of Early is for the ticks: measured on Linux 6.18
//     (HZ=250, two busy processors), the newest answered request was sent 8 ms
//     before to 15 ms after D minus Early, median 6 to 11 ms after, whatever the
//     timeout (0.3 s or 3 s; 12 and 6 runs). Ticks that a hypervisor holds back
//     for longer than half of Early are not covered.
//   - Ticks stand still while the machine is suspended, D does not: after a resume
//     an address may be open for what was left of its timeout, until a process runs
//     and shuts it. The eBPF gate has no such gap.
//
// # Not guaranteed, besides what package gate names
//
//   - Without the egress hook (Status says so) this host hears no request for a shut
//     VIP and no packet to it, but what it sends unasked still leaves:
//     announcements, neighbor advertisements, packets from the VIP of connections
//     that were open.
//   - Forwarded packets to a VIP are stopped where they come in only.
//   - "nft flush ruleset", which reloading a firewall's configuration may run,
//     removes the table. Run puts it back some milliseconds later; with no process
//     alive nobody does.
//   - A tag of a VLAN is seen through where the kernel has parsed it (the outermost
//     one) and one more in band, which a program that sends raw frames may evade on
//     egress; ND behind two tags is recognized without extension headers only. ARP
//     is that of Ethernet and InfiniBand hardware addresses.
//   - What runs before the hook is not stopped: XDP, TC programs on ingress that
//     redirect, base chains of others at the same first priority.
//   - Set is two system calls that wait for other users' transactions of nftables.
//     Measured: 0.14 ms on Linux 6.18, where gate.Gate.Set is a store to memory.
//
// It needs CAP_NET_ADMIN, Linux 4.2 and CONFIG_NF_TABLES_NETDEV.
package nft
