package lab

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestKeepalivedConfigText(t *testing.T) {
	vip, server := netip.MustParsePrefix("192.168.150.110/24"), netip.MustParseAddr("192.168.150.12")
	for _, c := range []struct {
		name        string
		config      KeepalivedConfig
		has, hasNot []string
	}{
		{
			name: "as the notes", config: KeepalivedConfig{State: "MASTER", Priority: 100, VIP: vip, RealServers: []netip.Addr{server}},
			has: []string{"state MASTER\n", "virtual_router_id 51\n", "advert_int 1\n", "auth_pass 1111\n", "lb_algo rr\n",
				"virtual_server 192.168.150.110 80 {\n", "real_server 192.168.150.12 80 {\n"},
			hasNot: []string{"version 3"},
		},
		{
			name: "tuned, without services", config: KeepalivedConfig{State: "BACKUP", Priority: 50, VIP: vip, RouterID: 52, Advert: 100 * time.Millisecond},
			has:    []string{"state BACKUP\n", "virtual_router_id 52\n", "version 3\n    advert_int 0.10\n"},
			hasNot: []string{"authentication", "virtual_server"},
		},
		{
			name: "another scheduler", config: KeepalivedConfig{VIP: vip, Scheduler: "mh", RealServers: []netip.Addr{server}},
			has: []string{"lb_algo mh\n"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := c.config.text()
			for _, want := range c.has {
				if !strings.Contains(text, want) {
					t.Errorf("it lacks %q:\n%s", want, text)
				}
			}
			for _, unwanted := range c.hasNot {
				if strings.Contains(text, unwanted) {
					t.Errorf("it has %q:\n%s", unwanted, text)
				}
			}
			if strings.Count(text, "{") != strings.Count(text, "}") {
				t.Errorf("a brace is left open:\n%s", text)
			}
		})
	}
}
