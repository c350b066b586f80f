package spec

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// comparableAddrs lets cmp look at addresses.
var comparableAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})

func cmpDiff(want, got any) string { return cmp.Diff(want, got, comparableAddrs) }

func diffValues(t *testing.T, want, got any) {
	t.Helper()
	if d := cmpDiff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// webExample is the example of docs/ARCHITECTURE.md.
const webExample = `groups:
  web: {vips: [192.168.150.100/24], label: "eth0:2"}
services:
  web-http:
    group: web
    listen: 192.168.150.100:80/tcp
    scheduler: rr
    forward: dr
    persistence: 0s
    check: {http: {path: /, status: [200]}, interval: 5s, timeout: 5s, retries: 2, retry_delay: 3s}
    real_servers:
      - {address: 192.168.150.12:80, weight: 1}
      - {address: 192.168.150.13:80, weight: 1}
`

func TestParseFileReadsTheExample(t *testing.T) {
	d, err := ParseFile("web.yaml", []byte(webExample))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Spec().Check(); err != nil {
		t.Fatal(err)
	}
	if d.Cluster != nil {
		t.Errorf("a cluster document appeared: %+v", d.Cluster)
	}
	diffValues(t, map[string]Group{"web": {
		VIPs:    []VIP{{Address: netip.MustParseAddr("192.168.150.100")}},
		Label:   "eth0:2",
		Fitness: Fitness{Backoff: 5 * time.Second},
	}}, d.Groups)
	diffValues(t, map[string]Service{"web-http": {
		Group:     "web",
		Listen:    []Listen{{Address: netip.MustParseAddr("192.168.150.100"), Port: 80, Protocol: TCP}},
		Scheduler: "rr",
		Forward:   DR,
		OnFailure: Remove,
		Check: &Check{
			HTTP:       &HTTPCheck{Path: "/", Status: []StatusRange{{200, 200}}},
			Interval:   5 * time.Second,
			Timeout:    5 * time.Second,
			Retries:    2,
			RetryDelay: 3 * time.Second,
			Rise:       1,
			Fall:       1,
		},
		RealServers: []RealServer{
			{Address: netip.MustParseAddrPort("192.168.150.12:80"), Weight: 1},
			{Address: netip.MustParseAddrPort("192.168.150.13:80"), Weight: 1},
		},
	}}, d.Services)
	diffValues(t, []Problem{{
		Pos:      Pos{"web.yaml", 2},
		Document: "spec/groups/web",
		Text:     "groups.web.vips[0]: the prefix of 192.168.150.100/24 is ignored: a VIP is bound as 192.168.150.100/32",
	}}, d.Warnings)
}

func TestEncodeOfTheExample(t *testing.T) {
	d, err := ParseFile("web.yaml", []byte(webExample))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for path, data := range d.Encode() {
		got[path] = string(data)
	}
	diffValues(t, map[string]string{
		"spec/groups/web": "vips: [192.168.150.100]\nlabel: \"eth0:2\"\n",
		"spec/services/web-http": `group: web
listen: 192.168.150.100:80/tcp
scheduler: rr
forward: dr
check:
  http:
    status: [200]
  timeout: 5s
  retries: 2
  retry_delay: 3s
real_servers:
  - {address: 192.168.150.12:80, weight: 1}
  - {address: 192.168.150.13:80, weight: 1}
`}, got)
}

// fullExample sets everything that can be set.
const fullExample = `---
# a comment
cluster:
  lease: 4s
  renew: 1s
  drift: 0.2
  garp_refresh: 30s
  on_zookeeper_loss: hold
  ipvs_check_interval: 2s
  ipvs:
    timeouts: {tcp: 900s, tcp_fin: 120s, udp: 300s}
    sysctls: {sloppy_tcp: 1, sync_threshold: "0 0", conntrack: keep}
    sync: {enabled: false, id: 7, interface: eth1, maxlen: 0, group: 224.0.0.82, port: 8849, ttl: 2, settle: 0s}
groups:
  "1":
    vips:
      - 10.0.0.100
      - 10.0.0.101/32
      - 2001:db8::100
      - {address: 10.9.0.254, interface: eth2, label: "eth2:1"}
    label: eth1:vip
    interface: eth1
    priority: {node01: 150, 7: 1}
    preempt: true
    preempt_delay: 1m30s
    warm_standby: true
    fitness:
      track_interfaces: [eth1, eth2.100]
      gateway: {address: 10.0.0.1, interval: 2s, timeout: 500ms, fall: 4, rise: 1}
      script: {exec: check-disk.sh, interval: 10s, timeout: 3s, fall: 1, rise: 3}
      backoff: 20s
services:
  dns:
    group: 1
    listen: 10.0.0.101:53/udp
    scheduler: sh
    forward: nat
    persistence: 300s
    stateful: true
    on_failure: remove
    check: {tcp: {}, port: 5353, interval: 1s, timeout: 1s, retries: 0, retry_delay: 0s, rise: 2, fall: 3}
    real_servers:
      - address: 10.0.1.2:5300
        weight: 65535
      - {address: 10.0.1.3:53}
  six:
    group: 1
    listen: "[2001:db8::100]:80/tcp"
    scheduler: mh
    scheduler_flags: [mh-port, flag-1]
    persistence: 60s
    persistence_prefix: 64
    real_servers:
      - {address: "[2001:db8::12]:80"}
      - {address: "2001:db8::13", upper_threshold: 100, lower_threshold: 50}
  sip:
    group: 1
    listen:
      - 10.0.0.101:5060/udp
      - 10.0.0.101:6000-6100/udp
    forward: tun
    tunnel: {type: gue, port: 5555, checksum: remote}
    one_packet: true
    persistence: 60s
    persistence_engine: sip
    real_servers:
      - {address: 10.0.1.2}
      - {address: 10.0.1.3, tunnel: {type: gre, checksum: full}}
      - {address: "2001:db8::14", forward: tun, tunnel: {type: ipip}}
  marked:
    group: 1
    listen: [fwmark:5/ipv4, 10.0.0.100:9/sctp]
  web:
    group: 1
    listen: "10.0.0.100:443/tcp"
    forward: tun
    check:
      http: {path: "/a?b=c:d#\"x\"", host: www.example.org, status: [200, 301-302]}
`

func TestParseFileReadsEverySetting(t *testing.T) {
	d, err := ParseFile("full.yaml", []byte(fullExample))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Spec().Check(); err != nil {
		t.Fatal(err)
	}
	if len(d.Warnings) > 0 {
		t.Errorf("warnings: %v", d.Warnings)
	}
	diffValues(t, &Cluster{4 * time.Second, time.Second, 0.2, 30 * time.Second, Hold, 2 * time.Second, IPVS{
		Timeouts: Timeouts{900 * time.Second, 120 * time.Second, 300 * time.Second},
		Sysctls:  map[string]string{"sloppy_tcp": "1", "sync_threshold": "0 0", "conntrack": Keep},
		Sync:     Sync{false, 7, "eth1", 0, netip.MustParseAddr("224.0.0.82"), 8849, 2, 0},
	}}, d.Cluster)
	diffValues(t, map[string]Group{"1": {
		VIPs: []VIP{{Address: netip.MustParseAddr("10.0.0.100")}, {Address: netip.MustParseAddr("10.0.0.101")}, {Address: netip.MustParseAddr("2001:db8::100")},
			{Address: netip.MustParseAddr("10.9.0.254"), Interface: "eth2", Label: "eth2:1"}},
		Label:        "eth1:vip",
		Interface:    "eth1",
		Priority:     map[string]int{"node01": 150, "7": 1},
		Preempt:      true,
		PreemptDelay: 90 * time.Second,
		WarmStandby:  true,
		Fitness: Fitness{
			TrackInterfaces: []string{"eth1", "eth2.100"},
			Gateway:         &Gateway{netip.MustParseAddr("10.0.0.1"), 2 * time.Second, 500 * time.Millisecond, 4, 1},
			Script:          &Script{"check-disk.sh", 10 * time.Second, 3 * time.Second, 1, 3},
			Backoff:         20 * time.Second,
		},
	}}, d.Groups)
	diffValues(t, map[string]Service{
		"dns": {
			Group:          "1",
			Listen:         []Listen{{Address: netip.MustParseAddr("10.0.0.101"), Port: 53, Protocol: UDP}},
			Scheduler:      "sh",
			SchedulerFlags: []string{"sh-fallback"},
			Forward:        NAT,
			Persistence:    300 * time.Second,
			Stateful:       true,
			OnFailure:      Remove,
			Check:          &Check{TCP: &TCPCheck{}, Port: 5353, Interval: time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
			RealServers:    []RealServer{{Address: netip.MustParseAddrPort("10.0.1.2:5300"), Weight: 65535}, {Address: netip.MustParseAddrPort("10.0.1.3:53"), Weight: 1}},
		},
		"six": {
			Group:             "1",
			Listen:            []Listen{{Address: netip.MustParseAddr("2001:db8::100"), Port: 80, Protocol: TCP}},
			Scheduler:         "mh",
			SchedulerFlags:    []string{"mh-fallback", "mh-port"},
			Forward:           DR,
			Persistence:       time.Minute,
			PersistencePrefix: 64,
			OnFailure:         Remove,
			RealServers: []RealServer{
				{Address: netip.MustParseAddrPort("[2001:db8::12]:80"), Weight: 1},
				{Address: netip.MustParseAddrPort("[2001:db8::13]:0"), Weight: 1, UpperThreshold: 100, LowerThreshold: 50},
			},
		},
		"sip": {
			Group: "1",
			Listen: []Listen{
				{Address: netip.MustParseAddr("10.0.0.101"), Port: 5060, Protocol: UDP},
				{Address: netip.MustParseAddr("10.0.0.101"), Port: 6000, PortHigh: 6100, Protocol: UDP},
			},
			Scheduler:         "wlc",
			OnePacket:         true,
			Forward:           Tun,
			Tunnel:            &Tunnel{GUE, 5555, ChecksumRemote},
			Persistence:       time.Minute,
			PersistenceEngine: "sip",
			OnFailure:         Remove,
			RealServers: []RealServer{
				{Address: netip.MustParseAddrPort("10.0.1.2:0"), Weight: 1},
				{Address: netip.MustParseAddrPort("10.0.1.3:0"), Weight: 1, Tunnel: &Tunnel{GRE, 0, ChecksumFull}},
				{Address: netip.MustParseAddrPort("[2001:db8::14]:0"), Weight: 1, Forward: Tun, Tunnel: &Tunnel{IPIP, 0, ChecksumNone}},
			},
		},
		"marked": {
			Group:     "1",
			Listen:    []Listen{{Mark: 5}, {Address: netip.MustParseAddr("10.0.0.100"), Port: 9, Protocol: SCTP}},
			Scheduler: "wlc",
			Forward:   DR,
			OnFailure: Remove,
		},
		"web": {
			Group:     "1",
			Listen:    []Listen{{Address: netip.MustParseAddr("10.0.0.100"), Port: 443, Protocol: TCP}},
			Scheduler: "wlc",
			Forward:   Tun,
			OnFailure: Remove,
			Check: &Check{
				HTTP:       &HTTPCheck{Path: `/a?b=c:d#"x"`, Host: "www.example.org", Status: []StatusRange{{200, 200}, {301, 302}}},
				Interval:   5 * time.Second,
				Timeout:    3 * time.Second,
				Retries:    1,
				RetryDelay: time.Second,
				Rise:       1,
				Fall:       1,
			},
		},
	}, d.Services)
}

func TestParseLocal(t *testing.T) {
	const minimal = `cluster: web
node: node01                 # default: host name
zookeeper: {servers: [10.0.0.1:2181, 10.0.0.2:2181, 10.0.0.3:2181]}
interface: eth0
`
	const full = `cluster: web
zookeeper:
  servers: [zk1.example.org, "[fd00::1]:2182"]
  session_timeout: 8s
  credentials: {user: zklvs, password_file: /etc/zklvs/password}
  world_read: true
  tls: {ca: /etc/zklvs/ca.pem, cert: /etc/zklvs/cert.pem, key: /etc/zklvs/key.pem, server_name: zk}
control_socket: /run/x.sock
run_dir: /run/other
exec_dir: /opt/exec
promise: {listen: 10.0.0.11:7400}
gate: nftables
watchdog: required
watchdog_device: /dev/watchdog1
`
	tests := []struct {
		name, text string
		want       Local
	}{
		{"example", minimal, Local{
			Cluster: "web", Node: "node01", Interface: "eth0",
			ZooKeeper:     ZooKeeper{Servers: []string{"10.0.0.1:2181", "10.0.0.2:2181", "10.0.0.3:2181"}, SessionTimeout: 6 * time.Second},
			ControlSocket: "/run/zklvs/web.sock", RunDir: "/run/zklvs", ExecDir: "/etc/zklvs/exec.d",
			Promise: Promise{netip.AddrPortFrom(netip.Addr{}, 7363)},
			Gate:    GateAuto, Watchdog: WatchdogOff, WatchdogDevice: "/dev/watchdog",
		}},
		{"everything", full, Local{
			Cluster: "web",
			ZooKeeper: ZooKeeper{
				Servers:        []string{"zk1.example.org:2181", "[fd00::1]:2182"},
				SessionTimeout: 8 * time.Second,
				Credentials:    &Credentials{"zklvs", "/etc/zklvs/password"},
				WorldRead:      true,
				TLS:            &TLS{"/etc/zklvs/ca.pem", "/etc/zklvs/cert.pem", "/etc/zklvs/key.pem", "zk"},
			},
			ControlSocket: "/run/x.sock", RunDir: "/run/other", ExecDir: "/opt/exec",
			Promise: Promise{netip.MustParseAddrPort("10.0.0.11:7400")},
			Gate:    GateNFT, Watchdog: WatchdogRequired, WatchdogDevice: "/dev/watchdog1",
		}},
	}
	for listen, want := range map[string]netip.AddrPort{
		`":1"`: netip.AddrPortFrom(netip.Addr{}, 1), `":65535"`: netip.AddrPortFrom(netip.Addr{}, 65535),
		`"[fd00::11]:7363"`: netip.MustParseAddrPort("[fd00::11]:7363"),
	} {
		l := tests[0].want
		l.Promise.Listen = want
		tests = append(tests, struct {
			name, text string
			want       Local
		}{listen, minimal + "promise: {listen: " + listen + "}\n", l})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseLocal("zklvs.yaml", []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			diffValues(t, test.want, got)
		})
	}
}
