// Package health finds out whether a thing on the network answers: real
// servers (tcp, http) and, with the same engine, what makes a director fit
// (exec, icmp, arp).
//
// A [Target] says what is probed and how often. The [Engine] probes every
// distinct Target once, however many services ask for it, and turns the
// results into a [Verdict] by counting (rise, fall, retries). What a verdict
// leads to is not decided here.
//
// Guaranteed:
//   - The first conclusive result after a start decides at once, both ways.
//     Later a change needs Rise successes or Fall failures in a row, and while
//     a target is up, a failed probe is tried again Retries times before it
//     counts as one failure. See [Target.DetectionTime] for the sum.
//   - A probe is given its Timeout for everything (connect, header, body, exit)
//     and a success that comes later is a failure.
//   - A result that says nothing about the target changes no verdict: see
//     [ErrInconclusive].
//   - No goroutine, descriptor or process of a probe is left when [Engine.Run]
//     returns, as long as each [Prober] keeps its contract.
//
// Not guaranteed:
//   - That every interval is kept. At most [MaxConcurrent] probes run at a
//     time, oldest due first; a check that has not come to a result for long
//     shows by the age of its LastRun.
//   - That a script of kind exec leaves nothing behind when it escapes from its
//     process group (setsid), or cannot be killed (state D).
package health
