// Package lockservice is a model of ZooKeeper as package election sees it, for
// tests and the simulation. It keeps the contract of election's package doc and
// nothing more: transactions are linearizable and atomic, locks are ephemeral
// and sequential, and a read may come from any state between the newest one that
// the reader has seen and the latest.
//
// Every state is kept, one for each zxid, so that the caller decides how far a
// server lags. States share what did not change, and what a record says is
// decoded once, when it is written.
//
// It knows no time, no network and no sessions beyond the number that a lock was
// created with: who is late, lost or expired is the caller's to play.
package lockservice
