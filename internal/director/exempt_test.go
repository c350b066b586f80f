package director

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A director that is also a real server lets in what the others forward to it,
// on the group's interface, and stops doing so with its last service.
func TestRealServerLetsOtherDirectorsIn(t *testing.T) {
	mac := func(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }
	peers := []Presence{
		{Node: "node03", Interface: "eth0", MACs: map[string]string{"eth0": mac(3).String(), "eth1": mac(9).String()}},
		{Node: "node01", Interface: "eth0", MACs: map[string]string{"eth0": mac(1).String()}}, // this one
		{Node: "node02", Interface: "eth0", MACs: map[string]string{"eth0": mac(2).String()}},
		{Node: "node04", Interface: "eth0", MACs: map[string]string{"eth0": "nonsense"}},
	}
	docs := with(webDocs(), "spec/groups/web", "vips: [192.0.2.100, {address: 192.0.2.101, interface: eth1}, 192.0.2.102, \"fd00::1\"]\n")
	docs["spec/services/nat"] = "group: web\nlisten: 192.0.2.102:80/tcp\nforward: nat\nreal_servers: [{address: 192.0.2.11:80}]\n"
	docs["spec/services/own"] = "group: web\nlisten: [192.0.2.101:80/tcp, 192.0.2.101:81/tcp]\nforward: nat\nreal_servers: [{address: 192.0.2.11, forward: dr}]\n"
	play(t, docs, func(b *bench) {
		b.cfg.Addresses = []string{"192.0.2.11"} // the real server of web-http
		b.cfg.Peers = func(context.Context) ([]Presence, error) { return peers, nil }
	}, func(b *bench) {
		vip := netip.MustParseAddr("192.0.2.100")
		want := func(macs ...net.HardwareAddr) {
			t.Helper()
			b.fencer.mu.Lock()
			defer b.fencer.mu.Unlock()
			if diff := cmp.Diff(macs, b.fencer.exempt[vip]); diff != "" {
				t.Errorf("let in (-want +got):\n%s", diff)
			}
		}
		time.Sleep(2 * pollInterval)
		synctest.Wait()
		want(mac(2), mac(3))
		vip = netip.MustParseAddr("192.0.2.101") // on another interface
		want(mac(9))
		vip = netip.MustParseAddr("192.0.2.102") // nat: nothing arrives for the VIP
		want()
		docs["spec/services/nat"] = "group: web\nlisten: fwmark:5/ipv4\nreal_servers: [{address: 192.0.2.11}]\n"
		b.docs.set(docs)
		time.Sleep(2 * pollInterval)
		synctest.Wait()
		want(mac(2), mac(3)) // a mark may mean any VIP of its family
		vip = netip.MustParseAddr("fd00::1")
		want()
		vip = netip.MustParseAddr("192.0.2.100")
		b.docs.set(map[string]string{"spec/groups/web": webGroup})
		time.Sleep(2 * pollInterval)
		synctest.Wait()
		want()
	})
}
