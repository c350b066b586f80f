package fence

import (
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
)

func TestGratuitous(t *testing.T) {
	mac, _ := net.ParseMAC("02:00:00:00:00:0a")
	got, ok := gratuitous(mac, netip.MustParseAddr("192.168.150.100"))
	want := "ffffffffffff" + "02000000000a" + "0806" + // Ethernet
		"0001" + "0800" + "06" + "04" + "0001" + // request
		"02000000000a" + "c0a89664" + // sender
		"000000000000" + "c0a89664" // target
	if !ok || hex.EncodeToString(got) != want {
		t.Errorf("frame\n%x\nwant\n%s", got, want)
	}
	if _, ok := gratuitous(nil, netip.MustParseAddr("192.168.150.100")); ok {
		t.Error("a frame for an interface without an Ethernet address")
	}
}
