package spec

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"
)

// Every default of every document stands in this file, and nowhere else.

const (
	// MaxLease is Lmax of docs/ARCHITECTURE.md: no lease plus fence lateness
	// may exceed it, because a take-over of a group in an unknown state waits
	// for the longest lease that anybody could have had.
	MaxLease = 10 * time.Second
	// MinLease is the shortest lease that is accepted.
	MinLease = time.Second

	// DefaultPriority is that of a director which a group's priority does not
	// name.
	DefaultPriority = 100

	// LocalFile is where a director's own file stands.
	LocalFile = "/etc/zklvs/zklvs.yaml"

	zookeeperPort = 2181
	promisePort   = 7363 // UDP
)

// DefaultLocal is a director's file that says nothing.
func DefaultLocal() Local {
	return Local{
		ZooKeeper: ZooKeeper{SessionTimeout: 6 * time.Second},
		RunDir:    "/run/zklvs",
		ExecDir:   "/etc/zklvs/exec.d",
		Promise:   Promise{Listen: netip.AddrPortFrom(netip.Addr{}, promisePort)},

		Gate:           GateAuto,
		Watchdog:       WatchdogOff,
		WatchdogDevice: "/dev/watchdog",
	}
}

// DefaultCluster is a cluster's document that says nothing, also used where
// there is none.
func DefaultCluster() Cluster {
	return Cluster{
		Lease:             3 * time.Second,
		Drift:             0.1, // chrony may slew by 8%
		GARPRefresh:       time.Minute,
		OnZooKeeperLoss:   Automatic,
		IPVSCheckInterval: time.Second,
		IPVS:              IPVS{Sync: DefaultSync()},
	}
}

// DefaultSync is connection synchronization with the kernel's own address and
// port, and with messages that are sent as soon as they hold one connection.
func DefaultSync() Sync {
	return Sync{
		Enabled: true,
		ID:      1,
		MaxLen:  60,
		Group:   netip.AddrFrom4([4]byte{224, 0, 0, 81}),
		Port:    8848,
		TTL:     1,
		Settle:  12 * time.Second, // above sync_refresh_period
	}
}

// recommendedSysctls are set unless the cluster's document says otherwise.
func recommendedSysctls() map[string]string {
	return map[string]string{
		// A synced connection of which the new holder sees the middle is taken.
		"sloppy_tcp": "1",
		// A connection is told as soon as it is established, and again every 10 s,
		// not after 3 packets and then every 50.
		"sync_threshold":      "0 0",
		"sync_refresh_period": "10",
		// A drained real server loses its persistent clients.
		"expire_quiescent_template": "1",
		// Connections of a real server that was removed end at once, not at their
		// timeout.
		"expire_nodest_conn": "1",
	}
}

// DefaultTunnel is IP in IP.
func DefaultTunnel() Tunnel { return Tunnel{Type: IPIP, Checksum: ChecksumNone} }

// DefaultGroup is a group without VIPs.
func DefaultGroup() Group {
	return Group{Fitness: Fitness{Backoff: 5 * time.Second}}
}

// DefaultGateway is the gateway check of a group that has one: unfit after
// about 3 s without an answer.
func DefaultGateway() Gateway {
	return Gateway{Interval: time.Second, Timeout: time.Second, Fall: 3, Rise: 2}
}

// DefaultScript is the script check of a group that has one.
func DefaultScript() Script {
	return Script{Interval: 5 * time.Second, Timeout: 5 * time.Second, Fall: 2, Rise: 2}
}

// DefaultService is a service without address and real servers.
func DefaultService() Service {
	return Service{
		Scheduler: "wlc", // as ipvsadm and keepalived
		Forward:   DR,    // as ipvsadm; keepalived's is NAT
		OnFailure: Remove,
	}
}

// DefaultCheck is the timing of a check of a service that has one. One failed
// probe and one failed retry take a real server out: with the values here, a
// dead one is out within 5 s + 3 s + 1 s + 3 s = 12 s, a refusing one within 6 s.
func DefaultCheck() Check {
	return Check{
		Interval:   5 * time.Second,
		Timeout:    3 * time.Second,
		Retries:    1,
		RetryDelay: time.Second,
		Rise:       1,
		Fall:       1,
	}
}

// DefaultHTTPCheck is the request of an HTTP check.
func DefaultHTTPCheck() HTTPCheck {
	return HTTPCheck{Path: "/", Status: []StatusRange{{200, 299}}}
}

// DefaultRealServer is a real server without address.
func DefaultRealServer() RealServer { return RealServer{Weight: 1} }

// Setting is one line of the documentation of the files.
type Setting struct {
	File    string // "local" (LocalFile) or "cluster" (what `zklvs apply` stores)
	Setting string // such as services.<service>.check.interval
	Default string // "required" if there is none, "-" if unset means absent
	Meaning string
}

// Defaults lists every setting there is, in the order of the files.
func Defaults() []Setting {
	local, cluster, group, service := DefaultLocal(), DefaultCluster(), DefaultGroup(), DefaultService()
	var list []Setting
	list = settings(list, "local", "", local.schema().fields)
	list = settings(list, "cluster", "cluster.", cluster.schema().fields)
	list = settings(list, "cluster", "groups.<group>.", group.schema().fields)
	return settings(list, "cluster", "services.<service>.", service.schema().fields)
}

func settings(list []Setting, file, prefix string, fields []field) []Setting {
	for _, f := range fields {
		s := Setting{File: file, Setting: prefix + f.name, Default: f.shown, Meaning: f.meaning + f.more}
		if s.Default == "" {
			s.Default = shownDefault(f)
		}
		list = append(list, s)
		if f.codec.nested != nil {
			list = settings(list, file, prefix+f.name+".", f.codec.nested())
		}
	}
	return list
}

func shownDefault(f field) string {
	if f.need == required {
		return "required"
	}
	if s := f.codec.encode().inline(); s != "" {
		return s
	}
	return "-"
}

// Renewal is the interval between renewals: Renew, or by default a sixth of the
// lease, 500 ms at most.
func (c Cluster) Renewal() time.Duration {
	if c.Renew > 0 {
		return c.Renew
	}
	return min(c.Lease/6, 500*time.Millisecond)
}

// PriorityOf is the priority of the director node in the group.
func (g Group) PriorityOf(node string) int {
	if p, ok := g.Priority[node]; ok {
		return p
	}
	return DefaultPriority
}

// InterfaceOr is the interface of the group's VIPs on a director whose own
// interface is local; "" if neither is known. A VIP may have another one.
func (g Group) InterfaceOr(local string) string { return cmp.Or(g.Interface, local) }

// InterfaceOf is the interface of one VIP on a director whose own interface is
// local; "" if none is known.
func (g Group) InterfaceOf(v VIP, local string) string {
	return cmp.Or(v.Interface, g.InterfaceOr(local))
}

// LabelOf is the label of one VIP: its own, or the group's unless the VIP has
// an interface of its own.
func (g Group) LabelOf(v VIP) string {
	if v.Label != "" || v.Interface != "" && v.Interface != g.Interface {
		return v.Label
	}
	return g.Label
}

// Socket is the admin socket: ControlSocket, or by default one named after the
// cluster in RunDir.
func (l Local) Socket() string {
	if l.ControlSocket != "" {
		return l.ControlSocket
	}
	return fmt.Sprintf("%s/%s.sock", l.RunDir, l.Cluster)
}
