package spec

import (
	"net/netip"
	"testing"
)

func TestVIPsOnSeveralInterfaces(t *testing.T) {
	const text = `vips: [192.168.150.100, {address: 10.0.0.254, interface: eth1, label: "eth1:1"}, {address: 10.0.1.254, interface: eth2}, {address: "fd00::1", interface: eth0}, {address: 10.0.0.9}]
label: "eth0:2"
interface: eth0
warm_standby: true
`
	g, err := DecodeGroup("g", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultGroup()
	want.Label, want.Interface, want.WarmStandby = "eth0:2", "eth0", true
	want.VIPs = []VIP{
		{Address: netip.MustParseAddr("192.168.150.100")},
		{Address: netip.MustParseAddr("10.0.0.254"), Interface: "eth1", Label: "eth1:1"},
		{Address: netip.MustParseAddr("10.0.1.254"), Interface: "eth2"},
		{Address: netip.MustParseAddr("fd00::1"), Interface: "eth0"},
		{Address: netip.MustParseAddr("10.0.0.9")},
	}
	diffValues(t, want, g)
	type place struct{ Interface, Label string }
	var got []place
	for _, v := range g.VIPs {
		got = append(got, place{g.InterfaceOf(v, "eth7"), g.LabelOf(v)})
	}
	diffValues(t, []place{{"eth0", "eth0:2"}, {"eth1", "eth1:1"}, {"eth2", ""}, {"eth0", "eth0:2"}, {"eth0", "eth0:2"}}, got)
	diffValues(t, "vips: [192.168.150.100, {address: 10.0.0.254, interface: eth1, label: \"eth1:1\"}, {address: 10.0.1.254, interface: eth2}, "+
		"{address: \"fd00::1\", interface: eth0}, 10.0.0.9]\nlabel: \"eth0:2\"\ninterface: eth0\nwarm_standby: true\n", string(g.Encode()))
}

func TestInterfaceOfAVIP(t *testing.T) {
	own, plain := VIP{Interface: "eth2"}, VIP{}
	for _, test := range []struct {
		group, local string
		vip          VIP
		want         string
	}{
		{"", "", plain, ""}, {"", "eth0", plain, "eth0"}, {"eth1", "eth0", plain, "eth1"}, {"eth1", "eth0", own, "eth2"}, {"", "", own, "eth2"},
	} {
		if got := (Group{Interface: test.group}).InterfaceOf(test.vip, test.local); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}

func TestVIPErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"no address", "vips: [{interface: eth1}]\n", `spec/groups/g:1: vips[0]: has no address; expected address: the address`},
		{"unknown key", "vips: [{address: 10.0.0.1, iface: eth1}]\n", `spec/groups/g:1: vips[0]: unknown key "iface"; expected one of address, interface, label`},
		{"bad interface", "vips:\n- {address: 10.0.0.1, interface: eth/1}\n", `spec/groups/g:2: vips[0].interface: "eth/1" is no interface; expected 1 to 15 characters without '/', ':' or blanks, such as eth0`},
		{"label of another interface", "interface: eth0\nvips:\n- {address: 10.0.0.1, label: \"eth0:1\"}\n- {address: 10.0.0.2, interface: eth1, label: \"eth0:2\"}\n", `spec/groups/g:4: label of VIP 10.0.0.2: "eth0:2" does not begin with the interface; expected "eth1:2"`},
		{"label of another than the group's", "interface: eth0\nvips: [{address: 10.0.0.1, label: \"eth1:1\"}]\n", `spec/groups/g:2: label of VIP 10.0.0.1: "eth1:1" does not begin with the interface; expected "eth0:1"`},
		{"twice", "vips:\n- 10.0.0.1\n- {address: 10.0.0.1, interface: eth1}\n", `spec/groups/g:3: VIP 10.0.0.1 is listed twice; expected it once`},
		{"a list", "vips: [[10.0.0.1]]\n", `spec/groups/g:1: vips[0]: is a list; expected an IPv4 or IPv6 address, such as 192.168.150.100 or 2001:db8::100`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := DecodeGroup("g", []byte(test.text))
			wantError(t, test.want, err)
		})
	}
}
