package ipvs

import (
	"fmt"
	"time"

	"github.com/zklvs/zklvs/ipvs/genl"
)

// Timeouts say how long the kernel remembers an idle connection, in whole
// seconds. They are of the whole network namespace.
type Timeouts struct {
	TCP    time.Duration // established
	TCPFin time.Duration // after a FIN
	UDP    time.Duration
}

// maxTimeout is the kernel's limit (ip_vs_ctl.c, ip_vs_set_timeout: the
// seconds in jiffies fit in 31 bits), for HZ=1000.
const maxTimeout = (1<<31 - 1) / 1000 * time.Second

// Timeouts reads the timeouts.
func (t *Table) Timeouts() (Timeouts, error) {
	var out Timeouts
	err := t.call("read the IPVS timeouts", func() error {
		return t.conn.Get(t.family, cmdGetConfig, func(*genl.Encoder) {}, func(d *genl.Decoder) {
			for d.Next() {
				switch d.Type() {
				case attrTimeoutTCP:
					out.TCP = time.Duration(d.Uint32()) * time.Second
				case attrTimeoutTCPFin:
					out.TCPFin = time.Duration(d.Uint32()) * time.Second
				case attrTimeoutUDP:
					out.UDP = time.Duration(d.Uint32()) * time.Second
				}
			}
		})
	})
	return out, err
}

// SetTimeouts sets the timeouts that are not 0 and leaves the others as they are.
func (t *Table) SetTimeouts(to Timeouts) error {
	const operation = "set the IPVS timeouts"
	all := []time.Duration{to.TCP, to.TCPFin, to.UDP} // as their attributes are numbered
	for _, v := range all {
		if v < 0 || v > maxTimeout || v%time.Second != 0 {
			return fmt.Errorf("%s: %v: expected whole seconds, 0s to %v", operation, v, maxTimeout)
		}
	}
	return t.call(operation, func() error {
		return t.conn.Get(t.family, cmdSetConfig, func(e *genl.Encoder) {
			for i, v := range all {
				if v != 0 {
					e.Uint32(attrTimeoutTCP+uint16(i), uint32(v/time.Second))
				}
			}
		}, ignore)
	})
}
