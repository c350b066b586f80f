package fence

import "time"

const (
	// StepDownMargin is how long before the deadline nothing may be bound,
	// renewed or announced any more: the time in which the caller fences.
	StepDownMargin = 200 * time.Millisecond

	// LatenessGated is the most by which this host answers after its deadline when
	// a kernel gate is in place, whatever its processes do. The gate compares the
	// absolute deadline with the clock at every packet: the newest request that
	// was ever answered had been sent before the deadline. The 50 ms are for what
	// the gate let pass just before and what is then still on its way (from the
	// hook to a socket, in a queue, on the wire), and for a tick of the kernel
	// (10 ms at HZ=100) where the gate is a set with timeouts.
	LatenessGated = 50 * time.Millisecond

	// LatenessUngated is the most by which an address outlives its deadline when
	// every process of ours is dead. It is made of 1 s for rounding lifetimes up to
	// whole seconds, 0.31 s measured for the kernel's deferrable timer, and
	// 1.03 s more measured when another address is added near the expiry
	// (check_lifetime in net/ipv4/devinet.c and addrconf_verify_rtnl in
	// net/ipv6/addrconf.c run at most once a second): 2.34 s, rounded up. The lease
	// that is published for others to wait out is L + Host.Lateness.
	LatenessUngated = 2500 * time.Millisecond

	// actSlack is how long one kernel act may take before it is repeated with a
	// fresh reading of the clock: the kernel counts the lifetime from the end of
	// the act, so what the act took is added to it. It is the part of
	// LatenessUngated that the figures above leave.
	actSlack = 100 * time.Millisecond

	// maxLifetime bounds the lifetime that is ever asked for, in seconds, far
	// above any lease: a deadline from a wrong clock must not bind for ever.
	maxLifetime = 60
)

// Lifetime returns the valid_lft in whole seconds for an address that may be
// answered until deadline: the lease that is left, rounded up. So the kernel
// never removes an address under a living lease, and removes it by deadline +
// 1 s + its own lateness (together: LatenessUngated). Both times are CLOCK_BOOTTIME.
//
// It counts from the deadline and not from the length L of the lease (ceil(L) +
// 1 s): a renewal is bound some time after the clock reading from which its
// deadline counts, and that time must not be added. The spare second is not
// needed, since the director itself removes the address at D - StepDownMargin.
//
// It reports false where nothing may be bound: StepDownMargin or less is left,
// or more than any lease lasts.
func Lifetime(now, deadline time.Duration) (seconds uint32, ok bool) {
	left := deadline - now
	if left <= StepDownMargin || left > maxLifetime*time.Second {
		return 0, false
	}
	return uint32((left + time.Second - 1) / time.Second), true
}
