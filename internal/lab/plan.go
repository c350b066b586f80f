package lab

import (
	"fmt"
	"net/netip"
)

// VIP is the address that the plan of Nodes leaves for the virtual service.
var VIP = netip.MustParseAddr("192.168.150.100")

// lastByte is the address plan: every host of LAN has the same last byte in
// Mgmt. ZooKeeper's hosts are in Mgmt only.
var lastByte = map[string]byte{
	"zk1": 1, "zk2": 2, "zk3": 3,
	"node01": 11, "node04": 14, "node05": 15, // directors
	"node02": 12, "node03": 13, // real servers
	"client": 20,
}

// AddNodes adds hosts by the names of the usual plan: directors node01
// (192.168.150.11), node04 (.14) and node05 (.15), real servers node02 (.12) and node03
// (.13), client (.20), and zk1, zk2, zk3. Their eth0 is in LAN and eth1 in Mgmt
// (10.99.0.0/24, same last byte); zk1 to zk3 have eth1 only.
func (l *Lab) AddNodes(names ...string) ([]*Host, error) {
	var hosts []*Host
	for _, name := range names {
		last, ok := lastByte[name]
		if !ok {
			return nil, fmt.Errorf("add host %s: the plan has no such name", name)
		}
		nics := []NIC{{"eth1", Mgmt, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, 0, last}), 24)}}
		if last > 10 {
			eth0 := NIC{"eth0", LAN, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 150, last}), 24)}
			nics = append([]NIC{eth0}, nics...)
		}
		h, err := l.AddHost(name, nics...)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}
