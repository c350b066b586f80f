// Package synrecv finds connections that hang in SYN_RECV in the kernel's IPVS
// table, and says where the packets are lost. It is the rule of thumb of whoever
// looks at `ipvsadm -Lnc`: an entry in SYN_RECV means that the director has done
// its part, and the network behind it has not.
//
// A destination's window is bad when it got new connections, three or more of its
// sampled entries have been in SYN_RECV without a packet for over 3 s, and either
// no packet came back (NAT), or entries in SYN_RECV are as many as half of the
// new connections. Packets a connection alone would not do: a client that waits
// repeats its SYN up to six times, as many packets as a short request has. Nor
// would one window's SYNs: a few vanished clients that repeat them weigh as much
// as many new connections. So the entries in SYN_RECV must also be 0.4 of the
// connections of the last minute, unless there are under 3 packets a connection.
//
// One destination of several is told from all of them: the first is its own
// network, port or address; the second is a SYN flood or the way back to the
// clients.
//
// Guaranteed: Detector is pure, it reads no clock and no file. Its memory is
// bounded by the destinations of the table that it is shown. A finding begins
// after two bad windows in a row, ends after three good ones, after a minute
// without new connections, or when its subject leaves the table, and in this
// order: begins, goes on any number of times, ends.
//
// Not guaranteed: that every hanging connection is found. A destination that
// has less than about 0.3 % of a table larger than the sample shows no three
// entries in it; one that works for most clients (four in five) is not
// named; UDP and SCTP have
// no SYN_RECV. Where a service has one real server only, its fault and the
// clients' look the same with dr and tun.
package synrecv
