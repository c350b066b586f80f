package synrecv

import (
	"fmt"

	"github.com/zklvs/zklvs/ipvs"
)

// repeated is the number of packets a new connection from which on clients
// repeat their SYN: a flood sends one.
const repeated = 1.5

// manyClients is how many addresses a flood has at least, in the sample.
const manyClients = 10

// flood tells whether the evidence is that of a SYN flood: hardly any SYN is
// repeated, and they come from many addresses.
func (e Evidence) flood() bool {
	return float64(e.InPackets) < repeated*float64(e.Connections) && e.Clients >= manyClients
}

const (
	floodCause  = "a SYN flood: SYNs that are never repeated nor followed up, from many addresses"
	floodRemedy = "net.ipv4.tcp_syncookies=1 on the real servers; drop or limit the sources before this director; if the addresses are those of real clients, look at the way back to them"
)

// explainOne gives the likely cause of one real server's trouble and what to
// look at. Only: no other real server of the service is in use.
func explainOne(service ipvs.Key, forward ipvs.Forward, only bool, e Evidence) (cause, remedy string) {
	if forward == ipvs.NAT && e.OutPackets == 0 {
		return "nothing comes back from this real server through this director",
			"its default route must lead to the director's inside address (`ip route get CLIENT` on it); then a firewall on it, whether it is up"
	}
	if only && e.flood() {
		return floodCause, floodRemedy
	}
	cause, remedy = network(service, forward)
	if only && forward != ipvs.NAT {
		cause += ", or the way back to the clients (no other real server of the service is in use, so that the two look the same)"
	}
	return cause, remedy
}

// network is about one real server, whose neighbors work.
func network(service ipvs.Key, forward ipvs.Forward) (cause, remedy string) {
	vip := "the VIP"
	if service.Mark == 0 {
		vip = service.Address.String()
	}
	switch forward {
	case ipvs.DR:
		return "this real server's network: it does not take packets for " + vip,
			vip + " must be on its lo, with arp_ignore=1 and arp_announce=2 (`zklvs realserver up`); then a firewall on it, its own way back to the clients, whether it is up"
	case ipvs.TUN:
		return "this real server's network: it does not take packets for " + vip + " out of the tunnel",
			vip + " must be on its lo or tunnel interface, which is up, with rp_filter=0; then the tunnel's protocol or port in firewalls, its own way back to the clients, whether it is up"
	case ipvs.NAT:
		return "its answers pass this director, and its clients do not go on",
			"the way from this director to those clients; a firewall that drops what this real server sends"
	}
	return "the server on this host does not complete connections", "a firewall on this host; its way back to the clients"
}

// explainAll is about all real servers of a service that are in use.
func explainAll(forward ipvs.Forward, e Evidence) (cause, remedy string) {
	switch {
	case forward == ipvs.NAT && e.OutPackets == 0:
		return "nothing comes back from any real server through this director",
			"their default route must lead to the director's inside address, which moves with the group; then net.ipv4.ip_forward=1 and firewalls on this director"
	case e.flood():
		return floodCause, floodRemedy
	case forward == ipvs.NAT:
		return "the way back to the clients: answers pass this director and do not arrive; or a SYN flood",
			"this director's route and gateway to the clients (`ip route get CLIENT`); then firewalls that see one direction only"
	}
	return "the way back to the clients, or what all real servers have in common; or a SYN flood",
		fmt.Sprintf("the real servers' default gateway; firewalls that see only the answers and drop them (asymmetric routing, normal with %s); whether the VIP is on their lo", forward)
}
