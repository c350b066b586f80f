// Package ipvsadm reads and writes IPVS tables as ipvsadm 1.31 does: what its
// -S -n prints and its -R reads. It opens nothing and touches no kernel.
//
// Guaranteed: a table that Format writes, `ipvsadm -R` makes in an empty
// kernel, and Parse reads back unchanged. Where ipvsadm -S -n prints all of a
// table, Format prints the same lines, services and destinations in order of
// their numbers. What Parse cannot keep is an error or a note, never left out
// in silence. Input is bounded in bytes, lines and services.
//
// Not guaranteed, since ipvsadm itself does not: ipvsadm -S forgets thresholds,
// and flag-3 of sh and mh; it prints firewall marks from 2147483648 on as
// negative numbers, which its -R refuses (Parse reads them); and its order of
// addresses that are 128.0.0.0 or more apart is accidental, because it subtracts
// them as 32-bit integers.
//
// Where Parse is stricter than ipvsadm -R: names of hosts and ports, addresses
// in short or octal notation, and a port that direct routing or a tunnel would
// silently replace by the service's are errors. Where it is more lenient: lines
// that begin with # are comments (ipvsadm 1.31 refuses them, init scripts drop
// them), the options of a command may stand in any order, and all errors are
// told, not the first.
package ipvsadm
