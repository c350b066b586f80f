// Package sim plays schedules: two or three hosts, each with a director
// (election.Machine), a guard (guard.Core, election.Settle) and a kernel gate,
// against a model of ZooKeeper (package lockservice). The production code runs
// unchanged; what is modeled is everything around it.
//
// A schedule is drawn from one seed. These go wrong in it:
//
//   - requests take long, run late, run although nobody waits for the reply any
//     more, or never; replies are lost; reads are stale; a server is cut off from
//     the quorum and answers reads with what it had
//   - sessions expire early, late, or when their owner dies
//   - locks, records and whole groups are deleted by hand and applied anew
//   - the clocks of two hosts differ in rate
//   - directors and guards stand still before any step, are killed (each alone,
//     both, or by the timer that ends what stands still), stop in order, restart
//   - what a director tells its guard arrives late, even at the next guard; binding
//     an address, removing it and verifying that takes long
//   - documents, leases and fitness change
//
// Invariant lists what must hold in all of them. Answering is judged by true
// time: from when a guard opens the gate until the deadline that it gave to the
// kernel plus the fence lateness that the record promises.
//
// # Replay and shrinking
//
// Everything that goes wrong is a Mishap with a name of its own, and each event
// draws from dice of its own. A schedule is therefore its seed and the set of
// mishaps that may come true:
//
//	ZKLVS_SEED=17 go test ./internal/sim -run TestSchedules -v
//	ZKLVS_SEED=17 ZKLVS_ONLY=f3,a9.2 go test ./internal/sim -run TestSchedules -v
//
// A schedule that fails is shrunk to few mishaps before it is shown.
// ZKLVS_SCHEDULES=1000000 plays more of them than the default.
//
// # Mutants
//
// TestMutants (with ZKLVS_MUTANTS=1) breaks the production code in one place at
// a time, by an overlay of the compiler, and plays schedules until an invariant
// is broken. It fails if none is, or if the place is not there any more.
//
// # What it does not show
//
// It samples; it does not exhaust. It knows nothing of real addresses, kernels
// and ZooKeeper: that those keep to the model is for the tests of fence,
// internal/guard and internal/zk to show.
package sim
