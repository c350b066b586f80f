package synrecv

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/zklvs/zklvs/ipvs"
)

// Phase is where in its life a finding is.
type Phase uint8

// The phases, in their order.
const (
	Begins Phase = iota + 1
	GoesOn
	Ends
)

// String is the phase in a word.
func (p Phase) String() string {
	switch p {
	case Begins:
		return "begins"
	case GoesOn:
		return "goes on"
	case Ends:
		return "ends"
	}
	return "none"
}

// Finding is a place where connections hang.
type Finding struct {
	Phase   Phase
	Service ipvs.Key
	// RealServer is whose connections hang; the zero value: those of all real
	// servers of the service.
	RealServer netip.AddrPort
	// Began is when it was found, by the clock of Observe.
	Began time.Duration
	// Evidence is of the last window that was bad.
	Evidence Evidence
	// Cause is the likely one; Remedy is what to look at, the likeliest first.
	Cause, Remedy string
	// Ended is why it ended, "" before.
	Ended string
}

// Evidence are the figures behind a finding.
type Evidence struct {
	Window      time.Duration // over which the counters were compared
	Connections uint64        // new ones
	InPackets   uint64
	OutPackets  uint64 // through this director: of NAT only
	Stuck       int    // sampled entries in SYN_RECV without a packet for over 3 s
	Sampled     int    // sampled entries in all
	Clients     int    // distinct addresses among the sampled ones in SYN_RECV
	RealServers int    // how many of the service's hang
}

func (e Evidence) plus(o Evidence) Evidence {
	return Evidence{
		Window: max(e.Window, o.Window), Connections: e.Connections + o.Connections,
		InPackets: e.InPackets + o.InPackets, OutPackets: e.OutPackets + o.OutPackets,
		Stuck: e.Stuck + o.Stuck, Sampled: e.Sampled + o.Sampled, Clients: e.Clients + o.Clients,
		RealServers: e.RealServers + o.RealServers,
	}
}

// String is the evidence for a log line.
func (e Evidence) String() string {
	return fmt.Sprintf("%d of %d sampled connections in SYN_RECV for over %v, from %d clients; in %v %d new connections, %d packets in, %d out",
		e.Stuck, e.Sampled, old, e.Clients, e.Window.Round(100*time.Millisecond), e.Connections, e.InPackets, e.OutPackets)
}

// Subject names what hangs: "real server 10.0.0.2:80 of TCP 10.0.0.1:80".
func (f Finding) Subject() string {
	if f.RealServer.IsValid() {
		return fmt.Sprintf("real server %s of %s", f.RealServer, f.Service)
	}
	return fmt.Sprintf("all %d real servers in use of %s", f.Evidence.RealServers, f.Service)
}

// String is the finding in a line without figures: it stays the same while the
// finding goes on.
func (f Finding) String() string {
	return fmt.Sprintf("connections to %s hang in SYN_RECV: %s: %s", f.Subject(), f.Cause, f.Remedy)
}
