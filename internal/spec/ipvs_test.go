package spec

import (
	"maps"
	"net/netip"
	"testing"
	"time"
)

func TestIPVSErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"timeout in ms", "timeouts: {tcp: 1500ms}", `spec/cluster:2: ipvs.timeouts.tcp: 1.5s is no whole number of seconds; expected one, such as 2s`},
		{"timeout of nothing", "timeouts: {udp: 0s}", `spec/cluster:2: ipvs.timeouts.udp: 0s is out of range; expected a duration with its unit from 1s to 576h`},
		{"timeout too long", "timeouts: {tcp_fin: 577h}", `spec/cluster:2: ipvs.timeouts.tcp_fin: 577h is out of range; expected a duration with its unit from 1s to 576h`},
		{"unknown timeout", "timeouts: {tcpfin: 1s}", `spec/cluster:2: ipvs.timeouts: unknown key "tcpfin"; expected one of tcp, tcp_fin, udp (did you mean "tcp_fin"?)`},
		{"unknown sysctl", "sysctls: {sloppytcp: 1}", `spec/cluster:2: ipvs.sysctls.sloppytcp: "sloppytcp" is no sysctl below net.ipv4.vs; expected one of am_droprate, amemthresh, backup_only, cache_bypass, conn_reuse_mode, conntrack, drop_entry, drop_packet, est_cpulist, est_nice, expire_nodest_conn, expire_quiescent_template, ignore_tunneled, nat_icmp_send, pmtu_disc, run_estimation, schedule_icmp, secure_tcp, sloppy_sctp, sloppy_tcp, snat_reroute, sync_persist_mode, sync_ports, sync_qlen_max, sync_refresh_period, sync_retries, sync_sock_size, sync_threshold, sync_version (did you mean "sloppy_tcp"?)`},
		{"sysctl of another tree", "sysctls: {../ip_forward: 1}", `spec/cluster:2: ipvs.sysctls.../ip_forward: "../ip_forward" is no sysctl below net.ipv4.vs; expected one of am_droprate, amemthresh, backup_only, cache_bypass, conn_reuse_mode, conntrack, drop_entry, drop_packet, est_cpulist, est_nice, expire_nodest_conn, expire_quiescent_template, ignore_tunneled, nat_icmp_send, pmtu_disc, run_estimation, schedule_icmp, secure_tcp, sloppy_sctp, sloppy_tcp, snat_reroute, sync_persist_mode, sync_ports, sync_qlen_max, sync_refresh_period, sync_retries, sync_sock_size, sync_threshold, sync_version`},
		{"flag", "sysctls: {sloppy_tcp: 2}", `spec/cluster:2: ipvs.sysctls.sloppy_tcp: "2" is out of range; expected a whole number from 0 to 1, or keep`},
		{"flag in words", "sysctls: {sloppy_tcp: true}", `spec/cluster:2: ipvs.sysctls.sloppy_tcp: "true" is out of range; expected a whole number from 0 to 1, or keep`},
		{"list", "sysctls: {sloppy_tcp: [1]}", `spec/cluster:2: ipvs.sysctls.sloppy_tcp: is a list; expected a whole number from 0 to 1`},
		{"mode", "sysctls: {drop_entry: 4}", `spec/cluster:2: ipvs.sysctls.drop_entry: "4" is out of range; expected a whole number from 0 to 3, or keep`},
		{"negative", "sysctls: {amemthresh: -1}", `spec/cluster:2: ipvs.sysctls.amemthresh: "-1" is out of range; expected a whole number from 0 to 2147483647, or keep`},
		{"niceness", "sysctls: {est_nice: -21}", `spec/cluster:2: ipvs.sysctls.est_nice: "-21" is out of range; expected a whole number from -20 to 19, or keep`},
		{"CPUs", "sysctls: {est_cpulist: first}", `spec/cluster:2: ipvs.sysctls.est_cpulist: "first" is out of range; expected a list of CPUs, such as "0-3,8", or keep`},
		{"ports of sync", "sysctls: {sync_ports: 3}", `spec/cluster:2: ipvs.sysctls.sync_ports: "3" is out of range; expected 1, 2, 4, 8, 16, 32 or 64, or keep`},
		{"one number", "sysctls: {sync_threshold: 3}", `spec/cluster:2: ipvs.sysctls.sync_threshold: "3" is out of range; expected two numbers, the first smaller than the second unless that is 0, such as "0 0" or "3 50", or keep`},
		{"threshold above its period", "sysctls: {sync_threshold: \"50 3\"}", `spec/cluster:2: ipvs.sysctls.sync_threshold: "50 3" is out of range; expected two numbers, the first smaller than the second unless that is 0, such as "0 0" or "3 50", or keep`},
		{"threshold 1", "sysctls: {sync_threshold: \"1 50\"}", `spec/cluster:2: ipvs.sysctls.sync_threshold: sync_threshold "1 50" tells of a connection with its packet 51 at the earliest: the first packet opens no connection yet, so young ones are lost in a fail-over; expected "0 0" with sync_refresh_period, or 2 or more before the space`},
		{"threshold 0 with a period", "sysctls: {sync_threshold: \"0 50\"}", `spec/cluster:2: ipvs.sysctls.sync_threshold: sync_threshold "0 50" tells of a connection with its packet 50 at the earliest: the first packet opens no connection yet, so young ones are lost in a fail-over; expected "0 0" with sync_refresh_period, or 2 or more before the space`},
		{"threshold without refresh", "sysctls: {sync_refresh_period: 0}", `spec/cluster:2: ipvs.sysctls: sync_threshold "0 0" tells of no connection at all unless sync_refresh_period is above 0; expected sync_refresh_period: 10, as by default`},
		{"threshold without a known refresh", "sysctls: {sync_refresh_period: keep, sync_threshold: \"1 0\"}", `spec/cluster:2: ipvs.sysctls.sync_threshold: sync_threshold "1 0" tells of no connection at all unless sync_refresh_period is above 0; expected sync_refresh_period: 10, as by default`},
		{"threshold without sync", "{sysctls: {sync_threshold: \"1 50\", backup_only: 1}, sync: {enabled: false}}", ``},
		{"a threshold of the host's", "sysctls: {sync_threshold: keep, sync_refresh_period: keep}", ``},
		{"backup_only", "sysctls: {backup_only: 1}", `spec/cluster:2: ipvs.sysctls.backup_only: with synchronization both daemons run on every director, and with backup_only the kernel then takes no connection at all; expected 0, or sync: {enabled: false}`},
		{"sync id", "sync: {id: 256}", `spec/cluster:2: ipvs.sync.id: 256 is out of range; expected a whole number from 0 to 255`},
		{"sync maxlen", "sync: {maxlen: 65508}", `spec/cluster:2: ipvs.sync.maxlen: 65508 is out of range; expected a whole number from 0 to 65507`},
		{"sync group", "sync: {group: 10.0.0.1}", `spec/cluster:2: ipvs.sync.group: 10.0.0.1 is no multicast address; expected a multicast address, such as 224.0.0.81 or ff02::81`},
		{"sync group of words", "sync: {group: all}", `spec/cluster:2: ipvs.sync.group: "all" is no address; expected a multicast address, such as 224.0.0.81 or ff02::81`},
		{"sync group with a zone", "sync: {group: \"ff02::81%eth0\"}", `spec/cluster:2: ipvs.sync.group: ff02::81%eth0 has a zone; expected the interface under interface`},
		{"sync port, ttl", "sync: {port: 0, ttl: 0}", `spec/cluster:2: ipvs.sync.port: 0 is out of range; expected a whole number from 1 to 65535
spec/cluster:2: ipvs.sync.ttl: 0 is out of range; expected a whole number from 1 to 255`},
		{"sync interface", "sync: {interface: eth/0}", `spec/cluster:2: ipvs.sync.interface: "eth/0" is no interface; expected 1 to 15 characters without '/', ':' or blanks, such as eth0`},
		{"sync settle", "sync: {settle: 2h}", `spec/cluster:2: ipvs.sync.settle: 2h is out of range; expected a duration with its unit from 0s to 1h`},
		{"unknown", "syncd: {}", `spec/cluster:2: ipvs: unknown key "syncd"; expected one of timeouts, sysctls, sync (did you mean "sync"?)`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := DecodeCluster([]byte(ipvsText(test.text)))
			wantError(t, test.want, err)
		})
	}
}

// ipvsText is a cluster's document with one line below ipvs, or with all of it in
// braces.
func ipvsText(text string) string {
	if text[0] == '{' {
		return "ipvs: " + text + "\n"
	}
	return "ipvs:\n  " + text + "\n"
}

func TestIPVSOfACluster(t *testing.T) {
	const text = `ipvs:
  timeouts: {tcp: 15m, tcp_fin: 120s, udp: 300s}
  sysctls: {sync_threshold: "3 50", conntrack: "1", sloppy_tcp: keep, est_cpulist: "0-3,8", est_nice: -5}
  sync: {id: 0, interface: eth1, maxlen: 0, group: "ff02::81", port: 8849, ttl: 3, settle: 500ms}
`
	got, err := DecodeCluster([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultCluster()
	want.IPVS = IPVS{
		Timeouts: Timeouts{TCP: 15 * time.Minute, TCPFin: 2 * time.Minute, UDP: 5 * time.Minute},
		Sysctls:  map[string]string{"sync_threshold": "3 50", "conntrack": "1", "sloppy_tcp": Keep, "est_cpulist": "0-3,8", "est_nice": "-5"},
		Sync:     Sync{Enabled: true, Interface: "eth1", Group: netip.MustParseAddr("ff02::81"), Port: 8849, TTL: 3, Settle: 500 * time.Millisecond},
	}
	diffValues(t, want, got)
	diffValues(t, map[string]string{
		"sync_threshold": "3 50", "conntrack": "1", "est_cpulist": "0-3,8", "est_nice": "-5",
		"sync_refresh_period": "10", "expire_quiescent_template": "1", "expire_nodest_conn": "1",
	}, got.IPVS.AllSysctls())
	diffValues(t, `ipvs:
  timeouts:
    tcp: 15m
    tcp_fin: 2m
    udp: 5m
  sysctls:
    conntrack: 1
    est_cpulist: "0-3,8"
    est_nice: -5
    sloppy_tcp: keep
    sync_threshold: "3 50"
  sync:
    id: 0
    interface: eth1
    maxlen: 0
    group: "ff02::81"
    port: 8849
    ttl: 3
    settle: 500ms
`, string(got.Encode()))
}

// What is set without a word in the documents: FACTS of the kernel behind each
// stand beside recommendedSysctls.
func TestRecommendedSysctls(t *testing.T) {
	diffValues(t, map[string]string{
		"sloppy_tcp": "1", "sync_threshold": "0 0", "sync_refresh_period": "10", "expire_quiescent_template": "1", "expire_nodest_conn": "1",
	}, DefaultCluster().IPVS.AllSysctls())
	known := knownSysctls()
	for name, value := range recommendedSysctls() {
		if !known[name].check(value) {
			t.Errorf("%s: %q is refused", name, value)
		}
	}
	if _, err := DecodeCluster([]byte("ipvs: {sysctls: " + recommended() + "}\n")); err != nil {
		t.Error(err)
	}
}

func TestSysctlValues(t *testing.T) {
	known := knownSysctls()
	tests := map[string]struct{ good, bad []string }{
		"sync_threshold":  {[]string{"0 0", "3 50", "5 0"}, []string{"", "3", "3 3", "3  50", " 3 50", "3 50 ", "-1 5", "a b", "0 0 0"}},
		"sync_ports":      {[]string{"1", "64"}, []string{"0", "5", "128", "01"}},
		"est_cpulist":     {[]string{"0", "0-3,8", "all", "0,1-N:1/2"}, []string{"", "every", "0 1"}},
		"conn_reuse_mode": {[]string{"0", "3"}, []string{"4", "-1", "0x1"}},
		"sync_qlen_max":   {[]string{"0", "2147483647"}, []string{"2147483648", "1.5"}},
	}
	for name, test := range tests {
		for _, v := range test.good {
			if !known[name].check(v) {
				t.Errorf("%s: %q is refused", name, v)
			}
		}
		for _, v := range test.bad {
			if known[name].check(v) {
				t.Errorf("%s: %q is accepted", name, v)
			}
		}
	}
}

func TestAllSysctlsChangesNothing(t *testing.T) {
	own := map[string]string{"sloppy_tcp": Keep}
	i := IPVS{Sysctls: maps.Clone(own)}
	delete(i.AllSysctls(), "sync_threshold")
	diffValues(t, own, i.Sysctls)
	if got := i.AllSysctls()["sync_threshold"]; got != "0 0" {
		t.Errorf("sync_threshold %q", got)
	}
}
