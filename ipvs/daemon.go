package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/zklvs/zklvs/ipvs/genl"
)

// DaemonState is the role of a sync daemon (linux/ip_vs.h, IP_VS_STATE_*).
type DaemonState uint32

// A network namespace runs at most one daemon of each.
const (
	Master DaemonState = 1 // sends the connections
	Backup DaemonState = 2 // receives them
)

func (s DaemonState) String() string {
	switch s {
	case Master:
		return "master"
	case Backup:
		return "backup"
	}
	return fmt.Sprintf("state-%d", uint32(s))
}

// Daemon is one of the kernel's threads that keep the connections of several
// directors in step. The zero value of a field from MaxLen on is the kernel's
// default: as much as fits into the interface's MTU, 224.0.0.81, 8848, 1.
type Daemon struct {
	State     DaemonState
	Interface string
	// ID is the sync id; daemons with another one do not hear each other.
	// 0 as a backup hears all.
	ID uint8
	// MaxLen is the most bytes of UDP payload in a message.
	MaxLen uint16
	Group  netip.Addr // multicast, IPv4 or IPv6
	Port   uint16
	TTL    uint8
}

// Errors of daemons to decide on with errors.Is.
var (
	// ErrDaemonRuns: there is a daemon of that state already.
	ErrDaemonRuns = errors.New("a sync daemon of this state runs already")
	// ErrNoDaemon: there is none.
	ErrNoDaemon = errors.New("no sync daemon of this state runs")
)

// Daemons tells which sync daemons run, the master first.
func (t *Table) Daemons() ([]Daemon, error) {
	var out []Daemon
	err := t.call("read the IPVS sync daemons", func() error {
		return t.conn.Dump(t.family, cmdGetDaemon, func(*genl.Encoder) {}, func() { out = nil }, func(d *genl.Decoder) {
			for d.Next() {
				if d.Type() == attrDaemon {
					var one Daemon
					d.Nested(one.decode)
					out = append(out, one)
				}
			}
		})
	})
	return out, err
}

func (m *Daemon) decode(d *genl.Decoder) {
	for d.Next() {
		switch d.Type() {
		case daemonState:
			m.State = DaemonState(d.Uint32())
		case daemonInterface:
			m.Interface = string(d.Text())
		case daemonID:
			m.ID = uint8(d.Uint32())
		case daemonMaxLen:
			m.MaxLen = d.Uint16()
		case daemonGroup, daemonGroup6:
			m.Group, _ = netip.AddrFromSlice(d.Raw())
		case daemonPort:
			m.Port = d.Uint16()
		case daemonTTL:
			m.TTL = d.Uint8()
		}
	}
}

// StartDaemon starts a sync daemon. The error wraps ErrDaemonRuns if there is
// one of that state, which then goes on as it was.
func (t *Table) StartDaemon(m Daemon) error {
	if err := m.validate(); err != nil {
		return fmt.Errorf("start a sync daemon: %w", err)
	}
	err := t.call(fmt.Sprintf("start the sync daemon %v on %s", m.State, m.Interface), func() error {
		return t.conn.Get(t.family, cmdNewDaemon, m.encode, ignore)
	})
	switch {
	case errors.Is(err, syscall.EEXIST):
		return fmt.Errorf("%w: %w", err, ErrDaemonRuns)
	case errors.Is(err, syscall.EINVAL):
		// ip_vs_ctl.c, ip_vs_genl_new_daemon
		return fmt.Errorf("%w: no daemon runs beside a destination of another family than its service", err)
	}
	return err
}

func (m *Daemon) validate() error {
	switch {
	case m.State != Master && m.State != Backup:
		return fmt.Errorf("%v: expected master or backup", m.State)
	case m.Interface == "" || len(m.Interface) > 15:
		return fmt.Errorf("interface %q: expected a name of 1 to 15 bytes", m.Interface)
	case m.Group.IsValid() && (!m.Group.IsMulticast() || m.Group.Is4In6() || m.Group.Zone() != ""):
		return fmt.Errorf("group %v: expected a multicast address", m.Group)
	}
	return nil
}

func (m *Daemon) encode(e *genl.Encoder) {
	end := e.Nest(attrDaemon)
	e.Uint32(daemonState, uint32(m.State))
	e.String(daemonInterface, m.Interface)
	e.Uint32(daemonID, uint32(m.ID))
	if m.MaxLen != 0 {
		e.Uint16(daemonMaxLen, m.MaxLen)
	}
	switch {
	case m.Group.Is4():
		encodeAddr(e, daemonGroup, m.Group)
	case m.Group.Is6():
		encodeAddr(e, daemonGroup6, m.Group)
	}
	if m.Port != 0 {
		e.Uint16(daemonPort, m.Port)
	}
	if m.TTL != 0 {
		e.Uint8(daemonTTL, m.TTL)
	}
	e.End(end)
}

// StopDaemon stops a sync daemon. The error wraps ErrNoDaemon if there is none.
func (t *Table) StopDaemon(s DaemonState) error {
	var refused error
	err := t.call(fmt.Sprintf("stop the sync daemon %v", s), func() error {
		refused = nil
		t.batch.Reset()
		e := t.batch.Add(t.family, cmdDelDaemon)
		end := e.Nest(attrDaemon)
		e.Uint32(daemonState, uint32(s))
		e.End(end)
		// A thread that had not begun to run is stopped with EINTR
		// (kthread_stop), which is the one error that netlink does not tell
		// (af_netlink.c, netlink_rcv_skb). So a question after it brings the
		// acknowledgement.
		t.batch.Add(t.family, cmdGetConfig)
		err := t.conn.Send(&t.batch, func(i int, err error) {
			if i == 0 {
				refused = err
			}
		})
		return errors.Join(err, refused)
	})
	if errors.Is(refused, syscall.ESRCH) {
		return fmt.Errorf("%w: %w", err, ErrNoDaemon)
	}
	return err
}
