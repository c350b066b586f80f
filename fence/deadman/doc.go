// Package deadman kills its own process at an absolute time, so that a process
// that was frozen cannot wake up after its lease has ended and go on with an act
// that it began before.
//
// Timer is one POSIX timer (timer_create(2)) on CLOCK_BOOTTIME that sends
// SIGKILL to the whole process. Tracker keeps the deadlines of several holdings
// and arms a Timer Margin before the earliest of them.
//
// # Guaranteed
//
//   - From the return of Arm, or of Set, on the kernel kills the process at that
//     time: running, blocked, stopped by SIGSTOP or by a debugger, with whatever
//     its threads do, and whichever of them has ended since.
//   - A time that has passed already kills at once, before Arm returns to its
//     caller or a moment later.
//   - Suspend counts, for CLOCK_BOOTTIME does: a time that passed meanwhile kills
//     at the resume.
//   - The signal is reserved when the timer is made; no lack of memory or of
//     signal queue loses it later.
//
// # Not guaranteed
//
//   - Precision. Measured until the parent of a stopped process knew of its end,
//     20 runs, min, median and max: 0.7, 0.9 and 4.9 ms on Linux 6.18; 1.7, 1.9
//     and 2.3 ms (11 ms was seen) in user-mode Linux 6.1. The kernel promises
//     nothing: interrupts that are off, or a hypervisor that runs another guest,
//     delay it.
//   - A system call that is being executed in the kernel, uninterruptibly, is
//     finished there first. The process runs no further instruction of its own.
//   - A process frozen by a cgroup of version 1 dies when it is thawed, before any
//     instruction; that of version 2 dies in time.
//   - Children are not killed: a timer is neither inherited (fork) nor kept (exec).
//   - What the process left in the kernel stays: addresses, gates, rules.
//   - The first process of a PID namespace (pid 1 of a container) is immune to
//     signals that it sends to itself, these included: New refuses to make a
//     timer there.
package deadman
