// Package drain is what an operator's word "this real server is to go" means: an
// Entry for each in the znode operator/drained/<name>, and a Set of them that
// says of a destination whether it gets no new connections (draining) or has
// left the table (drained).
//
// A drain is over group by group, since groups may sit on different directors
// and only the one that holds a group can count its connections.
//
// Guaranteed: an entry that is not understood, or whose name does not fit what
// is in it, has no effect and is told as a problem. Nothing here does I/O or
// reads a clock.
//
// Not guaranteed: that the clocks of the director that ends a drain at its
// deadline and of the host on which it was asked for agree. The deadline is a
// wall-clock time, since no other clock lives through a fail-over.
package drain
