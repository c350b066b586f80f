package main

import (
	"net"
	"os"
)

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "" // for people only
	}
	return name
}

// hostAddresses are this host's own addresses at the start, for people: a /32
// may be a VIP that an earlier life left.
func hostAddresses() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	out := []string{}
	for _, a := range addrs {
		ip, ok := a.(*net.IPNet)
		if !ok || !ip.IP.IsGlobalUnicast() {
			continue
		}
		if ones, bits := ip.Mask.Size(); ones < bits {
			out = append(out, ip.IP.String())
		}
	}
	return out
}

// hostMACs are this host's hardware addresses: others let its packets in where
// they are real servers.
func hostMACs() map[string]string {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for _, i := range all {
		if len(i.HardwareAddr) == 6 && i.Flags&net.FlagLoopback == 0 {
			out[i.Name] = i.HardwareAddr.String()
		}
	}
	return out
}
