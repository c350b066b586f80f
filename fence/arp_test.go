package fence

import (
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
)

func TestGratuitous(t *testing.T) {
	mac, _ := net.ParseMAC("02:00:00:00:00:0a")
	got, ok := announcement(mac, netip.MustParseAddr("192.168.150.100"))
	want := "ffffffffffff" + "02000000000a" + "0806" + // Ethernet
		"0001" + "0800" + "06" + "04" + "0001" + // request
		"02000000000a" + "c0a89664" + // sender
		"000000000000" + "c0a89664" // target
	if !ok || hex.EncodeToString(got) != want {
		t.Errorf("frame\n%x\nwant\n%s", got, want)
	}
	for _, a := range []string{"192.168.150.100", "2001:db8::100"} {
		if _, ok := announcement(nil, netip.MustParseAddr(a)); ok {
			t.Errorf("a frame for %s on an interface without an Ethernet address", a)
		}
	}
}

// The frame was checked with tcpdump -vv, checksum and all.
func TestUnsolicited(t *testing.T) {
	mac, _ := net.ParseMAC("02:00:00:00:00:0a")
	got, ok := announcement(mac, netip.MustParseAddr("2001:db8::100"))
	vip := "20010db8000000000000000000000100"
	want := "333300000001" + "02000000000a" + "86dd" + // Ethernet
		"60000000" + "0020" + "3a" + "ff" + vip + "ff020000000000000000000000000001" + // IPv6
		"88" + "00" + "f723" + "20000000" + vip + // advertisement, override
		"02" + "01" + "02000000000a" // target link-layer address
	if !ok || hex.EncodeToString(got) != want {
		t.Errorf("frame\n%x\nwant\n%s", got, want)
	}
}
