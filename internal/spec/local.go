package spec

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Local is a director's own file, LocalFile.
type Local struct {
	Cluster       string // name of the cluster, also of its root in ZooKeeper
	Node          string // this director; "" for the host name, which the caller fills in
	ZooKeeper     ZooKeeper
	Interface     string // of VIPs whose group names none; may be ""
	ControlSocket string // admin socket; filled in by ParseLocal
	RunDir        string // for sockets and state that a reboot may lose
	ExecDir       string // root-owned programs that a group's script check may name

	Promise        Promise
	Gate           Gate
	Watchdog       Watchdog
	WatchdogDevice string // a path
}

// Promise says where this director answers the questions of others that hold
// without ZooKeeper.
type Promise struct {
	// Listen is a UDP port at an own address of this host. Without an address the
	// caller finds one.
	Listen netip.AddrPort
}

// Gate says what shuts a VIP in the kernel when its lease ends.
type Gate string

// The gates.
const (
	GateAuto Gate = "auto"     // eBPF, and nftables where the kernel refuses that
	GateNFT  Gate = "nftables" // nftables
	GateNone Gate = "none"     // nothing does: an exception to the safety rule
)

// Watchdog says whether the machine's watchdog is used.
type Watchdog string

// The uses of the watchdog.
const (
	WatchdogOff       Watchdog = "off"
	WatchdogAutomatic Watchdog = "automatic" // if there is one
	WatchdogRequired  Watchdog = "required"  // no director runs without
)

// ZooKeeper says how to reach the ensemble.
type ZooKeeper struct {
	Servers        []string // host:port, in the order of the file
	SessionTimeout time.Duration
	Credentials    *Credentials // nil: no digest authentication
	WorldRead      bool         // anybody may read the tree; only with credentials
	TLS            *TLS         // nil: no TLS
}

// Credentials are a digest identity of ZooKeeper.
type Credentials struct {
	User         string
	PasswordFile string // read by the caller; a trailing line break is not part of the password
}

// TLS names files in PEM; Cert and Key are both set or both "".
type TLS struct {
	CA, Cert, Key string
	ServerName    string // "" for the host of the server dialed
}

// ParseLocal reads a director's file. Node stays "" if it is not written;
// everything else is filled in with defaults. The error is an Errors.
func ParseLocal(file string, data []byte) (Local, error) {
	r, l := newReader(file), DefaultLocal()
	if root := r.parse(data, storedLimits); root != nil {
		l.schema().decode(value{r: r, node: root, line: 1})
	}
	if err := problems(r.problems); err != nil {
		return Local{}, err
	}
	l.ControlSocket = l.Socket()
	return l, nil
}

func (l *Local) schema() schema {
	return schema{
		what: "the director's settings, such as `cluster: web`",
		fields: []field{
			{name: "cluster", codec: name(&l.Cluster), need: required, meaning: "name of the cluster"},
			{name: "node", codec: name(&l.Node), shown: "host name", meaning: "name of this director, unique in the cluster"},
			{name: "zookeeper", codec: sub(l.ZooKeeper.schema, func() schema { z := DefaultLocal().ZooKeeper; return z.schema() }), need: required, meaning: "how to reach ZooKeeper"},
			{name: "interface", codec: text(&l.Interface, "an interface", CheckInterface), meaning: "interface of the VIPs of groups that name none"},
			{name: "control_socket", codec: text(&l.ControlSocket, "a path", checkSocket), shown: "<run_dir>/<cluster>.sock", meaning: "admin socket that `zklvs status` and others talk to"},
			{name: "run_dir", codec: text(&l.RunDir, "a path", checkPath), meaning: "directory for sockets and state that a reboot may lose"},
			{name: "exec_dir", codec: text(&l.ExecDir, "a path", checkPath), meaning: "root-owned directory of the programs that script checks may name"},
			{name: "promise", codec: sub(l.Promise.schema, func() schema { p := DefaultLocal().Promise; return p.schema() }), meaning: "how this director and the others promise each other not to take a group while ZooKeeper is away"},
			{name: "gate", codec: choice(&l.Gate, "gate", GateAuto, GateNFT, GateNone), meaning: "what shuts a VIP in the kernel at the end of its lease: auto (eBPF, else nftables), nftables, or none, which is an exception to the safety rule"},
			{name: "watchdog", codec: choice(&l.Watchdog, "use of the watchdog", WatchdogOff, WatchdogAutomatic, WatchdogRequired), meaning: "resets a machine whose guard is stuck while a VIP is bound: off, automatic (if there is one) or required"},
			{name: "watchdog_device", codec: text(&l.WatchdogDevice, "a path", checkPath), meaning: "the watchdog's device"},
		},
		rule: l.rule,
	}
}

func (p *Promise) schema() schema {
	return schema{
		what: "a mapping such as {listen: 10.0.0.11:7363}",
		fields: []field{
			{name: "listen", codec: listener(&p.Listen), shown: fmt.Sprintf("`:%d`", promisePort), meaning: "UDP address and port at which this director is asked; `:port` alone stands for this host's address on `interface`, and without an `interface` for the one from which it reaches ZooKeeper"},
		},
	}
}

// listener is the codec of an own address with a port, or of a port alone.
func listener(dst *netip.AddrPort) codec {
	const expected = `address:port, such as 10.0.0.11:7363, or :port`
	return scalarOf(dst, expected, func(s scalar) (netip.AddrPort, error) {
		wrong := fmt.Errorf("%q is no address with a port; expected %s", printable(s.text), expected)
		if port, ok := strings.CutPrefix(s.text, ":"); ok {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
				return netip.AddrPort{}, wrong
			}
			return netip.AddrPortFrom(netip.Addr{}, uint16(n)), nil
		}
		ap, err := netip.ParseAddrPort(s.text)
		if err != nil || ap.Port() == 0 {
			return netip.AddrPort{}, wrong
		}
		return ap, checkAddr(ap.Addr())
	}, func(ap netip.AddrPort) string {
		if !ap.Addr().IsValid() {
			return fmt.Sprintf("\":%d\"", ap.Port())
		}
		return addressText(ap.Addr(), ap)
	})
}

func (l *Local) rule(v value) {
	if l.Cluster != "" {
		if err := checkSocket(l.Socket()); err != nil {
			v.failf("control_socket: %s", err)
		}
	}
}

func (z *ZooKeeper) schema() schema {
	return schema{
		what: "a mapping such as {servers: [10.0.0.1:2181]}",
		fields: []field{
			{name: "servers", codec: nonEmpty(listOf(&z.Servers, "servers, each host:port", true, fresh[string], server), "host:port"), need: required, meaning: "the ensemble, [host:port, ...]; the port defaults to 2181"},
			{name: "session_timeout", codec: duration(&z.SessionTimeout, time.Second, time.Minute), meaning: "asked of ZooKeeper; what it grants must exceed the lease"},
			{name: "credentials", codec: maybe(&z.Credentials, fresh, (*Credentials).schema), meaning: "digest identity; every znode then belongs to it alone"},
			{name: "world_read", codec: boolean(&z.WorldRead), meaning: "with credentials: anybody may read the tree"},
			{name: "tls", codec: maybe(&z.TLS, fresh, (*TLS).schema), meaning: "encrypt the connection"},
		},
		rule: z.rule,
	}
}

func (z *ZooKeeper) rule(v value) {
	for i, s := range z.Servers {
		if s != "" && slices.Index(z.Servers, s) < i {
			v.failf("server %s is listed twice; expected it once", s)
		}
	}
	if z.WorldRead && z.Credentials == nil {
		v.failf("world_read is set without credentials, without which anybody may write as well; expected credentials, or no world_read")
	}
}

func (c *Credentials) schema() schema {
	return schema{
		what: "a mapping {user: zklvs, password_file: /etc/zklvs/password}",
		fields: []field{
			{name: "user", codec: text(&c.User, "a user", checkUser), need: required, meaning: "user of the digest identity"},
			{name: "password_file", codec: text(&c.PasswordFile, "a path", checkPath), need: required, meaning: "absolute path of a file that holds the password"},
		},
	}
}

func (t *TLS) schema() schema {
	return schema{
		what: "a mapping {ca: /etc/zklvs/ca.pem}",
		fields: []field{
			{name: "ca", codec: text(&t.CA, "a path", checkPath), need: required, meaning: "PEM file of the authorities that sign the servers"},
			{name: "cert", codec: text(&t.Cert, "a path", checkPath), meaning: "PEM file of this director's certificate"},
			{name: "key", codec: text(&t.Key, "a path", checkPath), meaning: "PEM file of its key"},
			{name: "server_name", codec: text(&t.ServerName, "a host name", checkHost), shown: "the server's host", meaning: "name that the servers' certificates must bear"},
		},
		rule: func(v value) {
			if (t.Cert == "") != (t.Key == "") {
				v.failf("has only one of cert and key; expected both, or neither")
			}
		},
	}
}

// fresh is the zero value, for types whose fields default to it.
func fresh[T any]() T {
	var x T
	return x
}

func checkPath(p string) error {
	if !path.IsAbs(p) || path.Clean(p) != p || len(p) > 255 || !visible(p) {
		return fmt.Errorf("%q is no clean absolute path; expected one such as /etc/zklvs/password", printable(p))
	}
	return nil
}

// checkSocket: sun_path holds 108 bytes with the final zero (unix(7)).
func checkSocket(p string) error {
	if err := checkPath(p); err != nil {
		return err
	}
	if len(p) > 107 {
		return fmt.Errorf("%q has %d characters; expected at most 107, which is all that a unix socket's address holds", printable(p), len(p))
	}
	return nil
}

func checkUser(u string) error {
	if u == "" || len(u) > 63 || !visible(u) || strings.Contains(u, ":") {
		return fmt.Errorf("%q is no user; expected 1 to 63 visible ASCII characters without ':'", printable(u))
	}
	return nil
}

// visible says that s consists of printable ASCII without blanks.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}

// checkHost accepts a host name or address.
func checkHost(h string) error {
	bad := h == "" || len(h) > 253 || strings.ContainsFunc(h, func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		return !letter && !strings.ContainsRune(".-_", c)
	})
	if bad {
		return fmt.Errorf("%q is no host; expected a host name or an address", printable(h))
	}
	return nil
}

// server is the codec of host:port; the port defaults to ZooKeeper's.
func server(dst *string) codec {
	return scalarOf(dst, "a server, host:port", func(s scalar) (string, error) { return parseServer(s.text) }, quote)
}

func parseServer(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, strconv.Itoa(zookeeperPort)
	}
	wrong := fmt.Errorf("%q is no server; expected host:port, such as 10.0.0.1:2181", printable(s))
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", wrong
	}
	if checkHost(host) != nil && net.ParseIP(host) == nil {
		return "", wrong
	}
	return net.JoinHostPort(host, port), nil
}
