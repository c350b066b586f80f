// Package kernel holds no code: it is the folder of with-ipvs, the script that
// runs a command in a kernel with IPVS, and of its tests.
package kernel
