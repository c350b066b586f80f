// Package lab makes a small network out of namespaces on one machine, with real
// programs in it.
package lab
