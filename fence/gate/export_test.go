package gate

import "github.com/cilium/ebpf"

// The hooks and framings by name, for tests of the program alone.
const (
	Ingress  = ingress
	Egress   = egress
	Ethernet = ethernet
	Network  = network

	Pass = uint32(0xffffffff) // TC_ACT_UNSPEC
	Drop = uint32(actShot)
)

// Program returns a variant of the program.
func (g *Gate) Program(d direction, f framing) *ebpf.Program { return g.kernel.programs[d][f] }
