// Package election decides which director holds a group. It is a pure state
// machine: events and the time go in, actions come out. It does no I/O, starts
// nothing and reads no clock, so that the code that runs in production is the
// code that the simulation explores.
//
// # What it guarantees
//
// Provided that the lock service keeps the contract below, that the executor
// of its actions stops answering for a holding at the deadline of the last
// Grant plus Timing.Lateness whatever happens, and that clock rates of two
// directors differ by at most Timing.Drift: at every instant at most one
// director has a Grant for a group whose deadline has not passed.
//
// # What it does not guarantee
//
// That somebody holds. When in doubt no director answers: a take-over without a
// receipt waits W (see Timing.Wait), and a record that is not understood is
// never taken. It does not see whether an address is really bound; that is the
// fence package's part.
//
// # The contract of the lock service
//
//   - A Txn is atomic and linearizable: all of its operations commit at one
//     instant between Send and Reply, or none does. If the reply is lost
//     (OutcomeUnknown) it may commit at any later time, or never, even against
//     a record that was deleted and made anew meanwhile.
//   - An Observe reads, in this order and within one session: the queue's
//     version (when asked for), the record, the queue's children, the lock that
//     the record names, the list of voters (when asked for). Reads may be
//     stale, but within a session they never go back, and they show the
//     session's own writes.
//   - A lock is ephemeral: it goes when its session expires, at a time that the
//     director may learn late. Names carry a sequence number given by the
//     service and are never used twice.
//   - Versions count the writes of one node from its creation.
//
// At most one request is under way at a time.
package election
