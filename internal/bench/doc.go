// Package bench measures zklvs beside keepalived, in the same run, on the same
// kernel, with the same observers, and writes down what it measured.
//
// A Section is one comparison: it runs in the network that it makes and returns
// series of raw values (Result), which are kept as JSON. Pages and plots are made
// from that JSON alone, so that they can be made again, and a page never holds a
// figure that no run has given.
//
// What is guaranteed: contenders take turns within each round, so that a disturbance
// of the machine strikes all of them; a value that is only a lower bound says so;
// figures are rounded against zklvs. What is not: absolute times. In user-mode
// Linux a system call costs 75 us and there is one CPU, so only what was measured
// in one run is to be compared.
//
// zklvs-bench in this folder is the program behind `make bench`.
package bench
