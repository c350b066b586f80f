// Package genl speaks generic netlink (linux/genetlink.h) to one family of the
// kernel, with as few system calls as the kernel allows: many changes go in one
// datagram, of which only the last asks for an acknowledgement.
//
// Guaranteed:
//
//   - An error belongs to the message that caused it: they are matched by
//     sequence number, and a failure in the middle of a batch does not stop the
//     messages after it (af_netlink.c, netlink_rcv_skb).
//   - Messages without an error were carried out when Send returns nil: the
//     kernel handles the messages of a datagram in their order, and the last
//     one is acknowledged. If replies may be lost (ENOBUFS, a timeout), Send
//     says so.
//   - A dump is whole, or an error: one that the kernel marks as interrupted,
//     or whose replies were lost, is read again.
//   - No bytes from the socket make it panic or read out of bounds.
//
// Not guaranteed: a Conn is for one goroutine at a time. A dump is a snapshot
// only as far as its family's is. A handler in the kernel that fails with EINTR
// is never heard of, neither its error nor an acknowledgement (netlink_rcv_skb):
// put a harmless message after one that may. The package runs no modprobe, and
// it knows nothing of what the attributes mean.
package genl
