// Package gate shuts the virtual IPs (VIPs) of this host in the kernel: a small
// eBPF program on clsact ingress and egress of every interface but lo lets what
// makes this host answer for a VIP pass only while CLOCK_BOOTTIME is before the
// deadline D of that VIP. It knows addresses and deadlines, nothing else.
//
// # What is gated
//
// A gated VIP whose D is not in the future does not answer:
//
//   - in: IP packets to the VIP; ARP requests for it; neighbor solicitations
//     for it
//   - out: IP packets from the VIP; ARP in its name (replies, announcements);
//     neighbor advertisements of it, and solicitations that probe for it from
//     the unspecified address; forwarded packets to it (IPVS direct routing)
//
// Everything else goes on to the next filter (TC_ACT_UNSPEC). In particular a
// standby stays able to be a client of the VIP: its own packets to the VIP, its
// ARP requests for it, and what the holder sends back or announces, pass.
//
// Frames with a VLAN tag, in skb->vlan_tci or in band (at most two of the
// latter), IPv4 options, fragments and ND behind up to four IPv6 extension
// headers are seen through. A frame too short to name an address passes: no
// receiver can read one in it.
//
// # Guaranteed
//
//   - An address is shut from Add on, on every interface that Ensure covered,
//     until Set, and again from D on, whatever happens to the process: the
//     interface keeps the filter, the filter its program, the program its maps.
//   - Set is one store to memory shared with the program: no system call, no
//     lock, no allocation. A thread that is frozen before it stores an old
//     deadline later than D opens nothing, for deadlines are absolute.
//   - New, with CAP_SYS_ADMIN, takes over the addresses that an earlier life's
//     filters gate, shut. Ensure replaces those filters in one step each: no
//     packet meets neither.
//   - Filters of others are never touched: ours have a priority, a handle and a
//     name of their own, and a clsact qdisc that holds others' filters stays.
//
// # Not guaranteed
//
//   - An interface that appears later is not gated before Run has seen it, some
//     milliseconds after it appeared, and never if no process lives. Linux
//     answers ARP for every address on every interface. With
//     net.ipv4.conf.default.arp_ignore=1 a new interface answers no ARP for the
//     VIP; IP packets that reach its MAC all the same are taken in.
//   - Of the addresses of an earlier life nothing is known without CAP_SYS_ADMIN:
//     what is not added before Ensure passes after it.
//   - What runs before clsact is not stopped: XDP, TCX programs that do not end
//     with TCX_NEXT, and a filter that someone puts ahead of ours at the same
//     priority. Status names the latter two (InterfaceStatus.Ahead).
//   - Frames sent with PACKET_QDISC_BYPASS or AF_XDP pass no egress filter.
//   - A packet under way between the program and the wire, or the socket, at D.
//   - Two Gates in one namespace replace each other's filters: their owner makes
//     sure that no process of an earlier life is left.
//   - lo is not gated: this host's own processes always reach the VIP.
//   - A host that routes or bridges between the holder and its clients cuts them
//     off while its own gate is shut.
//   - IPv4 source routes that name the VIP, and tunnels whose inner packet is
//     unwrapped without an interface of its own (MPLS, SRv6), pass inwards; what
//     the VIP would answer is stopped outwards.
//   - While Exempt names a MAC for a VIP, IP packets from the VIP leave.
//
// It needs Linux 5.8 (bpf_ktime_get_boot_ns), cls_bpf, and CAP_NET_ADMIN with
// CAP_BPF, or CAP_SYS_ADMIN. Only New, Add and Drop make bpf system calls;
// kernels from 6.0 on allow those of Add and Drop without CAP_BPF too.
package gate

import "errors"

// ErrNotSupported says that this kernel, or this process's rights, allow no
// gate. The error that wraps it names the reason and the remedy.
var ErrNotSupported = errors.New("no kernel gate here")

// ErrNotGated says that an address was not added.
var ErrNotGated = errors.New("address is not gated")

// ErrFull says that no more addresses can be gated.
var ErrFull = errors.New("no room for another gated address")

// ErrClosed says that the Gate was closed.
var ErrClosed = errors.New("gate is closed")
