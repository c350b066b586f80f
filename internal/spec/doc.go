// Package spec is what users write: the local file of a director, and the
// documents of a cluster (one for the cluster, one for each group, one for each
// virtual service) that `zklvs apply` stores in ZooKeeper.
//
// It guarantees:
//   - strict parsing: an unknown key, a key written twice, a wrong type or a
//     value out of range is an error, never a default; every fault of a file is
//     reported at once, each as one line `file:line: what; expected what`;
//   - bounded parsing: input size, nesting and keys of a mapping are limited
//     before the YAML parser sees the input, and anchors, aliases, tags and
//     merges are refused, because documents also come out of ZooKeeper, where
//     anybody with the credentials may have written them;
//   - a stable encoding: Decode(Encode(v)) == v, and equal values give equal
//     bytes, so that `apply` writes changed documents only;
//   - nothing that is decoded names a program: scripts are names of entries of
//     a directory on the director's own disk (Local.ExecDir), never paths.
//
// It does not guarantee that a document fits a given host: whether an interface
// exists, a file is readable, or a lease plus the host's fence lateness stays
// within MaxLease is for the caller to check. It opens no socket, reads no
// clock and no file.
//
// # How it is built
//
// One table of fields for each type (its fields method) is used to decode, to
// encode and to print the settings with their defaults, so that these three
// cannot disagree. The defaults themselves stand in defaults.go.
//
// # What is written
//
// Encode writes a field if it is required, if it differs from its default, or
// if it says what the thing is (scheduler and forward of a service, weight of a
// real server). A default is therefore part of the stored format: a release
// that changes one changes the meaning of documents that are already stored.
package spec
