package ipvshost

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"time"

	"github.com/zklvs/zklvs/internal/statefile"
	"github.com/zklvs/zklvs/ipvs"
)

const stateFormat = 1

// state is what was there before: enough to put it back, and nothing else.
type state struct {
	Format int    `json:"format"`
	Scope  string `json:"scope"`
	// Sysctls are in the order in which they were set.
	Sysctls  []savedSysctl  `json:"sysctls"`
	Timeouts *savedTimeouts `json:"timeouts,omitempty"`
	// Daemons are those that we started, or were about to start.
	Daemons []savedDaemon `json:"daemons"`
}

// savedSysctl is a value below net as found. Also are values that the kernel
// changes together with it.
type savedSysctl struct {
	Name  string        `json:"name"`
	Found string        `json:"found"`
	Also  []savedSysctl `json:"also,omitempty"`
}

// savedTimeouts are in seconds.
type savedTimeouts struct {
	TCP    int64 `json:"tcp"`
	TCPFin int64 `json:"tcp_fin"`
	UDP    int64 `json:"udp"`
}

func saveTimeouts(t ipvs.Timeouts) *savedTimeouts {
	return &savedTimeouts{int64(t.TCP / time.Second), int64(t.TCPFin / time.Second), int64(t.UDP / time.Second)}
}

func (s savedTimeouts) timeouts() ipvs.Timeouts {
	return ipvs.Timeouts{TCP: time.Duration(s.TCP) * time.Second, TCPFin: time.Duration(s.TCPFin) * time.Second, UDP: time.Duration(s.UDP) * time.Second}
}

// savedDaemon is a sync daemon as it was asked for.
type savedDaemon struct {
	State     ipvs.DaemonState `json:"state"`
	Interface string           `json:"interface"`
	Index     int              `json:"interface_index"`
	ID        uint8            `json:"id"`
	MaxLen    uint16           `json:"maxlen,omitempty"`
	Group     netip.Addr       `json:"group,omitzero"`
	Port      uint16           `json:"port,omitempty"`
	TTL       uint8            `json:"ttl,omitempty"`
}

func saveDaemon(d ipvs.Daemon, index int) savedDaemon {
	return savedDaemon{d.State, d.Interface, index, d.ID, d.MaxLen, d.Group, d.Port, d.TTL}
}

func (s savedDaemon) daemon() ipvs.Daemon {
	return ipvs.Daemon{State: s.State, Interface: s.Interface, ID: s.ID, MaxLen: s.MaxLen, Group: s.Group, Port: s.Port, TTL: s.TTL}
}

func (s state) empty() bool { return len(s.Sysctls) == 0 && s.Timeouts == nil && len(s.Daemons) == 0 }

func (s state) clone() state {
	s.Sysctls, s.Daemons = slices.Clone(s.Sysctls), slices.Clone(s.Daemons)
	return s
}

func (s state) hasSysctl(name string) bool {
	return slices.ContainsFunc(s.Sysctls, func(o savedSysctl) bool { return o.Name == name })
}

func (s state) daemon(which ipvs.DaemonState) (savedDaemon, bool) {
	i := slices.IndexFunc(s.Daemons, func(o savedDaemon) bool { return o.State == which })
	if i < 0 {
		return savedDaemon{}, false
	}
	return s.Daemons[i], true
}

// without returns s without the daemon of a state.
func (s state) without(which ipvs.DaemonState) state {
	s = s.clone()
	s.Daemons = slices.DeleteFunc(s.Daemons, func(o savedDaemon) bool { return o.State == which })
	return s
}

// load reads the file once. One of another boot or network namespace tells
// nothing about this one.
func (h *Host) load() error {
	if h.loaded {
		return nil
	}
	s, err := read(h.c.StatePath)
	if err != nil {
		return err
	}
	if s.Scope == h.c.Scope {
		h.found = s
	}
	h.loaded = true
	return nil
}

func read(path string) (state, error) {
	data, err := statefile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("read what was there before: %w", err)
	}
	s, err := parseState(data)
	if err != nil {
		return state{}, fmt.Errorf("what was there before, in %s, is not understood: %w; look at `sysctl net.ipv4.vs`, `ipvsadm -L --timeout` and `ipvsadm -L --daemon`, put back by hand what you want, then remove the file", path, err)
	}
	return s, nil
}

// What is written to the system comes from the file: nothing but these.
var (
	settable = regexp.MustCompile(`^(ipv4/vs/[a-z0-9_]{1,60}|ipv4/ip_forward|ipv6/conf/all/forwarding)$`)
	besides  = regexp.MustCompile(`^(ipv4/conf/all/accept_redirects|ipv[46]/conf/([^/\s[:cntrl:]]{1,15})/forwarding)$`)
	value    = regexp.MustCompile(`^[-0-9 ,]{0,64}$`)
)

// parseState reads and checks a state file's content.
func parseState(data []byte) (state, error) {
	var s state
	if err := statefile.Decode(data, &s); err != nil {
		return state{}, err
	}
	if s.Format != stateFormat {
		return state{}, fmt.Errorf("format %d: expected %d", s.Format, stateFormat)
	}
	err := checkSysctls(s.Sysctls, settable)
	for _, v := range s.Sysctls {
		err = errors.Join(err, checkSysctls(v.Also, besides))
	}
	if t := s.Timeouts; t != nil {
		for _, v := range []int64{t.TCP, t.TCPFin, t.UDP} {
			if v < 0 || v > 1<<31 {
				err = errors.Join(err, fmt.Errorf("timeout of %d s", v))
			}
		}
	}
	err = errors.Join(err, checkDaemons(s.Daemons))
	if err != nil {
		return state{}, err
	}
	return s, nil
}

func checkSysctls(all []savedSysctl, names *regexp.Regexp) error {
	for _, v := range all {
		m := names.FindStringSubmatch(v.Name)
		if len(m) == 0 || m[len(m)-1] == "." || m[len(m)-1] == ".." || !value.MatchString(v.Found) {
			return fmt.Errorf("sysctl %.60q with value %.70q", v.Name, v.Found)
		}
		if names != settable && len(v.Also) > 0 {
			return fmt.Errorf("sysctl %.60q has others besides it", v.Name)
		}
	}
	return nil
}

func checkDaemons(all []savedDaemon) error {
	seen := map[ipvs.DaemonState]bool{}
	for _, d := range all {
		if d.State != ipvs.Master && d.State != ipvs.Backup || seen[d.State] {
			return fmt.Errorf("sync daemon of state %d", d.State)
		}
		seen[d.State] = true
	}
	return nil
}

// save writes what will have been there before; nothing removes the file.
func (h *Host) save(s state) error {
	if reflect.DeepEqual(s, h.found) {
		return nil
	}
	var err error
	if s.empty() {
		err = statefile.Remove(h.c.StatePath)
	} else {
		s.Format, s.Scope = stateFormat, h.c.Scope
		err = statefile.Write(h.c.StatePath, s)
	}
	if err != nil {
		return fmt.Errorf("write what was there before: %w", err)
	}
	h.found = s
	return nil
}
